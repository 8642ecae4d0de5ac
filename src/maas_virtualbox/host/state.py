# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The one cache of a host's state: which VMs it has, which of them run, and when that was read.

Nothing here changes a VM. What a state means for a power action is `power`'s business; how the
state is read is `vboxmanage`'s.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.states import VMState
    from maas_virtualbox.virtualbox.vboxmanage import PollAnswer, VBoxManage

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 18.0
"""Timeout of one VBoxManage call. 0.3 % of the calls stall for 10.0 s and then give a correct
answer (measured), so the timeout is longer than that."""

NEVER = float("-inf")
"""The monotonic time of what has not happened."""


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """How long the cache waits, and for how long it uses what it has read. In seconds."""

    poll_timeout: float = CALL_TIMEOUT_S
    """For one poll, whoever waits for it."""

    hedge_after: float = 1.5
    """A poll that takes longer has probably stalled: another one is started."""

    settings_max_age: float = 300.0
    """After this time, a poll reads all settings files again, although it shows the same VMs with
    the same names."""


MAX_POLLS = 3
"""How many polls of one host run at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class HostState:
    """All VMs of a host at one point in time. A value; safe to share between threads."""

    host: HostConfig

    running: Mapping[str, VMState]
    """By UUID, the VMs that VirtualBox lists as running. If the state is not `exact`, RUNNING
    stands for running, paused, livesnapshotting and teleporting."""

    processes: Mapping[str, int]
    """By UUID, the process that runs the VM. Each VM that is on has one (measured)."""

    settings: Mapping[str, VMSettings]
    """By UUID, all registered VMs in VirtualBox's order, with their NICs."""

    has_off_states: bool
    """Whether the off states in `settings` (poweroff, saved, …) were read by this poll. False
    where VirtualBox.xml was not found: then they are older."""

    exact: bool
    """Whether the states in `running` are exact."""

    began: float
    """Monotonic time at which the poll began: what changed later may be missing."""

    ended: float
    """Monotonic time at which the answer was there."""

    def is_up(self, uuid: str) -> bool:
        """Return whether a VM is on in any way."""
        return uuid in self.running or uuid in self.processes

    def settings_of(self, uuid: str) -> VMSettings:
        """Return the settings of one VM. Raises `UnknownVM` if the host has no such VM."""
        try:
            return self.settings[uuid]
        except KeyError:
            raise errors.UnknownVM(
                f"{self.host}: no VM with UUID {uuid} for the account {self.host.account}"
            ) from None


@dataclasses.dataclass(frozen=True, slots=True)
class FailedPoll:
    """A poll that gave no state, and why."""

    host: HostConfig

    error: errors.Error

    began: float
    """Monotonic time at which the poll began."""

    ended: float
    """Monotonic time at which it failed."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Need:
    """What a caller accepts."""

    since: float
    """The poll must not have begun before this monotonic time."""

    exact: bool
    whole: bool
    """Whether all settings files must have been read."""

    def accepts(self, *, began: float, exact: bool, whole: bool) -> bool:
        return began >= self.since and exact >= self.exact and whole >= self.whole


@dataclasses.dataclass(eq=False, slots=True)
class _Poll:
    """A poll in progress."""

    began: float
    exact: bool
    whole: bool
    timer: threading.Timer
    """Starts another poll if this one stalls."""
    is_stalled: bool = False

    def can_answer(self, need: _Need) -> bool:
        return need.accepts(began=self.began, exact=self.exact, whole=self.whole)


class StateCache:
    """All that is known about one host's VMs. Created by `VirtualBoxHost`; shared between threads.

    However many callers need a state, the host receives one command, and none while a state is
    fresh. A caller waits for a future, so its deadline limits its own wait and not the poll.

    Concurrency. `_lock` guards all fields and is never held while anything waits. Each poll runs
    on a thread of its own, a daemon, so that a host which hangs does not delay the end of the
    program. A poll that seems to have stalled gets a second one beside it; the first success
    answers the callers of both. At most one poll reads the settings files, because that takes
    long on a host with many VMs; it is also the first poll, and so wakes VBoxSVC up alone: a
    burst of parallel calls breaks one that starts.
    """

    def __init__(
        self,
        host: HostConfig,
        vboxmanage: VBoxManage,
        max_age: float,
        timings: Timings | None = None,
    ) -> None:
        """Prepare; nothing is read before the first request.

        Args:
            host: the host's entry in the host list.
            vboxmanage: reads the state.
            max_age: for how many seconds a state answers requests.
            timings: everything else that takes time.
        """
        self._host = host
        self._vboxmanage = vboxmanage
        self._max_age = max_age
        self._timings = timings or Timings()
        self._lock = threading.Lock()
        self._is_closed = False
        self._listeners: list[Callable[[HostState | FailedPoll], None]] = []
        self._states: dict[bool, HostState] = {}
        """The newest state (False), and the newest exact state (True)."""
        self._failure: FailedPoll | None = None
        self._changed: dict[str, float] = {}
        self._settings: Mapping[str, VMSettings] = {}
        self._settings_began = NEVER
        self._polls: list[_Poll] = []
        self._waiting: dict[futures.Future[HostState], _Need] = {}

    def close(self) -> None:
        """Start no more polls. Callers that wait get the error `Closed`."""
        with self._lock:
            self._is_closed = True
            waiting, self._waiting = list(self._waiting), {}
            for poll in self._polls:
                poll.timer.cancel()
        error = errors.Closed(str(self._host), "this host was closed")
        for future in waiting:
            _deliver(future, error)

    def hanging_since(self, seconds: float) -> float | None:
        """Return when the oldest poll began that has not ended for so many seconds, if no poll
        that began later has succeeded; None: the host does not hang. Never blocks."""
        with self._lock:
            state = self._states.get(False)
            success = state.began if state is not None else NEVER
            latest = time.monotonic() - seconds
            began = [poll.began for poll in self._polls if success < poll.began < latest]
        return min(began, default=None)

    def invalidate(self, vm: str = "") -> float:
        """Invalidate the state of a VM, given its UUID, or of all VMs, because it is being
        changed. Return the monotonic time of this change."""
        with self._lock:
            now = self._changed[vm] = time.monotonic()
            return now

    def complete(self, answer: PollAnswer) -> HostState | None:
        """Return the state that the answer to a poll shows, which another command brought; None if
        the settings files have to be read first. Never blocks."""
        if self._settings_began == NEVER:
            return None
        settings = _merged(answer, self._settings)
        return None if settings is None else self._state(answer, settings)

    def latest(self) -> HostState | FailedPoll | None:
        """Return the result of the newest poll that ended, however old. Never blocks."""
        with self._lock:
            state, failure = self._states.get(False), self._failure
        return failure if failure is not None and _is_newer(failure, state) else state

    def latest_settings(self) -> Mapping[str, VMSettings]:
        """Return the settings of all VMs as they were last read, by UUID. Never blocks."""
        return self._settings

    def poll(
        self,
        deadline: Deadline,
        *,
        exact: bool = False,
        whole: bool = False,
        max_age: float | None = None,
        since: float | None = None,
    ) -> HostState:
        """Return the state of the host: the cached one if it is fresh enough, else a new one.

        Args:
            deadline: when to stop waiting. The poll continues, for other callers.
            exact: whether running and paused VMs must be distinguished; costs the host 40 ms for
                each running VM.
            whole: whether all settings files must be read again; takes long with many VMs.
            max_age: the greatest acceptable age in seconds (default: that of the power policy).
            since: monotonic time before which no acceptable poll began (default: the last change
                of any VM by this process; see `stale_before`).

        Raises:
            HostError: in any of its forms; the power of the host's VMs is then unknown.
            VBoxManageError: VirtualBox reports an error, twice if it is worth retrying.
        """
        asked = time.monotonic()
        future = self.request(exact=exact, whole=whole, max_age=max_age, since=since)
        try:
            return future.result(deadline.remaining)
        except futures.TimeoutError:
            if not future.cancel():
                return future.result()
            seconds = time.monotonic() - asked
            raise errors.CommandTimeout(
                str(self._host), f"the host has not answered for {seconds:.1f} s"
            ) from None

    def request(
        self,
        *,
        exact: bool = False,
        whole: bool = False,
        max_age: float | None = None,
        since: float | None = None,
        failure_max_age: float = 0.0,
    ) -> futures.Future[HostState]:
        """Return the future that `poll` waits for, whose arguments it takes; does not block. Until
        `failure_max_age` seconds after its end, a failed poll answers too."""
        now = time.monotonic()
        age = self._max_age if max_age is None else max_age
        changed = self.stale_before() if since is None else since
        # A poll in progress is joined even if no cached state is acceptable, but not one that
        # began long ago: its answer may be as old as itself. A read of all settings is for
        # callers that know of a change, so they do not join one that began before.
        joined = max(changed, now - (age if whole else max(age, self._max_age)))
        fresh = _Need(max(changed, now - age), exact, whole)
        future: futures.Future[HostState] = futures.Future()
        with self._lock:
            answer = self._cached(fresh) or self._cached_failure(changed, now - failure_max_age)
            if answer is None and self._is_closed:
                answer = errors.Closed(str(self._host), "this host was closed")
            if answer is None:
                need = dataclasses.replace(fresh, since=joined)
                self._ensure_poll(need)
                self._waiting[future] = need
        if answer is not None:
            _deliver(future, answer)
        future.add_done_callback(self._stop_waiting)
        return future

    def settings(
        self, deadline: Deadline, *, max_age: float | None = None
    ) -> Mapping[str, VMSettings]:
        """Return the settings of all VMs by UUID, which are not older than `max_age` seconds
        (default: five minutes). Raises what `poll` does."""
        age = self._timings.settings_max_age if max_age is None else max_age
        if time.monotonic() - self._settings_began <= age:
            return self._settings
        return self.poll(deadline, whole=True, max_age=age, since=NEVER).settings

    @property
    def settings_began(self) -> float:
        """The monotonic time at which the read of `latest_settings` began; `NEVER` before it."""
        return self._settings_began

    def stale_before(self, vm: str = "") -> float:
        """Return the monotonic time of the last change of a VM by this process, given its UUID: no
        poll that began earlier answers for that VM. Without a UUID: of any VM."""
        with self._lock:
            if vm:
                return max(self._changed.get(vm, NEVER), self._changed.get("", NEVER))
            return max(self._changed.values(), default=NEVER)

    def subscribe(self, listener: Callable[[HostState | FailedPoll], None]) -> None:
        """Call a function with the result of each poll, on the poll's thread, before the callers
        that wait receive it."""
        with self._lock:
            self._listeners.append(listener)

    # -- Which polls run; `_lock` is held ------------------------------------------------------

    def _cached(self, need: _Need) -> HostState | None:
        if need.whole:
            return None
        for exact in {need.exact, True}:
            state = self._states.get(exact)
            if state is not None and state.began >= need.since:
                return state
        return None

    def _cached_failure(self, changed: float, failed_after: float) -> errors.Error | None:
        failure = self._failure
        if failure is None or failure.ended <= failed_after or failure.began < changed:
            return None
        return failure.error if _is_newer(failure, self._states.get(False)) else None

    def _ensure_poll(self, need: _Need) -> None:
        """Start a poll that answers a caller, unless one is in progress that has not stalled."""
        if self._is_covered(need) or self._is_closed or len(self._polls) == MAX_POLLS:
            return
        is_whole_running = any(poll.whole for poll in self._polls)
        age = time.monotonic() - self._settings_began
        if not is_whole_running:
            whole = need.whole or age > self._timings.settings_max_age
            self._start_poll(exact=need.exact, whole=whole)
        elif not need.whole and self._settings_began > NEVER:
            self._start_poll(exact=need.exact, whole=False)

    def _is_covered(self, need: _Need) -> bool:
        return any(poll.can_answer(need) and not poll.is_stalled for poll in self._polls)

    def _ensure_polls(self) -> None:
        for need in list(self._waiting.values()):
            self._ensure_poll(need)

    def _start_poll(self, *, exact: bool, whole: bool) -> None:
        timer = threading.Timer(self._timings.hedge_after, lambda: self._hedge(poll))
        timer.daemon = True
        poll = _Poll(time.monotonic(), exact, whole, timer)
        name = f"poll {self._host}"
        threading.Thread(target=self._run, args=(poll,), name=name, daemon=True).start()
        self._polls.append(poll)
        timer.start()

    def _publish(self, result: HostState | FailedPoll, *, whole: bool) -> None:
        """Keep a result if it is newer than the cached one."""
        if isinstance(result, FailedPoll):
            if _is_newer(result, self._failure):
                self._failure = result
            return
        for exact in {False, result.exact}:
            if _is_newer(result, self._states.get(exact)):
                self._states[exact] = result
        if whole and self._settings_began < result.began:
            self._settings, self._settings_began = result.settings, result.began

    def _take_answered(
        self, poll: _Poll, result: HostState | FailedPoll
    ) -> list[futures.Future[HostState]]:
        """Return the futures of all callers that a result answers, and remove them. A failure
        answers those that no other poll in progress can answer."""
        answered = [
            future
            for future, need in self._waiting.items()
            if need.accepts(began=result.began, exact=poll.exact, whole=poll.whole)
            and (
                isinstance(result, HostState)
                or not any(other.can_answer(need) for other in self._polls)
            )
        ]
        for future in answered:
            del self._waiting[future]
        return answered

    # -- Polls, on their threads ---------------------------------------------------------------

    def _hedge(self, poll: _Poll) -> None:
        with self._lock:
            poll.is_stalled = True
            self._ensure_polls()

    def _run(self, poll: _Poll) -> None:
        """Execute a poll and give its result to all callers that wait for it."""
        result: HostState | FailedPoll
        try:
            result = self._read(poll)
        except errors.Error as error:
            result = self._failed(poll, error)
        except Exception as error:
            # What the answer of one host breaks here must not reach the other hosts.
            log.exception("%s: a poll failed", self._host)
            reason = f"its answer caused {error!r:.200}"
            result = self._failed(poll, errors.BadOutput(str(self._host), reason))
        poll.timer.cancel()
        self._notify(result)
        with self._lock:
            self._polls.remove(poll)
            self._publish(result, whole=poll.whole)
            answered = self._take_answered(poll, result)
            self._ensure_polls()
        for future in answered:
            _deliver(future, result.error if isinstance(result, FailedPoll) else result)

    def _failed(self, poll: _Poll, error: errors.Error) -> FailedPoll:
        return FailedPoll(self._host, error.with_traceback(None), poll.began, time.monotonic())

    def _notify(self, result: HostState | FailedPoll) -> None:
        for listener in self._listeners:
            try:
                listener(result)
            except Exception:
                log.exception("%s: the result of a poll could not be recorded", self._host)

    def _read(self, poll: _Poll) -> HostState:
        """Read the state of the host, with one command if no VM came, went or was renamed."""
        deadline = Deadline.after(self._timings.poll_timeout)
        answer = self._ask(poll, deadline)
        if not poll.whole:
            settings = _merged(answer, self._settings)
            if settings is not None:
                return self._state(answer, settings)
            poll.whole = True
            answer = self._ask(poll, deadline)
        settings = answer.machines if _is_complete(answer) else self._read_long_list(deadline)
        assert settings is not None
        return self._state(answer, settings)

    def _ask(self, poll: _Poll, deadline: Deadline) -> PollAnswer:
        """Ask the host, twice after a failure that passes: VBoxSVC was starting, a connection
        broke, an answer was cut off."""
        read = "all" if poll.whole else "heads"
        ask = self._vboxmanage.poll
        try:
            return ask(settings_read=read, long=poll.exact, timeout=deadline.remaining)
        except errors.CommandTimeout:
            raise
        except (errors.ConnectionLost, errors.BadOutput, errors.VBoxManageError) as error:
            if not error.retry:
                raise
            log.info("%s; asking once more", error)
            return ask(settings_read=read, long=poll.exact, timeout=deadline.remaining)

    def _read_long_list(self, deadline: Deadline) -> Mapping[str, VMSettings]:
        log.info("%s: settings files not found; asking for the long list", self._host)
        listed = self._vboxmanage.list_long_vms(timeout=deadline.remaining)
        return {uuid: vm.settings for uuid, vm in listed.items()}

    def _state(self, answer: PollAnswer, settings: Mapping[str, VMSettings]) -> HostState:
        return HostState(
            host=self._host,
            running=answer.running,
            processes=answer.processes,
            settings=settings,
            has_off_states=_is_complete(answer),
            exact=answer.long,
            began=answer.began,
            ended=time.monotonic(),
        )

    def _stop_waiting(self, future: futures.Future[HostState]) -> None:
        with self._lock:
            self._waiting.pop(future, None)


def _deliver(future: futures.Future[HostState], answer: HostState | errors.Error) -> None:
    """Give a caller its answer unless it has stopped waiting."""
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(answer, errors.Error):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _is_complete(answer: PollAnswer) -> bool:
    """Return whether the settings files name all VMs that run; otherwise VirtualBox evidently uses
    other files."""
    machines = answer.machines
    return machines is not None and all(uuid in machines for uuid in answer.running)


def _is_newer(result: HostState | FailedPoll, known: HostState | FailedPoll | None) -> bool:
    return known is None or known.began < result.began


def _merged(
    answer: PollAnswer, known: Mapping[str, VMSettings]
) -> Mapping[str, VMSettings] | None:
    """Return the known settings with the off states of a poll that read the heads of the settings
    files only; None if VMs came, went or were renamed, so that all must be read again."""
    heads = answer.machines
    if heads is None or not _is_complete(answer):
        return known if all(uuid in known for uuid in answer.running) else None
    if heads.keys() != known.keys():
        return None
    if any(_is_renamed(known[uuid], head) for uuid, head in heads.items()):
        return None
    return {uuid: _with_off_state(known[uuid], head) for uuid, head in heads.items()}


def _with_off_state(known: VMSettings, head: VMSettings) -> VMSettings:
    if not known.accessible:
        return known
    return dataclasses.replace(known, off_state=head.off_state)


def _is_renamed(known: VMSettings, head: VMSettings) -> bool:
    # What could not be read has no name to compare; it is read again when it is old.
    return known.accessible and known.name != head.name
