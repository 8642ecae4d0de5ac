# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Decide whether a host's key is accepted: by the host list, or by a known_hosts file.

The first connection to a host without a pinned key pins the key that the host presents (trust on
first use) and logs it. After that, any other key is refused. Nothing disables the check.

Lines of the file have the same meaning as for OpenSSH. Names may be in any case, hashed (`|1|…`),
patterns with `*` and `?`, and negated (`!name`). The markers `@revoked` and `@cert-authority` are
recognised. OpenSSH ignores a line that it cannot parse, but this module refuses the whole file: if
it overlooked a pin, any key would be accepted.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import fnmatch
import functools
import hashlib
import hmac
import ipaddress
import logging
import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko import pkey, ssh_exception

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files, host_list

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

log = logging.getLogger(__name__)

# OpenSSH's order, without the algorithms that paramiko 5 does not have.
_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
"""The key types that this client negotiates, each with its signature algorithms."""

_REVOKED = "@revoked"
_CERT_AUTHORITY = "@cert-authority"

_BOM = "\ufeff"
_BLANKS = re.compile(r"[ \t]+")
_HASHED = re.compile(r"\|1\|([A-Za-z0-9+/]+=*)\|([A-Za-z0-9+/]+=*)")
_WITH_PORT = re.compile(r"\[(?P<address>[^\[\]]*)\]:(?P<port>[0-9]+)")
_MAX_NAME = 1023  # characters; a longer name matches nothing in OpenSSH


class KnownHosts:
    """The pinned host keys: a file in OpenSSH's known_hosts format, or only memory.

    `Fleet` creates one object for all its hosts, and threads may share it. Processes may share the
    file, which has mode 0600: it is locked during each change, so that no pin is lost.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        """Read the file, if it exists.

        Args:
            path: the file. None: pins are kept in memory, for this object only.

        Raises:
            ConfigError: the file cannot be used; the message names the line. Permanent.
        """
        self._path = Path(path) if path is not None else None
        self._lock = threading.Lock()
        self._memory = b""
        try:
            self._read()
        except (OSError, InvalidFile) as error:
            raise errors.ConfigError(f"known hosts file {self._path}: {_reason(error)}") from None

    def algorithms(self, host: host_list.HostConfig) -> tuple[str, ...]:
        """Return the host key algorithms in the order of preference: those of pinned keys first.

        Otherwise, a host that has several keys may present another key than the pinned one.
        """
        pinned = [key.key_type for key in self.pinned(host)]
        ordered = sorted(_ALGORITHMS, key=lambda name: name not in pinned)
        return tuple(algorithm for name in ordered for algorithm in _ALGORITHMS[name])

    def check(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Check the key that a host presented. Pin it if no key is pinned.

        Raises:
            HostKeyChanged: another key is pinned, or the key is revoked. Permanent.
            KnownHostsBroken: the file cannot be read or written, or accepts only certificates for
                this host. Permanent.
        """
        presented = PublicKey.of(key)
        if host.host_key:
            if presented.fingerprint not in host.host_key:
                raise self._changed(
                    host, host.host_key, presented.fingerprint, "its host-key= option"
                )
            return
        name = name_of(host)
        with self._explained(host, "read"):
            known = self._read()
        self._check_revoked(host, known, presented)
        if not known.find(name):
            known = self._pin_first(host, name, presented)
        pinned = [entry.key for entry in known.find(name)]
        if presented not in pinned:
            fingerprints = [pin.fingerprint for pin in pinned]
            raise self._changed(host, fingerprints, presented.fingerprint, self._location())

    def pinned(self, host: host_list.HostConfig) -> list[PublicKey]:
        """Return the keys that the file pins for a host. Does not consider `host-key=`.

        Raises:
            KnownHostsBroken: the file cannot be read. Permanent.
        """
        with self._explained(host, "read"):
            return [entry.key for entry in self._read().find(name_of(host))]

    def replace(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Replace the pins of a host by one key, whose fingerprint a person has compared.

        The pins of other hosts are kept, even if one line pins a key for several hosts.

        Raises:
            HostKeyChanged: the key is revoked. Permanent.
            KnownHostsBroken: the file cannot be read or written, and was not changed. Permanent.
        """
        name, accepted = name_of(host), PublicKey.of(key)

        def change(content: bytes) -> bytes:
            known = parse_known_hosts(content)
            self._check_revoked(host, known, accepted)
            return known.with_pins_replaced(name, accepted)

        with self._explained(host, "replace a key in"):
            self._change(change)

    def _pin_first(
        self, host: host_list.HostConfig, name: str, presented: PublicKey
    ) -> KnownHostsFile:
        """Pin a key unless another call or process has just pinned one. Return the new content."""
        is_pinned = False

        def change(content: bytes) -> bytes:
            nonlocal is_pinned
            known = parse_known_hosts(content)
            if authority := known.find(name, _CERT_AUTHORITY):
                raise errors.KnownHostsBroken(
                    str(host),
                    f"line {authority[0].number} of {self._location()} accepts only certified keys"
                    " for this host, and this client cannot check certificates: pin the host's own"
                    " key with `maas-virtualbox trust`",
                )
            is_pinned = not known.find(name)
            return known.with_pin(name, presented) if is_pinned else content

        with self._explained(host, "write"):
            self._change(change)
            known = self._read()
        if is_pinned:
            log.warning(
                "%s: pinned host key %s %s on the first connection%s",
                host,
                presented.key_type,
                presented.fingerprint,
                f" in {self._path}" if self._path else "",
            )
        return known

    def _read(self) -> KnownHostsFile:
        content = self._memory
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                content = atomic_files.read(self._path).content
        return parse_known_hosts(content)

    def _change(self, change: Callable[[bytes], bytes]) -> None:
        with self._lock:
            if self._path is None:
                self._memory = change(self._memory)
            else:
                atomic_files.update(self._path, lambda before: change(before or b""))

    def _location(self) -> str:
        return str(self._path) if self._path else "this program's memory"

    def _check_revoked(
        self, host: host_list.HostConfig, known: KnownHostsFile, key: PublicKey
    ) -> None:
        revoked = known.find(name_of(host), _REVOKED)
        if any(entry.key == key for entry in revoked):
            raise errors.HostKeyChanged(
                str(host),
                f"host key revoked: {self._location()} marks {key.fingerprint}, which"
                f" {host.account} presented, as @revoked; give the host a new key",
                pinned=(),
                presented=key.fingerprint,
            )

    @staticmethod
    def _changed(
        host: host_list.HostConfig, pinned: Sequence[str], presented: str, location: str
    ) -> errors.HostKeyChanged:
        return errors.HostKeyChanged(
            str(host),
            f"host key changed: {location} pins {', '.join(pinned)} but {host.account} presented"
            f" {presented}; if the host was reinstalled, compare the new fingerprint with"
            " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host, and accept it with"
            " `maas-virtualbox trust`; otherwise somebody may intercept the connection",
            pinned=pinned,
            presented=presented,
        )

    @contextlib.contextmanager
    def _explained(self, host: host_list.HostConfig, verb: str) -> Generator[None]:
        """Raise `KnownHostsBroken` if the file cannot be used."""
        try:
            yield
        except errors.KnownHostsBroken:
            raise
        except (OSError, InvalidFile, errors.ConfigError) as error:
            raise errors.KnownHostsBroken(
                str(host), f"cannot {verb} the known hosts file {self._path}: {_reason(error)}"
            ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


# -- The format of the file ---------------------------------------------------------------------


def name_of(host: host_list.HostConfig) -> str:
    """Return the name of a host in the file: its address, with the port unless it is 22."""
    address = host.address.lower()
    return address if host.port == 22 else f"[{address}]:{host.port}"


@functools.lru_cache(maxsize=4)  # each connection needs the file, which seldom changes
def parse_known_hosts(content: bytes) -> KnownHostsFile:
    """Parse the content of a known_hosts file.

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


class InvalidFile(ValueError):
    """A line of a known_hosts file cannot be parsed; the message names the line."""


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
    """A line of a known_hosts file that has a key."""

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
            marker: `@revoked` or `@cert-authority`. Empty: the lines that pin a key.
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


def _joined(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


@functools.lru_cache(maxsize=16_384)  # adding a pin does not change the other lines
def _parse_line(number: int, line: str) -> Entry | None:
    words = _BLANKS.split(line.strip(" \t"), maxsplit=4)
    if words[0].startswith("#") or words == [""]:
        return None
    marker = words.pop(0) if words[0].startswith("@") else ""
    if marker not in ("", _REVOKED, _CERT_AUTHORITY):
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
    if key_type in _ALGORITHMS:
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
