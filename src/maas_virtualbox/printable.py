# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Text from outside, made safe to show: a VM's name must not forge a line or reach a terminal."""

from __future__ import annotations


def printable(value: object) -> str:
    r"""Return text on one line, with control characters written as escapes (`\n`).

    >>> printable("new\\nline")
    'new\\\\nline'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in str(value)
    )
