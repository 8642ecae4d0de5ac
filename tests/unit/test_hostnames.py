# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Valid MAAS hostnames from any text."""

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
def test_from_text_returns_the_closest_hostname(text: str, name: str) -> None:
    assert hostnames.from_text(text) == name


def test_candidates_append_the_host_and_then_the_uuid() -> None:
    assert hostnames.candidates("Node 1", "izMBP13", UUID) == (
        "node-1",
        "node-1-izmbp13",
        f"node-1-{UUID}",
    )
    assert hostnames.candidates("日本", "izMBP13", UUID)[0] == "vm-izmbp13"


def test_candidates_do_not_look_like_an_address() -> None:
    # MAAS would replace the hostname 10-0-0-5.
    assert hostnames.candidates("10.0", "0.5", UUID)[1] == "vm-10-0-0-5"


@given(st.text(), st.text(), st.uuids())
def test_candidates_of_any_names_are_dns_labels(name: str, host: str, uuid: uuids.UUID) -> None:
    found = hostnames.candidates(name, host, str(uuid))

    assert found[-1].endswith(str(uuid))
    for candidate in found:
        assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", candidate)
        assert not re.match(r"\d+-\d+-\d+-\d+$", candidate)
