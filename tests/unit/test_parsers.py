# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VBoxManage and ps print, hostile names and cut-off answers included."""

from __future__ import annotations

import pathlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import long_list, parsers
from maas_virtualbox.virtualbox.states import VMState

SAMPLES = pathlib.Path(__file__).parent / "samples"
ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
TWO = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"

# Names as VirtualBox accepts them: anything but the null character and surrogates.
names = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)
uuids = st.uuids().map(str)


def test_a_list_of_odd_names_is_read_whole() -> None:
    text = (
        f'"he said "hi"" {{{ONE}}}\n'
        f'"new\nline" {{{TWO}}}\n'
        '"výměna-日本語-é" {5e861d35-2683-4509-b1f8-d68aa78b08bd}\n'
        '"<inaccessible>" {d282bade-3224-4ca5-adfa-7a52d8e1c64d}\n'
    )

    read = parsers.parse_vm_list(text)

    assert list(read.values()) == [
        'he said "hi"',
        "new\nline",
        "výměna-日本語-é",
        "<inaccessible>",
    ]


def test_a_list_cut_off_at_a_name_is_an_error_not_a_shorter_list() -> None:
    # VirtualBox 7.2 in the POSIX locale, byte for byte, with exit code 0.
    with pytest.raises(parsers.InvalidOutput, match="ends inside an entry"):
        parsers.parse_vm_list(f'"node1" {{{ONE}}}\n"v')


def test_the_wrappers_warning_before_a_list_is_passed_over() -> None:
    warning = "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install\n\n"

    assert parsers.parse_vm_list(f'{warning}"node1" {{{ONE}}}\n') == {ONE: "node1"}


def test_windows_line_ends_are_read() -> None:
    assert parsers.parse_vm_list(f'"a" {{{ONE}}}\r\n"b" {{{TWO}}}\r\n') == {ONE: "a", TWO: "b"}


def test_a_name_that_forges_an_entry_shows_no_second_vm_when_names_are_known() -> None:
    forged = f'x" {{{TWO}}}\n"y'
    text = f'"{forged}" {{{ONE}}}\n'

    assert parsers.parse_vm_list(text, {ONE: forged}) == {ONE: forged}


@given(st.dictionaries(uuids, names, max_size=8))
def test_any_names_are_read_back_when_they_are_known(vms: dict[str, str]) -> None:
    text = "".join(f'"{name}" {{{uuid}}}\n' for uuid, name in vms.items())

    assert parsers.parse_vm_list(text, vms) == vms


@given(st.text())
def test_any_text_is_a_list_or_cut_off(text: str) -> None:
    try:
        read = parsers.parse_vm_list(text)
    except parsers.InvalidOutput:
        return

    assert all(uuid.UUID(one) for one in read)


def render(vm_name: str, state: str) -> str:
    escaped = vm_name.replace("\\", "\\\\").replace('"', '\\"')
    return (
        f'name="{escaped}"\nencryption="disabled"\nUUID="{ONE}"\nmemory=64\n'
        f'VMState="{state}"\nVMStateChangeTime="2026-11-21T00:02:20.224000000"\n'
        'macaddress1="080027AABB01"\nnic1="nat"\nVideoMode="640,480,32"@0,0 1\n rec_screen0\n'
        "GuestMemoryBalloon=0\n"
    )


@given(names, st.sampled_from([state for state in VMState if state != "inaccessible"]))
def test_no_name_can_forge_a_state(name: str, state: VMState) -> None:
    values = parsers.parse_machine_readable(render(name, state.value))

    assert values["name"] == name
    assert parsers.parse_state(values["VMState"]) is state


@given(names, st.integers(0, 400))
def test_a_cut_off_answer_never_gives_a_wrong_state(name: str, length: int) -> None:
    text = render(name, "running")[:length]
    try:
        values = parsers.parse_machine_readable(text)
    except parsers.InvalidOutput:
        return

    assert values["VMState"] == "running"


def test_a_state_virtualbox_does_not_have_is_an_error() -> None:
    with pytest.raises(parsers.InvalidOutput, match="unknown VM state 'dancing'"):
        parsers.parse_state("dancing")


def test_the_last_startvm_of_a_line_is_the_vm() -> None:
    name = f"x --startvm {TWO}"
    hostile = f"  77 /usr/lib/virtualbox/VBoxHeadless --comment {name} --startvm {ONE} --vrde c\n"

    assert parsers.parse_processes(hostile) == {ONE: 77}


def test_a_search_for_processes_does_not_find_itself() -> None:
    assert parsers.parse_processes('12 sh -c ps | grep -e "-startvm [0-9a-f{]"\n') == {}


@given(st.text())
def test_any_text_is_a_process_list(text: str) -> None:
    assert all(pid >= 0 for pid in parsers.parse_processes(text).values())


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


def test_the_long_list_has_states_nics_and_what_cannot_be_read() -> None:
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


def test_an_empty_long_list_has_no_vms() -> None:
    assert long_list.parse_long_list("") == {}


def test_a_long_list_without_a_uuid_is_cut_off() -> None:
    with pytest.raises(parsers.InvalidOutput, match="without a UUID"):
        long_list.parse_long_list(LONG[:60])


def test_os_types_are_ids_of_old_and_new_versions() -> None:
    known = parsers.parse_os_types((SAMPLES / "list-ostypes.out").read_text())

    assert len(known) == 228
    assert {"Other", "Ubuntu_64", "Debian_arm64"} <= set(known)
    assert parsers.parse_os_types("ID:          Ubuntu_64\nDescription: x\n") == ["Ubuntu_64"]


def test_only_enabled_dhcp_servers_count() -> None:
    text = (
        "NetworkName:    HostInterfaceNetworking-vboxnet0\nEnabled:        Yes\n\n"
        "NetworkName:    HostInterfaceNetworking-vboxnet1\nEnabled:        No\n"
    )

    assert parsers.parse_dhcp_servers(text) == ["HostInterfaceNetworking-vboxnet0"]
