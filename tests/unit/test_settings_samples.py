# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A settings file as VirtualBox 7.2.22 wrote it, cut off, changed and hostile."""

from __future__ import annotations

import html
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import VMState

NODE1 = (pathlib.Path(__file__).parent / "samples" / "node1.vbox.xml").read_text(encoding="utf-8")
UUID = "f0f5847d-46ae-4f7b-8469-29b18f7091eb"
FILE = "/home/vbox/VirtualBox VMs/node1/node1.vbox"
(HEAD,) = (line for line in NODE1.splitlines() if "<Machine " in line)


def with_adapters(adapters: str) -> str:
    """node1's file with other network adapters."""
    before, _, rest = NODE1.partition("<Network>")
    return f"{before}<Network>{adapters}</Network>{rest.partition('</Network>')[2]}"


def test_a_real_file_is_read_whole() -> None:
    machine = settings_xml.parse_settings(UUID, FILE, NODE1)

    nic = settings_xml.NIC(1, "08:00:27:aa:bb:01", "82540EM", "nat", "", cable=True)
    assert machine == settings_xml.VMSettings(
        uuid=UUID,
        name="node1",
        settings_file=FILE,
        off_state=VMState.POWEROFF,
        nics=(nic,),
        boot_order=("net", "disk", "none", "none"),
        firmware="BIOS",
        architecture="amd64",
    )


@pytest.mark.parametrize(
    ("old", "new", "architecture"),
    [
        ("", "", "amd64"),
        ('<LongMode enabled="true"/>', '<LongMode enabled="false"/>', "i386"),
        ('<LongMode enabled="true"/>', "", "amd64"),
        ('architecture="x86"', 'architecture="ARM"', "arm64"),
    ],
)
def test_the_processor_a_guest_gets(old: str, new: str, architecture: str) -> None:
    machine = settings_xml.parse_settings(UUID, FILE, NODE1.replace(old, new))

    assert machine.architecture == architecture


def test_without_a_word_about_the_processor_the_guests_type_says_it() -> None:
    text = NODE1.replace('<LongMode enabled="true"/>', "").replace("Ubuntu_64", "Ubuntu")

    assert settings_xml.parse_settings(UUID, FILE, text).architecture == "i386"


def test_the_head_of_a_real_file_tells_all_but_the_hardware() -> None:
    whole = settings_xml.parse_settings(UUID, FILE, NODE1)

    head = settings_xml.parse_settings(UUID, FILE, HEAD + "\n")

    assert (head.name, head.off_state, head.accessible) == ("node1", whole.off_state, True)
    assert (head.nics, head.macs, head.boot_order, head.firmware) == (None, (), (), "")


def test_a_file_with_windows_line_ends_is_read_alike() -> None:
    crlf = NODE1.replace("\n", "\r\n")

    machine = settings_xml.parse_settings(UUID, FILE, crlf)

    assert machine == settings_xml.parse_settings(UUID, FILE, NODE1)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("he said &quot;hi&quot;", 'he said "hi"'),
        ("a;b&amp;c|d", "a;b&c|d"),
        ("new&#xA;line", "new\nline"),
        ("tab&#x9;name", "tab\tname"),
        ("v&#xFD;m&#x11B;na-&#x65E5;&#x672C;&#x8A9E;", "výměna-日本語"),
        ("&lt;inaccessible&gt;", "<inaccessible>"),
        (" lead ", " lead "),
        ("&#x1F600;", "😀"),
    ],
)
def test_an_odd_name_is_read_from_head_and_file_alike(source: str, name: str) -> None:
    whole = NODE1.replace('name="node1"', f'name="{source}"', 1)
    head = HEAD.replace('name="node1"', f'name="{source}"', 1)

    read = [settings_xml.parse_settings(UUID, FILE, text).name for text in (whole, head)]

    assert read == [name, name]


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ('stateFile="Snapshots/x.sav"', VMState.SAVED),
        ('aborted="true"', VMState.ABORTED),
        ('stateFile="Snapshots/x.sav" aborted="true"', VMState.ABORTED_SAVED),
        ('aborted="false"', VMState.POWEROFF),
        ('stateFile=""', VMState.POWEROFF),
    ],
)
def test_the_whole_file_tells_the_state_of_a_vm_that_is_off(
    attributes: str, state: VMState
) -> None:
    xml = NODE1.replace('OSType="Ubuntu_64"', f'OSType="Ubuntu_64" {attributes}', 1)

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.off_state is state


def test_the_hardware_of_a_snapshot_is_not_the_vms() -> None:
    hardware = "<Hardware>" + NODE1.partition("<Hardware>")[2].partition("</Hardware>")[0]
    old = hardware.replace("AABB01", "000000").replace('"Network"', '"DVD"')
    snapshot = f'<Snapshot uuid="{{{UUID}}}" name="old">{old}</Hardware></Snapshot>'
    xml = NODE1.replace("<Hardware>", f"{snapshot}<Hardware>")

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.macs == ("08:00:27:aa:bb:01",)
    assert machine.boot_order[0] == "net"


@pytest.mark.parametrize(
    ("child", "attachment", "network"),
    [
        ("<NAT/>", "nat", ""),
        ('<BridgedInterface name="eth0"/>', "bridged", "eth0"),
        ('<InternalNetwork name="maas0"/>', "intnet", "maas0"),
        ('<HostOnlyInterface name="vboxnet0"/>', "hostonly", "vboxnet0"),
        ('<HostOnlyNetwork name="maas"/>', "hostonlynetwork", "maas"),
        ('<NATNetwork name="NatNetwork"/>', "natnetwork", "NatNetwork"),
        ('<GenericInterface driver="UDPTunnel"/>', "generic", ""),
        ("", "null", ""),
        ('<DisabledModes><InternalNetwork name="old"/></DisabledModes><NAT/>', "nat", ""),
        ('<DisabledModes><InternalNetwork name="old"/></DisabledModes>', "null", ""),
    ],
)
def test_what_a_nic_is_attached_to_is_read(child: str, attachment: str, network: str) -> None:
    adapter = f'<Adapter slot="0" enabled="true" MACAddress="080027AABB01">{child}</Adapter>'

    machine = settings_xml.parse_settings(UUID, FILE, with_adapters(adapter))

    assert [(nic.attachment, nic.network) for nic in machine.nics or ()] == [(attachment, network)]


@pytest.mark.parametrize(
    "attributes",
    [
        'slot="0" enabled="false" MACAddress="080027AABB01"',
        'slot="0" MACAddress="080027AABB01"',
        'slot="0" enabled="true" MACAddress="080027"',
        'slot="0" enabled="true"',
        'slot="x" enabled="true" MACAddress="080027AABB01"',
    ],
)
def test_a_nic_that_is_disabled_or_has_no_mac_is_none(attributes: str) -> None:
    xml = with_adapters(f"<Adapter {attributes}><NAT/></Adapter>")

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.nics == ()


def test_a_disconnected_cable_is_read() -> None:
    xml = NODE1.replace('type="82540EM"', 'type="82540EM" cable="false"')

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert [nic.cable for nic in machine.nics or ()] == [False]


def test_a_file_without_a_boot_order_has_virtualboxs_default() -> None:
    before, _, rest = NODE1.partition("<Boot>")
    xml = before + rest.partition("</Boot>")[2]

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.boot_order == ("floppy", "dvd", "disk", "none")


def test_the_boot_order_is_by_position_not_by_place() -> None:
    lines = [line for line in NODE1.splitlines() if "<Order " in line]
    xml = NODE1.replace("\n".join(lines), "\n".join(reversed(lines)))

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.boot_order == ("net", "disk", "none", "none")


def test_efi_firmware_is_read() -> None:
    xml = NODE1.replace("<Firmware>", '<Firmware type="EFI">')

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.firmware == "EFI"


def test_the_file_of_another_vm_is_inaccessible() -> None:
    other = "e6f105c1-d4fe-4f0b-a9b8-3675d47180cb"

    machine = settings_xml.parse_settings(other, FILE, NODE1)

    assert (machine.uuid, machine.name, machine.accessible) == (other, "", False)


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE VirtualBox [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>',
        '<!DOCTYPE VirtualBox [<!ENTITY file SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE VirtualBox SYSTEM "http://localhost/x.dtd">',
        "<!DOCTYPE VirtualBox>",
    ],
)
def test_a_file_with_a_document_type_is_inaccessible(dtd: str) -> None:
    xml = NODE1.replace('<?xml version="1.0"?>', f'<?xml version="1.0"?>{dtd}')

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert not machine.accessible


def test_a_real_file_cut_off_anywhere_is_inaccessible_or_right() -> None:
    whole = settings_xml.parse_settings(UUID, FILE, NODE1)

    for length in range(0, len(NODE1), 3):
        machine = settings_xml.parse_settings(UUID, FILE, NODE1[:length])
        assert not machine.accessible or machine == whole


def test_a_head_cut_off_anywhere_is_inaccessible_or_right() -> None:
    head = HEAD.strip().replace(" lastStateChange", ' stateFile="Snapshots/x.sav" lastStateChange')

    for length in range(len(head)):
        machine = settings_xml.parse_settings(UUID, FILE, head[:length])
        assert machine.off_state in (VMState.INACCESSIBLE, VMState.SAVED)


@pytest.mark.parametrize(
    ("file", "log"),
    [
        ("/home/vbox/VirtualBox VMs/node1/node1.vbox", "/home/vbox/VirtualBox VMs/node1/Logs/"),
        ("C:/VMs/node1/node1.vbox", "C:/VMs/node1\\Logs\\"),
        ("D:\\VMs\\node1\\node1.vbox", "D:\\VMs\\node1\\Logs\\"),
        ("\\\\nas\\vms\\node1\\node1.vbox", "\\\\nas\\vms\\node1\\Logs\\"),
        ("/vms/back\\slash/n.vbox", "/vms/back\\slash/Logs/"),
    ],
)
def test_the_log_is_beside_the_settings_in_the_hosts_own_notation(file: str, log: str) -> None:
    machine = settings_xml.parse_settings(UUID, file, NODE1)

    assert machine.log_file == log + "VBox.log"


@pytest.mark.parametrize("text", ["{%s}", "%s", " {%s}\n"])
def test_a_uuid_is_read_with_and_without_braces(text: str) -> None:
    assert settings_xml.normalise_uuid(text % UUID.upper()) == UUID


@pytest.mark.parametrize("text", ["", "{}", UUID[:-1], UUID + "0", UUID.replace("-", ""), "node1"])
def test_what_is_no_uuid_is_empty(text: str) -> None:
    assert settings_xml.normalise_uuid(text) == ""


@pytest.mark.parametrize(
    ("digits", "unicast"),
    [
        ("080027AABB01", True),
        ("010027aabb01", False),
        ("ffffffffffff", False),
        ("08:00:27:aa:bb:01", False),
        ("080027aabb0", False),
        ("", False),
    ],
)
def test_a_mac_for_modifyvm_is_12_digits_and_unicast(digits: str, unicast: bool) -> None:
    assert settings_xml.is_unicast_mac(digits) is unicast


# What XML 1.0 can hold.
xml_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda char: char >= " " or char in "\t\n"
    )
)


def escaped(text: str) -> str:
    """As VirtualBox writes it: control and non-ASCII characters as references."""
    return "".join(
        char if " " <= char <= "~" else f"&#x{ord(char):X};" for char in html.escape(text)
    )


@given(xml_text)
def test_any_name_is_read_back_from_a_file(name: str) -> None:
    xml = NODE1.replace('name="node1"', f'name="{escaped(name)}"', 1)

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.name == name


@given(xml_text)
def test_any_path_is_unescaped(path: str) -> None:
    source = escaped(path)

    assert settings_xml.unescape(source) == path


@given(st.text())
def test_no_text_is_too_odd_to_unescape(text: str) -> None:
    assert isinstance(settings_xml.unescape(text), str)


@given(st.integers(0, len(NODE1) - 1), st.characters())
def test_a_changed_character_raises_nothing(position: int, char: str) -> None:
    xml = NODE1[:position] + char + NODE1[position + 1 :]

    assert settings_xml.parse_settings(UUID, FILE, xml).uuid == UUID


@given(st.text().map("<Machine ".__add__) | st.text().map("<?xml".__add__))
def test_any_text_that_begins_like_a_file_raises_nothing(text: str) -> None:
    assert not settings_xml.parse_settings(UUID, FILE, text).accessible
