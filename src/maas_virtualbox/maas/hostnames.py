# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Hostnames for MAAS from the names people give VMs, which may be any text."""

from __future__ import annotations

import re
import unicodedata

_LONGEST = 63
"""A label of the DNS (RFC 1123)."""

_LONGEST_END = 36
"""A UUID's length."""

_LIKE_AN_ADDRESS = re.compile(r"\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}")
"""MAAS takes such a hostname for one of its own making and gives the machine another."""


def valid(text: str) -> str:
    """Return the nearest hostname: lower-case ASCII letters, digits and inner hyphens; may be
    empty.

    >>> valid("Köln: Node 1")
    'koln-node-1'
    """
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-")[:_LONGEST].strip("-")
    return f"vm-{name}"[:_LONGEST].strip("-") if _LIKE_AN_ADDRESS.match(name) else name


def candidates(name: str, host: str, uuid: str) -> tuple[str, ...]:
    """Return the hostnames a VM may get, the best first: its name, that with its host's, and that
    with its UUID, which no other VM gets."""
    base = valid(name)
    shown = [base] if base else []
    if label := valid(host):
        shown.append(_joined(base or "vm", label))
    return (*shown, _joined(base or "vm", uuid))


def _joined(base: str, end: str) -> str:
    end = end[:_LONGEST_END].strip("-")
    return f"{base[: _LONGEST - 1 - len(end)].strip('-')}-{end}"
