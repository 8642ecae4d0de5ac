# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists: the accounts that own the VMs, on which machines, and how to reach them.

The short form has one entry for each host. Commas or newlines separate the entries. Options follow
the address:

    ivan@10.0.0.5 zone=izMBP13, ivan@[fe80::1]:2222 name=attic vboxmanage="/opt/my vbox/VBoxManage"

The long form is YAML or JSON: a list of such entries, or of mappings with the fields of
`HostConfig`. The list may be the value of the key `hosts`. `parse_hosts` reads both forms. This
module connects to nothing.
"""

from __future__ import annotations

import base64
import binascii
import collections
import contextlib
import hashlib
import ipaddress
import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, cast

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import options

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

OPTIONS = ("host-key", "name", "vboxmanage", "zone")
"""The options of the short form."""

_ADDRESS = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,252}[A-Za-z0-9_.])?")
_SCOPE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
# A backslash is for Windows domains (LAB\ivan). Characters that a shell interprets are excluded.
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
    blob = _decode_key(words[0]) if words else b""
    # The wire format begins with the length and the name of the key type (RFC 4253, 6.6).
    size = int.from_bytes(blob[:4], "big")
    if not (0 < size <= 64 and _KEY_TYPE.fullmatch(blob[4 : 4 + size].decode("ascii", "replace"))):
        raise ValueError(
            "host-key must be a fingerprint (SHA256:…) or a public key (ssh-ed25519 AAAA…), as"
            " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` shows it on the host"
        )
    return fingerprint(blob)


def _decode_key(text: str) -> bytes:
    """Decode base64. Return nothing if the text is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _check_address(text: str) -> str:
    """Return an IP address in its canonical form, or a host name as it is."""
    _, percent, scope = text.partition("%")
    # ipaddress accepts any text as the scope of an IPv6 address.
    if not percent or _SCOPE.fullmatch(scope):
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(text))
    if not _ADDRESS.fullmatch(text):
        raise ValueError(f"the address {text!r} is neither a host name nor an IP address")
    return text


class HostConfig(options.Options):
    """An entry of a host list: one account that owns VMs, on another machine or on this one.

    `parse_hosts` creates the objects of a list. Programs may also create them themselves, and the
    same validation applies. Immutable, so threads may share it.

    Raises:
        HostListError: an option is unknown or wrong; the text names it.
    """

    address: Annotated[str, pydantic.AfterValidator(_check_address)] = "local"
    """Host name, IPv4 or IPv6 address. Not used for this machine."""
    user: Annotated[
        str,
        options.matching(
            "user", _USER, "letters, digits and _ . + - \\ only, no shell characters"
        ),
    ] = ""
    """The account that owns the VMs. Empty: the account on this machine that runs this program."""
    port: Annotated[int, pydantic.Field(ge=1, le=65535)] = 22
    """TCP port of the SSH server."""
    name: Annotated[
        str, options.matching("name", _LABEL, "letters, digits, spaces and . - _ only")
    ] = ""
    """The name of the host in messages. The default of `parse_hosts` is the name of the zone if
    the host is alone in its zone, otherwise the address."""
    zone: Annotated[
        str, options.matching("zone", _LABEL, "letters, digits, spaces and . - _ only")
    ] = ""
    """MAAS's physical zone of the host's VMs. May be empty."""
    host_key: Annotated[tuple[str, ...], pydantic.Field(max_length=16)] = ()
    """Pinned host keys, as fingerprints `SHA256:…`. Empty: the first connection pins a key."""
    vboxmanage: Annotated[
        str,
        options.matching(
            "vboxmanage path", _PATH, "an absolute path without quotes or $ ; & | < >"
        ),
    ] = ""
    """Absolute path of VBoxManage on the host. Empty: search the usual paths."""

    @pydantic.field_validator("host_key", mode="before")
    @classmethod
    def _fingerprints(cls, value: object) -> tuple[str, ...]:
        keys = cast("list[object]", value) if isinstance(value, list | tuple) else [value]
        return tuple(dict.fromkeys(key_fingerprint(str(key)) for key in keys if key))

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _raise_own_error(
        cls, values: Any, validate: pydantic.ModelWrapValidatorHandler[HostConfig]
    ) -> HostConfig:
        try:
            return validate(values)
        except pydantic.ValidationError as error:
            raise errors.HostListError(options.explain(error, cls)) from None

    @property
    def is_local(self) -> bool:
        """Whether the host is this machine: commands then run as child processes, without SSH."""
        return not self.user

    @property
    def account(self) -> str:
        """The account for messages: `user@address`, with the port unless it is 22."""
        if self.is_local:
            return "this machine"
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.user}@{address}" + (f":{self.port}" if self.port != 22 else "")

    def __str__(self) -> str:
        return self.name or self.account


def parse_hosts(source: str | Sequence[object]) -> tuple[HostConfig, ...]:
    """Read a host list from text (short form or YAML) or from already parsed YAML.

    The result has the order of the list, and each host has a unique `name`. A list may be empty.

    Raises:
        HostListError: an entry is malformed, an option is unknown or a host is listed twice. The
            message names the entry.
    """
    entries = _split(source) if isinstance(source, str) else source
    hosts = [_parse_entry(f"entry {number}", entry) for number, entry in enumerate(entries, 1)]
    _check_duplicate_accounts(hosts)
    return _with_names(hosts)


def _split(text: str) -> Sequence[object]:
    """Split the text of a host list, in whichever form it is, into entries."""
    if not text.lstrip().startswith(("-", "[", "{", "hosts:")):
        return _split_short(text)
    try:
        content = options.parse_yaml(text).content
    except options.NotYAML as error:
        raise errors.HostListError(f"host list{error}") from None
    if isinstance(content, dict):
        content = _value_of_hosts(cast("dict[object, object]", content))
    if isinstance(content, str):
        return _split_short(content)
    if not isinstance(content, list):
        raise errors.HostListError("host list: expected a list of user@address entries")
    return cast("list[object]", content)


def _value_of_hosts(mapping: Mapping[object, object]) -> object:
    unexpected = sorted(str(key) for key in mapping if key != "hosts")
    if unexpected or "hosts" not in mapping:
        raise errors.HostListError(
            "host list: a mapping must have the one key 'hosts'"
            + (f", not {', '.join(unexpected)}" if unexpected else "")
        )
    return mapping["hosts"]


def _split_short(text: str) -> list[str]:
    """Split at newlines, and at commas outside quotes. Omit blank entries and `#` lines."""
    lines = (line for line in re.split(r"[\r\n]+", text) if not line.lstrip().startswith("#"))
    entries = (entry.strip() for line in lines for entry in _split_at_commas(line))
    return [entry for entry in entries if entry]


def _split_at_commas(line: str) -> list[str]:
    entries = [""]
    quote = ""
    for character in line:
        if character == "," and not quote:
            entries.append("")
            continue
        if character in "\"'":
            quote = "" if character == quote else quote or character
        entries[-1] += character
    if quote:
        raise errors.HostListError(f"host list: {entries[-1].strip()!r}: a quote is not closed")
    return entries


def _parse_entry(label: str, entry: object) -> HostConfig:
    prefix = f"host list: {label}" + (f" {entry!r}" if isinstance(entry, str) else "")
    try:
        if isinstance(entry, str):
            return HostConfig.model_validate(_parse_short(entry))
        if isinstance(entry, dict):
            return HostConfig.model_validate(_parse_mapping(cast("dict[object, object]", entry)))
        raise ValueError("expected user@address or a mapping")
    except (errors.HostListError, ValueError) as error:
        raise errors.HostListError(f"{prefix}: {error}") from None


def _parse_short(entry: str) -> dict[str, object]:
    account, *words = _split_words(entry) or [""]
    fields: dict[str, object] = {}
    host_keys: list[str] = []
    for word in words:
        option, value = _parse_option(word)
        if option == "host-key":
            host_keys.append(value)
        elif option in fields:
            raise ValueError(f"the option {option} is given twice")
        else:
            fields[option] = value
    keys = {"host-key": host_keys} if host_keys else {}
    return {**_parse_account(account), **fields, **keys}


def _parse_option(word: str) -> tuple[str, str]:
    option, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"expected option=value, not {word!r}")
    if option not in OPTIONS:
        raise ValueError(f"unknown option {option!r}; options are {', '.join(OPTIONS)}")
    if not value:
        raise ValueError(f"the option {option} has no value")
    return option, value


def _split_words(entry: str) -> list[str]:
    """Split at white space outside quotes, and remove the quotes. A backslash is a letter."""
    lexer = shlex.shlex(entry, posix=True)
    lexer.whitespace_split = True
    lexer.commenters = lexer.escape = ""
    return list(lexer)


def _parse_account(text: str) -> dict[str, object]:
    """Parse `user@address`, `user@address:port` or the name of this machine."""
    user, at, location = text.rpartition("@")
    if not at:
        return {"name": text}
    if not user:
        raise ValueError("the user before @ is empty; expected user@address")
    address, port = _split_port(location)
    if port is None:
        return {"user": user, "address": address}
    if not re.fullmatch(r"[0-9]{1,5}", port):
        raise ValueError(f"the port {port!r} is not a number from 1 to 65535")
    return {"user": user, "address": address, "port": int(port)}


def _split_port(location: str) -> tuple[str, str | None]:
    """Split `address:port` or `[IPv6 address]:port`. The port is None if there is none."""
    if match := re.fullmatch(r"\[(?P<v6>[^\]]+)\](?::(?P<port>[^:]*))?", location):
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            raise ValueError(f"{match['v6']!r} in brackets is not an IPv6 address") from None
        return match["v6"], match["port"]
    if location.count(":") >= 2:
        return location, None  # an IPv6 address without brackets
    address, colon, port = location.partition(":")
    return address, port if colon else None


def _parse_mapping(entry: Mapping[object, object]) -> dict[str, object]:
    fields = {str(key): value for key, value in entry.items() if value is not None}
    known = {"host", "address", "user", "port", *OPTIONS}
    if unknown := [key for key in fields if key not in known]:
        raise ValueError(f"unknown option {unknown[0]!r}; options are {', '.join(sorted(known))}")
    if "host" not in fields:
        _check_user(fields)
        return fields
    if "address" in fields:
        raise ValueError("give either host (user@address) or address, not both")
    return {**_parse_account(str(fields.pop("host"))), **fields}


def _check_user(fields: Mapping[str, object]) -> None:
    if not fields.get("user") and fields.get("address", "local") != "local":
        raise ValueError("the user is empty; a remote host needs user and address")


def _check_duplicate_accounts(hosts: Iterable[HostConfig]) -> None:
    accounts: set[tuple[str, str, int]] = set()
    for host in hosts:
        account = (host.user, host.address.lower(), host.port) if host.user else ("", "", 0)
        if account in accounts:
            raise errors.HostListError(f"host list: {host.account} is named twice")
        accounts.add(account)


def _with_names(hosts: Sequence[HostConfig]) -> tuple[HostConfig, ...]:
    """Give a name to each host that has none. Names must be unique."""
    zones = collections.Counter(host.zone for host in hosts)
    addresses = collections.Counter(host.address for host in hosts)
    named: dict[str, HostConfig] = {}
    for host in hosts:
        name = host.name or _default_name(
            host,
            is_alone_in_zone=zones[host.zone] == 1,
            is_alone_at_address=addresses[host.address] == 1,
        )
        if name in named:
            raise errors.HostListError(
                f"host list: the name {name!r} is given to two hosts,"
                f" {named[name].account} and {host.account}; give one another name="
            )
        named[name] = host.model_copy(update={"name": name})
    return tuple(named.values())


def _default_name(host: HostConfig, *, is_alone_in_zone: bool, is_alone_at_address: bool) -> str:
    if host.zone and is_alone_in_zone:
        return host.zone
    if not is_alone_at_address:
        return f"{host.user}@{host.address}:{host.port}"
    return "local" if host.is_local else host.address
