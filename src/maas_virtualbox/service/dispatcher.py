# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fleet for asyncio: queries from the hosts' cached states, and power actions.

Each protocol (webhook, Redfish, …) translates its requests into calls of the dispatcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet import selectors
from maas_virtualbox.fleet.results import HostReport
from maas_virtualbox.fleet.selectors import KnownHost, Selector
from maas_virtualbox.host.state import FailedPoll, HostState
from maas_virtualbox.service import actions, metrics
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.fleet.fleet import Fleet
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.service.actions import Caller, Change
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """How long the dispatcher waits, in seconds."""

    action: float = 60.0
    """For a power action, however soon its callers stop waiting."""

    action_answer: float = 24.5
    """For an action before its callers get an answer: MAAS expects a power-off within 30 s."""

    failure_max_age: float = 5.0
    """For how long a failed poll answers queries. MAAS queries every five minutes: if this were
    longer, it would more often report a failure that is over."""

    first_poll: float = 10.0
    """For each host of a fleet before the fleet is served, and for a read of all settings."""

    query: float = 2.5
    """For a poll before a query gets the answer "unknown". MAAS queries five machines at a time,
    so one slow answer delays a whole rack."""

    report: float = 10.0
    """For a poll before a report for people says that the host is down. They can wait for a host
    that is merely slow: a busy one was seen to need more than `query`."""

    retirement: float = 6.0
    """For requests that still use a fleet after it was replaced."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Located:
    """The VM that a request to the dispatcher means, and the state of its host."""

    host: VirtualBoxHost
    settings: VMSettings
    state: HostState | FailedPoll


class Dispatcher:
    """One fleet, and the power actions in progress on it. Belongs to one event loop."""

    def __init__(self, timings: Timings | None = None) -> None:
        self.metrics = metrics.Metrics(lambda: self._fleet)
        self.ready = False
        """Whether every host was polled once, so that answers are based on its state."""
        self._timings = timings or Timings()
        self._actions = actions.Actions(self.metrics, self._timings.action)
        self._fleet: Fleet | None = None
        self._find_threads = futures.ThreadPoolExecutor(4, "find")
        self._retirements: set[asyncio.Task[None]] = set()

    async def adopt(self, new: Fleet) -> None:
        """Serve this fleet from now on. Close the previous one after its last request.

        The new fleet replaces another one when each of its hosts was polled once, or ten seconds
        later at the latest, so that its answers are based on the hosts' states.
        """
        for host in new.hosts:
            host.state.subscribe(_HostLog())
        old = self._fleet
        if old is None:
            self._fleet = new
        timeout = self._timings.first_poll
        await asyncio.gather(*(self._poll(new, host, timeout=timeout) for host in new.hosts))
        self.ready = True
        if old is not None:
            self._fleet = new
            retirement = asyncio.create_task(self._retire(old))
            self._retirements.add(retirement)
            retirement.add_done_callback(self._retirements.discard)

    async def _retire(self, old: Fleet) -> None:
        await asyncio.sleep(self._timings.retirement)
        await self._actions.wait(old.hosts)
        await self._close(old)

    async def _close(self, old: Fleet) -> None:
        self._actions.close(old.hosts)
        await asyncio.to_thread(old.close)

    async def stop(self, seconds: float) -> None:
        """Start no more actions, and wait so long for those in progress. Then let their callers
        retry elsewhere. Queries are answered as before."""
        self.ready = False
        await self._actions.stop(seconds)

    async def close(self) -> None:
        """Close all connections to the hosts. What is still in progress fails."""
        for retirement in self._retirements:
            retirement.cancel()
        if self._fleet is not None:
            await self._close(self._fleet)
        self._find_threads.shutdown(wait=False, cancel_futures=True)

    # -- Queries ------------------------------------------------------------------------------

    async def poll(
        self, timeout: float | None = None
    ) -> list[tuple[VirtualBoxHost, HostState | FailedPoll]]:
        """Return the states of all hosts, polling those whose cached state is too old.

        Args:
            timeout: seconds before a host counts as down. None: those of a query.
        """
        if (serving := self._fleet) is None:
            return []
        states = await asyncio.gather(
            *(self._poll(serving, host, timeout=timeout) for host in serving.hosts)
        )
        return list(zip(serving.hosts, states, strict=True))

    def claims(self) -> list[Claim]:
        """Return which hosts list VMs that are not known to be their own, as of the last polls."""
        return self._fleet.vm_hosts.claims() if self._fleet else []

    async def reports(self) -> list[HostReport]:
        """Return what `Fleet.reports` does, of all hosts, from their cached states if fresh."""
        serving = self._fleet
        reports = [
            HostReport(host.config, (), state.error, state.ended - state.began)
            if isinstance(state, FailedPoll)
            else HostReport(
                host.config, tuple(host.vms_of(state)), None, state.ended - state.began
            )
            for host, state in await self.poll(timeout=self._timings.report)
        ]
        return [serving.without_claims(report) for report in reports] if serving else reports

    async def query(self, selector: str) -> Power:
        """Return the power of a VM; unknown while its host is down.

        Raises:
            UnknownVM: all hosts were polled, and none has such a VM.
            AmbiguousVM: several VMs match the selector.
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
        `selectors.resolve` does.

        For a UUID, only the host that the VM belongs to is polled: another host that hangs does
        not delay the answer. Names and MACs can move between VMs, so all hosts are polled.
        """
        serving = self._fleet
        if serving is None:
            raise errors.UnknownVM(f"no VM matches {selector.text!r}: there are no hosts yet")
        if host := serving.resolver.first_host(selector):
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
        `selectors.resolve` does."""
        states = await asyncio.gather(
            *(self._poll(serving, host, selector.uuid) for host in hosts)
        )
        known = [_known(host, state) for host, state in zip(hosts, states, strict=True)]
        match = selectors.resolve(selector, known, serving.vm_hosts.first_hosts())
        number = [host.config for host in hosts].index(match.host)
        return _Located(hosts[number], match.vm, states[number])

    async def _find(self, serving: Fleet, selector: Selector) -> None:
        """Let the fleet read all settings again if needed. Raises what `Resolver.find` does."""
        deadline = Deadline.after(self._timings.first_poll)
        find = functools.partial(serving.resolver.find, selector, deadline)
        search = asyncio.get_running_loop().run_in_executor(self._find_threads, find)
        await asyncio.wait({search}, timeout=deadline.remaining)
        if not search.done():
            raise errors.CommandTimeout("all hosts", f"{selector.text!r} was not found in time")
        search.result()

    def _latest(self, selector: Selector) -> tuple[VirtualBoxHost, VMSettings] | None:
        """Return the VM with a UUID and its host as they were last polled, however long ago."""
        host = self._fleet.resolver.first_host(selector) if self._fleet else None
        settings = host.state.latest_settings().get(selector.uuid) if host else None
        return (host, settings) if host and settings else None

    # -- Actions ------------------------------------------------------------------------------

    async def act(self, selector: str, change: Change, caller: Caller) -> None:
        """Switch a VM on or off, and return when that is verified. Idempotent.

        A repetition joins the action in progress. Any other action starts when the one in progress
        has ended; if a later request wants something else before that, it does not start at all.

        Raises:
            PowerTimeout: it has not ended (and continues), or was not done in time. Retry.
            Superseded: a later request wants something else.
            Stopping: the service stops. Retry.
            UnknownVM, AmbiguousVM, HostError, PowerError: as `Fleet.power_on` does.
        """
        deadline = Deadline.after(self._timings.action_answer)
        parsed = _parse(selector)
        if latest := self._latest(parsed):
            # The action itself shows whether the host still has the VM.
            try:
                return await self._actions.execute(*latest, change, caller, deadline)
            except errors.UnknownVM:
                latest[0].state.invalidate(parsed.uuid)
        try:
            located = await self._locate(parsed)
        except errors.Error as error:
            actions.log_refusal(selector, change, caller, error)
            raise
        return await self._actions.execute(
            located.host, located.settings, change, caller, deadline
        )

    # -- Polls --------------------------------------------------------------------------------

    async def _poll(
        self, serving: Fleet, host: VirtualBoxHost, uuid: str = "", timeout: float | None = None
    ) -> HostState | FailedPoll:
        """Return a state of a host that is fresh enough for a query of one VM, given its UUID;
        without one, for queries of all VMs. Raises no error of this package.

        A query of one VM does not wait for a poll that began after the last change of *another*
        VM: while many VMs are switched, there is always a later change. A host that does not
        answer within `timeout` seconds (default: those of a query) gives a failed poll, and gives
        it at once for as long as it continues to hang.
        """
        asked = time.monotonic()
        seconds = self._timings.query if timeout is None else timeout
        future = host.state.request(
            since=host.state.stale_before(uuid), failure_max_age=self._timings.failure_max_age
        )
        began = None if future.done() else host.state.hanging_since(seconds)
        try:
            if began is None:
                return await _result(future, seconds)
            future.cancel()
        except errors.Error as error:
            return FailedPoll(host.config, error, asked, time.monotonic())
        except asyncio.TimeoutError:
            began = asked
        serving.vm_hosts.record_delay(host.config)
        now = time.monotonic()
        reason = f"the host has not answered for {now - began:.1f} s"
        late = errors.CommandTimeout(str(host.config), reason)
        return FailedPoll(host.config, late, began, now)


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


async def _result(future: futures.Future[HostState], timeout: float) -> HostState:
    """Wait for a state, but not for one that is cached."""
    if future.done():
        return future.result()
    return await asyncio.wait_for(asyncio.wrap_future(future), timeout)


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
