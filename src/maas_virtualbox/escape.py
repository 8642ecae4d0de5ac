# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Text from outside, made safe to show: a VM's name must not forge a line or reach a terminal.

What is escaped: control characters of C0 and C1 (U+009B begins a command of a terminal), marks
that change the direction of text (U+202E), line and paragraph separators, and whatever else is not
visible.
"""

from __future__ import annotations

import json
import logging


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
    """Return indented JSON, in which what is not `printable` is escaped; it means the same."""
    # Outside strings there is nothing to escape, and inside a string there is no line break.
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1]
        for char in json.dumps(value, indent=2, ensure_ascii=False)
    )


class LineFormatter(logging.Formatter):
    """Formats an event of a log as one `printable` line, and a traceback below it."""

    def __init__(self, prefix: str = "") -> None:
        """Begin lines with a prefix, such as `maas-virtualbox: `."""
        super().__init__()
        self._prefix = prefix

    def prefix(self, record: logging.LogRecord) -> str:
        """Return what a line begins with."""
        del record
        return self._prefix

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of an event."""
        text = f"{self.prefix(record)}{printable(record.getMessage())}"
        if record.exc_info:
            text += "\n" + printable_lines(self.formatException(record.exc_info))
        return text


def log_to_stderr(level: int, prefix: str) -> None:
    """Configure a program's log: lines on standard error that begin with a prefix."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(prefix))
    logging.basicConfig(level=level, handlers=[handler])
