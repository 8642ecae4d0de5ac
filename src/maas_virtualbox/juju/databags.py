# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The databags of the relation interface `virtualbox_hosts`, and how they are read. Each value is
JSON.

The databag of the requiring application (`KeysData`):

    version       1
    public-keys   [{"key": "ssh-ed25519 AAAA…"}, …]

The databag of each providing unit (`AccountData`):

    version             1
    address             "10.0.0.5": the address at which the other side reaches its SSH server
    port                22
    user                "vbox": the account that owns the VMs
    host-keys           [{"key": "ssh-ed25519 AAAA…"}, …]: all host keys of its SSH server
    zone                "rack1": the MAAS zone of its VMs; can be empty
    virtualbox-version  "7.2.22"
    vboxmanage          "/usr/bin/VBoxManage"
    gate                true: the keys are restricted keys, which can only control VMs

Rules for changes: every field is optional. A collection is a list of objects in a stable order. No
field changes its type or meaning. A reader ignores fields and key types that it does not know.
Therefore no reader needs the version of the other side; it is for people.

The databag of the other side may contain anything. `read` ignores what is invalid.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, TypeVar

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import host_list, options

if TYPE_CHECKING:
    from collections.abc import Callable

    import ops

INTERFACE = "virtualbox_hosts"
VERSION = 1

_MAX_KEYS = 16
_MAX_KEY_LENGTH = 4096


class _Data(pydantic.BaseModel):
    """A databag or a part of one. It is immutable and ignores unknown fields."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=lambda field: field.replace("_", "-"),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class SSHKey(_Data):
    """A public key, as in authorized_keys and known_hosts, without options and comment."""

    key: Annotated[str, pydantic.Field(max_length=_MAX_KEY_LENGTH)]
    """`type base64`."""

    @property
    def is_usable(self) -> bool:
        """Whether this is only a key, of a type that OpenSSH accepts by default."""
        from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, rarely needed

        return ssh_keys.is_public_key(self.key)


Keys = Annotated[tuple[SSHKey, ...], pydantic.Field(max_length=_MAX_KEYS)]


class KeysData(_Data):
    """The databag of the requiring application."""

    version: int = VERSION
    public_keys: Keys = ()
    """The keys to authorise."""


class AccountData(_Data):
    """The databag of a providing unit: an account that owns VMs."""

    version: int = VERSION
    address: str = ""
    """IP address or host name. If it is empty, the provider uses the ingress address."""
    port: int = 22
    """TCP port of the SSH server."""
    user: str = ""
    """The name of the account."""
    host_keys: Keys = ()
    """All host keys of the SSH server. If empty, the first connection pins the key it receives."""
    zone: str = ""
    """The MAAS zone of the VMs; can be empty."""
    virtualbox_version: Annotated[str, pydantic.Field(pattern=r"^[\w.+~:-]{0,64}$")] = ""
    """The output of `VBoxManage --version`, or empty."""
    vboxmanage: str = ""
    """Absolute path of VBoxManage. If it is empty, the known paths are searched."""
    gate: bool = False
    """Whether the keys are restricted keys."""

    def host(self, name: str) -> host_list.HostConfig:
        """Return the account as an entry of a host list, with the same validation as any other.

        Raises:
            ValueError: The data are invalid.
        """
        usable = [host_key.key for host_key in self.host_keys if host_key.is_usable]
        if self.host_keys and not usable:
            raise ValueError("it has no usable host key")
        if not (self.address and self.user):
            raise ValueError("it has no address or no user")
        entry = {
            "name": name,
            "address": self.address,
            "port": self.port,
            "user": self.user,
            "zone": self.zone,
            "host-key": usable,
            "vboxmanage": self.vboxmanage,
        }
        try:
            return host_list.HostConfig.model_validate(entry)
        except errors.HostListError as error:
            raise ValueError(str(error)) from None


log = logging.getLogger(__name__)

_Model = TypeVar("_Model", bound=pydantic.BaseModel)
_T = TypeVar("_T")

_MAX_REASON_LENGTH = 300


def read(
    relation: ops.Relation,
    source: ops.Application | ops.Unit,
    model: type[_Model],
    convert: Callable[[_Model], _T],
) -> _T | None:
    """Read one databag. Return None if it is empty or invalid; if invalid, log a warning.

    Args:
        relation: The relation.
        source: The application or unit whose databag is read.
        model: The model of the databag.
        convert: Converts the data, or raises ValueError if they are invalid.
    """
    # Juju itself puts a unit's addresses into its databag.
    if not {field.alias for field in model.model_fields.values()} & set(relation.data[source]):
        return None
    try:
        return convert(relation.load(model, source))
    except pydantic.ValidationError as error:
        reason = options.explain(error)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    warn(relation, source, reason)
    return None


def warn(relation: ops.Relation, source: ops.Application | ops.Unit, reason: str) -> None:
    """Log that some data are ignored, in one line without control characters."""
    shown = "".join(char if char.isprintable() else "?" for char in reason)
    log.warning(
        "%s: invalid data of %s are ignored: %s",
        relation.name,
        source.name,
        shown[:_MAX_REASON_LENGTH],
    )
