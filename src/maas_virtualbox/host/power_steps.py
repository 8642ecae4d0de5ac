# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power logic as data: which step brings a VM closer to a goal. Nothing here waits or sends a
command; `power` executes the steps."""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from maas_virtualbox.config.policy import SavedStatePolicy


class Goal(enum.Enum):
    """What an action is to reach."""

    ON = "on"
    HARD_OFF = "hard off"
    ACPI_OFF = "ACPI off"
    RESET = "reset"


class Step(enum.Enum):
    """What to do next."""

    CONFIRM = enum.auto()
    """Poll again, to be certain that the same process still runs the VM."""

    DISCARD_SAVED_STATE = enum.auto()

    DONE = enum.auto()
    """The goal is reached."""

    POLL = enum.auto()
    """Read the state of the host."""

    POWER_OFF = enum.auto()
    """The guarded power-off."""

    PRESS_POWER_BUTTON = enum.auto()

    QUERY = enum.auto()
    """Ask VirtualBox for the exact state. Takes the VM's lock, so it is done seldom."""

    RESET = enum.auto()

    RESUME = enum.auto()
    """Resume a paused VM. VirtualBox refuses this for a VM that is running, which tells running
    and paused apart in 30 ms."""

    START = enum.auto()
    """The guarded start."""

    WAIT = enum.auto()
    """Pause, then poll."""


class Reason(enum.Enum):
    """Why a goal cannot be reached."""

    ENDED = "it started, then ended at once"
    OFF = "it is off"
    ORPHANED = "an orphaned process runs it"
    UNREADABLE = "VirtualBox cannot read its settings file"


@dataclasses.dataclass(frozen=True, slots=True)
class Fail:
    """The goal cannot be reached."""

    reason: Reason


@dataclasses.dataclass(frozen=True, slots=True)
class VMStatus:
    """What `next_step` needs to know of one VM, from one poll."""

    listed: bool = False
    """Whether VirtualBox lists it as running: it is running or paused, or a snapshot is taken."""

    pid: int | None = None
    """The process that runs it."""

    off_state: VMState = VMState.POWEROFF
    """Its state while no process runs it, by its settings file."""

    off_state_is_known: bool = True
    """Whether `off_state` is current. It is not where the settings files were not found."""

    exact: VMState | None = None
    """Its state by VirtualBox, if it was queried since the poll."""

    @property
    def is_up(self) -> bool:
        """Whether it is on in any way, and may write to its disks."""
        return self.listed or self.pid is not None

    @property
    def is_saved(self) -> bool:
        """Whether it has a saved state while no process runs it."""
        return self.off_state in (VMState.SAVED, VMState.ABORTED_SAVED)

    @property
    def is_unreadable(self) -> bool:
        """Whether it is off and VirtualBox cannot read its settings file."""
        return not self.is_up and self.off_state is VMState.INACCESSIBLE


@dataclasses.dataclass(slots=True)
class History:
    """What an action has done so far, and how long it has waited. The action updates it."""

    must_poll: bool = False
    """Whether a command failed since the last poll, so that a guarded one is not sent blindly."""

    runs: bool = False
    """Whether the guarded start found that a process runs the VM that it started."""

    is_off: bool = False
    """Whether the guarded power-off found that the VM's process is gone."""

    started: bool = False
    """Whether a start succeeded."""

    powered_off: bool = False
    """Whether a power-off succeeded, or VirtualBox says that the VM is not running."""

    resumed: bool = False
    """Whether the VM was resumed, or VirtualBox says that it is not paused."""

    was_reset: bool = False

    button_pressed: bool = False

    guest_may_react: bool = True
    """Whether the guest still has time to react to the power button."""

    may_query: bool = True
    """Whether the last query is long enough ago."""

    is_settled: bool = False
    """Whether a process has run the VM for so long, without VirtualBox listing it, that it is not
    simply starting or ending."""

    lingers: bool = False
    """Whether it has done so for so long that it counts as orphaned."""

    confirmed_pid: int | None = None
    """The process that the last CONFIRM was about."""


def next_step(
    vm: VMStatus | None, goal: Goal, history: History, *, saved_state: SavedStatePolicy = "discard"
) -> Step | Fail:
    """Return the next step towards a goal.

    Args:
        vm: the VM as last polled; None: nothing is known about it yet, or not any more.
        goal: what to reach.
        history: what the action has done so far.
        saved_state: what to do with a saved state.
    """
    if goal is Goal.RESET and (history.is_off or history.powered_off):
        goal = Goal.ON  # It had crashed.
    if vm is None:
        return _next_blind(goal, history)
    discards = saved_state == "discard"
    if goal in (Goal.HARD_OFF, Goal.ACPI_OFF):
        return _next_towards_off(vm, goal, history, discards=discards)
    if vm.is_unreadable:
        return Fail(Reason.UNREADABLE)
    if goal is Goal.RESET:
        return _next_towards_reset(vm, history)
    return _next_towards_on(vm, history, discards=discards)


def _next_blind(goal: Goal, history: History) -> Step:
    """Return the step for a VM whose state is unknown: where possible, a guarded command."""
    if goal is Goal.ON and history.runs:
        return Step.DONE
    if goal in (Goal.HARD_OFF, Goal.ACPI_OFF) and history.is_off:
        return Step.DONE
    if history.must_poll:
        return Step.POLL
    return {Goal.ON: Step.START, Goal.HARD_OFF: Step.POWER_OFF}.get(goal, Step.POLL)


def _next_towards_off(
    vm: VMStatus, goal: Goal, history: History, *, discards: bool
) -> Step | Fail:
    if not vm.is_up:
        return Step.DISCARD_SAVED_STATE if vm.is_saved and discards else Step.DONE
    return _next_to_stop(vm, goal, history)


def _next_to_stop(vm: VMStatus, goal: Goal, history: History) -> Step | Fail:
    if goal is Goal.ACPI_OFF and history.guest_may_react:
        may_press = vm.listed and not history.button_pressed
        return Step.PRESS_POWER_BUTTON if may_press else Step.WAIT
    if not history.powered_off or vm.listed:
        return Step.POWER_OFF
    return Fail(Reason.ORPHANED) if history.lingers else Step.WAIT


def _next_towards_on(vm: VMStatus, history: History, *, discards: bool) -> Step | Fail:
    if vm.listed:
        return Step.DONE if history.started or history.resumed else Step.RESUME
    if vm.pid is not None:
        return _next_for_unlisted(vm, history)
    if history.started:
        return Fail(Reason.ENDED)
    may_resume = vm.is_saved or not vm.off_state_is_known
    return Step.DISCARD_SAVED_STATE if may_resume and discards else Step.START


def _next_towards_reset(vm: VMStatus, history: History) -> Step | Fail:
    if vm.listed:
        if history.was_reset:
            return Step.DONE
        return Step.RESET if history.resumed else Step.RESUME
    return Fail(Reason.OFF) if vm.pid is None else _next_for_unlisted(vm, history)


def _next_for_unlisted(vm: VMStatus, history: History) -> Step | Fail:
    """Return the step for a VM that a process runs and VirtualBox does not list as running: it is
    starting, saving or ending, it has crashed, or its process is orphaned."""
    if vm.exact is VMState.GURU_MEDITATION:
        return Step.POWER_OFF
    if vm.pid == history.confirmed_pid:
        return Fail(Reason.ORPHANED)
    if vm.exact is not None:
        is_lost = vm.exact.power is not Power.ON and not vm.exact.is_transient
        return Step.CONFIRM if is_lost and history.lingers else Step.WAIT
    return Step.QUERY if history.is_settled and history.may_query else Step.WAIT
