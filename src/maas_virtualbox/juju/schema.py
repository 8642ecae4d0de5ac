# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The databags of the relation `virtualbox_hosts`; each value is JSON.

The application that requires it, in its own databag (`KeysData`):

    version       1
    public-keys   [{"key": "ssh-ed25519 AAAA…"}, …]

Each unit that provides it, in its own (`AccountData`):

    version             1
    address             "10.0.0.5": where the other side reaches its SSH server
    port                22
    user                "vbox": the account that owns the VMs
    host-keys           [{"key": "ssh-ed25519 AAAA…"}, …]: all that its SSH server presents
    zone                "rack1": MAAS's zone of its VMs; may be empty
    virtualbox-version  "7.2.22"
    vboxmanage          "/usr/bin/VBoxManage"
    gate                true: the keys are bound to the gate, and can switch VMs and nothing else

How it grows: every field may be missing; a collection is a list of objects, in a stable order; no
field changes its type or meaning; fields and key types that a reader does not know are passed
over. So the version of the other side is for people, and no reader needs to ask for it.
"""

from __future__ import annotations

from typing import Annotated

import pydantic

from maas_virtualbox.config import host_list

INTERFACE = "virtualbox_hosts"
VERSION = 1

_MOST_KEYS = 16
_LONGEST_KEY = 4096


class _Data(pydantic.BaseModel):
    """A databag, or a part of one: immutable, unknown fields are passed over."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=lambda field: field.replace("_", "-"),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class SSHKey(_Data):
    """A public key, as in authorized_keys and known_hosts but without options and comment."""

    key: Annotated[str, pydantic.Field(max_length=_LONGEST_KEY)]
    """`type base64`."""

    @property
    def is_usable(self) -> bool:
        """Whether it is nothing but a key, of a type that OpenSSH takes by default."""
        from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, and few need it

        return ssh_keys.is_public_key(self.key)


Keys = Annotated[tuple[SSHKey, ...], pydantic.Field(max_length=_MOST_KEYS)]


class KeysData(_Data):
    """What the application that requires the relation publishes."""

    version: int = VERSION
    public_keys: Keys = ()
    """Those that shall be let in."""


class AccountData(_Data):
    """What a unit that provides the relation publishes: an account that owns VMs."""

    version: int = VERSION
    address: str = ""
    """IP address or host name. Empty: the provider fills in the relation's ingress address."""
    port: int = 22
    """TCP port of its SSH server."""
    user: str = ""
    """The account."""
    host_keys: Keys = ()
    """All that its SSH server presents; empty: the first connection pins."""
    zone: str = ""
    """MAAS's zone of its VMs; may be empty."""
    virtualbox_version: Annotated[str, pydantic.Field(pattern=r"^[\w.+~:-]{0,64}$")] = ""
    """As `VBoxManage --version` says it, or empty."""
    vboxmanage: str = ""
    """Absolute path of VBoxManage; empty: looked for in the known places."""
    gate: bool = False
    """Whether the keys are bound to the gate."""

    def host(self, name: str) -> host_list.HostConfig:
        """Return it as an entry of a host list, held to the rules of those that people write.

        Raises:
            ValueError: it is none.
        """
        usable = [each.key for each in self.host_keys if each.is_usable]
        if self.host_keys and not usable:
            raise ValueError("none of its host keys can be used")
        if not (self.address and self.user):
            raise ValueError("it names no address or no user")
        return host_list.HostConfig.model_validate(
            {
                "name": name,
                "address": self.address,
                "port": self.port,
                "user": self.user,
                "zone": self.zone,
                "host-key": usable,
                "vboxmanage": self.vboxmanage,
            }
        )
