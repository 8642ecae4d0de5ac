# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""docs/reference/enlistment.md lists every message of enlistment."""

from __future__ import annotations

import pathlib
import re

import pytest

from maas_virtualbox.config import tokens
from maas_virtualbox.maas import enlistment, messages
from maas_virtualbox.maas.enlistment import EnlistmentSettings

from tests import fake_maas
from tests.fake_maas import Region
from tests.vms import A, B, mac, ten, vm

COMMISSION = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.2", 5307, commission=True)
PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "enlistment.md"
MESSAGES = {
    name: value for name, value in vars(messages).items() if isinstance(value, messages.Message)
}


def documented(template: str) -> str:
    """Return a text as on the page: placeholders are in capitals."""
    return "`" + re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), template) + "`"


@pytest.mark.parametrize("name", MESSAGES)
def test_message_is_documented(name: str) -> None:
    message = MESSAGES[name]
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert message.text
    assert message.hint
    assert any(documented(message.text) in row and documented(message.hint) in row for row in rows)


def test_documented_messages_exist() -> None:
    text = PAGE.read_text().partition("## Errors of MAAS as a whole")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in text.splitlines() if line.startswith("| `")]
    known = {documented(message.text) for message in MESSAGES.values()}

    assert {f"`{first}`" for first, *_ in rows} == known
    assert len(rows) == len(MESSAGES)


def reported(region: Region) -> set[str]:
    """Return all messages about ten normal VMs and one VM with each problem."""
    vms = [
        *ten(),
        vm("printer", "08:00:27:cc:02:05"),
        vm("arm", mac(200), architecture="arm64"),
        vm("twin", mac(201)),
        vm("twin", mac(202), host=B),
        vm("clone1", mac(203)),
        vm("clone2", mac(203)),
        vm("bare"),
        vm("locked", mac(204), accessible=False),
        vm("zoned", mac(205), host=A.model_copy(update={"zone": "a.b"})),
        vm("copied", mac(206), uuid="00112233-4455-6677-8899-aabbccddeeff"),
        vm("copied", mac(206), uuid="00112233-4455-6677-8899-aabbccddeeff", host=B),
    ]
    with fake_maas.client(region) as client:
        plan = enlistment.plan(vms, enlistment.read(client), COMMISSION)
        outcome = enlistment.apply(client, plan)
    assert outcome.error is None
    return {
        *map(str, plan.messages),
        *(
            re.sub(r"^([\w/-]+|\d+ VMs \(.*?\)): ", "", str(failure))
            for failure in outcome.failures
        ),
        *(f"{change.text}: {change.hint}" for change in plan.changes if change.hint),
    }


def test_messages_about_a_fresh_region_are_documented() -> None:
    region = Region.real(scale=0.0001)
    everything = reported(region)  # no images and no racks
    region.images, region.racks = ["amd64"], {"rack1": ["192.168.0.0/24"]}
    everything |= reported(region)  # a missing architecture, and an unreachable rack
    region.racks = {"rack1": ["10.0.0.0/24"]}
    everything |= reported(region)

    assert not region.unexpected
    patterns = [re.escape(str(message)) for message in MESSAGES.values()]
    known = [re.compile(re.sub(r"\\\{\w+\\\}", ".+", pattern)) for pattern in patterns]
    fitting = {text: [p.pattern for p in known if p.fullmatch(text)] for text in everything}
    assert [text for text, found in fitting.items() if not found] == []
    assert len({pattern for found in fitting.values() for pattern in found}) >= 10
    names = {machine["status_name"] for machine in region.machines.values()}
    assert (len(region.machines), names) == (10, {"Commissioning"})
