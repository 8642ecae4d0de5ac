# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fleet for asyncio: queries from memory, power actions that repetitions join.

MAAS repeats itself: a rack asks for the same VM again while the first answer is on its way, and
gives an action up that may still succeed. So an action belongs to the VM, not to the request that
asked for it: it goes on when its asker is gone, and who asks for the same joins it.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet import resolver
from maas_virtualbox.fleet.fleet import HostReport
from maas_virtualbox.fleet.resolver import KnownHost, Selector
from maas_virtualbox.host.state import FailedPoll, HostState
from maas_virtualbox.service import metrics
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.fleet.fleet import Fleet
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)
power_log = logging.getLogger("maas_virtualbox.power")

ANSWER_S = 24.5
"""An action is answered within this time, done or not: MAAS wants an off done within 30 s."""

_ACTION_S = 60.0
"""How long an action itself may take; who asks again meanwhile joins it."""

PATIENCE_S = 2.5
"""How long a poll may keep a query waiting: MAAS queries five machines at a time, and an answer
that hangs delays its whole rack."""

_FAILURE_AGE_S = 5.0
"""For how long a failed poll answers queries. If it were longer, MAAS, which queries every five
minutes, would read of a failure that is over."""

_THREADS_PER_HOST = 16
_WARM_S = 10.0
_FAREWELL_S = 6.0
"""How long requests that began on a fleet may still use it after it was replaced."""


class Change(str, enum.Enum):
    """What may be asked of a VM's power."""

    ON = "on"
    OFF = "off"
    SHUTDOWN = "shutdown"
    """Off, the power button first, whatever `off-mode` says."""

    def __str__(self) -> str:
        return self.value


class Superseded(errors.PowerError):
    """An action was not begun because something else was asked for later. Permanent."""


class Stopping(errors.Error):
    """The service stops before the action has ended. Retry: it may have succeeded."""

    retry = True


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for the log."""

    address: str
    """The client's IP address."""
    token: str
    """Which sort of token opened the door: vm or admin; socket where it needed none."""
    system_id: str = ""
    """MAAS's id of the machine, when it says it."""


@dataclasses.dataclass(slots=True)
class _Action:
    """One change of one VM, under way or waiting for another to end."""

    host: VirtualBoxHost
    machine: VMSettings
    change: Change
    caller: Caller
    """Who asked first."""
    asked: int = 0
    """How often it was asked for."""
    task: asyncio.Task[None] = dataclasses.field(init=False)

    def __str__(self) -> str:
        return f"{self.host.config}/{self.machine.name} {{{self.machine.uuid}}}"


@dataclasses.dataclass(frozen=True, slots=True)
class _Located:
    """A VM, and the state of its host."""

    host: VirtualBoxHost
    settings: VMSettings
    state: HostState | FailedPoll


class Dispatcher:
    """One fleet and what is under way on it. Belongs to one event loop."""

    def __init__(self) -> None:
        self.metrics = metrics.Metrics(lambda: self._fleet)
        self.ready = False
        """Whether every host was polled once, so that answers come from knowledge."""
        self._fleet: Fleet | None = None
        self._actions: collections.defaultdict[str, list[_Action]] = collections.defaultdict(list)
        self._action_threads: dict[VirtualBoxHost, futures.ThreadPoolExecutor] = {}
        """For each host its own: however many actions wait for it, others are not delayed."""
        self._find_threads = futures.ThreadPoolExecutor(4, "find")
        self._accepting = True
        self._stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._farewells: set[asyncio.Task[None]] = set()

    @property
    def hosts(self) -> Sequence[VirtualBoxHost]:
        """The hosts that are served."""
        return self._fleet.hosts if self._fleet is not None else ()

    async def adopt(self, new: Fleet) -> None:
        """Serve this fleet from now on; close the one before when its last request is answered.

        A replacement takes over when each of its hosts was polled once, or 10 s later at the
        latest, so that no query meets a fleet that knows nothing.
        """
        for host in new.hosts:
            host.state.subscribe(_HostLog())
            self._action_threads[host] = futures.ThreadPoolExecutor(
                _THREADS_PER_HOST, f"act {host.config}"
            )
        old = self._fleet
        if old is None:
            self._fleet = new
        await asyncio.gather(*(_poll(new, host, timeout=_WARM_S) for host in new.hosts))
        self.ready = True
        if old is not None:
            self._fleet = new
            farewell = asyncio.create_task(self._retire(old))
            self._farewells.add(farewell)
            farewell.add_done_callback(self._farewells.discard)

    async def _retire(self, old: Fleet) -> None:
        await asyncio.sleep(_FAREWELL_S)
        tasks = [action.task for action in self._under_way() if action.host in old.hosts]
        if tasks:
            await asyncio.wait(tasks)
        await self._close(old)

    async def _close(self, old: Fleet) -> None:
        for host in old.hosts:
            self._action_threads.pop(host).shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(old.close)

    async def stop(self, patience: float) -> None:
        """Wait up to `patience` seconds for actions under way, then hand them back.

        Actions that are asked for from now on are not begun; queries are answered as before.
        """
        self.ready = self._accepting = False
        if tasks := [action.task for action in self._under_way()]:
            log.info("stopping: %d power actions are under way", len(tasks))
            await asyncio.wait(tasks, timeout=patience)
        if not self._stopping.done():
            self._stopping.set_result(None)

    async def close(self) -> None:
        """Close all connections to the hosts; what is still under way fails."""
        for farewell in self._farewells:
            farewell.cancel()
        if self._fleet is not None:
            await self._close(self._fleet)
        self._find_threads.shutdown(wait=False, cancel_futures=True)

    def _under_way(self) -> list[_Action]:
        return [action for line in self._actions.values() for action in line]

    # -- Queries ------------------------------------------------------------------------------

    async def poll(self) -> list[tuple[VirtualBoxHost, HostState | FailedPoll]]:
        """Return the states of all hosts, polling those whose cached state is too old."""
        if (serving := self._fleet) is None:
            return []
        states = await asyncio.gather(*(_poll(serving, host) for host in serving.hosts))
        return list(zip(serving.hosts, states, strict=True))

    def claims(self) -> list[Claim]:
        """Return which hosts list VMs that are not known to be their own, as of the last polls."""
        return self._fleet.vm_hosts.claims() if self._fleet else []

    async def reports(self) -> list[HostReport]:
        """Return what `Fleet.reports` does, of all hosts and from memory as far as it is fresh."""
        serving = self._fleet
        reports = [
            HostReport(host.config, (), state.error, state.ended - state.began)
            if isinstance(state, FailedPoll)
            else HostReport(
                host.config, tuple(host.vms_of(state)), None, state.ended - state.began
            )
            for host, state in await self.poll()
        ]
        return [serving.without_claims(report) for report in reports] if serving else reports

    async def query(self, selector: str) -> Power:
        """Tell a VM's power; unknown while its host is down.

        Raises:
            UnknownVM: all hosts were asked and none has such a VM.
            AmbiguousVM: several have.
        """
        parsed = _parse(selector)
        try:
            located = await self._locate(parsed)
        except errors.HostError:
            return Power.UNKNOWN
        except errors.AmbiguousVM:
            # Several VMs have one UUID only where hosts list VMs of other hosts; see `vm_hosts`.
            if parsed.uuid:
                return Power.UNKNOWN
            raise
        if isinstance(located.state, FailedPoll):
            return Power.UNKNOWN
        return located.host.vm_of(located.state, located.settings.uuid).power

    async def _locate(self, selector: Selector) -> _Located:
        """Return the one VM that a selector means, and a state of its host. Raises what
        `resolver.resolve` does.

        For a UUID, only the host that the VM belongs to is polled: another host that hangs does
        not delay the answer. Names and MACs can move between VMs, so all hosts are polled.
        """
        serving = self._fleet
        if serving is None:
            raise errors.UnknownVM(f"no VM matches {selector.text!r}: there are no hosts yet")
        if host := serving.search.first_host(selector):
            with contextlib.suppress(errors.UnknownVM):
                return await self._resolve(serving, [host], selector)
            # It left this host, or came after that poll, like a VM that was just trusted.
            host.state.invalidate(selector.uuid)
            with contextlib.suppress(errors.UnknownVM):
                return await self._resolve(serving, [host], selector)
        with contextlib.suppress(errors.UnknownVM):
            return await self._resolve(serving, serving.hosts, selector)
        # All hosts are up, so it takes little time to read all settings again.
        await self._find(serving, selector)
        return await self._resolve(serving, serving.hosts, selector)

    async def _resolve(
        self, serving: Fleet, hosts: Sequence[VirtualBoxHost], selector: Selector
    ) -> _Located:
        """Poll hosts and return the one of their VMs that a selector means. Raises what
        `resolver.resolve` does."""
        states = await asyncio.gather(*(_poll(serving, host, selector.uuid) for host in hosts))
        known = [_known(host, state) for host, state in zip(hosts, states, strict=True)]
        match = resolver.resolve(selector, known, serving.vm_hosts.first_hosts())
        number = [host.config for host in hosts].index(match.host)
        return _Located(hosts[number], match.vm, states[number])

    async def _find(self, serving: Fleet, selector: Selector) -> None:
        """Let the fleet read all settings again if needed. Raises what `Search.find` does."""
        find = functools.partial(serving.search.find, selector, Deadline.after(_WARM_S))
        search = asyncio.get_running_loop().run_in_executor(self._find_threads, find)
        await asyncio.wait({search}, timeout=_WARM_S)
        if not search.done():
            raise errors.CommandTimeout("all hosts", f"{selector.text!r} was not found in time")
        search.result()

    def _remembered(self, selector: Selector) -> tuple[VirtualBoxHost, VMSettings] | None:
        """Return the VM with a UUID and its host as they were last polled, however long ago."""
        host = self._fleet.search.first_host(selector) if self._fleet else None
        settings = host.state.latest_settings().get(selector.uuid) if host else None
        return (host, settings) if host and settings else None

    # -- Acting -------------------------------------------------------------------------------

    async def act(self, selector: str, change: Change, caller: Caller) -> None:
        """Switch a VM on or off; returns when that is verified. Idempotent.

        A repetition joins the action under way. An action that takes longer than `ANSWER_S` goes
        on after its `PowerTimeout`. Something else than what is under way is done after it; if it
        is taken back before it has begun, it is not done at all.

        Raises:
            PowerTimeout: it is not done yet, or not done in time. Retry.
            Superseded: something else was asked for later.
            Stopping: the service stops. Retry.
            UnknownVM, AmbiguousVM, HostError, PowerError: as `Fleet.power_on` does.
        """
        deadline = Deadline.after(ANSWER_S)
        parsed = _parse(selector)
        if remembered := self._remembered(parsed):
            # The action itself shows whether the host still has the VM.
            try:
                return await self._act_on(*remembered, change, caller, deadline)
            except errors.UnknownVM:
                remembered[0].state.invalidate(parsed.uuid)
        try:
            located = await self._locate(parsed)
        except errors.Error as error:
            _log_action(selector, change, caller, error, 0.0)
            raise
        return await self._act_on(located.host, located.settings, change, caller, deadline)

    async def _act_on(
        self,
        host: VirtualBoxHost,
        machine: VMSettings,
        change: Change,
        caller: Caller,
        deadline: Deadline,
    ) -> None:
        """Join the action that does this, or start one, and wait for it; see `act`."""
        try:
            action = self._ask(host, machine, change, caller)
        except errors.Error as error:
            _log_action(machine.uuid, change, caller, error, 0.0)
            raise
        await asyncio.wait(
            {action.task, self._stopping},
            timeout=deadline.remaining,
            return_when=asyncio.FIRST_COMPLETED,
        )
        if action.task.cancelled():
            raise Superseded(
                f"{action}: power {change} was not begun: something else was asked for"
            )
        if action.task.done():
            action.task.result()
        elif self._stopping.done():
            raise Stopping(f"{action}: power {change} is under way, but the service stops; retry")
        else:
            raise errors.PowerTimeout(
                f"{action}: power {change} is still under way after {ANSWER_S:.0f} s and goes on;"
                " ask again"
            )

    def _ask(
        self, host: VirtualBoxHost, machine: VMSettings, change: Change, caller: Caller
    ) -> _Action:
        """Join the action that does this, or line one up: one runs, at most one waits.

        Raises:
            Stopping: there is none, and none is begun any more.
        """
        line = self._actions[machine.uuid]
        same = next((each for each in line if each.change is change), None)
        if same is None and not self._accepting:
            vm = f"{host.config}/{machine.name} {{{machine.uuid}}}"
            raise Stopping(f"{vm}: power {change} was not begun: the service stops; retry")
        for superseded in line[1:]:
            if superseded is not same:
                superseded.task.cancel()
                line.remove(superseded)
        if same is not None:
            action = same
        else:
            action = _Action(host, machine, change, caller)
            before = line[0].task if line else None
            action.task = asyncio.create_task(self._carry_out(action, before))
            action.task.add_done_callback(functools.partial(self._ended, action))
            line.append(action)
        action.asked += 1
        return action

    async def _carry_out(self, action: _Action, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait({before})
        host = action.host
        switch = {
            Change.ON: host.power_on,
            Change.OFF: host.power_off,
            Change.SHUTDOWN: functools.partial(host.power_off, mode="acpi"),
        }[action.change]
        began = time.monotonic()
        error: errors.Error | None = None
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._action_threads[host],
                functools.partial(switch, action.machine.uuid, timeout=_ACTION_S),
            )
        except errors.Error as problem:
            error = problem
            raise
        finally:
            seconds = time.monotonic() - began
            self.metrics.count_action(str(host.config), action.change, error, seconds)
            _log_action(str(action), action.change, action.caller, error, seconds, action)

    def _ended(self, action: _Action, task: asyncio.Task[None]) -> None:
        line = self._actions[action.machine.uuid]
        with contextlib.suppress(ValueError):
            line.remove(action)
        if not line:
            del self._actions[action.machine.uuid]
        # Nobody may be waiting for it any more; what is not ours is a bug, and has to be seen.
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, errors.Error):
            log.error("%s: power %s broke", action, action.change, exc_info=error)


class _HostLog:
    """Logs when a host goes down and when it is up again. Called on the threads of its polls."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: HostState | FailedPoll | None = None

    def __call__(self, result: HostState | FailedPoll) -> None:
        with self._lock:
            last = self._last
            if last is not None and result.began < last.began:
                return
            self._last = result
        if isinstance(result, HostState):
            if not isinstance(last, HostState):
                log.info("host up: %s has %d VMs", result.host, len(result.settings))
        elif not isinstance(last, FailedPoll):
            log.warning("host down: %s", result.error)


async def _poll(
    fleet: Fleet, host: VirtualBoxHost, uuid: str = "", timeout: float = PATIENCE_S
) -> HostState | FailedPoll:
    """Return a state of a host that is fresh enough for a query of one VM, given its UUID; without
    one, for queries of all VMs. Never raises an error of this package.

    A query of one VM does not wait for a poll that began after the last change of *another*: where
    many VMs are switched, there is always a later change. A host that does not answer within
    `timeout` seconds gives a failed poll, and while it continues to hang, at once.
    """
    asked = time.monotonic()
    future = host.state.request(
        since=host.state.stale_before(uuid), failure_max_age=_FAILURE_AGE_S
    )
    hanging_since = None if future.done() else host.state.hanging_since(timeout)
    try:
        if future.done():
            return future.result()
        if hanging_since is None:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout)
        future.cancel()
    except errors.Error as error:
        return FailedPoll(host.config, error, asked, time.monotonic())
    except asyncio.TimeoutError:
        hanging_since = asked
    fleet.vm_hosts.record_delay(host.config)
    now = time.monotonic()
    reason = f"the host has not answered for {now - hanging_since:.1f} s"
    error = errors.CommandTimeout(str(host.config), reason)
    return FailedPoll(host.config, error, hanging_since, now)


def _log_action(
    vm: str,
    change: Change,
    caller: Caller,
    error: errors.Error | None,
    seconds: float,
    action: _Action | None = None,
) -> None:
    """Write the one line of a power action: who asked, which VM, what, the result, how long."""
    result = error.code if error else "done"
    fields: dict[str, object] = {
        "change": change.value,
        "vm": vm,
        "host": str(action.host.config) if action else "",
        "uuid": action.machine.uuid if action else "",
        "client": caller.address,
        "token": caller.token,
        "system-id": caller.system_id,
        "asked": action.asked if action else 1,
        "result": result,
        "milliseconds": round(seconds * 1000),
        "reason": str(error) if error else "",
    }
    power_log.log(
        logging.WARNING if error else logging.INFO,
        "power %s of %s: %s in %d ms, asked %d times by %s (%s%s)%s",
        change,
        vm,
        result,
        fields["milliseconds"],
        fields["asked"],
        caller.address or "a local program",
        f"{caller.token} token" if caller.address else caller.token,
        f", MAAS system id {caller.system_id}" if caller.system_id else "",
        f": {error}" if error else "",
        extra={"fields": fields},
    )


def _parse(text: str) -> Selector:
    """Parse a selector. A UUID never selects by name here: whoever may switch the VM with a UUID
    may not switch a VM that is only named like it."""
    selector = Selector.parse(text)
    return dataclasses.replace(selector, name=None) if selector.uuid else selector


def _known(host: VirtualBoxHost, state: HostState | FailedPoll) -> KnownHost:
    """Return what a poll shows of a host."""
    if isinstance(state, FailedPoll):
        return KnownHost(host.config, host.state.latest_settings(), state.error)
    return KnownHost(host.config, state.settings)
