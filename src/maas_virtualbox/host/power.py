# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Executes power actions on the VMs of one host, safely and until a deadline.

`power_steps` decides what to do next, `state` reads the state of the host, and `vboxmanage` sends
the commands.

An ordinary action is one command: a guarded start or power-off, which checks on the host whether a
process runs the VM, changes it and checks the result. Only if the guard refuses or a command fails
is the state of the host read and considered here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.host.power_steps import Fail, Goal, History, Reason, Step, VMStatus, next_step
from maas_virtualbox.host.state import CALL_TIMEOUT_S
from maas_virtualbox.transport import MAX_PARALLEL
from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.config.policy import OffMode, PowerPolicy
    from maas_virtualbox.host.state import HostState, StateCache
    from maas_virtualbox.virtualbox.shells import StartGuard
    from maas_virtualbox.virtualbox.vboxmanage import SwitchResult, VBoxManage

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

_MAX_CHANGING = MAX_PARALLEL - 2
"""How many VMs are changed at once: two channels stay free for polls, or starting many VMs would
delay all queries."""

_ERRORS = (errors.HostError, errors.VBoxManageError)

_UNCERTAIN = (errors.ConnectionLost, errors.CommandTimeout, errors.BadOutput)
"""Errors after which a command may have been executed."""

_LOG_LINES = 15
_SHORTEST_CALL_S = 0.1


@dataclasses.dataclass(frozen=True, slots=True)
class PowerTimings:
    """How long an action waits for what, in seconds."""

    first_pause: float = 0.05
    """Before the second poll; each further pause is twice as long, up to `longest_pause`."""

    longest_pause: float = 0.4

    settle: float = 1.5
    """How long a process may run a VM that VirtualBox does not list before more is done about it
    than waiting: a start takes 0.4 s, the end of a process 0.1 s (measured)."""

    linger: float = 11.0
    """How long a process may outlive its VM before it counts as orphaned. Its end stalls for 10 s
    now and then, as any call does (measured: 5 of 200 power-offs under load)."""

    query_pause: float = 3.0
    """Between two queries for the exact state, which take a lock that a starting VM needs."""

    hard_off_reserve: float = 8.0
    """What a guest that does not react to the power button leaves for the power-off."""

    log_read: float = 3.0
    """For reading the end of a VM's log."""


class PowerControl:
    """Switches the VMs of one host. Created by `VirtualBoxHost`; may be shared between threads.

    Concurrency. Each VM has a lock that an action holds from its first command to its last, so
    this object never makes more than one lock-taking call on a VM, and none while it starts.
    Actions on different VMs run in parallel.
    """

    def __init__(
        self, host: HostConfig, vboxmanage: VBoxManage, state: StateCache, policy: PowerPolicy
    ) -> None:
        self.config = host
        self.vboxmanage = vboxmanage
        self.state = state
        self.policy = policy
        self.timings = PowerTimings()
        self.changing = threading.BoundedSemaphore(_MAX_CHANGING)
        """Held by each call that takes a VM's lock."""
        self.orphaned_process_refusals = 0
        """How often a start was refused because an orphaned process runs the VM."""
        self._lock = threading.Lock()
        self._vm_locks: dict[str, threading.Lock] = {}

    def lock_of(self, uuid: str) -> threading.Lock:
        """Return the lock that an action on a VM holds."""
        with self._lock:
            return self._vm_locks.setdefault(uuid, threading.Lock())

    def power_off(
        self, uuid: str, *, mode: OffMode | None = None, timeout: float | None = None
    ) -> None:
        """Power a VM off; return when no process runs it any more. Idempotent.

        A saved state is discarded too (unless the policy resumes it), because a physical machine
        that is off has no state either.

        Args:
            uuid: the VM.
            mode: other than the policy's `off_mode`.
            timeout: seconds for everything (default: the policy's `action_timeout`).

        Raises:
            UnknownVM: the host has no such VM.
            PowerTimeout: it is not off in time. Retry.
            OrphanedProcess: VirtualBox cannot stop the process that runs it.
            PowerError: VirtualBox refuses permanently; the text has its message.
            HostError: the host cannot be used.
        """
        is_acpi = (mode or self.policy.off_mode) == "acpi"
        goal = Goal.ACPI_OFF if is_acpi else Goal.HARD_OFF
        with self._action(uuid, goal, "power off", timeout) as action:
            action.run()

    def power_on(self, uuid: str, *, timeout: float | None = None) -> None:
        """Power a VM on; return when it runs. Idempotent.

        A VM that is off, aborted or (unless the policy resumes it) saved boots from its first boot
        device. A paused VM is resumed; a crashed one (gurumeditation) is powered off first. A VM
        that an orphaned process runs is never started.

        Args and errors are those of `power_off`. If VirtualBox refuses the start, `PowerError` has
        its message and the end of the VM's VBox.log.
        """
        with self._action(uuid, Goal.ON, "power on", timeout) as action:
            action.run()

    def reset(self, uuid: str, *, timeout: float | None = None) -> None:
        """Press the reset button of a VM that is on, so that it boots again.

        A paused VM is resumed first; a crashed one is powered off and on. A VM that is off is not
        started: that is an error. Args and errors are those of `power_off`.
        """
        with self._action(uuid, Goal.RESET, "reset", timeout) as action:
            action.run()

    @contextlib.contextmanager
    def _action(
        self, uuid: str, goal: Goal, name: str, timeout: float | None
    ) -> Generator[_Action]:
        deadline = Deadline.after(self.policy.action_timeout if timeout is None else timeout)
        action = _Action(self, uuid, goal, name, deadline)
        lock = self.lock_of(uuid)
        if not lock.acquire(timeout=deadline.remaining):
            raise action.timed_out("another action on it is still running")
        try:
            yield action
        finally:
            lock.release()


class _VMCall(Protocol[_T_co]):
    """A method of `VBoxManage` about one VM."""

    def __call__(self, uuid: str, *, timeout: float) -> _T_co: ...


class _Action:
    """One power-on, power-off or reset of one VM: executes steps until it is done."""

    def __init__(
        self, control: PowerControl, uuid: str, goal: Goal, name: str, deadline: Deadline
    ) -> None:
        self._control = control
        self._vboxmanage = control.vboxmanage
        self._uuid = uuid
        self._goal = goal
        self._name = name
        self._deadline = deadline
        self._history = History()
        self._vm: VMStatus | None = None
        self._settings = control.state.latest_settings().get(uuid)
        self._has_answered = False
        """Whether the host has answered a command of this action."""
        self._can_read_files = True
        """Whether the scripts on the host find the settings files, as far as is known."""
        self._changed = control.state.stale_before(uuid)
        """When the VM was last changed: a poll from before that does not count."""
        self._pause_s = control.timings.first_pause
        self._guest_deadline: Deadline | None = None
        self._unlisted_since: dict[int, float] = {}
        """By process, since when it has run the VM without VirtualBox listing it."""
        self._queried = float("-inf")
        self._last_error = ""

    def run(self) -> None:
        """Execute steps until the goal is reached."""
        execute: dict[Step, Callable[[], None]] = {
            Step.CONFIRM: self._confirm,
            Step.DISCARD_SAVED_STATE: self._discard_saved_state,
            Step.POLL: self._poll,
            Step.POWER_OFF: self._power_off,
            Step.PRESS_POWER_BUTTON: self._press_power_button,
            Step.QUERY: self._query,
            Step.RESET: self._reset,
            Step.RESUME: self._resume,
            Step.START: self._start,
            Step.WAIT: self._wait,
        }
        saved_state = self._control.policy.saved_state
        while True:
            self._update_times()
            step = next_step(self._vm, self._goal, self._history, saved_state=saved_state)
            if step is Step.DONE:
                return
            if isinstance(step, Fail):
                raise self._failure(step.reason)
            execute[step]()

    def _update_times(self) -> None:
        """Update the facts of the history that depend on the time."""
        timings, now = self._control.timings, time.monotonic()
        if self._vm is not None and self._guest_deadline is None:
            latest = Deadline(self._deadline.at - timings.hard_off_reserve)
            self._guest_deadline = latest.within(self._control.policy.off_timeout)
        pid = self._vm.pid if self._vm else None
        unlisted_s = now - self._unlisted_since.get(pid, now) if pid is not None else 0.0
        self._history.guest_may_react = not (self._guest_deadline and self._guest_deadline.is_past)
        self._history.may_query = now - self._queried >= timings.query_pause
        self._history.is_settled = unlisted_s >= timings.settle
        self._history.lingers = unlisted_s >= timings.linger

    # -- Steps that change nothing ------------------------------------------------------------

    def _poll(self) -> None:
        try:
            state = self._control.state.poll(self._deadline, max_age=0.0, since=self._changed)
        except _ERRORS as error:
            if not (self._has_answered and error.retry):
                raise
            is_late = self._deadline.remaining <= self._pause_s
            if is_late and not isinstance(error, errors.CommandTimeout):
                raise
            self._retry_after(error)
        else:
            self._see(state)

    def _see(self, state: HostState) -> None:
        """Read the VM's status from the state of the host. Raises `UnknownVM`."""
        self._has_answered = True
        self._history.must_poll = False
        self._can_read_files = state.has_off_states
        self._settings = settings = state.settings_of(self._uuid)
        self._vm = VMStatus(
            listed=self._uuid in state.running,
            pid=state.processes.get(self._uuid),
            off_state=settings.off_state if settings.accessible else VMState.INACCESSIBLE,
            off_state_is_known=state.has_off_states,
        )
        if self._vm.pid is not None and not self._vm.listed:
            self._unlisted_since.setdefault(self._vm.pid, state.began)

    def _confirm(self) -> None:
        self._history.confirmed_pid = self._vm.pid if self._vm else None
        self._changed = time.monotonic()
        self._poll()

    def _wait(self) -> None:
        self._pause()
        self._poll()

    def _pause(self) -> None:
        if self._deadline.remaining <= self._pause_s:
            raise self.timed_out(self._last_error)
        time.sleep(self._pause_s)
        self._pause_s = min(self._control.timings.longest_pause, self._pause_s * 2)

    # -- Steps that take the VM's lock --------------------------------------------------------

    def _start(self) -> None:
        # The guard reads the settings file again: a saved state that VirtualBox would not discard
        # a moment ago may still be there.
        guard: StartGuard = (
            "unsaved" if self._control.policy.saved_state == "discard" else "readable"
        )
        if not self._can_read_files:
            guard = "any"
        try:
            result = self._call(functools.partial(self._vboxmanage.start, guard=guard))
        except _ERRORS as error:
            self._retry_after(error)
        else:
            self._history.started |= result.called
            self._history.runs = result.poll is None
            self._see_result(result)

    def _power_off(self) -> None:
        self._unlisted_since.clear()
        try:
            result = self._call(self._vboxmanage.power_off)
        except _ERRORS as error:
            self._history.powered_off |= _has_code(error, ErrorCode.NOT_RUNNING)
            self._retry_after(error)
        else:
            self._history.powered_off |= result.called
            self._history.is_off = result.poll is None
            self._see_result(result)

    def _see_result(self, result: SwitchResult) -> None:
        """Read the VM's status from the result of a guarded call."""
        was_known = self._vm is not None
        self._vm = None
        if result.poll is None:
            return
        if (state := self._control.state.complete(result.poll)) is None:
            self._history.must_poll = True
            return
        self._see(state)
        if was_known and not result.called:
            self._pause()  # The VM changed since it was polled.

    def _discard_saved_state(self) -> None:
        if self._change(self._vboxmanage.discardstate, ErrorCode.WRONG_STATE) and self._vm:
            self._vm = dataclasses.replace(
                self._vm, off_state=VMState.POWEROFF, off_state_is_known=True
            )

    def _press_power_button(self) -> None:
        self._history.button_pressed = self._change(
            self._vboxmanage.acpipowerbutton, ErrorCode.WRONG_STATE, ErrorCode.NOT_RUNNING
        )

    def _query(self) -> None:
        self._queried = time.monotonic()
        try:
            info = self._call(self._vboxmanage.showvminfo)
        except _ERRORS as error:
            self._retry_after(error)
        else:
            self._vm = dataclasses.replace(self._vm or VMStatus(), exact=info.state)

    def _reset(self) -> None:
        self._history.was_reset = self._change(self._vboxmanage.reset, ErrorCode.NOT_RUNNING)

    def _resume(self) -> None:
        self._history.resumed = self._change(self._vboxmanage.resume, ErrorCode.WRONG_STATE)

    def _change(self, call: _VMCall[None], *accepted: ErrorCode) -> bool:
        """Make a call; return whether it succeeded or reported one of the accepted errors, which
        mean that there is nothing left to do."""
        try:
            self._call(call)
        except _ERRORS as error:
            if _has_code(error, *accepted):
                return True
            self._retry_after(error)
            return False
        return True

    def _call(self, call: _VMCall[_T]) -> _T:
        """Make a call that takes the VM's lock, and invalidate the cached state of the VM."""
        control = self._control
        if not control.changing.acquire(timeout=self._deadline.remaining):
            raise self.timed_out("the host is busy with other VMs")
        control.state.invalidate(self._uuid)
        try:
            timeout = max(_SHORTEST_CALL_S, self._deadline.within(CALL_TIMEOUT_S).remaining)
            answer = call(self._uuid, timeout=timeout)
            self._has_answered = True
            return answer
        finally:
            control.changing.release()
            self._changed = control.state.invalidate(self._uuid)

    # -- Errors -------------------------------------------------------------------------------

    def _retry_after(self, error: errors.HostError | errors.VBoxManageError) -> None:
        """Pause before the next poll if an error is temporary; otherwise raise it."""
        if isinstance(error, errors.VBoxManageError):
            self._has_answered = True
            # In a wrong state, the VM changed between the poll and the call.
            changed = _has_code(error, ErrorCode.NOT_RUNNING, ErrorCode.WRONG_STATE)
            if not (error.retry or changed):
                raise self._refused(error) from error
        elif not error.retry or not (self._has_answered or isinstance(error, _UNCERTAIN)):
            raise error
        if not (self._last_error and self._deadline.is_past):
            # What the deadline cuts off says less than the error before it.
            self._last_error = str(error)
        log.info("%s of %s: %s; polling again", self._name, self._vm_name, error)
        self._vm = None
        self._history.must_poll = True
        self._pause()

    def _refused(self, error: errors.VBoxManageError) -> errors.PowerError:
        """Return the error for a call that VirtualBox refuses permanently."""
        tail = self._read_log() if error.code is ErrorCode.START_FAILED else ()
        return self._failed(str(error), tail)

    def _failure(self, reason: Reason) -> errors.PowerError:
        """Return the error for a goal that cannot be reached."""
        if reason is Reason.ORPHANED:
            return self._orphaned()
        if reason is Reason.ENDED:
            return self._failed(reason.value, self._read_log())
        if reason is Reason.OFF:
            state = self._vm.off_state if self._vm else ""
            return self._failed(f"it is off ({state}); power it on instead")
        file = self._settings.settings_file if self._settings else ""
        return self._failed(
            f"VirtualBox cannot read its settings file {file}; repair or restore the file, or"
            " remove the VM"
        )

    def _orphaned(self) -> errors.OrphanedProcess:
        pid = self._vm.pid if self._vm else 0
        if self._goal in (Goal.ON, Goal.RESET):
            self._control.orphaned_process_refusals += 1
        return errors.OrphanedProcess(
            f"{self._control.config}/{self._vm_name}: cannot {self._name}: VirtualBox says it is"
            f" off, but process {pid} runs it (its folder /tmp/.vbox-*-ipc was probably removed);"
            f" nothing was done, to protect its disks. Shut the guest down from inside, or end"
            f" the process on the host: kill {pid}"
        )

    def _failed(self, reason: str, log_tail: tuple[str, ...] = ()) -> errors.PowerError:
        text = f"{self._control.config}/{self._vm_name}: {self._name} failed: {reason}"
        if log_tail:
            text += "\nits VBox.log ends:\n  " + "\n  ".join(log_tail)
        return errors.PowerError(text, log_tail=log_tail)

    def timed_out(self, reason: str) -> errors.PowerTimeout:
        """Return the error for a goal that was not reached in time."""
        return errors.PowerTimeout(
            f"{self._control.config}/{self._vm_name}: {self._name} is not done in time"
            + (f": {reason}" if reason else "; try again, or look at its window on the host")
        )

    @property
    def _vm_name(self) -> str:
        return (self._settings.name if self._settings else "") or self._uuid

    def _read_log(self) -> tuple[str, ...]:
        """Return the end of the VM's VBox.log, or nothing if it cannot be read."""
        deadline = self._deadline.within(self._control.timings.log_read)
        try:
            if self._settings is None:
                self._settings = self._control.state.settings(deadline).get(self._uuid)
            if self._settings is None:
                return ()
            return self._vboxmanage.read_log(
                self._settings, lines=_LOG_LINES, timeout=deadline.remaining
            )
        except errors.Error as error:
            log.info("%s: VBox.log cannot be read: %s", self._vm_name, error)
            return ()


def _has_code(error: errors.Error, *codes: ErrorCode) -> bool:
    return isinstance(error, errors.VBoxManageError) and error.code in codes
