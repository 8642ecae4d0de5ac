# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VM a selector means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.fleet import fleet
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import VMState

UUID = "95581d29-3e5e-472e-8f12-f452e8095714"


def machine(uuid: str, name: str, mac: str = "08:00:27:aa:bb:01") -> VMSettings:
    """A VM with one NIC."""
    nic = NIC(1, mac, "82540EM", "nat", "", cable=True)
    return VMSettings(uuid, name, "", VMState.POWEROFF, nics=(nic,))


@pytest.mark.parametrize(
    "notation",
    ["08:00:27:AA:BB:01", "08-00-27-aa-bb-01", "080027aabb01", "0800.27aa.bb01", " 080027AABB01 "],
)
def test_a_mac_is_read_in_any_notation(notation: str) -> None:
    assert settings_xml.parse_mac(notation) == "08:00:27:aa:bb:01"


@pytest.mark.parametrize("text", ["", "08:00:27", "08:00-27:aa:bb:01", "zz:00:27:aa:bb:01", UUID])
def test_what_is_no_mac_is_none(text: str) -> None:
    assert settings_xml.parse_mac(text) == ""


def test_a_uuid_wins_over_a_vm_that_is_called_like_it() -> None:
    named, meant = machine("f9fbeea5-59c6-4fa9-a4f5-cb29fc063408", UUID), machine(UUID, "node1")

    assert fleet.matching(UUID.upper(), [named, meant]) == [meant]


def test_a_name_that_looks_like_a_uuid_is_found_when_no_vm_has_it() -> None:
    named = machine("f9fbeea5-59c6-4fa9-a4f5-cb29fc063408", UUID)

    assert fleet.matching(UUID, [named]) == [named]


def test_the_tail_of_a_uuid_is_a_mac_as_in_2015() -> None:
    meant = machine(UUID, "node1")

    assert fleet.matching("F4:52:E8:09:57:14", [meant]) == [meant]


def test_a_fragment_matches_nothing() -> None:
    assert fleet.matching("node", [machine(UUID, "node1")]) == []
    assert fleet.matching(UUID[:8], [machine(UUID, "node1")]) == []


def test_a_mac_that_is_also_a_tail_fits_both() -> None:
    by_tail = machine(UUID, "node1")
    by_mac = machine("f9fbeea5-59c6-4fa9-a4f5-cb29fc063408", "node2", "f4:52:e8:09:57:14")

    assert fleet.matching("f452e8095714", [by_tail, by_mac]) == [by_tail, by_mac]


def test_an_inaccessible_vm_has_no_name() -> None:
    lost = VMSettings(UUID, "", "", VMState.INACCESSIBLE, accessible=False)

    assert fleet.matching("", [lost]) == []
    assert fleet.matching(UUID, [lost]) == [lost]


@given(st.text())
def test_any_text_is_a_selector(text: str) -> None:
    found = fleet.matching(text, [machine(UUID, "node1")])

    assert not found or text.strip().strip("{}").lower() in {"node1", UUID} or len(text) >= 12


@given(st.binary(min_size=6, max_size=6))
def test_every_mac_reads_back(mac: bytes) -> None:
    assert settings_xml.parse_mac(mac.hex("-")) == settings_xml.format_mac(mac.hex())
