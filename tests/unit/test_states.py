# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What each of VirtualBox's machine states means for power."""

from __future__ import annotations

import pytest

from maas_virtualbox.virtualbox.states import Power, VMState

ON = [
    "running",
    "paused",
    "gurumeditation",
    "teleporting",
    "teleportingpausedvm",
    "teleportingin",
    "livesnapshotting",
    "onlinesnapshotting",
    "deletingsnapshotlive",
    "deletingsnapshotlivepaused",
    "starting",
    "restoring",
    "saving",
    "stopping",
]
OFF = [
    "poweroff",
    "saved",
    "aborted",
    "aborted-saved",
    "teleported",
    "snapshotting",
    "restoringsnapshot",
    "deletingsnapshot",
    "settingup",
]


@pytest.mark.parametrize("word", ON)
def test_a_vm_that_runs_or_holds_its_disks_is_on(word: str) -> None:
    state = VMState(word)

    assert state.power is Power.ON


@pytest.mark.parametrize("word", OFF)
def test_a_vm_that_no_process_runs_is_off(word: str) -> None:
    state = VMState(word)

    assert state.power is Power.OFF


def test_the_power_of_an_inaccessible_vm_is_unknown() -> None:
    state = VMState("inaccessible")

    assert state.power is Power.UNKNOWN


def test_virtualbox_has_23_states_and_each_is_on_or_off() -> None:
    virtualboxs = {state.value for state in VMState} - {"inaccessible"}

    assert len(virtualboxs) == 23
    assert virtualboxs == {*ON, *OFF}


@pytest.mark.parametrize("word", ["starting", "stopping", "saving", "restoring", "settingup"])
def test_a_state_on_the_way_to_another_passes(word: str) -> None:
    state = VMState(word)

    assert state.passes


@pytest.mark.parametrize(
    "word", ["running", "paused", "gurumeditation", "poweroff", "saved", "aborted", "inaccessible"]
)
def test_a_state_that_lasts_does_not_pass(word: str) -> None:
    state = VMState(word)

    assert not state.passes


def test_states_and_power_print_as_their_words() -> None:
    printed = f"{VMState.ABORTED_SAVED} {VMState.ABORTED_SAVED.power}"

    assert printed == "aborted-saved off"
