# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Each concept has one name: words that this project no longer uses, and the words to use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "bundles",
    "charm",
    "charmcraft.yaml",
    "docs",
    "src",
    "templates",
    "terraform",
    "tests",
    "tools",
    "tox.ini",
    "virtualbox-host",
)
SUFFIXES = {"", ".awk", ".ini", ".j2", ".json", ".md", ".py", ".sh", ".tf", ".yaml"}
SKIPPED = {"samples", "__pycache__"}
"""Folders: what VirtualBox and others printed is quoted, not written by us."""

BANNED = {
    r"anew": "again",
    r"apart by": "separated by",
    r"blueprints?": "spec",
    r"bound to (the|a) gate": "restricted key",
    r"clash(es)?": "conflict",
    r"doctor": "checks",
    r"doors?": "the name of the protocol",
    r"gated": "restricted key",
    r"goes on when": "continues if",
    r"half[- ]made": "incomplete",
    r"in reach": "reachable",
    r"is to be": "name the actor and the action",
    r"leaves? alone": "skip",
    r"mend(s|ed|ing)?": "fix, repair or correct",
    r"of 2015": "legacy",
    r"out of reach": "unreachable",
    r"remed(y|ies)": "hint",
    r"rooms of this house": "packages",
    r"say --\w+": "use --option",
    r"split brains?": "orphaned process",
    r"stand-ins?": "fake",
    r"stood in": "fake",
    r"the deed": "name the action",
    r"told": "name the actor and the action",
    r"troubles?": "error, reason or message",
    r"who asks": "the client",
    r"whole or not at all": "completely, or not at all",
    r"words that are no options": "unexpected arguments",
}

_GAP = r"[\s#]+"
"""Between two words, also over a line break in a comment."""
_PATTERN = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(f"(?P<_{n}>{banned.replace(' ', _GAP)})" for n, banned in enumerate(BANNED))
    + r")(?![\w-])",
    re.IGNORECASE,
)


def texts() -> list[Path]:
    """All files that people of this project wrote."""
    found = [path for place in PLACES for path in (ROOT / place, *(ROOT / place).rglob("*"))]
    return sorted(
        path
        for path in found
        if path.is_file()
        and path.suffix in SUFFIXES
        and path != Path(__file__)
        and not SKIPPED & set(path.relative_to(ROOT).parts)
    )


def findings(text: str) -> list[tuple[int, str]]:
    """The numbers of the lines that have a banned word, also across a line break, and its entry in
    `BANNED`."""
    entries = list(BANNED)
    return [
        (text.count("\n", 0, match.start()) + 1, entries[int((match.lastgroup or "_0")[1:])])
        for match in _PATTERN.finditer(text)
    ]


def test_texts_have_no_banned_words() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {banned!r}: use instead: {BANNED[banned]}"
        for path in texts()
        for line, banned in findings(path.read_text(encoding="utf-8"))
    ]

    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one\nfile is whole\n# or not at all", [2]),
        ("amendment, Mended", [1]),
        ("amendment, recommend", []),
        ("a stand-in\nfor a doctor", [1, 2]),
    ],
)
def test_findings_cross_line_breaks_and_skip_longer_words(text: str, lines: list[int]) -> None:
    assert [line for line, _ in findings(text)] == lines
