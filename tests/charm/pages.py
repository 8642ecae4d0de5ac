# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Parses Markdown pages: blocks, commands, headings, links."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = "maas-virtualbox"

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}(?:[a-z$].*)$", re.MULTILINE)
_IN_PROSE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_NEEDS = re.compile(r"# Needs (.+)\.\n")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    text: str

    @property
    def needs(self) -> list[str]:
        """What it needs to run, according to its mark; empty if it needs nothing."""
        match = _NEEDS.match(self.text)
        return match[1].split(", ") if match else []

    @property
    def lines(self) -> list[str]:
        """Its lines. A backslash at the end joins two lines."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page."""
    return [Block(language, text) for language, text in _BLOCK.findall(page)]


def commands(page: str) -> list[list[str]]:
    """Return the complete command lines of the program in the blocks of a page."""
    shown = [line for block in blocks(page) if block.language == "sh" for line in block.lines]
    shown += [line.strip() for line in _INDENTED.findall(_BLOCK.sub("", page))]
    return [argv for line in shown for argv in calls(line)]


def commands_in_prose(page: str) -> list[list[str]]:
    """Return the command lines in the prose of a page, which may be incomplete."""
    return [
        argv for line in _IN_PROSE.findall(_BLOCK.sub("", page)) for argv in calls(line.strip())
    ]


def calls(line: str) -> Iterator[list[str]]:
    """Yield the calls of the program in a line of shell, without the program's name."""
    reader = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    reader.whitespace_split = True
    try:
        words = list(reader)
    except ValueError:  # prose with an apostrophe
        return
    argv: list[str] | None = None
    begins = True
    for word in [*words, ";"]:
        if set(word) <= set("|;&<>"):
            if argv is not None:
                yield argv
            argv, begins = None, True
        elif argv is not None:
            argv.append(word)
        elif begins and word == PROGRAM:
            argv = []
        else:
            begins = begins and (word in ("$", "sudo") or "=" in word)


def links(page: str) -> list[str]:
    """Return the targets of the links of a page."""
    return _LINK.findall(_BLOCK.sub("", page))


def anchors(page: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub names them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(_BLOCK.sub("", page))
    }
