# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What opens hosts, service and MAAS: the application's own secret, and those people give it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import ops

import statuses
from maas_virtualbox import errors
from maas_virtualbox.config.tokens import Secrets

if TYPE_CHECKING:
    from collections.abc import Mapping

PEERS = "peers"
LABEL = "credentials"
"""Of the application's secret. All its units may read it by its owner's label; that there is one
stands in the peer data too, so that units who wait for it are told."""


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What all units share, kept as one Juju secret that the application owns."""

    tokens: Secrets
    """The master secret of the power service's tokens."""
    ssh_private_key: str = dataclasses.field(repr=False)
    """The charm's own; not used where people give one."""
    next_ssh_private_key: str = dataclasses.field(default="", repr=False)
    """The one that replaces it when all hosts accept it; empty outside a rotation."""

    @classmethod
    def new(cls) -> Credentials:
        """Make random ones."""
        return cls(Secrets.new(), new_ssh_key())

    @classmethod
    def of(cls, content: Mapping[str, str]) -> Credentials:
        """Read them from a secret's content; a leader of a newer version may have more in it."""
        options = (field.replace("_", "-") for field in Secrets.model_fields)
        tokens = {option: content[option] for option in options if option in content}
        return cls(
            Secrets.model_validate(tokens),
            content["private-key"],
            content.get("next-private-key", ""),
        )

    def content(self) -> dict[str, str]:
        """Return them as a secret's content."""
        next_key = self.next_ssh_private_key
        return {
            "private-key": self.ssh_private_key,
            **({"next-private-key": next_key} if next_key else {}),
            **self.tokens.content(),
        }


class Shared:
    """The application's secret, as one unit reads and writes it during one hook.

    It is read once. Juju 3.6 answers a unit that asks for a secret by its label with what that
    held when the hook began: what the hook itself has written is never read back.
    """

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm
        self._known: Credentials | None = None

    def load(self) -> Credentials:
        """Return what all units share; the leader makes it.

        Raises:
            Unready: the leader has not made it yet.
        """
        if self._known is None:
            self._known = self._read() or self._make()
        return self._known

    def save(self, changed: Credentials) -> None:
        """Change what all units share, as the leader; Juju notifies the others."""
        self._charm.model.get_secret(label=LABEL).set_content(changed.content())
        self._known = changed

    def public_keys(self) -> list[str]:
        """Return the public halves of the key in use and, during a rotation, of the next one.

        Raises:
            Unready: as `load`.
        """
        shared = self.load()
        keys = (shared.ssh_private_key, shared.next_ssh_private_key)
        return [public_key(key) for key in keys if key]

    def _read(self) -> Credentials | None:
        try:
            # Without a refresh, a unit keeps to the revision that it has read first.
            secret = self._charm.model.get_secret(label=LABEL)
            return Credentials.of(secret.get_content(refresh=True))
        except ops.SecretNotFoundError:
            return None

    def _make(self) -> Credentials:
        charm = self._charm
        peers = charm.model.get_relation(PEERS)
        if peers is None or not charm.unit.is_leader():
            raise statuses.waiting("the leader has not made the credentials yet")
        made = Credentials.new()
        charm.app.add_secret(
            made.content(), label=LABEL, description="SSH key and tokens of the power service"
        )
        peers.data[charm.app][LABEL] = "made"
        return made


def given(charm: ops.CharmBase, option: str, uri: str, field: str) -> str:
    """Return what a secret that people made has for us; empty if the option is.

    Args:
        charm: ours.
        option: the name of the option that holds its URI.
        uri: what it holds.
        field: the key of the secret's content.

    Raises:
        Unready: the secret cannot be read, or has no such key. Granting it fires no event.
    """
    if not uri:
        return ""
    try:
        content = charm.model.get_secret(id=uri).get_content(refresh=True)
    except (ops.SecretNotFoundError, ops.ModelError):
        raise statuses.blocked(
            f"{option}: the secret cannot be read: juju grant-secret {uri} {charm.app.name}"
            " (noticed at the next update-status)"
        ) from None
    if not content.get(field):
        raise statuses.blocked(
            f"{option}: the secret has no {field}: juju update-secret {uri} {field}=…"
        )
    return content[field]


def given_api_key(charm: ops.CharmBase, uri: str) -> str:
    """Return MAAS's API key that people gave us; empty if they gave none.

    Raises:
        Unready: it cannot be read or is no API key.
    """
    key = given(charm, "maas-api-key", uri, "api-key").strip()
    if key and [bool(part) for part in key.split(":")] != [True] * 3:
        raise statuses.blocked(
            "maas-api-key: expected three parts apart by colons, as `maas apikey` prints them"
        )
    return key


def given_ssh_key(charm: ops.CharmBase, uri: str) -> str:
    """Return the SSH key that people made for us; empty if they made none.

    Raises:
        Unready: it cannot be read or is no private key.
    """
    key = given(charm, "ssh-private-key", uri, "private-key")
    if key:
        try:
            public_key(key)
        except errors.IdentityError as error:
            raise statuses.blocked(
                f"ssh-private-key: expected a private key without a passphrase: {error}"
            ) from None
        key = key.rstrip() + "\n"
    return key


def new_ssh_key() -> str:
    """Make a private key."""
    from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, seldom used

    return ssh_keys.new_private_key()


def public_key(private_key: str) -> str:
    """Return the public half. Raises `IdentityError`."""
    from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, seldom used

    return ssh_keys.public_key(private_key)
