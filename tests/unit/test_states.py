# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power of a VM in each of VirtualBox's machine states."""

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
def test_state_of_a_vm_with_a_process_is_on(word: str) -> None:
    state = VMState(word)

    assert state.power is Power.ON


@pytest.mark.parametrize("word", OFF)
def test_state_of_a_vm_without_a_process_is_off(word: str) -> None:
    state = VMState(word)

    assert state.power is Power.OFF


def test_state_inaccessible_has_unknown_power() -> None:
    state = VMState("inaccessible")

    assert state.power is Power.UNKNOWN


def test_each_of_the_23_states_is_on_or_off() -> None:
    found = {state.value for state in VMState} - {"inaccessible"}

    assert len(found) == 23
    assert found == {*ON, *OFF}


@pytest.mark.parametrize("word", ["starting", "stopping", "saving", "restoring", "settingup"])
def test_state_that_leads_to_another_is_transient(word: str) -> None:
    state = VMState(word)

    assert state.is_transient


@pytest.mark.parametrize(
    "word", ["running", "paused", "gurumeditation", "poweroff", "saved", "aborted", "inaccessible"]
)
def test_state_that_lasts_is_not_transient(word: str) -> None:
    state = VMState(word)

    assert not state.is_transient


def test_state_and_power_print_as_their_values() -> None:
    printed = f"{VMState.ABORTED_SAVED} {VMState.ABORTED_SAVED.power}"

    assert printed == "aborted-saved off"
