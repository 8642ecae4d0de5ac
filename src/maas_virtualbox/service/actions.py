# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Power actions that repeated requests join.

MAAS repeats its requests: it asks again for the same VM while the first request is still open, and
gives up on an action that may still succeed. An action therefore belongs to the VM, not to the
request. It continues if the client disconnects. A later request for the same action joins it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import logging
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from collections.abc import Collection

    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.service.metrics import Metrics
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)
power_log = logging.getLogger("maas_virtualbox.power")

_THREADS_PER_HOST = 16


class Change(str, enum.Enum):
    """What a request wants of a VM's power."""

    ON = "on"
    OFF = "off"
    SHUTDOWN = "shutdown"
    """Off, with the power button first, whatever `off-mode` is."""

    def __str__(self) -> str:
        return self.value


class Superseded(errors.PowerError):
    """An action was not started because a later request wants something else. Permanent."""


class Stopping(errors.Error):
    """The service stops before the action has ended. Retry: it may have succeeded."""

    retry = True


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Where a request comes from, for the log."""

    address: str
    """The client's IP address; empty if it used the socket."""
    token: str
    """The token of the request: vm or admin; socket where none was needed."""
    system_id: str = ""
    """MAAS's ID of the machine, if the request has it."""


@dataclasses.dataclass(slots=True)
class _Action:
    """One change of one VM, in progress or waiting for another one to end."""

    host: VirtualBoxHost
    settings: VMSettings
    change: Change
    caller: Caller
    """The first one."""
    requests: int = 0
    """How many requests wanted it."""
    task: asyncio.Task[None] = dataclasses.field(init=False)

    def __str__(self) -> str:
        return _describe(self.host, self.settings)


class Actions:
    """The power actions of all VMs. Created by `Dispatcher`; belongs to one event loop.

    On each VM one action is in progress, and at most one waits for its end.
    """

    def __init__(self, metrics: Metrics, action_timeout: float) -> None:
        """Prepare; starts nothing.

        Args:
            metrics: counts the actions.
            action_timeout: seconds for an action, however soon its callers stop waiting.
        """
        self._metrics = metrics
        self._action_timeout = action_timeout
        self._queues: collections.defaultdict[str, list[_Action]] = collections.defaultdict(list)
        """By UUID; the first action of each is in progress."""
        self._threads: dict[VirtualBoxHost, futures.ThreadPoolExecutor] = {}
        """For each host its own: many actions that wait for one host do not delay others."""
        self._is_accepting = True
        self._stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def close(self, hosts: Collection[VirtualBoxHost]) -> None:
        """Start no more actions on these hosts."""
        for host in hosts:
            if (threads := self._threads.pop(host, None)) is not None:
                threads.shutdown(wait=False, cancel_futures=True)

    async def execute(
        self,
        host: VirtualBoxHost,
        settings: VMSettings,
        change: Change,
        caller: Caller,
        deadline: Deadline,
    ) -> None:
        """Join the action that does this, or start one, and wait until it has ended.

        Raises:
            PowerTimeout: it has not ended, or was not done in time. Retry.
            Superseded: a later request wants something else.
            Stopping: the service stops. Retry.
            UnknownVM, HostError, PowerError: as `VirtualBoxHost.power_on` does.
        """
        began = time.monotonic()
        try:
            action = self._join_or_start(host, settings, change, caller)
        except errors.Error as error:
            log_refusal(_describe(host, settings), change, caller, error)
            raise
        await asyncio.wait(
            {action.task, self._stopped},
            timeout=deadline.remaining,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if action.task.cancelled():
            raise Superseded(
                f"{action}: power {change} was not started: a later request wants something else"
            )
        if action.task.done():
            return action.task.result()
        if self._stopped.done():
            raise Stopping(
                f"{action}: power {change} is in progress, but the service stops; retry"
            )
        raise errors.PowerTimeout(
            f"{action}: power {change} is still in progress after"
            f" {time.monotonic() - began:.0f} s and continues; retry"
        )

    async def stop(self, seconds: float) -> None:
        """Start no more actions, and wait so long for those in progress. Then let their callers
        retry elsewhere."""
        self._is_accepting = False
        if tasks := self._tasks():
            log.info("stopping: %d power actions are in progress", len(tasks))
            await asyncio.wait(tasks, timeout=seconds)
        if not self._stopped.done():
            self._stopped.set_result(None)

    async def wait(self, hosts: Collection[VirtualBoxHost]) -> None:
        """Wait until no action on these hosts is left."""
        if tasks := self._tasks(hosts):
            await asyncio.wait(tasks)

    def _tasks(self, hosts: Collection[VirtualBoxHost] | None = None) -> list[asyncio.Task[None]]:
        return [
            action.task
            for queue in self._queues.values()
            for action in queue
            if hosts is None or action.host in hosts
        ]

    def _join_or_start(
        self, host: VirtualBoxHost, settings: VMSettings, change: Change, caller: Caller
    ) -> _Action:
        """Return the action that does this. Raises `Stopping` if there is none and none may start.

        Other actions that wait are cancelled: the latest request counts.
        """
        queue = self._queues[settings.uuid]
        action = next((action for action in queue if action.change is change), None)
        if action is None and not self._is_accepting:
            vm = _describe(host, settings)
            raise Stopping(f"{vm}: power {change} was not started: the service stops; retry")
        for waiting in queue[1:]:
            if waiting is not action:
                waiting.task.cancel()
                queue.remove(waiting)
        if action is None:
            action = self._start(_Action(host, settings, change, caller))
        action.requests += 1
        return action

    def _start(self, action: _Action) -> _Action:
        queue = self._queues[action.settings.uuid]
        before = queue[0].task if queue else None
        action.task = asyncio.create_task(self._run(action, before))
        action.task.add_done_callback(functools.partial(self._remove, action))
        queue.append(action)
        return action

    async def _run(self, action: _Action, before: asyncio.Task[None] | None) -> None:
        """Carry an action out on a thread, when the one before it has ended."""
        if before is not None:
            await asyncio.wait({before})
        host = action.host
        switch = {
            Change.ON: host.power_on,
            Change.OFF: host.power_off,
            Change.SHUTDOWN: functools.partial(host.power_off, mode="acpi"),
        }[action.change]
        began = time.monotonic()
        failure: errors.Error | None = None
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._threads_of(host),
                functools.partial(switch, action.settings.uuid, timeout=self._action_timeout),
            )
        except errors.Error as error:
            failure = error
            raise
        finally:
            seconds = time.monotonic() - began
            self._metrics.count_action(str(host.config), action.change, failure, seconds)
            _log_action(action, failure, seconds)

    def _threads_of(self, host: VirtualBoxHost) -> futures.ThreadPoolExecutor:
        if host not in self._threads:
            name = f"power {host.config}"
            self._threads[host] = futures.ThreadPoolExecutor(_THREADS_PER_HOST, name)
        return self._threads[host]

    def _remove(self, action: _Action, task: asyncio.Task[None]) -> None:
        """Remove an action that has ended."""
        queue = self._queues[action.settings.uuid]
        with contextlib.suppress(ValueError):
            queue.remove(action)
        if not queue:
            del self._queues[action.settings.uuid]
        # Perhaps no caller waits any more. Any other exception is a bug and must be logged.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, errors.Error):
            log.error("%s: power %s failed", action, action.change, exc_info=error)


# -- The log: one line for each action, and for each request that started none ------------------


def log_refusal(vm: str, change: Change, caller: Caller, error: errors.Error) -> None:
    """Log a request for which no action was started."""
    _write_line(
        error,
        caller,
        {"change": change.value, "vm": vm, "host": "", "uuid": "", "asked": 1, "milliseconds": 0},
    )


def _log_action(action: _Action, error: errors.Error | None, seconds: float) -> None:
    _write_line(
        error,
        action.caller,
        {
            "change": action.change.value,
            "vm": str(action),
            "host": str(action.host.config),
            "uuid": action.settings.uuid,
            "asked": action.requests,
            "milliseconds": round(seconds * 1000),
        },
    )


def _write_line(error: errors.Error | None, caller: Caller, what: dict[str, object]) -> None:
    fields = {
        **what,
        "client": caller.address,
        "token": caller.token,
        "system-id": caller.system_id,
        "result": error.code if error else "done",
        "reason": str(error) if error else "",
    }
    power_log.log(
        logging.WARNING if error else logging.INFO,
        "power %s of %s: %s in %d ms, asked %d times by %s (%s%s)%s",
        fields["change"],
        fields["vm"],
        fields["result"],
        fields["milliseconds"],
        fields["asked"],
        caller.address or "a local program",
        f"{caller.token} token" if caller.address else caller.token,
        f", MAAS system id {caller.system_id}" if caller.system_id else "",
        f": {error}" if error else "",
        extra={"fields": fields},
    )


def _describe(host: VirtualBoxHost, settings: VMSettings) -> str:
    return f"{host.config}/{settings.name} {{{settings.uuid}}}"
