# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The text of a known_hosts file: which keys it has for a host, and how pins are added to it.

Lines mean what they mean to OpenSSH: names may be in any case, hashed (`|1|…`), patterns with `*`
and `?`, and excepted (`!name`); `@revoked` and `@cert-authority` are honoured. Where OpenSSH
passes over a line that it cannot read, this module refuses the whole file: a pin that is not seen
would let any key in. Nothing here opens a file.
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

# OpenSSH's order, without the algorithms paramiko 5 has dropped.
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""The types of keys that this client negotiates, each with its signature algorithms."""

REVOKED = "@revoked"
CERT_AUTHORITY = "@cert-authority"

_BOM = "\ufeff"
_BLANKS = re.compile(r"[ \t]+")
_HASHED = re.compile(r"\|1\|([A-Za-z0-9+/]+=*)\|([A-Za-z0-9+/]+=*)")
_WITH_PORT = re.compile(r"\[(?P<address>[^\[\]]*)\]:(?P<port>[0-9]+)")
_LONGEST_NAME = 1023  # of a name on a line: to OpenSSH, a longer one matches nothing


class Broken(ValueError):
    """A file cannot be read as a whole; the text names the line."""


@dataclasses.dataclass(frozen=True)
class PublicKey:
    """A host's public key, of any type."""

    kind: str
    """Its type, such as `ssh-ed25519`."""
    data: bytes
    """The key in wire format."""

    @classmethod
    def of(cls, key: paramiko.PKey) -> PublicKey:
        """Return paramiko's key as one."""
        return cls(key.get_name(), key.asbytes())

    @property
    def fingerprint(self) -> str:
        """OpenSSH's `SHA256:…`."""
        return host_list.fingerprint(self.data)

    def __str__(self) -> str:
        return f"{self.kind} {base64.b64encode(self.data).decode()}"


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line with a key."""

    number: int
    marker: str
    """`@revoked`, `@cert-authority`, or empty for a pin."""
    names: tuple[str, ...]
    """Patterns as written, or one hashed name."""
    key: PublicKey
    text: str
    """The line from the type of the key on."""

    @property
    def literal_names(self) -> tuple[str, ...]:
        """The names it is for, if it is for these alone and none is a pattern or hashed."""
        if any(character in name for name in self.names for character in "*?!|"):
            return ()
        return tuple(map(_canonical, self.names))

    def is_for(self, name: str) -> bool:
        """Whether the line is for a host, given its `name_of`."""
        if self.names[0].startswith("|"):
            # Port 22 is written without, but might be hashed with it.
            return any(map(self._is_hash_of, (name, f"[{name}]:22")))
        wanted = _canonical(name)
        excepted = {bool(each) and each[0] == "!" for each in self.names if _fits(each, wanted)}
        return excepted == {False}

    def without(self, name: str) -> str:
        """Return the line for all its hosts but this one; empty if there are none."""
        if self.names[0].startswith("|"):
            return ""
        wanted = _canonical(name)
        kept = [each for each in self.names if _canonical(each) != wanted]
        if all(each.startswith("!") or not each for each in kept):
            return ""
        rest = dataclasses.replace(self, names=tuple(kept))
        return f"{','.join([*kept, f'!{name}'] if rest.is_for(name) else kept)} {self.text}"

    def _is_hash_of(self, name: str) -> bool:
        _, _, salt, digest = self.names[0].split("|")
        made = hmac.digest(base64.b64decode(salt), name.encode(), hashlib.sha1)
        return hmac.compare_digest(made, base64.b64decode(digest))


@dataclasses.dataclass(frozen=True)
class KnownKeys:
    """The content of a known_hosts file. Immutable."""

    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """Every line as written, comments and empty ones too."""

    def find(self, name: str, marker: str = "") -> list[Entry]:
        """Return the lines for a host, given its `name_of`.

        Args:
            name: of the host.
            marker: `REVOKED` or `CERT_AUTHORITY`; those that pin have none.
        """
        named, others = self._index
        candidates = [*named.get(_canonical(name), ()), *others]
        return [entry for entry in candidates if entry.marker == marker and entry.is_for(name)]

    def with_pin(self, name: str, key: PublicKey) -> bytes:
        """Return the text with a pin added."""
        return _joined([*self.texts, f"{name} {key}"])

    def with_pins_replaced(self, name: str, key: PublicKey) -> bytes:
        """Return the text with one key in the place of a host's pins; other hosts keep theirs."""
        pins = {entry.number: entry.without(name) for entry in self.find(name)}
        kept = [
            pins.get(number, text)
            for number, text in enumerate(self.texts, 1)
            if pins.get(number, text) or number not in pins
        ]
        return _joined([*kept, f"{name} {key}"])

    @functools.cached_property
    def _index(self) -> tuple[dict[str, list[Entry]], list[Entry]]:
        """Lines by the names they are for, and those for which a name has to be compared."""
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
    """Return a host's name in such a file: its address, with the port where that is not 22."""
    address = host.address.lower()
    return address if host.port == 22 else f"[{address}]:{host.port}"


@functools.lru_cache(maxsize=4)  # each connection asks, and the file seldom changes
def parse(content: bytes) -> KnownKeys:
    """Read a file.

    Raises:
        Broken: a line is not understood, whichever host it is for.
    """
    try:
        text = content.decode().removeprefix(_BOM)
    except UnicodeDecodeError:
        raise Broken("it is not UTF-8 text") from None
    texts = text.split("\n")
    if not texts[-1]:
        texts.pop()
    lines = [_parse_line(number, line.rstrip("\r")) for number, line in enumerate(texts, 1)]
    return KnownKeys(tuple(line for line in lines if line is not None), tuple(texts))


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@functools.lru_cache(maxsize=16_384)  # a pin that is added changes no other line
def _parse_line(number: int, line: str) -> Entry | None:
    words = _BLANKS.split(line.strip(" \t"), maxsplit=4)
    if words[0].startswith("#") or words == [""]:
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", REVOKED, CERT_AUTHORITY):
        raise Broken(f"line {number}: the marker {marker[:40]!r} is unknown")
    if len(words) < 3:
        raise Broken(f"line {number}: expected 'names type key'")
    names = tuple(words[0].split(","))
    _check_names(number, names)
    key = _parse_key(number, words[1], words[2])
    return Entry(number, marker, names, key, " ".join(words[1:]))


def _check_names(number: int, names: tuple[str, ...]) -> None:
    hashed = [name for name in names if "|" in name]
    if hashed and (len(names) > 1 or not _is_hash(hashed[0])):
        raise Broken(f"line {number}: expected a hashed name, |1|SALT|HASH, and no other")
    if not all(name.isprintable() and len(name) <= _LONGEST_NAME for name in names):
        raise Broken(f"line {number}: a name has characters that no name has, or is too long")
    if not any(names):
        raise Broken(f"line {number}: it names no host")


def _is_hash(name: str) -> bool:
    parts = _HASHED.fullmatch(name)
    return parts is not None and None not in map(_decode, (parts[1], parts[2]))


def _parse_key(number: int, kind: str, encoded: str) -> PublicKey:
    data = _decode(encoded)
    if data is None or not _is_whole(kind, data):
        raise Broken(f"line {number}: it has no valid key of type {kind[:40]!r}")
    if kind in ALGORITHMS:
        try:
            paramiko.PKey.from_type_string(kind, data)
        except (ValueError, ssh_exception.SSHException, pkey.UnknownKeyType):
            raise Broken(f"line {number}: it has no valid key of type {kind!r}") from None
    return PublicKey(kind, data)


def _is_whole(kind: str, data: bytes) -> bool:
    """Whether a key in wire format is its type and one or more fields, all of them whole."""
    fields, start = 0, 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        if end > len(data) or (fields == 0 and data[start + 4 : end] != kind.encode()):
            return False
        fields, start = fields + 1, end
    return fields >= 2


def _decode(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _fits(pattern: str, name: str) -> bool:
    # To fnmatch, brackets are sets of characters; to OpenSSH they are text.
    return fnmatch.fnmatchcase(name, _canonical(pattern.removeprefix("!")).replace("[", "[[]"))


def _canonical(name: str) -> str:
    """Return a name as it is compared: in lower case, without port 22, addresses in one form."""
    name = name.lower()
    found = _WITH_PORT.fullmatch(name)
    address, port = (found["address"], int(found["port"])) if found else (name, 22)
    try:
        address = str(ipaddress.ip_address(address))
    except ValueError:
        if not found:
            return name
    return address if port == 22 else f"[{address}]:{port}"
