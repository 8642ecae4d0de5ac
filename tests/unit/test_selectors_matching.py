# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which of several VMs a selector stands for, and which texts are MACs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.fleet import fleet
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import VMState

UUID = "95581d29-3e5e-472e-8f12-f452e8095714"
OTHER = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"


def machine(uuid: str, name: str, *macs: str) -> VMSettings:
    """A VM with NICs of these MACs."""
    nics = tuple(NIC(n, mac, "82540EM", "nat", "", cable=True) for n, mac in enumerate(macs, 1))
    return VMSettings(uuid, name, "", VMState.POWEROFF, nics=nics)


@pytest.mark.parametrize("selector", [UUID, UUID.upper(), f"{{{UUID}}}", f" {UUID}\n"])
def test_a_uuid_is_found_in_any_notation(selector: str) -> None:
    meant, other = machine(UUID, "node1"), machine(OTHER, "node2")

    assert fleet.matching(selector, [other, meant]) == [meant]


def test_a_vms_second_nic_is_found() -> None:
    meant = machine(UUID, "node1", "08:00:27:00:00:01", "08:00:27:00:00:02")

    assert fleet.matching("08-00-27-00-00-02", [machine(OTHER, "node2"), meant]) == [meant]


@pytest.mark.parametrize(
    "selector", ["f4:52:e8:09:57:14", "F4-52-E8-09-57-14", "f452.e809.5714", "F452E8095714"]
)
def test_the_tail_of_a_uuid_is_found_in_any_notation(selector: str) -> None:
    meant, other = machine(UUID, "node1"), machine(OTHER, "node2")

    assert fleet.matching(selector, [other, meant]) == [meant]


def test_a_uuid_goes_before_a_name_a_mac_and_a_tail() -> None:
    meant = machine(UUID, "node1")
    rivals = [machine(OTHER, UUID), machine(OTHER, "x", "f4:52:e8:09:57:14")]

    assert fleet.matching(UUID, [*rivals, meant]) == [meant]


def test_a_name_that_is_also_a_mac_fits_both_vms() -> None:
    named = machine(UUID, "080027000001")
    owner = machine(OTHER, "node2", "08:00:27:00:00:01")

    assert fleet.matching("080027000001", [named, owner]) == [named, owner]


def test_two_vms_of_one_name_both_fit() -> None:
    twins = [machine(UUID, "node1"), machine(OTHER, "node1")]

    assert fleet.matching("node1", twins) == twins


@pytest.mark.parametrize("selector", ["NODE1", "node1 ", "node", "node11", "*"])
def test_a_name_fits_only_as_it_is_written(selector: str) -> None:
    assert fleet.matching(selector, [machine(UUID, "node1")]) == []


@pytest.mark.parametrize(
    "name", [" lead ", "new\nline", "-dash", 'he said "hi"', "<inaccessible>"]
)
def test_an_odd_name_is_found(name: str) -> None:
    meant = machine(UUID, name)

    assert fleet.matching(name, [machine(OTHER, "x"), meant]) == [meant]


def test_an_inaccessible_vm_is_not_found_by_a_name() -> None:
    lost = VMSettings(UUID, "node1", "", VMState.INACCESSIBLE, accessible=False)

    assert fleet.matching("node1", [lost]) == []


@pytest.mark.parametrize("selector", [UUID, "f4:52:e8:09:57:14"])
def test_an_inaccessible_vm_is_found_by_its_uuid_or_its_tail(selector: str) -> None:
    lost = VMSettings(UUID, "", "", VMState.INACCESSIBLE, accessible=False)

    assert fleet.matching(selector, [lost]) == [lost]


def test_a_vm_whose_nics_were_not_read_fits_no_mac() -> None:
    head = VMSettings(UUID, "node1", "", VMState.POWEROFF)

    assert fleet.matching("08:00:27:00:00:01", [head]) == []


@pytest.mark.parametrize(
    "text",
    [
        "08:00:27:aa:bb",
        "08:00:27:aa:bb:01:02",
        "0800:27aa:bb01",
        "08.00.27.aa.bb.01",
        "0800.27aa:bb01",
        "08:00:27:aa:bb:0g",
        "8:0:27:aa:bb:1",
        "080027aabb0",
        "080027aabb012",
        "\uff10\uff180027aabb01",
        "node1",
    ],
)
def test_a_text_that_is_nearly_a_mac_is_none(text: str) -> None:
    assert settings_xml.parse_mac(text) == ""


@given(st.text() | st.text(st.sampled_from("0189abfAF:-. ")))
def test_any_text_is_a_mac_in_our_notation_or_none(text: str) -> None:
    mac = settings_xml.parse_mac(text)

    assert mac == "" or settings_xml.parse_mac(mac) == mac


@given(st.binary(min_size=6, max_size=6), st.sampled_from(["{:02x}", "{:02X}"]), st.data())
def test_all_notations_of_a_mac_are_one(mac: bytes, form: str, data: st.DataObject) -> None:
    pairs = [form.format(byte) for byte in mac]
    fours = [pairs[i] + pairs[i + 1] for i in (0, 2, 4)]
    notations = [":".join(pairs), "-".join(pairs), ".".join(fours), "".join(pairs)]

    notation = data.draw(st.sampled_from(notations))

    assert settings_xml.parse_mac(notation) == mac.hex(":")


@given(st.uuids().map(str))
def test_every_uuid_finds_its_vm_and_no_other(uuid: str) -> None:
    meant, other = machine(uuid, "node1"), machine(UUID, "node2")

    assert fleet.matching(uuid, [other, meant]) == [meant]


@given(st.text())
def test_no_text_is_too_odd_to_look_for(selector: str) -> None:
    fits = fleet.matching(selector, [machine(UUID, selector), machine(OTHER, "node2")])

    assert fits[:1] == [machine(UUID, selector)]
