# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of the long list, on recorded, truncated and hostile output."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import long_list, parsers
from maas_virtualbox.virtualbox.states import VMState

SAMPLES = pathlib.Path(__file__).parent / "samples"
ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
TWO = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"
HEAD = f"Name:  n\nGroups:  /\nGuest OS:  Ubuntu\nUUID:  {ONE}\n"


def sample(name: str) -> str:
    """Return recorded output."""
    return (SAMPLES / name).read_bytes().decode()


LONG = """Name:                        node1
Groups:                      /
Guest OS:                    Ubuntu (64-bit)
UUID:                        95581d29-3e5e-472e-8f12-f452e8095714
Config file:                 /home/vbox/VirtualBox VMs/node1/node1.vbox
Firmware:                    BIOS
Boot Device 1:               Network
Boot Device 2:               HardDisk
Boot Device 3:               Not Assigned
Boot Device 4:               Not Assigned
State:                       paused (since 2026-11-21T00:07:02.000000000)
NIC 1:                       MAC: 080027AABBCC, Attachment: NAT, Cable connected: on, Trace: off (file: none), Type: 82540EM, Reported speed: 0 Mbps, Boot priority: 0
NIC 2:                       MAC: 080027AABBCD, Attachment: Host-only Interface 'vboxnet0', Cable connected: off, Trace: off (file: none), Type: virtio, Reported speed: 0 Mbps
NIC 3:                       disabled

Name:            <inaccessible!>
UUID:            c77a2c6b-1546-47f8-a6ad-42d10ebf0b72
Config file:     /home/vbox/VirtualBox VMs/my vm/my vm.vbox
"""  # noqa: E501 - as VirtualBox prints it


def test_long_list_has_states_nics_and_inaccessible_vms() -> None:
    read = long_list.parse_long_list(LONG)

    vm = read[ONE]
    assert vm.state is VMState.PAUSED
    assert vm.settings.macs == ("08:00:27:aa:bb:cc", "08:00:27:aa:bb:cd")
    assert vm.settings.boot_order == ("net", "disk", "none", "none")
    assert [(nic.attachment, nic.network, nic.cable) for nic in vm.settings.nics or ()] == [
        ("nat", "", True),
        ("hostonly", "vboxnet0", False),
    ]
    assert read["c77a2c6b-1546-47f8-a6ad-42d10ebf0b72"].state is VMState.INACCESSIBLE


def test_long_list_without_vms_is_empty() -> None:
    assert long_list.parse_long_list("") == {}


def test_long_list_without_a_uuid_is_an_error() -> None:
    with pytest.raises(parsers.InvalidOutput, match="without a UUID"):
        long_list.parse_long_list(LONG[:60])


def test_long_list_has_all_vms_of_the_short_list() -> None:
    short = parsers.parse_vm_list(sample("list-vms-inaccessible.out"))

    long = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    assert list(long) == list(short)


def test_long_list_shows_which_vms_are_inaccessible() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    lost = [uuid[:8] for uuid, vm in read.items() if vm.state is VMState.INACCESSIBLE]
    assert lost == ["c77a2c6b", "15be2dd9"]


def test_inaccessible_vm_has_a_settings_file_and_no_name() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["c77a2c6b-1546-47f8-a6ad-42d10ebf0b72"]
    assert not vm.settings.accessible
    assert vm.settings.name == ""
    assert vm.settings.settings_file == "/home/vbox/VirtualBox VMs/my vm/my vm.vbox"


def test_vm_named_inaccessible_is_accessible() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["d282bade-3224-4ca5-adfa-7a52d8e1c64d"]
    assert (vm.settings.name, vm.state) == ("<inaccessible>", VMState.POWEROFF)


def test_long_list_has_nics() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"]
    assert [(nic.slot, nic.mac, nic.attachment) for nic in vm.settings.nics or ()] == [
        (1, "08:00:27:5f:f8:3a", "nat"),
        (2, "08:00:27:03:a5:7e", "null"),
    ]


def test_long_list_has_the_boot_order() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["7015f81d-6996-48f6-930f-cb2d70718bbd"]
    assert vm.settings.boot_order == ("net", "disk", "none", "none")


def test_long_list_has_running_vms() -> None:
    read = long_list.parse_long_list(sample("list-long-runningvms.out"))

    assert {uuid: vm.state for uuid, vm in read.items()} == {TWO: VMState.RUNNING}


# From machineStateToName() in VirtualBox's VBoxManageInfo.cpp (source).
LONG_STATES = [
    ("powered off", VMState.POWEROFF),
    ("saved", VMState.SAVED),
    ("teleported", VMState.TELEPORTED),
    ("aborted", VMState.ABORTED),
    ("aborted-saved", VMState.ABORTED_SAVED),
    ("running", VMState.RUNNING),
    ("paused", VMState.PAUSED),
    ("guru meditation", VMState.GURU_MEDITATION),
    ("teleporting", VMState.TELEPORTING),
    ("live snapshotting", VMState.LIVE_SNAPSHOTTING),
    ("starting", VMState.STARTING),
    ("stopping", VMState.STOPPING),
    ("saving", VMState.SAVING),
    ("restoring", VMState.RESTORING),
    ("teleporting paused vm", VMState.TELEPORTING_PAUSED_VM),
    ("teleporting (incoming)", VMState.TELEPORTING_IN),
    ("deleting snapshot live", VMState.DELETING_SNAPSHOT_ONLINE),
    ("deleting snapshot live paused", VMState.DELETING_SNAPSHOT_PAUSED),
    ("online snapshotting", VMState.ONLINE_SNAPSHOTTING),
    ("restoring snapshot", VMState.RESTORING_SNAPSHOT),
    ("deleting snapshot", VMState.DELETING_SNAPSHOT),
    ("setting up", VMState.SETTING_UP),
    ("offline snapshotting", VMState.SNAPSHOTTING),
]


@pytest.mark.parametrize(("text", "state"), LONG_STATES)
def test_long_list_knows_all_states(text: str, state: VMState) -> None:
    output = f"{HEAD}State:  {text} (since 2026-11-21T00:07:02.000000000)\n"

    read = long_list.parse_long_list(output)

    assert read[ONE].state is state


def test_long_list_with_an_unknown_state_is_an_error() -> None:
    text = f"{HEAD}State:  dancing (since 2026-11-21T00:07:02.000000000)\n"

    with pytest.raises(parsers.InvalidOutput, match="unknown VM state 'dancing'"):
        long_list.parse_long_list(text)


@pytest.mark.parametrize("name", [" lead ", "new\nline"])
def test_long_list_has_odd_names(name: str) -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    assert name in {vm.settings.name for vm in read.values()}


def test_name_cannot_forge_another_uuid() -> None:
    text = sample("list-long-runningvms.out")
    forged = text.replace("node2\n", f"x\nUUID:                        {ONE}\n", 1)

    read = long_list.parse_long_list(forged)

    assert list(read) == [TWO]


def test_name_cannot_forge_another_state() -> None:
    text = sample("list-long-runningvms.out")
    forged = text.replace("node2\n", "x\nState:                       powered off (since x)\n", 1)

    read = long_list.parse_long_list(forged)

    assert [vm.state for vm in read.values()] == [VMState.RUNNING]


def test_long_list_without_a_state_is_an_error() -> None:
    text = sample("list-long-runningvms.out").partition("State: ")[0]

    with pytest.raises(parsers.InvalidOutput):
        long_list.parse_long_list(text)


@given(st.text())
def test_long_list_of_any_text_is_read_or_invalid(text: str) -> None:
    try:
        read = long_list.parse_long_list(f"{HEAD}{text}")
    except parsers.InvalidOutput:
        return

    assert ONE in read
