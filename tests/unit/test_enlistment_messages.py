# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every message of enlistment is in docs/reference/enlistment.md."""

from __future__ import annotations

import pathlib
import re

import pytest

from maas_virtualbox.maas import messages

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "enlistment.md"
MESSAGES = {
    name: value for name, value in vars(messages).items() if isinstance(value, messages.Message)
}


def documented(template: str) -> str:
    """Return a text as the page has it: with capitals for what differs."""
    return "`" + re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), template) + "`"


@pytest.mark.parametrize("name", MESSAGES)
def test_each_message_and_its_hint_are_a_row_of_the_page(name: str) -> None:
    message = MESSAGES[name]
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]

    assert message.text
    assert message.hint
    assert any(documented(message.text) in row and documented(message.hint) in row for row in rows)


def test_the_page_has_no_message_that_nobody_says() -> None:
    text = PAGE.read_text().partition("## When MAAS does not")[0]
    rows = [re.findall(r"`([^`]+)`", line) for line in text.splitlines() if line.startswith("| `")]
    said = {documented(message.text) for message in MESSAGES.values()}

    assert {f"`{first}`" for first, *_ in rows} == said
    assert len(rows) == len(MESSAGES)
