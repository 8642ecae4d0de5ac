# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Valid MAAS hostnames from the names of VMs, which may be any text."""

from __future__ import annotations

import re
import unicodedata

_MAX_LENGTH = 63
"""The maximum length of a DNS label (RFC 1123)."""

_MAX_SUFFIX = 36
"""The length of a UUID."""

_LIKE_AN_ADDRESS = re.compile(r"\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}")
"""MAAS treats such a hostname as one that it generated, and replaces it."""


def from_text(text: str) -> str:
    """Return the closest valid hostname: lower-case ASCII letters, digits and inner hyphens.

    It is empty if the text contains none of these.

    >>> from_text("Köln: Node 1")
    'koln-node-1'
    """
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = _truncate(re.sub(r"[^a-z0-9]+", "-", ascii_only).strip("-"), _MAX_LENGTH)
    return _truncate(f"vm-{name}", _MAX_LENGTH) if _LIKE_AN_ADDRESS.match(name) else name


def candidates(name: str, host: str, uuid: str) -> tuple[str, ...]:
    """Return the possible hostnames of a VM, best first: from its name, with its host's name
    appended, and with its UUID appended, which is unique."""
    base = from_text(name)
    names = [base] if base else []
    if label := from_text(host):
        names.append(_join(base or "vm", label))
    return (*names, _join(base or "vm", uuid))


def _join(base: str, suffix: str) -> str:
    suffix = _truncate(suffix, _MAX_SUFFIX)
    name = f"{_truncate(base, _MAX_LENGTH - 1 - len(suffix))}-{suffix}"
    return _join(f"vm-{base}", suffix) if _LIKE_AN_ADDRESS.match(name) else name


def _truncate(name: str, length: int) -> str:
    return name[:length].strip("-")
