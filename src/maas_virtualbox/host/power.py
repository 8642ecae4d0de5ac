# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How the VMs of one host are switched on and off safely: what is done, what is retried, and until
when. Reading the state of a host is `state`'s business, calling VBoxManage is `vboxmanage`'s."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.host.state import CALL_TIMEOUT_S
from maas_virtualbox.transport import MAX_PARALLEL
from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.config.policy import PowerPolicy
    from maas_virtualbox.host.state import HostState, StateCache
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.vboxmanage import VBoxManage

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

SETTLE_S = 1.5
"""How long a process may run a VM that VirtualBox does not list before more is done about it than
waiting: a start takes 0.4 s, the end of a process 0.1 s (measured)."""

_LINGER_S = 11.0
"""How long a process may outlive its VM before it counts as orphaned. Its end stalls for 10 s now
and then, as any call does (measured: 5 of 200 power-offs under load)."""

_MAX_CHANGING = MAX_PARALLEL - 2
"""How many VMs are changed at once: two channels stay free for polls, or starting many VMs would
delay all queries."""

_ASK_PAUSE_S = 3.0
_HARD_OFF_RESERVE_S = 8.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4
_LOG_LINES = 15
_LOG_READ_S = 3.0

_SAVED = (VMState.SAVED, VMState.ABORTED_SAVED)


class PowerControl:
    """Switches the VMs of one host. Created by `VirtualBoxHost`; may be shared between threads.

    Concurrency. Each VM has a lock that an action holds from its first poll to its last, so there
    is never more than one lock-taking call of ours on a VM, and none while it starts. Actions on
    different VMs run in parallel; each begins with a poll, which also wakes VBoxSVC.
    """

    def __init__(
        self, host: HostConfig, vboxmanage: VBoxManage, state: StateCache, policy: PowerPolicy
    ) -> None:
        self.config = host
        self.vboxmanage = vboxmanage
        self.state = state
        self.policy = policy
        self.changing = threading.BoundedSemaphore(_MAX_CHANGING)
        """Held by each call that takes a VM's lock."""
        self.second_copies_refused = 0
        """How often starting a second copy of a running VM was refused."""
        self._lock = threading.Lock()
        self._vm_locks: dict[str, threading.Lock] = {}

    def power_off(
        self,
        uuid: str,
        *,
        mode: Literal["hard", "acpi"] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Switch a VM off; returns when no process runs it any more. Idempotent.

        Hard, or by the power button first, as the policy says. A saved state is discarded too
        (unless the policy resumes it): metal that is off remembers nothing.

        Args:
            uuid: the VM.
            mode: other than the policy's `off_mode`.
            timeout: seconds for everything (default: the policy's `action_timeout`).

        Raises:
            UnknownVM: the host has no such VM.
            PowerTimeout: it is not off in time. Retry.
            OrphanedProcess: VirtualBox cannot stop the process that runs it.
            PowerError: VirtualBox refuses for good; the text has its words.
            HostError: the host cannot be asked.
        """
        acpi = (mode or self.policy.off_mode) == "acpi"
        with self._action(uuid, "power off", timeout) as action:
            pulled = False
            for picture in action.looks():
                machine = action.machine(picture)
                if not action.is_up(picture):
                    # A VM that VirtualBox cannot read and that no process runs is off too.
                    if self._forgets(machine) and not action.tries(
                        self.vboxmanage.discardstate, {ErrorCode.WRONG_STATE}
                    ):
                        continue
                    return
                if acpi and self._guest_may_react(action, picture):
                    continue
                if pulled and uuid not in picture.running:
                    if action.hidden_for(picture) > _LINGER_S:
                        raise self._split_brain(machine, picture, "switch it off")
                    continue
                pulled = action.tries(self.vboxmanage.poweroff, {ErrorCode.NOT_RUNNING})

    def power_on(self, uuid: str, *, timeout: float | None = None) -> None:
        """Switch a VM on; returns when it runs. Idempotent.

        A VM that is off, aborted or (unless the policy resumes it) saved boots anew from its
        first boot device; a paused one runs on; a crashed one (gurumeditation) is switched off
        first. A VM that a process runs behind VirtualBox's back is never started again.

        Args and errors are those of `power_off`; a start that VirtualBox refuses raises
        `PowerError` with its words and the end of the VM's VBox.log.
        """
        with self._action(uuid, "power on", timeout) as action:
            started = False
            for picture in action.looks():
                machine = action.readable_machine(picture)
                if uuid in picture.running:
                    # `resume` tells running and paused apart in 30 ms: it refuses the former.
                    if started or action.tries(self.vboxmanage.resume, {ErrorCode.WRONG_STATE}):
                        return
                elif uuid in picture.processes:
                    self._wait_or_recover(action, picture, machine)
                elif started:
                    raise action.failed("it started, then ended at once", action.log_tail(machine))
                elif self._discarded(action, picture, machine):
                    started = action.starts(machine)

    def reset(self, uuid: str, *, timeout: float | None = None) -> None:
        """Press the reset button of a VM that is on, so that it boots anew.

        A paused VM is resumed first, a crashed one is switched off and on. A VM that is off is not
        started: that is an error. Args and errors are those of `power_off`.
        """
        with self._action(uuid, "reset", timeout) as action:
            for picture in action.looks():
                machine = action.readable_machine(picture)
                if uuid in picture.running:
                    resumed = action.tries(self.vboxmanage.resume, {ErrorCode.WRONG_STATE})
                    if resumed and action.tries(self.vboxmanage.reset, {ErrorCode.NOT_RUNNING}):
                        return
                elif uuid in picture.processes:
                    if self._wait_or_recover(action, picture, machine):
                        break
                else:
                    raise action.failed(f"it is off ({machine.off_state}); power it on instead")
        # Only a crashed VM comes here: it is off now.
        self.power_on(uuid, timeout=action.deadline.remaining)

    @contextlib.contextmanager
    def _action(self, uuid: str, name: str, timeout: float | None) -> Generator[_Action]:
        deadline = Deadline.after(self.policy.action_timeout if timeout is None else timeout)
        action = _Action(self, uuid, name, deadline)
        lock = self.lock_of(uuid)
        if not lock.acquire(timeout=deadline.remaining):
            raise action.timed_out("another action on it is still under way")
        try:
            yield action
        finally:
            lock.release()

    def lock_of(self, uuid: str) -> threading.Lock:
        """The lock that an action on a VM holds."""
        with self._lock:
            return self._vm_locks.setdefault(uuid, threading.Lock())

    def _forgets(self, machine: VMSettings) -> bool:
        """Whether the VM has a saved state that on and off throw away."""
        return machine.off_state in _SAVED and self.policy.saved_state == "discard"

    def _guest_may_react(self, action: _Action, picture: HostState) -> bool:
        """Press the power button once; true while the guest still has time to react."""
        if action.press_until is None:
            action.press_until = action.spare(self.policy.off_timeout)
            if action.uuid in picture.running:
                refusals = {ErrorCode.WRONG_STATE, ErrorCode.NOT_RUNNING}
                action.tries(self.vboxmanage.acpipowerbutton, refusals)
        return time.monotonic() < action.press_until

    def _discarded(self, action: _Action, picture: HostState, machine: VMSettings) -> bool:
        """See to it that a start boots anew; false if that has to be tried again."""
        unknown = not picture.has_off_states and self.policy.saved_state == "discard"
        if not (self._forgets(machine) or unknown):
            return True
        return action.tries(self.vboxmanage.discardstate, {ErrorCode.WRONG_STATE})

    def _wait_or_recover(self, action: _Action, picture: HostState, machine: VMSettings) -> bool:
        """Deal with a VM that has a process but is not listed: it is starting, saving, crashed, or
        VirtualBox has lost sight of it. True if it had crashed and is off now."""
        if action.hidden_for(picture) < SETTLE_S or not action.may_ask():
            return False
        info = action.asks(self.vboxmanage.showvminfo)
        if info is None or info.state.passes:
            return False
        if info.state is VMState.GURU_MEDITATION:
            return action.tries(self.vboxmanage.poweroff, {ErrorCode.NOT_RUNNING})
        if info.state.power is Power.ON or action.hidden_for(picture) < _LINGER_S:
            return False
        again = self.state.poll(max_age=0.0, since=time.monotonic(), deadline=action.deadline)
        if again.processes.get(action.uuid) == picture.processes[action.uuid]:
            self.second_copies_refused += 1
            raise self._split_brain(machine, picture, action.name)
        return False

    def _split_brain(
        self, machine: VMSettings, picture: HostState, wish: str
    ) -> errors.OrphanedProcess:
        pid = picture.processes[machine.uuid]
        return errors.OrphanedProcess(
            f"{self.config}/{machine.name}: cannot {wish}: VirtualBox says it is off, but process"
            f" {pid} runs it (its folder /tmp/.vbox-*-ipc was probably removed); nothing was done,"
            f" to save its disks. Shut the guest down from inside, or end it on the host: kill"
            f" {pid}"
        )


class _Call(Protocol[_T_co]):
    """A method of `VBoxManage` about one VM."""

    def __call__(self, uuid: str, *, timeout: float) -> _T_co: ...


class _Action:
    """One on, off or reset of one VM, from its first look to its deadline."""

    def __init__(self, host: PowerControl, uuid: str, name: str, deadline: Deadline) -> None:
        self.uuid = uuid
        self.name = name
        self.deadline = deadline
        self.press_until: float | None = None
        """Until when the guest may react to the power button; None: not pressed yet."""
        self._host = host
        self._since = 0.0
        self._hidden_since: dict[int, float] = {}
        self._asked = float("-inf")
        self._last_trouble = ""
        self._vm_name = uuid

    def looks(self) -> Iterator[HostState]:
        """Yield fresh pictures of the host, with growing pauses, until the deadline.

        A host that goes away after the first look may come back; one that is down from the
        beginning is an error at once.
        """
        pause = _FIRST_PAUSE_S
        seen = False
        # What an earlier action changed must not be answered for by a poll from before it.
        self._since = self._host.state.stale_before(self.uuid)
        while True:
            try:
                picture = self._host.state.poll(
                    max_age=0.0, since=self._since, deadline=self.deadline
                )
            except (errors.HostError, errors.VBoxManageError) as error:
                if not (seen and error.retry) or self.deadline.remaining <= pause:
                    raise
                self._last_trouble = str(error)
            else:
                seen = True
                yield picture
            if self.deadline.remaining <= pause:
                raise self.timed_out(self._last_trouble)
            if self._since < time.monotonic() - pause:
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)

    def spare(self, seconds: float) -> float:
        """When waiting for the guest has to end, so that time is left to pull the plug."""
        return min(time.monotonic() + seconds, self.deadline.at - _HARD_OFF_RESERVE_S)

    def machine(self, picture: HostState) -> VMSettings:
        """The VM's settings. Raises `UnknownVM`."""
        machine = picture.settings_of(self.uuid)
        self._vm_name = machine.name or self.uuid
        return machine

    def readable_machine(self, picture: HostState) -> VMSettings:
        """The VM's settings. Raises `UnknownVM`, or `PowerError` if VirtualBox cannot read it and
        no process runs it."""
        machine = self.machine(picture)
        if not machine.accessible and not self.is_up(picture):
            raise self.failed(
                f"VirtualBox cannot read its settings file {machine.settings_file}; mend or"
                " restore the file, or remove the VM"
            )
        return machine

    def is_up(self, picture: HostState) -> bool:
        """Whether the VM is up in any way."""
        return self.uuid in picture.running or self.uuid in picture.processes

    def hidden_for(self, picture: HostState) -> float:
        """Seconds for which a process has been seen to run the VM without it being listed."""
        since = self._hidden_since.setdefault(picture.processes[self.uuid], picture.began)
        return time.monotonic() - since

    def may_ask(self) -> bool:
        """Whether it is time to ask VirtualBox about a hidden VM; seldom, because it takes a lock
        that the VM may need to come up."""
        now = time.monotonic()
        due = now - self._asked >= _ASK_PAUSE_S
        if due:
            self._asked = now
        return due

    def asks(self, call: _Call[_T]) -> _T | None:
        """Make a call about the VM that takes a lock; None if it has to be made again."""
        answer: list[_T] = []
        self._does(lambda seconds: answer.append(call(self.uuid, timeout=seconds)))
        return answer[0] if answer else None

    def tries(self, call: _Call[None], accepted: set[ErrorCode]) -> bool:
        """Make a call that changes the VM.

        Returns true when it succeeded or its error is one of `accepted`, which mean that there is
        nothing left to do; false when it has to be tried again after another look.
        """
        try:
            return self._does(lambda seconds: call(self.uuid, timeout=seconds))
        except errors.VBoxManageError as error:
            if error.code in accepted:
                return True
            if error.code in (ErrorCode.NOT_RUNNING, ErrorCode.WRONG_STATE):
                # It changed between the look and the call.
                self._last_trouble = str(error)
                return False
            raise self.failed(str(error)) from error

    def _does(self, call: Callable[[float], None]) -> bool:
        """Make a call, given its seconds; false if it failed in a way that passes."""
        if not self._host.changing.acquire(timeout=self.deadline.remaining):
            self._last_trouble = "the host is busy with other VMs"
            return False
        self._since = self._host.state.invalidate(self.uuid)
        try:
            call(max(0.1, self.deadline.within(CALL_TIMEOUT_S).remaining))
        except (errors.VBoxManageError, errors.HostError) as error:
            if not error.retry:
                raise
            self._last_trouble = str(error)
            log.info("%s of %s: %s; looking again", self.name, self._vm_name, error)
            return False
        finally:
            self._host.changing.release()
            self._since = self._host.state.invalidate(self.uuid)
        return True

    def starts(self, machine: VMSettings) -> bool:
        """Start the VM; false when it has to be tried again. Raises with reason and log."""
        try:
            return self.tries(self._host.vboxmanage.startvm, set())
        except errors.PowerError as error:
            cause = error.__cause__
            if isinstance(cause, errors.VBoxManageError) and cause.code == ErrorCode.START_FAILED:
                tail = self.log_tail(machine)
                raise self.failed(str(cause), tail) from cause
            raise

    def log_tail(self, machine: VMSettings) -> tuple[str, ...]:
        """The end of the VM's VBox.log, or nothing where it cannot be had."""
        try:
            timeout = self.deadline.within(_LOG_READ_S).remaining
            return self._host.vboxmanage.read_log(machine, lines=_LOG_LINES, timeout=timeout)
        except errors.Error as error:
            log.info("%s: no VBox.log to show: %s", self._vm_name, error)
            return ()

    def failed(self, reason: str, log_tail: tuple[str, ...] = ()) -> errors.PowerError:
        """The error for a state that cannot be reached."""
        text = f"{self._host.config}/{self._vm_name}: {self.name} failed: {reason}"
        if log_tail:
            text += "\nits VBox.log ends:\n  " + "\n  ".join(log_tail)
        return errors.PowerError(text, log_tail=log_tail)

    def timed_out(self, trouble: str) -> errors.PowerTimeout:
        """The error for a state that was not reached in time."""
        return errors.PowerTimeout(
            f"{self._host.config}/{self._vm_name}: {self.name} is not done in time"
            + (f": {trouble}" if trouble else "; try again, or look at its window on the host")
        )
