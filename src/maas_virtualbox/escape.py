# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Escapes external text before it is shown, so that a VM's name cannot forge a line of a log or
send a command to a terminal.

Escaped are the control characters of C0 and C1 (U+009B begins a terminal command), marks that
change the direction of text (U+202E), line and paragraph separators, and all other characters that
are not printable.
"""

from __future__ import annotations

import json


def printable(value: object) -> str:
    r"""Return text on one line, with control characters written as escapes (`\n`).

    >>> printable("new\\nline")
    'new\\\\nline'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(value)
    )


def printable_lines(text: str) -> str:
    """Return text of several lines, such as a traceback, with each line `printable`.

    All lines but the first are indented, so that none looks like a message of its own.
    """
    return "\n  ".join(printable(line) for line in text.split("\n"))


def printable_json(value: object) -> str:
    """Return indented JSON in which characters that are not `printable` are escaped. Its meaning
    does not change."""
    # Such characters occur only inside strings, and a line break only outside.
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
        for char in json.dumps(value, indent=2, ensure_ascii=False)
    )
