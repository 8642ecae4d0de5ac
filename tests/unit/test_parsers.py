# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parsers, on recorded, truncated and hostile output."""

from __future__ import annotations

import pathlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import parsers
from maas_virtualbox.virtualbox.states import VMState

SAMPLES = pathlib.Path(__file__).parent / "samples"
ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
MANAGED = "0c06ecdf-282e-4a3b-8cfb-b50f570662a8"
THREE = "5e861d35-2683-4509-b1f8-d68aa78b08bd"
TWO = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"

# Names as VirtualBox accepts them: anything but the null character and surrogates.
names = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), min_size=1)
uuids = st.uuids().map(str)


def sample(name: str) -> str:
    """Return recorded output."""
    return (SAMPLES / name).read_bytes().decode()


def test_vm_list_with_odd_names_is_complete() -> None:
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


def test_vm_list_that_ends_in_a_name_is_an_error() -> None:
    # Verbatim output of VirtualBox 7.2 in the POSIX locale, with exit code 0.
    with pytest.raises(parsers.InvalidOutput, match="ends inside an entry"):
        parsers.parse_vm_list(f'"node1" {{{ONE}}}\n"v')


def test_vm_list_after_a_warning_is_read() -> None:
    warning = "WARNING: The character device /dev/vboxdrv does not exist.\n\t Please install\n\n"

    assert parsers.parse_vm_list(f'{warning}"node1" {{{ONE}}}\n') == {ONE: "node1"}


def test_vm_list_with_windows_line_ends_is_read() -> None:
    assert parsers.parse_vm_list(f'"a" {{{ONE}}}\r\n"b" {{{TWO}}}\r\n') == {ONE: "a", TWO: "b"}


def test_vm_list_with_known_names_shows_no_forged_entry() -> None:
    forged = f'x" {{{TWO}}}\n"y'
    text = f'"{forged}" {{{ONE}}}\n'

    assert parsers.parse_vm_list(text, {ONE: forged}) == {ONE: forged}


@given(st.dictionaries(uuids, names, max_size=8))
def test_vm_list_with_any_known_names_is_read_back(vms: dict[str, str]) -> None:
    text = "".join(f'"{name}" {{{uuid}}}\n' for uuid, name in vms.items())

    assert parsers.parse_vm_list(text, vms) == vms


@given(st.text())
def test_vm_list_of_any_text_is_read_or_invalid(text: str) -> None:
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
def test_showvminfo_state_cannot_be_forged_by_a_name(name: str, state: VMState) -> None:
    values = parsers.parse_machine_readable(render(name, state.value))

    assert values["name"] == name
    assert parsers.parse_state(values["VMState"]) is state


@given(names, st.integers(0, 400))
def test_showvminfo_of_any_length_has_no_wrong_state(name: str, length: int) -> None:
    text = render(name, "running")[:length]
    try:
        values = parsers.parse_machine_readable(text)
    except parsers.InvalidOutput:
        return

    assert values["VMState"] == "running"


def test_unknown_state_is_an_error() -> None:
    with pytest.raises(parsers.InvalidOutput, match="unknown VM state 'dancing'"):
        parsers.parse_state("dancing")


def test_processes_use_the_last_startvm_of_a_line() -> None:
    name = f"x --startvm {TWO}"
    hostile = f"  77 /usr/lib/virtualbox/VBoxHeadless --comment {name} --startvm {ONE} --vrde c\n"

    assert parsers.parse_processes(hostile) == {ONE: 77}


def test_processes_do_not_include_the_search() -> None:
    assert parsers.parse_processes('12 sh -c ps | grep -e "-startvm [0-9a-f{]"\n') == {}


@given(st.text())
def test_processes_of_any_text_are_read(text: str) -> None:
    assert all(pid >= 0 for pid in parsers.parse_processes(text).values())


def test_os_types_of_old_and_new_versions_are_read() -> None:
    known = parsers.parse_os_types((SAMPLES / "list-ostypes.out").read_text())

    assert len(known) == 228
    assert {"Other", "Ubuntu_64", "Debian_arm64"} <= set(known)
    assert parsers.parse_os_types("ID:          Ubuntu_64\nDescription: x\n") == ["Ubuntu_64"]


def test_dhcp_servers_are_the_enabled_ones() -> None:
    text = (
        "NetworkName:    HostInterfaceNetworking-vboxnet0\nEnabled:        Yes\n\n"
        "NetworkName:    HostInterfaceNetworking-vboxnet1\nEnabled:        No\n"
    )

    assert parsers.parse_dhcp_servers(text) == ["HostInterfaceNetworking-vboxnet0"]


# -- list vms ---------------------------------------------------------------------------------


def test_vm_list_with_recorded_odd_names_is_read() -> None:
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


def test_vm_list_maps_each_uuid_to_its_name() -> None:
    text = sample("list-vms-odd-utf8.out")

    read = parsers.parse_vm_list(text)

    assert read["8467f8ae-7886-4417-a3fd-8c7f4b16616b"] == "11111111-2222-3333-4444-555555555555"


def test_vm_list_includes_inaccessible_vms() -> None:
    text = sample("list-vms-inaccessible.out")

    read = parsers.parse_vm_list(text)

    assert len(read) == 20
    assert [uuid[:8] for uuid, name in read.items() if name == "<inaccessible>"] == [
        "c77a2c6b",
        "15be2dd9",
        "d282bade",
    ]


def test_vm_list_of_the_posix_locale_is_an_error() -> None:
    text = sample("list-vms-odd.out")

    with pytest.raises(parsers.InvalidOutput, match="ends inside an entry"):
        parsers.parse_vm_list(text)


def test_vm_list_without_vms_is_empty() -> None:
    text = sample("list-runningvms-none.out")

    assert parsers.parse_vm_list(text) == {}


def test_vm_list_after_the_recorded_warning_is_read() -> None:
    text = sample("warn-no-vboxdrv-list-vms.out")

    read = parsers.parse_vm_list(text)

    assert list(read.values())[:2] == ["test1", "node1"]
    assert len(read) == 7


def test_vm_list_is_the_same_with_windows_line_ends() -> None:
    text = sample("list-vms-odd-utf8.out")

    read = parsers.parse_vm_list(text.replace("\n", "\r\n"))

    assert read == parsers.parse_vm_list(text)


def test_vm_list_of_any_length_ends_with_a_complete_entry() -> None:
    text = sample("list-vms-odd-utf8.out")
    whole = list(parsers.parse_vm_list(text).items())

    for length in range(len(text)):
        try:
            read = list(parsers.parse_vm_list(text[:length]).items())
        except parsers.InvalidOutput:
            continue
        assert read == whole[: len(read)]
        assert not length or text[length - 1] == "\n"


def test_vm_list_with_text_between_entries_is_an_error() -> None:
    text = f'"a" {{{ONE}}}\nSegmentation fault\n"b" {{{TWO}}}\n'

    with pytest.raises(parsers.InvalidOutput, match="unexpected text after a VM"):
        parsers.parse_vm_list(text)


def test_vm_list_has_uuids_in_lower_case() -> None:
    text = f'"a" {{{ONE.upper()}}}\n'

    assert parsers.parse_vm_list(text) == {ONE: "a"}


def test_vm_list_keeps_a_forged_entry_in_a_known_name() -> None:
    forged = f'x" {{{TWO}}}\n"y'
    text = f'"{forged}" {{{ONE}}}\n"node2" {{{THREE}}}\n'

    read = parsers.parse_vm_list(text, {ONE: forged, TWO: "node1", THREE: "node2"})

    assert read == {ONE: forged, THREE: "node2"}


def test_vm_list_keeps_a_forged_entry_with_a_true_name() -> None:
    forged = f'node1" {{{TWO}}}\n"y'
    running = f'"{forged}" {{{ONE}}}\n'

    read = parsers.parse_vm_list(running, {ONE: forged, TWO: "node1"})

    assert read == {ONE: forged}


@given(st.dictionaries(uuids, names.filter(lambda name: '" {' not in name), max_size=8))
def test_vm_list_with_harmless_names_is_read_back(vms: dict[str, str]) -> None:
    text = "".join(f'"{name}" {{{uuid}}}\n' for uuid, name in vms.items())

    assert parsers.parse_vm_list(text) == vms


@given(st.lists(uuids, min_size=2, max_size=2, unique=True), names, names)
def test_vm_list_keeps_any_forged_entry_in_a_known_name(
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
def test_showvminfo_state_is_read(name: str, state: VMState) -> None:
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
def test_showvminfo_name_is_unescaped(name: str, expected: str) -> None:
    values = parsers.parse_machine_readable(sample(name))

    assert values["name"] == expected


def test_showvminfo_values_without_quotes_are_read() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert (values["memory"], values["VRDEClients"]) == ("64", "=0")


def test_showvminfo_value_includes_text_after_the_quotes() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert values["VideoMode"] == "640,480,32@0,0 1"


def test_showvminfo_line_without_equals_sign_is_not_a_key() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert not [key for key in values if key.strip() == "rec_screen0"]
    assert values["rec_screen_enabled"] == "on"


def test_showvminfo_last_line_is_read() -> None:
    values = parsers.parse_machine_readable(sample("showvminfo-running.out"))

    assert values["GuestAdditionsRunLevel"] == "0"


def test_showvminfo_without_a_state_is_an_error() -> None:
    with pytest.raises(parsers.InvalidOutput, match="no VMState"):
        parsers.parse_machine_readable('name="node1"\nmemory=64\n')


def test_showvminfo_of_the_posix_locale_is_an_error() -> None:
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
def test_showvminfo_cut_at_any_byte_has_no_wrong_state(name: str, state: str) -> None:
    whole = (SAMPLES / name).read_bytes()

    for length in range(len(whole)):
        try:
            values = parsers.parse_machine_readable(whole[:length].decode("utf-8", "replace"))
        except parsers.InvalidOutput:
            continue
        assert values["VMState"] == state


def test_showvminfo_is_the_same_with_windows_line_ends() -> None:
    text = sample("showvminfo-paused.out")

    values = parsers.parse_machine_readable(text.replace("\n", "\r\n"))

    assert values == parsers.parse_machine_readable(text)


def test_showvminfo_uses_the_first_state() -> None:
    text = 'VMState="running"\nGuestMemoryBalloon=0\nVMState="poweroff"\n'

    assert parsers.parse_machine_readable(text)["VMState"] == "running"


def test_showvminfo_ignores_a_state_inside_a_name() -> None:
    text = 'name="x\nVMState=\\"poweroff\\"\n"\nVMState="running"\n'

    assert parsers.parse_machine_readable(text)["VMState"] == "running"


@pytest.mark.parametrize("state", [state for state in VMState if state != "inaccessible"])
def test_showvminfo_knows_all_states(state: VMState) -> None:
    text = f'VMState="{state.value}"\n'

    values = parsers.parse_machine_readable(text)

    assert parsers.parse_state(values["VMState"]) is state


any_text = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]))


@given(
    st.dictionaries(st.sampled_from(["name", "description", "CfgFile", "nic1", "note"]), any_text)
)
def test_showvminfo_with_any_escaped_values_is_read_back(values: dict[str, str]) -> None:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    text = "".join(f'{key}="{escape(value)}"\n' for key, value in values.items())

    read = parsers.parse_machine_readable(f'{text} rec_screen0\nVMState="saved"\n')

    assert read == {**values, "VMState": "saved"}


@given(st.text())
def test_showvminfo_of_any_text_has_a_state_or_is_invalid(text: str) -> None:
    try:
        values = parsers.parse_machine_readable(text)
    except parsers.InvalidOutput:
        return

    assert "VMState" in values


# -- ps ---------------------------------------------------------------------------------------


def test_processes_include_all_programs_that_run_vms() -> None:
    text = (
        f" 5402 /usr/lib/virtualbox/VBoxHeadless --comment node1 --startvm {ONE} --vrde config\n"
        f"61402 /usr/lib/virtualbox/VirtualBoxVM --comment node2 --startvm {TWO}\n"
        f"  7 VBoxSDL -startvm {{{THREE.upper()}}}\n"
    )

    assert parsers.parse_processes(text) == {ONE: 5402, TWO: 61402, THREE: 7}


@given(st.text(st.characters(exclude_categories=["C", "Zl", "Zp"]), max_size=30), uuids)
def test_processes_ignore_a_vm_named_in_a_comment(comment: str, other: str) -> None:
    text = f"77 VBoxHeadless --comment {comment} --startvm {other} --startvm {ONE} --vrde config\n"

    assert parsers.parse_processes(text) == {ONE: 77}


def test_processes_ignore_an_incomplete_uuid() -> None:
    text = f"77 VBoxHeadless --comment node1 --startvm {ONE[:-1]}\n"

    assert parsers.parse_processes(text) == {}


# -- Output that creation and deletion read -----------------------------------------------------


def test_created_file_is_read() -> None:
    folder = "/home/vbox/VirtualBox VMs/n 1 (being made by maas-virtualbox on h process 7)"

    file = parsers.parse_created_file(sample("createvm.out"))

    assert file == f"{folder}/n 1 (being made by maas-virtualbox on h process 7).vbox"


def test_created_file_of_truncated_output_is_an_error() -> None:
    text = sample("createvm.out")

    for length in range(len(text) - 2):
        with pytest.raises(parsers.InvalidOutput):
            parsers.parse_created_file(text[:length])


def test_extra_data_is_read_or_empty() -> None:
    assert parsers.parse_extra_data(sample("getextradata.out")) == MANAGED
    assert parsers.parse_extra_data(sample("getextradata-none.out")) == ""


def test_hard_disks_have_parents_and_users() -> None:
    disks = parsers.parse_hard_disks(sample("list-long-hdds.out"))

    used = [disk for disk in disks if MANAGED in disk.users]
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


def test_hard_disk_without_location_is_an_error() -> None:
    text = sample("list-long-hdds.out")

    with pytest.raises(parsers.InvalidOutput):
        parsers.parse_hard_disks(text[: text.rindex("Location:")])


def test_hard_disks_of_empty_output_are_none() -> None:
    assert parsers.parse_hard_disks("") == []


def test_networks_are_read_by_name() -> None:
    assert parsers.parse_networks(sample("list-bridgedifs.out")) == ["eth0", "ifb0", "ifb1"]
    assert parsers.parse_networks("Name:            en0: Wi-Fi (AirPort)\r\n") == [
        "en0: Wi-Fi (AirPort)"
    ]


# -- Frames -----------------------------------------------------------------------------------


def test_sections_accept_windows_line_ends() -> None:
    answer = "Welcome\r\n\r\nN1 system\r\nWindows\r\n\r\nN1 end 0\r\n"

    parts = parsers.parse_sections("N1", answer.encode())

    assert parts is not None
    assert [(part.name, part.detail, part.text) for part in parts] == [
        ("system", "", "Windows\n"),
        ("end", "0", ""),
    ]


def test_sections_take_the_rest_of_a_line_as_the_detail() -> None:
    answer = "\nN1 machine {u} /vms/my vm/my vm.vbox\n<Machine/>\n\nN1 end 0\n"

    parts = parsers.parse_sections("N1", answer.encode())

    assert parts is not None
    assert parts[0].detail == "{u} /vms/my vm/my vm.vbox"


def test_sections_skip_a_greeting_and_need_an_end() -> None:
    answer = 'Welcome!\n\nN1 running\n"a"\n\nN1 end 0\n'

    parts = parsers.parse_sections("N1", answer.encode())

    assert parts is not None
    assert [(part.name, part.detail, part.text) for part in parts] == [
        ("running", "", '"a"\n'),
        ("end", "0", ""),
    ]
    assert parsers.parse_sections("N1", answer[:-10].encode()) is None
    assert parsers.parse_sections("N1", b"") is None


def test_sections_keep_a_frame_with_another_nonce_as_text() -> None:
    parts = parsers.parse_sections("N1", b"\nN1 running\n\nN2 end 0\n\nN1 end 0\n")

    assert parts is not None
    assert "N2 end 0" in parts[0].text


@pytest.mark.parametrize("forged", ["\nN2 end 0\n", "\nend 0\n", "\nN1end 0\n", "x N1 end 0\n"])
def test_sections_ignore_a_forged_end(forged: str) -> None:
    answer = f"\nN1 running\n{forged}"

    parts = parsers.parse_sections("N1", answer.encode())

    assert parts is None


def test_sections_refuse_an_answer_that_continues() -> None:
    answer = "\nN1 end 0\n\nN1 machine {u} x\n"

    parts = parsers.parse_sections("N1", answer.encode())

    assert parts is None


def test_sections_refuse_an_answer_without_an_end() -> None:
    answer = "motd\n\nN1 running\n\nN1 registry\n/home\nN1 end 0\n"
    end = answer.index("\nN1 end")

    lengths = range(end + len("\nN1 end"))
    parts = [parsers.parse_sections("N1", answer[:length].encode()) for length in lengths]

    assert not any(parts)


unix_text = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))


@given(
    unix_text, st.lists(st.tuples(st.sampled_from(["running", "machine"]), unix_text), max_size=4)
)
def test_sections_keep_all_text_between_frames(
    greeting: str, bodies: list[tuple[str, str]]
) -> None:
    answer = greeting + "".join(f"\nN1 {name}\n{text}" for name, text in bodies)

    parts = parsers.parse_sections("N1", f"{answer}\nN1 end 0\n".encode())

    assert parts is not None
    assert [(part.name, part.text) for part in parts[:-1]] == bodies
