# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of settings files: recorded, truncated and hostile files."""

from __future__ import annotations

import html
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import VMState

UUID = "f0f5847d-46ae-4f7b-8469-29b18f7091eb"
FILE = "/home/vbox/VirtualBox VMs/node1/node1.vbox"
NODE1 = (pathlib.Path(__file__).parent / "samples" / "node1.vbox.xml").read_text(encoding="utf-8")
(FIRST_LINE,) = (line for line in NODE1.splitlines() if "<Machine " in line)

# Written by VirtualBox 7.2.22, without the elements that are not read.
SHORT = f"""<?xml version="1.0"?>
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.21-linux">
  <Machine uuid="{{{UUID}}}" name="node1" OSType="Ubuntu_64" snapshotFolder="Snapshots">
    <Snapshot uuid="{{0}}" name="old"><Hardware><Network>
      <Adapter slot="0" enabled="true" MACAddress="080027000000" type="82540EM"><NAT/></Adapter>
    </Network></Hardware></Snapshot>
    <Hardware>
      <Boot>
        <Order position="1" device="Network"/>
        <Order position="2" device="HardDisk"/>
        <Order position="3" device="None"/>
      </Boot>
      <Firmware type="EFI"/>
      <Network>
        <Adapter slot="1" enabled="true" MACAddress="080027AABB02" type="virtio" cable="false">
          <DisabledModes><NAT/></DisabledModes><HostOnlyInterface name="vboxnet0"/>
        </Adapter>
        <Adapter slot="0" enabled="true" MACAddress="080027AABB01" type="82540EM"><NAT/></Adapter>
        <Adapter slot="2" enabled="false" MACAddress="080027AABB03" type="82540EM"/>
        <Adapter slot="3" enabled="true" MACAddress="080027AABB04" type="82540EM"/>
      </Network>
    </Hardware>
  </Machine>
</VirtualBox>
"""


def test_settings_have_the_enabled_nics_in_order() -> None:
    settings = settings_xml.parse_settings(UUID, FILE, SHORT)

    assert [(nic.slot, nic.mac, nic.attachment, nic.network) for nic in settings.nics or ()] == [
        (1, "08:00:27:aa:bb:01", "nat", ""),
        (2, "08:00:27:aa:bb:02", "hostonly", "vboxnet0"),
        (4, "08:00:27:aa:bb:04", "null", ""),
    ]
    assert [nic.cable for nic in settings.nics or ()] == [True, False, True]
    assert settings.boot_order == ("net", "disk", "none")
    assert settings.firmware == "EFI"


def test_settings_use_defaults_for_omitted_values() -> None:
    xml = f'<VirtualBox><Machine uuid="{{{UUID}}}" name="n"><Hardware/></Machine></VirtualBox>'

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.boot_order == ("floppy", "dvd", "disk", "none")
    assert (settings.firmware, settings.nics) == ("BIOS", ())


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ("", VMState.POWEROFF),
        ('stateFile="Snapshots/x.sav"', VMState.SAVED),
        ('aborted="true"', VMState.ABORTED),
        ('stateFile="Snapshots/x.sav" aborted="true"', VMState.ABORTED_SAVED),
    ],
)
def test_settings_of_the_first_line_have_the_off_state(attributes: str, state: VMState) -> None:
    head = f'  <Machine uuid="{{{UUID}}}" name="node1" {attributes}>\n'

    settings = settings_xml.parse_settings(UUID, FILE, head)

    assert (settings.off_state, settings.nics) == (state, None)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<broken",
        SHORT.replace(UUID, "00000000-0000-0000-0000-000000000000"),
        '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + SHORT.partition("?>")[2],
        "<VirtualBox/>",
    ],
)
def test_settings_of_an_invalid_file_are_inaccessible(xml: str) -> None:
    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert (settings.accessible, settings.off_state) == (False, VMState.INACCESSIBLE)


@given(st.integers(0, len(SHORT)))
def test_settings_of_a_truncated_file_are_inaccessible(length: int) -> None:
    settings = settings_xml.parse_settings(UUID, FILE, SHORT[:length])

    assert not settings.accessible or len(settings.macs) == 3


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_settings_of_the_simulator_have_any_name(name: str) -> None:
    vm = SimulatedVM(UUID, "".join(char for char in name if char >= " " or char in "\t\n"), [])

    head = settings_xml.parse_settings(UUID, FILE, texts.render_settings(vm, whole=False))
    whole = settings_xml.parse_settings(UUID, FILE, texts.render_settings(vm, whole=True))

    if all(ord(char) not in (0xFFFE, 0xFFFF) for char in name):
        assert head.name == whole.name == vm.name


@given(st.text())
def test_settings_of_any_text_are_read(text: str) -> None:
    assert settings_xml.parse_settings(UUID, FILE, text).uuid == UUID


def test_log_file_is_in_the_folder_of_the_settings() -> None:
    posix = settings_xml.parse_settings(UUID, FILE, "")
    windows = settings_xml.parse_settings(UUID, r"C:\Users\ivan\VirtualBox VMs\n\n.vbox", "")

    assert posix.log_file == "/home/vbox/VirtualBox VMs/node1/Logs/VBox.log"
    assert windows.log_file == r"C:\Users\ivan\VirtualBox VMs\n\Logs\VBox.log"
    assert settings_xml.parse_settings(UUID, "", "").log_file == ""


@pytest.mark.parametrize(
    "notation",
    ["08:00:27:AA:BB:01", "08-00-27-aa-bb-01", "080027aabb01", "0800.27aa.bb01", " 080027AABB01 "],
)
def test_parse_mac(notation: str) -> None:
    assert settings_xml.parse_mac(notation) == "08:00:27:aa:bb:01"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "08:00:27",
        "08:00:27:aa:bb",
        "08:00:27:aa:bb:01:02",
        "0800:27aa:bb01",
        "08.00.27.aa.bb.01",
        "0800.27aa:bb01",
        "08:00-27:aa:bb:01",
        "zz:00:27:aa:bb:01",
        "08:00:27:aa:bb:0g",
        "8:0:27:aa:bb:1",
        "080027aabb0",
        "080027aabb012",
        "\uff10\uff180027aabb01",
        "node1",
        UUID,
    ],
)
def test_parse_mac_of_another_text(text: str) -> None:
    assert settings_xml.parse_mac(text) == ""


@given(st.text() | st.text(st.sampled_from("0189abfAF:-. ")))
def test_parse_mac_is_idempotent(text: str) -> None:
    mac = settings_xml.parse_mac(text)

    assert mac == "" or settings_xml.parse_mac(mac) == mac


@given(st.binary(min_size=6, max_size=6), st.sampled_from(["{:02x}", "{:02X}"]), st.data())
def test_parse_mac_accepts_all_notations(mac: bytes, form: str, data: st.DataObject) -> None:
    pairs = [form.format(byte) for byte in mac]
    fours = [pairs[i] + pairs[i + 1] for i in (0, 2, 4)]
    notations = [":".join(pairs), "-".join(pairs), ".".join(fours), "".join(pairs)]

    notation = data.draw(st.sampled_from(notations))

    assert settings_xml.parse_mac(notation) == mac.hex(":")


@given(st.binary(min_size=6, max_size=6))
def test_parse_mac_reads_what_format_mac_writes(mac: bytes) -> None:
    assert settings_xml.parse_mac(mac.hex("-")) == settings_xml.format_mac(mac.hex())


def with_adapters(adapters: str) -> str:
    """node1's file with other network adapters."""
    before, _, rest = NODE1.partition("<Network>")
    return f"{before}<Network>{adapters}</Network>{rest.partition('</Network>')[2]}"


def test_settings_of_a_recorded_file_are_complete() -> None:
    settings = settings_xml.parse_settings(UUID, FILE, NODE1)

    nic = settings_xml.NIC(1, "08:00:27:aa:bb:01", "82540EM", "nat", "", cable=True)
    assert settings == settings_xml.VMSettings(
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
def test_settings_have_the_architecture(old: str, new: str, architecture: str) -> None:
    settings = settings_xml.parse_settings(UUID, FILE, NODE1.replace(old, new))

    assert settings.architecture == architecture


def test_settings_infer_the_architecture_from_the_os_type() -> None:
    text = NODE1.replace('<LongMode enabled="true"/>', "").replace("Ubuntu_64", "Ubuntu")

    assert settings_xml.parse_settings(UUID, FILE, text).architecture == "i386"


def test_settings_of_the_first_line_have_no_hardware() -> None:
    whole = settings_xml.parse_settings(UUID, FILE, NODE1)

    head = settings_xml.parse_settings(UUID, FILE, FIRST_LINE + "\n")

    assert (head.name, head.off_state, head.accessible) == ("node1", whole.off_state, True)
    assert (head.nics, head.macs, head.boot_order, head.firmware) == (None, (), (), "")


def test_settings_are_the_same_with_windows_line_ends() -> None:
    crlf = NODE1.replace("\n", "\r\n")

    settings = settings_xml.parse_settings(UUID, FILE, crlf)

    assert settings == settings_xml.parse_settings(UUID, FILE, NODE1)


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
def test_settings_have_odd_names_in_file_and_first_line(source: str, name: str) -> None:
    whole = NODE1.replace('name="node1"', f'name="{source}"', 1)
    head = FIRST_LINE.replace('name="node1"', f'name="{source}"', 1)

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
def test_settings_of_the_whole_file_have_the_off_state(attributes: str, state: VMState) -> None:
    xml = NODE1.replace('OSType="Ubuntu_64"', f'OSType="Ubuntu_64" {attributes}', 1)

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.off_state is state


def test_settings_ignore_the_hardware_of_snapshots() -> None:
    hardware = "<Hardware>" + NODE1.partition("<Hardware>")[2].partition("</Hardware>")[0]
    old = hardware.replace("AABB01", "000000").replace('"Network"', '"DVD"')
    snapshot = f'<Snapshot uuid="{{{UUID}}}" name="old">{old}</Hardware></Snapshot>'
    xml = NODE1.replace("<Hardware>", f"{snapshot}<Hardware>")

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.macs == ("08:00:27:aa:bb:01",)
    assert settings.boot_order[0] == "net"


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
def test_settings_have_the_attachments_of_nics(child: str, attachment: str, network: str) -> None:
    adapter = f'<Adapter slot="0" enabled="true" MACAddress="080027AABB01">{child}</Adapter>'

    settings = settings_xml.parse_settings(UUID, FILE, with_adapters(adapter))

    assert [(nic.attachment, nic.network) for nic in settings.nics or ()] == [
        (attachment, network)
    ]


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
def test_settings_ignore_disabled_and_invalid_nics(attributes: str) -> None:
    xml = with_adapters(f"<Adapter {attributes}><NAT/></Adapter>")

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.nics == ()


def test_settings_have_disconnected_cables() -> None:
    xml = NODE1.replace('type="82540EM"', 'type="82540EM" cable="false"')

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert [nic.cable for nic in settings.nics or ()] == [False]


def test_settings_without_boot_order_have_the_default() -> None:
    before, _, rest = NODE1.partition("<Boot>")
    xml = before + rest.partition("</Boot>")[2]

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.boot_order == ("floppy", "dvd", "disk", "none")


def test_settings_have_the_boot_order_by_position() -> None:
    lines = [line for line in NODE1.splitlines() if "<Order " in line]
    xml = NODE1.replace("\n".join(lines), "\n".join(reversed(lines)))

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.boot_order == ("net", "disk", "none", "none")


def test_settings_have_the_firmware() -> None:
    xml = NODE1.replace("<Firmware>", '<Firmware type="EFI">')

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.firmware == "EFI"


def test_settings_of_another_vms_file_are_inaccessible() -> None:
    other = "e6f105c1-d4fe-4f0b-a9b8-3675d47180cb"

    settings = settings_xml.parse_settings(other, FILE, NODE1)

    assert (settings.uuid, settings.name, settings.accessible) == (other, "", False)


@pytest.mark.parametrize(
    "dtd",
    [
        '<!DOCTYPE VirtualBox [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;"><!ENTITY c "&b;&b;">]>',
        '<!DOCTYPE VirtualBox [<!ENTITY file SYSTEM "file:///etc/hostname">]>',
        '<!DOCTYPE VirtualBox SYSTEM "http://localhost/x.dtd">',
        "<!DOCTYPE VirtualBox>",
    ],
)
def test_settings_of_a_file_with_a_dtd_are_inaccessible(dtd: str) -> None:
    xml = NODE1.replace('<?xml version="1.0"?>', f'<?xml version="1.0"?>{dtd}')

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert not settings.accessible


def test_settings_of_any_truncated_file_are_not_wrong() -> None:
    whole = settings_xml.parse_settings(UUID, FILE, NODE1)

    for length in range(0, len(NODE1), 3):
        settings = settings_xml.parse_settings(UUID, FILE, NODE1[:length])
        assert not settings.accessible or settings == whole


def test_settings_of_any_truncated_line_are_not_wrong() -> None:
    head = FIRST_LINE.strip().replace(
        " lastStateChange", ' stateFile="Snapshots/x.sav" lastStateChange'
    )

    for length in range(len(head)):
        settings = settings_xml.parse_settings(UUID, FILE, head[:length])
        assert settings.off_state in (VMState.INACCESSIBLE, VMState.SAVED)


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
def test_log_file_has_the_notation_of_the_host(file: str, log: str) -> None:
    settings = settings_xml.parse_settings(UUID, file, NODE1)

    assert settings.log_file == log + "VBox.log"


@pytest.mark.parametrize("text", ["{%s}", "%s", " {%s}\n"])
def test_normalise_uuid_with_and_without_braces(text: str) -> None:
    assert settings_xml.normalise_uuid(text % UUID.upper()) == UUID


@pytest.mark.parametrize("text", ["", "{}", UUID[:-1], UUID + "0", UUID.replace("-", ""), "node1"])
def test_normalise_uuid_of_another_text_is_empty(text: str) -> None:
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
def test_is_unicast_mac_needs_12_digits_and_unicast(digits: str, unicast: bool) -> None:
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
def test_settings_of_a_file_with_any_name_have_it(name: str) -> None:
    xml = NODE1.replace('name="node1"', f'name="{escaped(name)}"', 1)

    settings = settings_xml.parse_settings(UUID, FILE, xml)

    assert settings.name == name


@given(xml_text)
def test_unescape_reads_any_path(path: str) -> None:
    source = escaped(path)

    assert settings_xml.unescape(source) == path


@given(st.text())
def test_unescape_accepts_any_text(text: str) -> None:
    assert isinstance(settings_xml.unescape(text), str)


@given(st.integers(0, len(NODE1) - 1), st.characters())
def test_settings_with_a_changed_character_are_read(position: int, char: str) -> None:
    xml = NODE1[:position] + char + NODE1[position + 1 :]

    assert settings_xml.parse_settings(UUID, FILE, xml).uuid == UUID


@given(st.text().map("<Machine ".__add__) | st.text().map("<?xml".__add__))
def test_settings_of_text_that_begins_like_a_file_are_read(text: str) -> None:
    assert not settings_xml.parse_settings(UUID, FILE, text).accessible
