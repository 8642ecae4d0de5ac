# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The format of a known_hosts file: parse it, find the keys of a host, add and replace pins.

Lines have the same meaning as for OpenSSH. Names may be in any case, hashed (`|1|…`), patterns
with `*` and `?`, and negated (`!name`). The markers `@revoked` and `@cert-authority` are
recognised. OpenSSH ignores a line that it cannot parse, but this module refuses the whole file: if
it overlooked a pin, any key would be accepted. This module opens no file; `host_keys` does, and
decides what the keys mean.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import fnmatch
import functools
import hashlib
import hmac
import ipaddress
import re

import paramiko
from paramiko import pkey, ssh_exception

from maas_virtualbox.config import host_list

# OpenSSH's order, without the algorithms that paramiko 5 does not have.
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""The key types that this client negotiates, each with its signature algorithms."""

REVOKED = "@revoked"
CERT_AUTHORITY = "@cert-authority"

_BOM = "\ufeff"
_BLANKS = re.compile(r"[ \t]+")
_HASHED = re.compile(r"\|1\|([A-Za-z0-9+/]+=*)\|([A-Za-z0-9+/]+=*)")
_WITH_PORT = re.compile(r"\[(?P<address>[^\[\]]*)\]:(?P<port>[0-9]+)")
_MAX_NAME = 1023  # characters; a longer name matches nothing in OpenSSH


class InvalidFile(ValueError):
    """A line of a file cannot be parsed; the message names the line."""


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """The public key of a host, of any type."""

    key_type: str
    """The type, such as `ssh-ed25519`."""
    data: bytes
    """The key in wire format."""

    @classmethod
    def of(cls, key: paramiko.PKey) -> PublicKey:
        """Convert a key of paramiko."""
        return cls(key.get_name(), key.asbytes())

    @property
    def fingerprint(self) -> str:
        """The fingerprint as OpenSSH shows it, `SHA256:…`."""
        return host_list.fingerprint(self.data)

    def __str__(self) -> str:
        return f"{self.key_type} {base64.b64encode(self.data).decode()}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line that has a key."""

    number: int
    marker: str
    """`@revoked`, `@cert-authority`, or empty for a pin."""
    names: tuple[str, ...]
    """The patterns as written, or one hashed name."""
    key: PublicKey
    text: str
    """The rest of the line after the names: key type, key and comment."""

    @property
    def literal_names(self) -> tuple[str, ...]:
        """The names if none of them is a pattern, negated or hashed; otherwise none."""
        if any(character in name for name in self.names for character in "*?!|"):
            return ()
        return tuple(map(_canonical, self.names))

    def is_for(self, name: str) -> bool:
        """Return whether the line applies to a host, given its `name_of`."""
        if self.names[0].startswith("|"):
            # A name with port 22 is written without the port, but may be hashed with it.
            return any(map(self._is_hash_of, (name, f"[{name}]:22")))
        wanted = _canonical(name)
        matching = [pattern for pattern in self.names if _matches(pattern, wanted)]
        return bool(matching) and not any(pattern.startswith("!") for pattern in matching)

    def without(self, name: str) -> str:
        """Return the line without one host; empty if it applies to no other host."""
        if self.names[0].startswith("|"):
            return ""
        wanted = _canonical(name)
        kept = [pattern for pattern in self.names if _canonical(pattern) != wanted]
        if all(pattern.startswith("!") or not pattern for pattern in kept):
            return ""
        rest = dataclasses.replace(self, names=tuple(kept))
        return f"{','.join([*kept, f'!{name}'] if rest.is_for(name) else kept)} {self.text}"

    def _is_hash_of(self, name: str) -> bool:
        _, _, salt, digest = self.names[0].split("|")
        expected = hmac.digest(base64.b64decode(salt), name.encode(), hashlib.sha1)
        return hmac.compare_digest(expected, base64.b64decode(digest))


@dataclasses.dataclass(frozen=True)
class KnownHostsFile:
    """The content of a known_hosts file. Immutable."""

    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """All lines as written, including comments and empty lines."""

    def find(self, name: str, marker: str = "") -> list[Entry]:
        """Return the lines that apply to a host.

        Args:
            name: the `name_of` of the host.
            marker: `REVOKED` or `CERT_AUTHORITY`. Empty: the lines that pin a key.
        """
        named, others = self._index
        candidates = [*named.get(_canonical(name), ()), *others]
        return [entry for entry in candidates if entry.marker == marker and entry.is_for(name)]

    def with_pin(self, name: str, key: PublicKey) -> bytes:
        """Return the content with a pin added."""
        return _joined([*self.texts, f"{name} {key}"])

    def with_pins_replaced(self, name: str, key: PublicKey) -> bytes:
        """Return the content with all pins of a host replaced by one. Other pins are kept."""
        pins = {entry.number: entry.without(name) for entry in self.find(name)}
        kept = [
            pins.get(number, text)
            for number, text in enumerate(self.texts, 1)
            if pins.get(number, text) or number not in pins
        ]
        return _joined([*kept, f"{name} {key}"])

    @functools.cached_property
    def _index(self) -> tuple[dict[str, list[Entry]], list[Entry]]:
        """The lines by literal name, and the lines that must be compared with a name."""
        named: dict[str, list[Entry]] = {}
        others: list[Entry] = []
        for entry in self.entries:
            names = entry.literal_names
            for name in dict.fromkeys(names):
                named.setdefault(name, []).append(entry)
            if not names:
                others.append(entry)
        return named, others


def name_of(host: host_list.HostConfig) -> str:
    """Return the name of a host in the file: its address, with the port unless it is 22."""
    address = host.address.lower()
    return address if host.port == 22 else f"[{address}]:{host.port}"


@functools.lru_cache(maxsize=4)  # each connection needs the file, which seldom changes
def parse(content: bytes) -> KnownHostsFile:
    """Parse a file.

    Raises:
        InvalidFile: a line cannot be parsed, whichever host it is for.
    """
    try:
        text = content.decode().removeprefix(_BOM)
    except UnicodeDecodeError:
        raise InvalidFile("it is not UTF-8 text") from None
    texts = text.split("\n")
    if not texts[-1]:
        texts.pop()
    lines = [_parse_line(number, line.rstrip("\r")) for number, line in enumerate(texts, 1)]
    return KnownHostsFile(tuple(line for line in lines if line is not None), tuple(texts))


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@functools.lru_cache(maxsize=16_384)  # adding a pin does not change the other lines
def _parse_line(number: int, line: str) -> Entry | None:
    words = _BLANKS.split(line.strip(" \t"), maxsplit=4)
    if words[0].startswith("#") or words == [""]:
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", REVOKED, CERT_AUTHORITY):
        raise InvalidFile(f"line {number}: the marker {marker[:40]!r} is unknown")
    if len(words) < 3:
        raise InvalidFile(f"line {number}: expected 'names type key'")
    names = tuple(words[0].split(","))
    _check_names(number, names)
    key = _parse_key(number, words[1], words[2])
    return Entry(number, marker, names, key, " ".join(words[1:]))


def _check_names(number: int, names: tuple[str, ...]) -> None:
    hashed = [name for name in names if "|" in name]
    if hashed and (len(names) > 1 or not _is_hash(hashed[0])):
        raise InvalidFile(f"line {number}: expected a hashed name, |1|SALT|HASH, and no other")
    if not all(map(_is_valid_name, names)):
        raise InvalidFile(f"line {number}: a name has invalid characters or is too long")
    if not any(names):
        raise InvalidFile(f"line {number}: it does not name a host")


def _is_valid_name(name: str) -> bool:
    return name.isprintable() and len(name) <= _MAX_NAME


def _is_hash(name: str) -> bool:
    parts = _HASHED.fullmatch(name)
    return parts is not None and None not in map(_decode, (parts[1], parts[2]))


def _parse_key(number: int, key_type: str, encoded: str) -> PublicKey:
    data = _decode(encoded)
    if data is None or not _is_well_formed(key_type, data):
        raise InvalidFile(f"line {number}: it has no valid key of type {key_type[:40]!r}")
    if key_type in ALGORITHMS:
        try:
            paramiko.PKey.from_type_string(key_type, data)
        except (ValueError, ssh_exception.SSHException, pkey.UnknownKeyType):
            raise InvalidFile(f"line {number}: it has no valid key of type {key_type!r}") from None
    return PublicKey(key_type, data)


def _is_well_formed(key_type: str, data: bytes) -> bool:
    """Return whether a key in wire format has its type and one or more complete fields."""
    fields, start = 0, 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data) or (fields == 0 and data[start + 4 : end] != key_type.encode()):
            return False
        fields, start = fields + 1, end
    return fields >= 2


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _matches(pattern: str, name: str) -> bool:
    # In fnmatch, brackets are sets of characters. In OpenSSH, they are text.
    return fnmatch.fnmatchcase(name, _canonical(pattern.removeprefix("!")).replace("[", "[[]"))


def _canonical(name: str) -> str:
    """Return the form of a name for comparisons: lower case, no port 22, canonical addresses."""
    name = name.lower()
    found = _WITH_PORT.fullmatch(name)
    address, port = (found["address"], int(found["port"])) if found else (name, 22)
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        if not found:
            return name
    return address if port == 22 else f"[{address}]:{port}"
