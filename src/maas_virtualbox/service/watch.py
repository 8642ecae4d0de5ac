# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the service knows of one host: the last look, and the one look all who ask now share."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import state

if TYPE_CHECKING:
    from collections.abc import Callable

    from maas_virtualbox.fleet.vm_hosts import VMHosts
    from maas_virtualbox.host.host import VM, VirtualBoxHost

log = logging.getLogger(__name__)

PATIENCE_S = 2.5
"""How long a look may keep anybody waiting: MAAS polls five machines at a time, and an answer that
hangs stalls its whole rack."""

_FAILURE_AGE_S = 5.0
"""How long a failed look answers for: if longer, MAAS, which asks every five minutes, would be
told of a failure that is over."""

_THREADS = 16
_MAX_POLLS = 3
"""How many callers' polls are under way at once; the host itself sees fewer commands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """All VMs of a host at one time, or why they cannot be told."""

    began: float
    """Monotonic time at which the host was asked."""
    ended: float
    vms: dict[str, VM]
    """By UUID, in VirtualBox's order; empty when the host is down."""
    error: errors.Error | None
    """Why the host could not be asked; None if it answered."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Poll:
    """A poll in progress."""

    began: float
    """Monotonic time at which it was asked for."""
    since: float
    """Its state is not older than this monotonic time."""


class HostWatch:
    """One host for asyncio: looks are shared, kept and waited for with patience, never longer.

    All of it belongs to one event loop; the host is asked on threads of its own, so that however
    many calls hang on it, none are lacking elsewhere.
    """

    def __init__(self, owner: VirtualBoxHost, vm_hosts: VMHosts) -> None:
        self.owner = owner
        self._vm_hosts = vm_hosts
        self.last: Look | None = None
        """The last look that ended, however old."""
        self._polls: dict[asyncio.Task[Look], _Poll] = {}
        self._look_threads = futures.ThreadPoolExecutor(_MAX_POLLS, f"look {owner.config}")
        self._action_threads = futures.ThreadPoolExecutor(_THREADS, f"act {owner.config}")

    @property
    def claims_made(self) -> int:
        """How often the host began to list a VM that is not known to be its own."""
        return self._vm_hosts.claims_made(self.owner.config)

    def close(self) -> None:
        """Start nothing more."""
        self._look_threads.shutdown(wait=False, cancel_futures=True)
        self._action_threads.shutdown(wait=False, cancel_futures=True)

    async def act(self, action: Callable[[], None]) -> None:
        """Run a power action on one of the host's threads."""
        await asyncio.get_running_loop().run_in_executor(self._action_threads, action)

    def fresh(self, vm: str = "") -> Look | None:
        """Return the last look if it may still answer a query of a VM, given its UUID; without
        one, a query of all VMs."""
        look = self.last
        if look is None or look.began < self.owner.state.stale_before(vm):
            return None
        now = time.monotonic()
        if look.error is not None:
            return look if now - look.ended < _FAILURE_AGE_S else None
        return look if now - look.began <= self.owner.policy.state_max_age else None

    async def look(self, vm: str = "", patience: float = PATIENCE_S) -> Look:
        """Return a look that is fresh for a VM (without a UUID: for all), taking one if need be.

        Many callers share one SSH command. A query of one VM does not wait for a poll that began
        after the latest change of *another*: where many VMs are switched, there is always a later
        change. A host that does not answer within `patience` seconds gives a look with an error;
        while it goes on hanging, at once.
        """
        if (look := self.fresh(vm)) is not None:
            return look
        asked = time.monotonic()
        until = asked + patience
        changed = self.owner.state.stale_before(vm)
        oldest = asked - self.owner.policy.state_max_age
        needed = max(changed, oldest)
        if self._hangs(patience):
            return self._late(min(poll.began for poll in self._polls.values()))
        while True:
            enough = [
                task
                for task, poll in self._polls.items()
                if poll.since >= changed and poll.began >= oldest
            ]
            if not enough and len(self._polls) < _MAX_POLLS:
                enough = [self._start_poll(changed)]
            waited_for = enough or list(self._polls)
            began = max(self._polls[task].began for task in waited_for)
            done, _ = await asyncio.wait(
                waited_for,
                timeout=max(0.0, min(until, began + patience) - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                return self._late(began)
            for look in (task.result() for task in done):
                if look.began >= needed:
                    return look

    def _hangs(self, patience: float) -> bool:
        """Whether a poll has kept callers waiting for `patience` seconds and none that began after
        it has succeeded."""
        began = min((poll.began for poll in self._polls.values()), default=float("inf"))
        answered = self.last is not None and not self.last.error and self.last.began >= began
        return time.monotonic() - began > patience and not answered

    def _late(self, began: float) -> Look:
        late = f"VirtualBox has not answered for {time.monotonic() - began:.1f} s"
        error = errors.CommandTimeout(str(self.owner.config), late)
        self._vm_hosts.record_delay(self.owner.config)
        return Look(began, time.monotonic(), {}, error)

    def _start_poll(self, since: float) -> asyncio.Task[Look]:
        task = asyncio.create_task(self._poll(since))
        self._polls[task] = _Poll(time.monotonic(), since)
        task.add_done_callback(lambda done: self._polls.pop(done, None))
        return task

    async def _poll(self, since: float) -> Look:
        began = time.monotonic()
        try:
            read = functools.partial(self._read, since)
            look = await asyncio.get_running_loop().run_in_executor(self._look_threads, read)
        except errors.Error as error:
            look = self._failed(began, error)
        except Exception as fault:
            # A fault of ours that one host's answer brings about must not reach the others.
            log.exception("%s: a poll failed", self.owner.config)
            reason = f"its answer caused {fault!r:.200}"
            look = self._failed(began, errors.BadOutput(str(self.owner.config), reason))
        if self.last is None or look.began >= self.last.began:
            self._keep(look)
        return look

    def _failed(self, began: float, error: errors.Error) -> Look:
        self._vm_hosts.record_failure(self.owner.config, began)
        return Look(began, time.monotonic(), {}, error)

    def _read(self, since: float) -> Look:
        """Poll the host, on a thread; what others polled in the meantime does as well."""
        deadline = Deadline.after(state.CALL_TIMEOUT_S)
        picture = self.owner.poll(since=since, deadline=deadline)
        vms = {vm.uuid: vm for vm in self.owner.vms_of(picture, deadline)}
        self._vm_hosts.record_poll(self.owner.config, vms, picture.began)
        return Look(picture.began, time.monotonic(), vms, None)

    def _keep(self, look: Look) -> None:
        was_up = self.last is not None and self.last.error is None
        if look.error is not None and (self.last is None or was_up):
            log.warning("host down: %s", look.error)
        elif look.error is None and not was_up:
            log.info("host up: %s has %d VMs", self.owner.config, len(look.vms))
        self.last = look
