# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VirtualBox 7.2.22 really printed, whole and cut off, and hostile texts in its form."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import long_list, parsers
from maas_virtualbox.virtualbox.states import VMState

SAMPLES = pathlib.Path(__file__).parent / "samples"
ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
MADE = "0c06ecdf-282e-4a3b-8cfb-b50f570662a8"
HEAD = f"Name:  n\nGroups:  /\nGuest OS:  Ubuntu\nUUID:  {ONE}\n"
TWO = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"
THREE = "5e861d35-2683-4509-b1f8-d68aa78b08bd"


def sample(name: str) -> str:
    """A recorded output, byte for byte."""
    return (SAMPLES / name).read_bytes().decode()


# -- list vms ---------------------------------------------------------------------------------


def test_every_odd_name_virtualbox_took_is_read() -> None:
    text = sample("list-vms-odd-utf8.out")

    read = parsers.parse_vm_list(text)

    assert list(read.values()) == [
        "test1",
        "node1",
        "my vm",
        'he said "hi"',
        "it's",
        "vm {11111111-2222-3333-4444-555555555555}",
        "back\\slash",
        "a/b",
        "výměna-日本語-é",
        "new\nline",
        "tab\tname",
        "dollar$HOME`id`",
        "a;b&c|d",
        "-dash",
        "11111111-2222-3333-4444-555555555555",
        "n" * 200,
        "per%20cent%s",
        " lead ",
        "<inaccessible>",
    ]


def test_each_name_stands_by_its_own_uuid() -> None:
    text = sample("list-vms-odd-utf8.out")

    read = parsers.parse_vm_list(text)

    assert read["8467f8ae-7886-4417-a3fd-8c7f4b16616b"] == "11111111-2222-3333-4444-555555555555"


def test_several_inaccessible_vms_keep_their_uuids() -> None:
    text = sample("list-vms-inaccessible.out")

    read = parsers.parse_vm_list(text)

    assert len(read) == 20
    assert [uuid[:8] for uuid, name in read.items() if name == "<inaccessible>"] == [
        "c77a2c6b",
        "15be2dd9",
        "d282bade",
    ]


def test_the_list_of_the_posix_locale_is_cut_off() -> None:
    text = sample("list-vms-odd.out")

    with pytest.raises(parsers.InvalidOutput, match="ends inside an entry"):
        parsers.parse_vm_list(text)


def test_a_list_without_vms_is_empty() -> None:
    text = sample("list-runningvms-none.out")

    assert parsers.parse_vm_list(text) == {}


def test_the_recorded_warning_of_the_wrapper_is_passed_over() -> None:
    text = sample("warn-no-vboxdrv-list-vms.out")

    read = parsers.parse_vm_list(text)

    assert list(read.values())[:2] == ["test1", "node1"]
    assert len(read) == 7


def test_windows_line_ends_change_nothing() -> None:
    text = sample("list-vms-odd-utf8.out")

    read = parsers.parse_vm_list(text.replace("\n", "\r\n"))

    assert read == parsers.parse_vm_list(text)


def test_a_list_cut_off_anywhere_is_an_error_or_ends_with_a_whole_entry() -> None:
    text = sample("list-vms-odd-utf8.out")
    whole = list(parsers.parse_vm_list(text).items())

    for length in range(len(text)):
        try:
            read = list(parsers.parse_vm_list(text[:length]).items())
        except parsers.InvalidOutput:
            continue
        assert read == whole[: len(read)]
        assert not length or text[length - 1] == "\n"


def test_text_between_entries_is_an_error() -> None:
    text = f'"a" {{{ONE}}}\nSegmentation fault\n"b" {{{TWO}}}\n'

    with pytest.raises(parsers.InvalidOutput, match="unexpected text after a VM"):
        parsers.parse_vm_list(text)


def test_upper_case_uuids_are_read_in_lower_case() -> None:
    text = f'"a" {{{ONE.upper()}}}\n'

    assert parsers.parse_vm_list(text) == {ONE: "a"}


def test_a_forged_entry_of_another_vm_is_part_of_the_known_name() -> None:
    forged = f'x" {{{TWO}}}\n"y'
    text = f'"{forged}" {{{ONE}}}\n"node2" {{{THREE}}}\n'

    read = parsers.parse_vm_list(text, {ONE: forged, TWO: "node1", THREE: "node2"})

    assert read == {ONE: forged, THREE: "node2"}


def test_a_forged_entry_under_the_other_vms_true_name_is_part_of_the_known_name() -> None:
    forged = f'node1" {{{TWO}}}\n"y'
    running = f'"{forged}" {{{ONE}}}\n'

    read = parsers.parse_vm_list(running, {ONE: forged, TWO: "node1"})

    assert read == {ONE: forged}


# Names as VirtualBox takes them; it turns no carriage return into anything, but Windows may.
names = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)
uuids = st.uuids().map(str)


@given(st.dictionaries(uuids, names.filter(lambda name: '" {' not in name), max_size=8))
def test_names_that_forge_nothing_need_not_be_known(vms: dict[str, str]) -> None:
    text = "".join(f'"{name}" {{{uuid}}}\n' for uuid, name in vms.items())

    assert parsers.parse_vm_list(text) == vms


@given(st.lists(uuids, min_size=2, max_size=2, unique=True), names, names)
def test_a_name_that_forges_any_entry_is_read_whole_when_known(
    pair: list[str], before: str, after: str
) -> None:
    owner, other = pair
    forged = f'{before}" {{{other}}}\n"{after}'
    text = f'"{forged}" {{{owner}}}\n'

    read = parsers.parse_vm_list(text, {owner: forged, other: before + "x"})

    assert read == {owner: forged}


# -- showvminfo --machinereadable -------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("showvminfo-running.out", VMState.RUNNING),
        ("showvminfo-paused.out", VMState.PAUSED),
        ("showvminfo-saved.out", VMState.SAVED),
        ("showvminfo-aborted.out", VMState.ABORTED),
        ("guru-showvminfo.out", VMState.GURU_MEDITATION),
        ("showvminfo-odd-newline.out", VMState.POWEROFF),
    ],
)
def test_the_state_of_a_real_answer_is_read(name: str, state: VMState) -> None:
    values = parsers.parse_machine_readable(sample(name))

    assert parsers.parse_state(values["VMState"]) is state


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("showvminfo-odd-newline.out", "new\nline"),
        ("showvminfo-odd-dquote.out", 'he said "hi"'),
        ("showvminfo-odd-backslash.out", "back\\slash"),
        ("showvminfo-odd-squote.out", "it's"),
        ("showvminfo-odd-unicode.out", "výměna-日本語-é"),
    ],
)
def test_the_odd_name_of_a_real_answer_is_unescaped(name: str, expected: str) -> None:
    values = parsers.parse_machine_readable(sample(name))

    assert values["name"] == expected


def test_values_without_quotes_are_read() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert (values["memory"], values["VRDEClients"]) == ("64", "=0")


def test_what_follows_a_quoted_value_belongs_to_it() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert values["VideoMode"] == "640,480,32@0,0 1"


def test_the_line_without_an_equals_sign_is_no_key() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert not [key for key in values if key.strip() == "rec_screen0"]
    assert values["rec_screen_enabled"] == "on"


def test_the_last_line_is_read_as_well() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert values["GuestAdditionsRunLevel"] == "0"


def test_an_answer_without_a_state_is_cut_off() -> None:
    with pytest.raises(parsers.InvalidOutput, match="no VMState"):
        parsers.parse_machine_readable('name="node1"\nmemory=64\n')


def test_the_answer_of_the_posix_locale_is_cut_off() -> None:
    text = sample("showvminfo-odd-unicode-posix.out")

    with pytest.raises(parsers.InvalidOutput, match="name is cut off"):
        parsers.parse_machine_readable(text)


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("showvminfo-saved.out", "saved"),
        ("showvminfo-odd-newline.out", "poweroff"),
        ("showvminfo-odd-unicode.out", "poweroff"),
    ],
)
def test_an_answer_cut_off_at_any_byte_is_an_error_or_has_the_right_state(
    name: str, state: str
) -> None:
    whole = (SAMPLES / name).read_bytes()

    for length in range(len(whole)):
        try:
            values = parsers.parse_machine_readable(whole[:length].decode("utf-8", "replace"))
        except parsers.InvalidOutput:
            continue
        assert values["VMState"] == state


def test_an_answer_with_windows_line_ends_is_read_alike() -> None:
    text = sample("showvminfo-paused.out")

    values = parsers.parse_machine_readable(text.replace("\n", "\r\n"))

    assert values == parsers.parse_machine_readable(text)


def test_a_second_state_does_not_take_the_place_of_the_first() -> None:
    text = 'VMState="running"\nGuestMemoryBalloon=0\nVMState="poweroff"\n'

    assert parsers.parse_machine_readable(text)["VMState"] == "running"


def test_a_state_inside_a_name_is_part_of_the_name() -> None:
    text = 'name="x\nVMState=\\"poweroff\\"\n"\nVMState="running"\n'

    assert parsers.parse_machine_readable(text)["VMState"] == "running"


@pytest.mark.parametrize("state", [state for state in VMState if state != "inaccessible"])
def test_every_state_is_read_by_virtualboxs_word(state: VMState) -> None:
    text = f'VMState="{state.value}"\n'

    values = parsers.parse_machine_readable(text)

    assert parsers.parse_state(values["VMState"]) is state


any_text = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(
    st.dictionaries(st.sampled_from(["name", "description", "CfgFile", "nic1", "note"]), any_text)
)
def test_any_values_escaped_as_virtualbox_does_are_read_back(values: dict[str, str]) -> None:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    text = "".join(f'{key}="{escape(value)}"\n' for key, value in values.items())

    read = parsers.parse_machine_readable(f'{text} rec_screen0\nVMState="saved"\n')

    assert read == {**values, "VMState": "saved"}


@given(st.text())
def test_any_text_is_values_with_a_state_or_cut_off(text: str) -> None:
    try:
        values = parsers.parse_machine_readable(text)
    except parsers.InvalidOutput:
        return

    assert "VMState" in values


# -- list --long ------------------------------------------------------------------------------


def test_a_real_long_list_has_every_vm_of_the_short_one() -> None:
    short = parsers.parse_vm_list(sample("list-vms-inaccessible.out"))

    long = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    assert list(long) == list(short)


def test_vms_that_cannot_be_read_are_inaccessible_in_the_long_list() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    lost = [uuid[:8] for uuid, vm in read.items() if vm.state is VMState.INACCESSIBLE]
    assert lost == ["c77a2c6b", "15be2dd9"]


def test_a_vm_that_cannot_be_read_has_a_settings_file_and_no_name() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["c77a2c6b-1546-47f8-a6ad-42d10ebf0b72"]
    assert not vm.settings.accessible
    assert vm.settings.name == ""
    assert vm.settings.settings_file == "/home/vbox/VirtualBox VMs/my vm/my vm.vbox"


def test_a_vm_called_inaccessible_is_accessible_in_the_long_list() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["d282bade-3224-4ca5-adfa-7a52d8e1c64d"]
    assert (vm.settings.name, vm.state) == ("<inaccessible>", VMState.POWEROFF)


def test_the_nics_of_a_real_long_list_are_read() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"]
    assert [(nic.slot, nic.mac, nic.attachment) for nic in vm.settings.nics or ()] == [
        (1, "08:00:27:5f:f8:3a", "nat"),
        (2, "08:00:27:03:a5:7e", "null"),
    ]


def test_the_boot_order_of_a_real_long_list_is_read() -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    vm = read["7015f81d-6996-48f6-930f-cb2d70718bbd"]
    assert vm.settings.boot_order == ("net", "disk", "none", "none")


def test_a_running_vm_is_running_in_the_long_list() -> None:
    read = long_list.parse_long_list(sample("list-long-runningvms.out"))

    assert {uuid: vm.state for uuid, vm in read.items()} == {TWO: VMState.RUNNING}


# The words of machineStateToName() in VirtualBox's VBoxManageInfo.cpp (read, not recorded).
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


@pytest.mark.parametrize(("words", "state"), LONG_STATES)
def test_every_state_is_read_by_the_long_lists_words(words: str, state: VMState) -> None:
    text = f"{HEAD}State:  {words} (since 2026-11-21T00:07:02.000000000)\n"

    read = long_list.parse_long_list(text)

    assert read[ONE].state is state


def test_a_state_the_long_list_does_not_know_is_an_error() -> None:
    text = f"{HEAD}State:  dancing (since 2026-11-21T00:07:02.000000000)\n"

    with pytest.raises(parsers.InvalidOutput, match="unknown VM state 'dancing'"):
        long_list.parse_long_list(text)


@pytest.mark.parametrize("name", [" lead ", "new\nline"])
def test_an_odd_name_is_whole_in_the_long_list(name: str) -> None:
    read = long_list.parse_long_list(sample("list-long-inaccessible.out"))

    assert name in {vm.settings.name for vm in read.values()}


def test_a_name_cannot_forge_another_uuid_in_the_long_list() -> None:
    text = sample("list-long-runningvms.out")
    forged = text.replace("node2\n", f"x\nUUID:                        {ONE}\n", 1)

    read = long_list.parse_long_list(forged)

    assert list(read) == [TWO]


def test_a_name_cannot_forge_another_state_in_the_long_list() -> None:
    text = sample("list-long-runningvms.out")
    forged = text.replace("node2\n", "x\nState:                       powered off (since x)\n", 1)

    read = long_list.parse_long_list(forged)

    assert [vm.state for vm in read.values()] == [VMState.RUNNING]


def test_a_long_list_cut_off_before_a_state_is_an_error() -> None:
    text = sample("list-long-runningvms.out").partition("State: ")[0]

    with pytest.raises(parsers.InvalidOutput):
        long_list.parse_long_list(text)


@given(st.text())
def test_any_text_is_a_long_list_or_cut_off(text: str) -> None:
    try:
        read = long_list.parse_long_list(f"{HEAD}{text}")
    except parsers.InvalidOutput:
        return

    assert ONE in read


# -- ps ---------------------------------------------------------------------------------------


def test_every_program_that_runs_a_vm_is_found() -> None:
    text = (
        f" 5402 /usr/lib/virtualbox/VBoxHeadless --comment node1 --startvm {ONE} --vrde config\n"
        f"61402 /usr/lib/virtualbox/VirtualBoxVM --comment node2 --startvm {TWO}\n"
        f"  7 VBoxSDL -startvm {{{THREE.upper()}}}\n"
    )

    assert parsers.parse_processes(text) == {ONE: 5402, TWO: 61402, THREE: 7}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=30), uuids)
def test_a_comment_that_names_another_vm_is_passed_over(comment: str, other: str) -> None:
    text = f"77 VBoxHeadless --comment {comment} --startvm {other} --startvm {ONE} --vrde config\n"

    assert parsers.parse_processes(text) == {ONE: 77}


def test_a_process_without_a_whole_uuid_runs_no_vm() -> None:
    text = f"77 VBoxHeadless --comment node1 --startvm {ONE[:-1]}\n"

    assert parsers.parse_processes(text) == {}


# -- What making and deleting reads -----------------------------------------------------------


def test_the_settings_file_of_a_new_vm_is_read() -> None:
    folder = "/home/vbox/VirtualBox VMs/n 1 (being made by maas-virtualbox on h process 7)"

    file = parsers.parse_created_file(sample("createvm.out"))

    assert file == f"{folder}/n 1 (being made by maas-virtualbox on h process 7).vbox"


def test_an_answer_of_createvm_that_is_cut_off_is_refused() -> None:
    text = sample("createvm.out")

    for length in range(len(text) - 2):
        with pytest.raises(parsers.InvalidOutput):
            parsers.parse_created_file(text[:length])


def test_extra_data_is_read_and_its_absence_too() -> None:
    assert parsers.parse_extra_data(sample("getextradata.out")) == MADE
    assert parsers.parse_extra_data(sample("getextradata-none.out")) == ""


def test_hard_disks_are_read_with_their_parents_and_the_vms_that_use_them() -> None:
    disks = parsers.parse_hard_disks(sample("list-long-hdds.out"))

    used = [disk for disk in disks if MADE in disk.users]
    by_uuid = {disk.uuid: disk for disk in disks}
    assert len(disks) == 7
    assert [disk.location.removeprefix("/home/vbox/") for disk in used] == [
        "VirtualBox VMs/n 1/n 1.vdi",
        "VirtualBox VMs/n 1/Snapshots/{c544b24c-7c7b-4f3f-84b6-98ea2864c8a8}.vdi",
        "elsewhere.vdi",
        "VirtualBox VMs/n 1/Snapshots/{3edb0437-e76e-4e1f-aa1c-da332e56aa4a}.vdi",
    ]
    assert [by_uuid[disk.parent].location for disk in used if disk.parent != "base"] == [
        used[0].location,
        used[2].location,
    ]


def test_a_disk_whose_location_is_cut_off_is_refused() -> None:
    text = sample("list-long-hdds.out")

    with pytest.raises(parsers.InvalidOutput):
        parsers.parse_hard_disks(text[: text.rindex("Location:")])


def test_no_hard_disks_are_none() -> None:
    assert parsers.parse_hard_disks("") == []


def test_interfaces_are_read_by_name() -> None:
    assert parsers.parse_networks(sample("list-bridgedifs.out")) == ["eth0", "ifb0", "ifb1"]
    assert parsers.parse_networks("Name:            en0: Wi-Fi (AirPort)\r\n") == [
        "en0: Wi-Fi (AirPort)"
    ]
