# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Markdown pages, as tests of them need them: blocks, commands, headings, links."""

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
        """What its mark says it needs to be run; nothing where it runs as it stands."""
        match = _NEEDS.match(self.text)
        return match[1].split(", ") if match else []

    @property
    def lines(self) -> list[str]:
        """Its lines, those that go on after a backslash joined."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    return [Block(language, text) for language, text in _BLOCK.findall(page)]


def commands(page: str) -> list[list[str]]:
    """The command lines of our program that a page shows whole: in blocks of any kind."""
    shown = [line for block in blocks(page) if block.language == "sh" for line in block.lines]
    shown += [line.strip() for line in _INDENTED.findall(_BLOCK.sub("", page))]
    return [argv for line in shown for argv in calls(line)]


def commands_in_prose(page: str) -> list[list[str]]:
    """The command lines that a page mentions, which may lack arguments."""
    return [
        argv for line in _IN_PROSE.findall(_BLOCK.sub("", page)) for argv in calls(line.strip())
    ]


def calls(line: str) -> Iterator[list[str]]:
    """The calls of our program in a line of shell, each without the program's name."""
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
    """Where a page's links lead."""
    return _LINK.findall(_BLOCK.sub("", page))


def anchors(page: str) -> set[str]:
    """What the headings of a page are called in links, as GitHub does."""
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        for heading in _HEADING.findall(_BLOCK.sub("", page))
    }
