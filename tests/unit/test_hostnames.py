# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Hostnames that MAAS takes, from any text."""

from __future__ import annotations

import re
import uuid as uuids

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.maas import hostnames

UUID = "90529436-6acf-5a54-ad77-350f4c802e0f"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("node1", "node1"),
        ("Köln: Node 1", "koln-node-1"),
        ("  --x--  ", "x"),
        ("node_1.lab", "node-1-lab"),
        ("日本", ""),
        ("", ""),
        ("10.0.0.5", "vm-10-0-0-5"),
        ("a" * 70, "a" * 63),
        ("$(reboot)\n; rm -rf /", "reboot-rm-rf"),
    ],
)
def test_any_text_becomes_the_nearest_hostname(text: str, name: str) -> None:
    assert hostnames.valid(text) == name


def test_a_name_that_is_taken_gets_the_hosts_and_then_the_uuid() -> None:
    assert hostnames.candidates("Node 1", "izMBP13", UUID) == (
        "node-1",
        "node-1-izmbp13",
        f"node-1-{UUID}",
    )
    assert hostnames.candidates("日本", "izMBP13", UUID)[0] == "vm-izmbp13"


@given(st.text(), st.text(), st.uuids())
def test_every_candidate_is_a_label_of_the_dns_and_the_last_has_the_uuid(
    name: str, host: str, uuid: uuids.UUID
) -> None:
    found = hostnames.candidates(name, host, str(uuid))

    assert found[-1].endswith(str(uuid))
    for each in found:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", each)
        assert not re.match(r"\d+-\d+-\d+-\d+$", each)
