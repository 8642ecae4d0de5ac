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

if TYPE_CHECKING:
    from collections.abc import Callable

    from maas_virtualbox.host import VM, VirtualBoxHost

log = logging.getLogger(__name__)

PATIENCE_S = 2.5
"""How long a look may keep anybody waiting: MAAS polls five machines at a time, and an answer that
hangs stalls its whole rack."""

_FAILURE_AGE_S = 5.0
"""How long a failed look answers for: if longer, MAAS, which asks every five minutes, would be
told of a failure that is over."""

_THREADS = 16


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


class HostWatch:
    """One host for asyncio: looks are shared, kept and waited for with patience, never longer.

    All of it belongs to one event loop; the host is asked on threads of its own, so that however
    many calls hang on it, none are lacking elsewhere.
    """

    def __init__(self, owner: VirtualBoxHost) -> None:
        self.owner = owner
        self.last: Look | None = None
        """The last look that ended, however old."""
        self._looking: asyncio.Task[Look] | None = None
        self._looking_since = 0.0
        self._look_threads = futures.ThreadPoolExecutor(1, f"look {owner.host}")
        self._action_threads = futures.ThreadPoolExecutor(_THREADS, f"act {owner.host}")

    def close(self) -> None:
        """Start nothing more."""
        self._look_threads.shutdown(wait=False, cancel_futures=True)
        self._action_threads.shutdown(wait=False, cancel_futures=True)

    async def act(self, action: Callable[[], None]) -> None:
        """Run a power action on one of the host's threads."""
        await asyncio.get_running_loop().run_in_executor(self._action_threads, action)

    def fresh(self) -> Look | None:
        """Return the last look if it may still answer a query."""
        look = self.last
        if look is None or look.began < self.owner.observer.stale_before:
            return None
        now = time.monotonic()
        if look.error is not None:
            return look if now - look.ended < _FAILURE_AGE_S else None
        return look if now - look.began <= self.owner.policy.snapshot_age else None

    async def look(self, patience: float = PATIENCE_S) -> Look:
        """Return a look that is fresh, taking one if need be; many askers, one SSH command.

        A host that does not answer within `patience` seconds gives a look with an error; while it
        goes on hanging, at once.
        """
        if (look := self.fresh()) is not None:
            return look
        until = time.monotonic() + patience
        # Not the last change whenever: where many VMs are switched, there is always a later one.
        needed = self.owner.observer.stale_before
        while True:
            if self._looking is None or self._looking.done():
                self._looking_since = time.monotonic()
                self._looking = asyncio.create_task(self._take())
            looking, since = self._looking, self._looking_since
            wait = min(until, since + patience) - time.monotonic()
            if wait > 0:
                await asyncio.wait({looking}, timeout=wait)
            if not looking.done():
                late = f"VirtualBox has not answered for {time.monotonic() - since:.1f} s"
                error = errors.CommandTimeout(str(self.owner.host), late)
                return Look(since, time.monotonic(), {}, error)
            look = looking.result()
            if look.began >= needed:
                return look

    async def _take(self) -> Look:
        began = time.monotonic()
        vms: dict[str, VM] = {}
        error: errors.Error | None = None
        try:
            see = functools.partial(self.owner.vms, max_age=0.0)
            found = await asyncio.get_running_loop().run_in_executor(self._look_threads, see)
            vms = {vm.uuid: vm for vm in found}
        except errors.Error as problem:
            error = problem
        before, self.last = self.last, Look(began, time.monotonic(), vms, error)
        was_up = before is not None and before.error is None
        if error is not None and (before is None or was_up):
            log.warning("host down: %s", error)
        elif error is None and not was_up:
            log.info("host up: %s has %d VMs", self.owner.host, len(vms))
        return self.last
