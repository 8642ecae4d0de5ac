# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VirtualBox's settings files, whole, cut off and hostile."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import VMState

UUID = "f0f5847d-46ae-4f7b-8469-29b18f7091eb"
FILE = "/home/vbox/VirtualBox VMs/node1/node1.vbox"

# As VirtualBox 7.2.22 wrote it, less what is not read.
NODE1 = f"""<?xml version="1.0"?>
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


def test_the_enabled_nics_of_the_present_hardware_are_read_in_order() -> None:
    machine = settings_xml.parse_settings(UUID, FILE, NODE1)

    assert [(nic.slot, nic.mac, nic.attachment, nic.network) for nic in machine.nics or ()] == [
        (1, "08:00:27:aa:bb:01", "nat", ""),
        (2, "08:00:27:aa:bb:02", "hostonly", "vboxnet0"),
        (4, "08:00:27:aa:bb:04", "null", ""),
    ]
    assert [nic.cable for nic in machine.nics or ()] == [True, False, True]
    assert machine.boot_order == ("net", "disk", "none")
    assert machine.firmware == "EFI"


def test_what_a_file_leaves_out_is_virtualboxs_default() -> None:
    xml = f'<VirtualBox><Machine uuid="{{{UUID}}}" name="n"><Hardware/></Machine></VirtualBox>'

    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert machine.boot_order == ("floppy", "dvd", "disk", "none")
    assert (machine.firmware, machine.nics) == ("BIOS", ())


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ("", VMState.POWEROFF),
        ('stateFile="Snapshots/x.sav"', VMState.SAVED),
        ('aborted="true"', VMState.ABORTED),
        ('stateFile="Snapshots/x.sav" aborted="true"', VMState.ABORTED_SAVED),
    ],
)
def test_the_head_tells_the_state_of_a_vm_that_is_off(attributes: str, state: VMState) -> None:
    head = f'  <Machine uuid="{{{UUID}}}" name="node1" {attributes}>\n'

    machine = settings_xml.parse_settings(UUID, FILE, head)

    assert (machine.off_state, machine.nics) == (state, None)


@pytest.mark.parametrize(
    "xml",
    [
        "",
        "<broken",
        NODE1.replace(UUID, "00000000-0000-0000-0000-000000000000"),
        '<!DOCTYPE x [<!ENTITY a "aaaa">]>' + NODE1.partition("?>")[2],
        "<VirtualBox/>",
    ],
)
def test_a_file_that_cannot_be_understood_is_an_inaccessible_vm(xml: str) -> None:
    machine = settings_xml.parse_settings(UUID, FILE, xml)

    assert (machine.accessible, machine.off_state) == (False, VMState.INACCESSIBLE)


@given(st.integers(0, len(NODE1)))
def test_a_cut_off_file_is_inaccessible_or_right(length: int) -> None:
    machine = settings_xml.parse_settings(UUID, FILE, NODE1[:length])

    assert not machine.accessible or len(machine.macs) == 3


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_name_survives_the_file(name: str) -> None:
    vm = SimulatedVM(UUID, "".join(char for char in name if char >= " " or char in "\t\n"), [])

    head = settings_xml.parse_settings(UUID, FILE, texts.render_settings(vm, whole=False))
    whole = settings_xml.parse_settings(UUID, FILE, texts.render_settings(vm, whole=True))

    if all(ord(char) not in (0xFFFE, 0xFFFF) for char in name):
        assert head.name == whole.name == vm.name


@given(st.text())
def test_any_text_is_a_machine(text: str) -> None:
    assert settings_xml.parse_settings(UUID, FILE, text).uuid == UUID


def test_the_log_is_beside_the_settings_on_posix_and_windows() -> None:
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
