# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power logic as a table: which step follows in each of VirtualBox's states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from maas_virtualbox.host.power_steps import (
    Fail,
    Goal,
    History,
    Reason,
    Step,
    VMStatus,
    next_step,
)
from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from collections.abc import Callable

ON, HARD_OFF, ACPI_OFF, RESET = Goal
PID = 4711

LISTED = (
    VMState.RUNNING,
    VMState.PAUSED,
    VMState.LIVE_SNAPSHOTTING,
    VMState.TELEPORTING,
)
"""What `list runningvms` shows (measured)."""


def polled(state: VMState) -> VMStatus:
    """A VM in a state as a poll and, where no poll tells its state, a query show it."""
    if state.power is not Power.ON:
        return VMStatus(off_state=state)
    if state in LISTED:
        return VMStatus(listed=True, pid=PID)
    return VMStatus(pid=PID, exact=state)


TABLE: dict[VMState, tuple[Step | Fail, Step | Fail, Step | Fail, Step | Fail]] = {
    # State: goals on, hard off, ACPI off, reset.
    VMState.POWEROFF: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.SAVED: (
        Step.DISCARD_SAVED_STATE,
        Step.DISCARD_SAVED_STATE,
        Step.DISCARD_SAVED_STATE,
        Fail(Reason.OFF),
    ),
    VMState.TELEPORTED: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.ABORTED: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.ABORTED_SAVED: (
        Step.DISCARD_SAVED_STATE,
        Step.DISCARD_SAVED_STATE,
        Step.DISCARD_SAVED_STATE,
        Fail(Reason.OFF),
    ),
    VMState.RUNNING: (Step.RESUME, Step.POWER_OFF, Step.PRESS_POWER_BUTTON, Step.RESUME),
    VMState.PAUSED: (Step.RESUME, Step.POWER_OFF, Step.PRESS_POWER_BUTTON, Step.RESUME),
    VMState.GURU_MEDITATION: (Step.POWER_OFF, Step.POWER_OFF, Step.WAIT, Step.POWER_OFF),
    VMState.TELEPORTING: (Step.RESUME, Step.POWER_OFF, Step.PRESS_POWER_BUTTON, Step.RESUME),
    VMState.LIVE_SNAPSHOTTING: (
        Step.RESUME,
        Step.POWER_OFF,
        Step.PRESS_POWER_BUTTON,
        Step.RESUME,
    ),
    VMState.STARTING: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.STOPPING: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.SAVING: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.RESTORING: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.TELEPORTING_PAUSED_VM: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.TELEPORTING_IN: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.DELETING_SNAPSHOT_ONLINE: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.DELETING_SNAPSHOT_PAUSED: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.ONLINE_SNAPSHOTTING: (Step.WAIT, Step.POWER_OFF, Step.WAIT, Step.WAIT),
    VMState.RESTORING_SNAPSHOT: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.DELETING_SNAPSHOT: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.SETTING_UP: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.SNAPSHOTTING: (Step.START, Step.DONE, Step.DONE, Fail(Reason.OFF)),
    VMState.INACCESSIBLE: (
        Fail(Reason.UNREADABLE),
        Step.DONE,
        Step.DONE,
        Fail(Reason.UNREADABLE),
    ),
}


@pytest.mark.parametrize("state", VMState)
@pytest.mark.parametrize("goal", Goal)
def test_first_step_for_each_state(state: VMState, goal: Goal) -> None:
    expected = TABLE[state][list(Goal).index(goal)]

    assert next_step(polled(state), goal, History()) == expected


@pytest.mark.parametrize("state", [VMState.SAVED, VMState.ABORTED_SAVED])
@pytest.mark.parametrize(("goal", "expected"), [(ON, Step.START), (HARD_OFF, Step.DONE)])
def test_saved_state_is_kept_if_the_policy_resumes_it(
    state: VMState, goal: Goal, expected: Step
) -> None:
    step = next_step(polled(state), goal, History(), saved_state="resume")

    assert step is expected


@pytest.mark.parametrize(
    ("goal", "history", "expected"),
    [
        (ON, History(), Step.START),
        (ON, History(must_poll=True), Step.POLL),
        (ON, History(started=True, runs=True), Step.DONE),
        (ON, History(powered_off=True, is_off=True), Step.START),
        (HARD_OFF, History(), Step.POWER_OFF),
        (HARD_OFF, History(must_poll=True), Step.POLL),
        (HARD_OFF, History(powered_off=True, is_off=True), Step.DONE),
        (ACPI_OFF, History(), Step.POLL),
        (ACPI_OFF, History(powered_off=True, is_off=True), Step.DONE),
        (RESET, History(), Step.POLL),
        (RESET, History(powered_off=True, is_off=True), Step.START),
        (RESET, History(powered_off=True, is_off=True, runs=True), Step.DONE),
    ],
)
def test_step_for_an_unknown_state(goal: Goal, history: History, expected: Step) -> None:
    assert next_step(None, goal, history) is expected


RUNNING = VMStatus(listed=True, pid=PID)
UNLISTED = VMStatus(pid=PID)
OFF = VMStatus()


@pytest.mark.parametrize(
    ("vm", "goal", "history", "expected"),
    [
        pytest.param(RUNNING, ON, History(started=True), Step.DONE, id="on-started"),
        pytest.param(RUNNING, ON, History(resumed=True), Step.DONE, id="on-resumed"),
        pytest.param(OFF, ON, History(started=True), Fail(Reason.ENDED), id="on-ended"),
        pytest.param(
            VMStatus(off_state_is_known=False),
            ON,
            History(),
            Step.DISCARD_SAVED_STATE,
            id="on-without-settings-files",
        ),
        pytest.param(
            VMStatus(off_state_is_known=False), HARD_OFF, History(), Step.DONE, id="off-unknown"
        ),
        pytest.param(RUNNING, RESET, History(resumed=True), Step.RESET, id="reset-resumed"),
        pytest.param(
            RUNNING, RESET, History(resumed=True, was_reset=True), Step.DONE, id="reset-done"
        ),
        pytest.param(OFF, RESET, History(powered_off=True), Step.START, id="reset-of-crashed"),
        pytest.param(
            RUNNING, ACPI_OFF, History(button_pressed=True), Step.WAIT, id="acpi-pressed"
        ),
        pytest.param(
            RUNNING, ACPI_OFF, History(guest_may_react=False), Step.POWER_OFF, id="acpi-over"
        ),
        pytest.param(UNLISTED, HARD_OFF, History(powered_off=True), Step.WAIT, id="off-ending"),
        pytest.param(
            RUNNING, HARD_OFF, History(powered_off=True), Step.POWER_OFF, id="off-runs-again"
        ),
        pytest.param(
            UNLISTED,
            HARD_OFF,
            History(powered_off=True, lingers=True),
            Fail(Reason.ORPHANED),
            id="off-orphaned",
        ),
    ],
)
def test_step_after_a_history(
    vm: VMStatus, goal: Goal, history: History, expected: Step | Fail
) -> None:
    assert next_step(vm, goal, history) == expected


LOST = VMStatus(pid=PID, exact=VMState.POWEROFF)


@pytest.mark.parametrize("goal", [ON, RESET])
@pytest.mark.parametrize(
    ("vm", "history", "expected"),
    [
        pytest.param(UNLISTED, History(), Step.WAIT, id="new"),
        pytest.param(UNLISTED, History(is_settled=True), Step.QUERY, id="settled"),
        pytest.param(
            UNLISTED, History(is_settled=True, may_query=False), Step.WAIT, id="just-queried"
        ),
        pytest.param(LOST, History(is_settled=True), Step.WAIT, id="may-be-ending"),
        pytest.param(LOST, History(is_settled=True, lingers=True), Step.CONFIRM, id="lingers"),
        pytest.param(UNLISTED, History(confirmed_pid=PID), Fail(Reason.ORPHANED), id="confirmed"),
        pytest.param(UNLISTED, History(confirmed_pid=PID + 1), Step.WAIT, id="another-process"),
    ],
)
def test_vm_with_an_unlisted_process_is_never_started(
    goal: Goal, vm: VMStatus, history: History, expected: Step | Fail
) -> None:
    assert next_step(vm, goal, history) == expected


@pytest.mark.parametrize("goal", Goal)
@pytest.mark.parametrize("state", VMState)
@pytest.mark.parametrize("fact", ["started", "powered_off", "lingers", "resumed", "must_poll"])
def test_a_vm_with_a_process_is_never_started(goal: Goal, state: VMState, fact: str) -> None:
    history = History(**cast("dict[str, Any]", {fact: True}))
    vm = VMStatus(pid=PID, off_state=state)

    assert next_step(vm, goal, history) is not Step.START


# -- Whole actions, played against a VM that does what it is asked ------------------------------

PLAYS: dict[tuple[Goal, VMState], list[Step]] = {
    (ON, VMState.SAVED): [Step.DISCARD_SAVED_STATE, Step.START],
    (ON, VMState.PAUSED): [Step.RESUME],
    (ON, VMState.GURU_MEDITATION): [Step.POWER_OFF, Step.START],
    (HARD_OFF, VMState.SAVED): [Step.DISCARD_SAVED_STATE],
    (HARD_OFF, VMState.RUNNING): [Step.POWER_OFF],
    (RESET, VMState.RUNNING): [Step.RESUME, Step.RESET],
    (RESET, VMState.GURU_MEDITATION): [Step.POWER_OFF, Step.START],
}


@pytest.mark.parametrize(("goal", "state"), PLAYS, ids=lambda value: value.value)
def test_steps_of_a_whole_action(goal: Goal, state: VMState) -> None:
    history = History()
    vm: VMStatus | None = polled(state)
    steps: list[Step] = []

    def switch(fact: str) -> None:
        setattr(history, fact, True)

    facts: dict[Step, Callable[[], None]] = {
        Step.RESET: lambda: switch("was_reset"),
        Step.RESUME: lambda: switch("resumed"),
        Step.START: lambda: switch("runs"),
        Step.POWER_OFF: lambda: switch("is_off"),
    }
    while (step := next_step(vm, goal, history)) is not Step.DONE:
        assert isinstance(step, Step)
        steps.append(step)
        facts.get(step, lambda: None)()
        if step is Step.DISCARD_SAVED_STATE:
            vm = VMStatus()
        elif step in (Step.START, Step.POWER_OFF):
            vm = None

    assert steps == PLAYS[goal, state]
