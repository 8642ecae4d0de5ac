# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists: which accounts on which machines own the VMs, and what a person wrote about them.

The short form is one entry a host, apart by commas or newlines, options after the address:

    ivan@10.0.0.5 zone=izMBP13, ivan@[fe80::1]:2222 name=attic vboxmanage="/opt/my vbox/VBoxManage"

The long form is YAML (or JSON): a list of such entries or of mappings with the fields of
`HostConfig`, bare or under the key `hosts`. `parse_hosts` reads both. Nothing here
opens a connection.
"""

from __future__ import annotations

import base64
import binascii
import collections
import hashlib
import ipaddress
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, cast

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

OPTIONS = ("host-key", "name", "vboxmanage", "zone")

_ADDRESS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
# A backslash serves Windows domains (LAB\ivan); everything a shell could read is out.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\\-]{0,103}\$?")
_LABEL = re.compile(r"\w[\w .@:\[\]-]{0,252}")
_PATH = re.compile(r"(/|[A-Za-z]:[\\/])[^\x00-\x1f\x7f\"'`$;&|<>*?!]{1,1000}")
_KEY_TYPE = re.compile(r"(ssh|ecdsa|sk-ssh|sk-ecdsa|rsa)-[A-Za-z0-9@.-]+")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")


def fingerprint(key_blob: bytes) -> str:
    """Return OpenSSH's `SHA256:…` fingerprint of a public key in wire format."""
    digest = base64.b64encode(hashlib.sha256(key_blob).digest())
    return "SHA256:" + digest.decode().rstrip("=")


def key_fingerprint(text: str) -> str:
    """Return the fingerprint of a host key given as fingerprint, base64 or `type base64 comment`.

    Raises:
        ValueError: it is none of these.
    """
    words = text.split()
    if len(words) == 1 and _FINGERPRINT.fullmatch(words[0]):
        return words[0]
    if len(words) >= 2 and _KEY_TYPE.fullmatch(words[0]):
        words = words[1:]
    try:
        blob = base64.b64decode(words[0], validate=True) if words else b""
    except (binascii.Error, ValueError):
        blob = b""
    # The wire format begins with the length and the name of the key type (RFC 4253, 6.6).
    size = int.from_bytes(blob[:4], "big")
    if not (0 < size <= 64 and _KEY_TYPE.fullmatch(blob[4 : 4 + size].decode("ascii", "replace"))):
        raise ValueError(
            "host-key must be a fingerprint (SHA256:…) or a public key (ssh-ed25519 AAAA…), as"
            " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it on the host"
        )
    return fingerprint(blob)


def _address(text: str) -> str:
    _, percent, scope = text.partition("%")
    try:
        # ipaddress takes any text for the scope of an IPv6 address.
        if not percent or _SCOPE.fullmatch(scope):
            return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"the address {text!r} is neither a host name nor an IP address")
    return text


class HostConfig(options.Options):
    """One account that owns VMs: on another machine over SSH, or on this one.

    Immutable and safe to share between threads. `parse_hosts` makes it from a list; other
    programs may make it themselves, and the same rules hold.
    """

    address: Annotated[str, pydantic.AfterValidator(_address)] = "local"
    """Host name, IPv4 or IPv6 address; not used for this machine."""
    user: Annotated[
        str,
        options.matching(
            "user", _USER, "letters, digits and _ . + - \\ only, no shell characters"
        ),
    ] = ""
    """The account that owns the VMs. Empty: this machine, the account that runs this program."""
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 22
    """TCP port of the SSH server."""
    name: Annotated[
        str, options.matching("name", _LABEL, "letters, digits, spaces and . - _ only")
    ] = ""
    """What people call the host. `parse_hosts` fills it: the zone's name where the host is alone
    in its zone, else the address."""
    zone: Annotated[
        str, options.matching("zone", _LABEL, "letters, digits, spaces and . - _ only")
    ] = ""
    """MAAS's physical zone of the host's VMs; may be empty."""
    host_key: Annotated[tuple[str, ...], pydantic.Field(max_length=16)] = ()
    """Pinned host keys, as fingerprints `SHA256:…`. Empty: the first connection pins."""
    vboxmanage: Annotated[
        str,
        options.matching(
            "vboxmanage path", _PATH, "an absolute path without quotes or $ ; & | < >"
        ),
    ] = ""
    """Absolute path of VBoxManage on the host. Empty: looked for in the known places."""

    @pydantic.field_validator("host_key", mode="before")
    @classmethod
    def _fingerprints(cls, value: object) -> tuple[str, ...]:
        keys = cast("list[object]", value) if isinstance(value, list | tuple) else [value]
        return tuple(dict.fromkeys(key_fingerprint(str(key)) for key in keys if key))

    @property
    def is_local(self) -> bool:
        """Whether this is the machine that runs this program: no SSH, a child process instead."""
        return not self.user

    @property
    def account(self) -> str:
        """Where the host is, to be shown: `user@address`, with the port where it is not 22."""
        if self.is_local:
            return "this machine"
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + (f":{self.port}" if self.port != 22 else "")

    def __str__(self) -> str:
        return self.name or self.account


def parse_hosts(source: str | Sequence[object]) -> tuple[HostConfig, ...]:
    """Read a host list from text (short form or YAML) or from already parsed YAML.

    Entries come back in their order, each with a unique `name`. An empty list is allowed.

    Raises:
        HostListError: an entry is malformed, an option unknown or a host named twice; the text
            names the entry.
    """
    entries = _split(source) if isinstance(source, str) else source
    hosts = [_parse_entry(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
    return _named(hosts)


def _split(text: str) -> Sequence[object]:
    start = text.lstrip()
    if not start.startswith(("-", "[", "{", "hosts:")):
        return _split_short(text)
    try:
        document: Any = options.parse(text).content
    except options.NotYAML as error:
        raise errors.HostListError(f"host list{error}") from None
    if isinstance(document, dict):
        mapping = cast("dict[object, Any]", document)
        extra = sorted(str(key) for key in mapping if key != "hosts")
        if extra or "hosts" not in mapping:
            raise errors.HostListError(
                "host list: a mapping must have the one key 'hosts'"
                + (f", not {', '.join(extra)}" if extra else "")
            )
        document = mapping["hosts"]
    if isinstance(document, str):
        return _split_short(document)
    if not isinstance(document, list):
        raise errors.HostListError("host list: expected a list of user@address entries")
    return cast("list[object]", document)


def _split_short(text: str) -> list[str]:
    """Split at commas and newlines outside quotes; blank entries and `#` lines are left out."""
    entries: list[str] = []
    for line in re.split(r"[\r\n]+", text):
        if line.lstrip().startswith("#"):
            continue
        entry = ""
        quote = ""
        for char in line:
            if char == "," and not quote:
                entries.append(entry)
                entry = ""
                continue
            if char in "\"'":
                quote = "" if char == quote else quote or char
            entry += char
        if quote:
            raise errors.HostListError(f"host list: {entry.strip()!r}: a quote is not closed")
        entries.append(entry)
    return [entry.strip() for entry in entries if entry.strip()]


def _parse_entry(label: str, entry: object) -> HostConfig:
    where = f"host list: {label}" + (f" {entry!r}" if isinstance(entry, str) else "")
    try:
        if isinstance(entry, str):
            return HostConfig.model_validate(_parse_short(entry))
        if isinstance(entry, dict):
            return HostConfig.model_validate(_parse_mapping(cast("dict[object, object]", entry)))
        raise ValueError("expected user@address or a mapping")
    except pydantic.ValidationError as error:
        raise errors.HostListError(f"{where}: {options.explain(error)}") from None
    except ValueError as error:
        raise errors.HostListError(f"{where}: {error}") from None


def _parse_short(entry: str) -> dict[str, object]:
    words = _words(entry)
    location = _parse_location(words[0]) if words else {}
    fields: dict[str, object] = {}
    for word in words[1:]:
        option, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"expected option=value, not {word!r}")
        if option not in OPTIONS:
            raise ValueError(f"unknown option {option!r}; options are {', '.join(OPTIONS)}")
        if not value:
            raise ValueError(f"the option {option} has no value")
        if option == "host-key":
            keys = cast("list[str]", fields.setdefault("host-key", []))
            keys.append(value)
        elif option in fields:
            raise ValueError(f"the option {option} is given twice")
        else:
            fields[option] = value
    return {**location, **fields}


def _words(entry: str) -> list[str]:
    """Split at white space outside quotes and take the quotes away; a backslash is a letter."""
    lexer = shlex.shlex(entry, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    return list(lexer)


def _parse_location(text: str) -> dict[str, object]:
    user, at, rest = text.rpartition("@")
    if not at:
        # `local`, or a host without an account: this machine. The word is its name.
        return {"name": text}
    if not user:
        raise ValueError("the user before @ is empty; expected user@address")
    match = re.fullmatch(r"\[(?P<v6>[^\]]+)\](?::(?P<port>[^:]*))?", rest)
    if match:
        address, port = match["v6"], match["port"]
        try:
            ipaddress.IPv6Address(address)
        except ValueError:
            raise ValueError(f"{address!r} in brackets is not an IPv6 address") from None
    elif rest.count(":") >= 2:
        address, port = rest, None  # a bare IPv6 address
    else:
        address, colon, port_text = rest.partition(":")
        port = port_text if colon else None
    fields: dict[str, object] = {"user": user, "address": address}
    if port is not None:
        if not re.fullmatch(r"[0-9]{1,5}", port):
            raise ValueError(f"the port {port!r} is not a number from 1 to 65535")
        fields["port"] = int(port)
    return fields


def _parse_mapping(entry: dict[object, object]) -> dict[str, object]:
    fields = {str(key): value for key, value in entry.items() if value is not None}
    known = {"host", "address", "user", "port", *OPTIONS}
    for key in fields:
        if key not in known:
            raise ValueError(f"unknown option {key!r}; options are {', '.join(sorted(known))}")
    if "host" in fields:
        if "address" in fields:
            raise ValueError("give either host (user@address) or address, not both")
        return {**_parse_location(str(fields.pop("host"))), **fields}
    if not fields.get("user") and fields.get("address", "local") != "local":
        raise ValueError("the user is empty; a remote host needs user and address")
    return fields


def _named(hosts: Iterable[HostConfig]) -> tuple[HostConfig, ...]:
    hosts = list(hosts)
    seen: dict[tuple[str, str, int], HostConfig] = {}
    for host in hosts:
        place = (host.user, host.address.lower(), host.port) if host.user else ("", "", 0)
        if place in seen:
            raise errors.HostListError(f"host list: {host.account} is named twice")
        seen[place] = host
    zones = collections.Counter(host.zone for host in hosts)
    addresses = collections.Counter(host.address for host in hosts)
    named: dict[str, HostConfig] = {}
    for host in hosts:
        name = host.name
        if not name and host.zone and zones[host.zone] == 1:
            name = host.zone
        elif not name:
            name = "local" if host.is_local else host.address
            if addresses[host.address] > 1:
                name = f"{host.user}@{host.address}:{host.port}"
        if name in named:
            raise errors.HostListError(
                f"host list: the name {name!r} is given to two hosts,"
                f" {named[name].account} and {host.account}; give one another name="
            )
        named[name] = host.model_copy(update={"name": name})
    return tuple(named.values())
