# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Credentials: the secret of the application, and the user secrets that options name."""

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
"""The label of the application's secret, by which all its units can read it. The peer data have a
key of this name once the secret exists, so that the other units get an event."""


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What all units share: the content of one Juju secret that the application owns."""

    tokens: Secrets
    """The master secret of the power service's tokens."""
    ssh_private_key: str = dataclasses.field(repr=False)
    """The charm's own key. It is not used if the option ssh-private-key is set."""
    next_ssh_private_key: str = dataclasses.field(default="", repr=False)
    """The key that replaces it once all hosts accept it; empty outside a rotation."""

    @classmethod
    def new(cls) -> Credentials:
        """Create random credentials."""
        return cls(Secrets.new(), new_ssh_key())

    @classmethod
    def from_content(cls, content: Mapping[str, str]) -> Credentials:
        """Read the content of a secret. Unknown keys of a newer version are ignored."""
        options = (field.replace("_", "-") for field in Secrets.model_fields)
        tokens = {option: content[option] for option in options if option in content}
        return cls(
            Secrets.model_validate(tokens),
            content["private-key"],
            content.get("next-private-key", ""),
        )

    def content(self) -> dict[str, str]:
        """Return the content of the secret."""
        next_key = self.next_ssh_private_key
        return {
            "private-key": self.ssh_private_key,
            **({"next-private-key": next_key} if next_key else {}),
            **self.tokens.content(),
        }


class SharedCredentials:
    """The application's secret, as one unit reads and writes it during one hook.

    It is read once. If a hook writes a secret and then reads it by its label, Juju 3.6 returns the
    content from the beginning of the hook. Therefore this class never reads back what it wrote.
    """

    def __init__(self, charm: ops.CharmBase) -> None:
        self._charm = charm
        self._credentials: Credentials | None = None

    def load(self) -> Credentials:
        """Return what all units share. The leader creates it.

        Raises:
            Waiting: The leader has not created it yet.
        """
        if self._credentials is None:
            self._credentials = self._read() or self._create()
        return self._credentials

    def save(self, changed: Credentials) -> None:
        """Change what all units share. Only the leader can. Juju notifies the other units."""
        self._charm.model.get_secret(label=LABEL).set_content(changed.content())
        self._credentials = changed

    def public_keys(self) -> list[str]:
        """Return the public keys of the key in use and, during a rotation, of the next key.

        Raises:
            Waiting: The leader has not created them yet.
        """
        shared = self.load()
        keys = (shared.ssh_private_key, shared.next_ssh_private_key)
        return [public_key(key) for key in keys if key]

    def _read(self) -> Credentials | None:
        try:
            # Without a refresh, a unit reads the same revision for ever.
            secret = self._charm.model.get_secret(label=LABEL)
            return Credentials.from_content(secret.get_content(refresh=True))
        except ops.SecretNotFoundError:
            return None

    def _create(self) -> Credentials:
        charm = self._charm
        peers = charm.model.get_relation(PEERS)
        if peers is None or not charm.unit.is_leader():
            raise statuses.Waiting("waiting for the leader to create the credentials")
        created = Credentials.new()
        charm.app.add_secret(
            created.content(), label=LABEL, description="SSH key and tokens of the power service"
        )
        peers.data[charm.app][LABEL] = "created"
        return created


def read_user_secret(charm: ops.CharmBase, option: str, uri: str, field: str) -> str:
    """Return a field of a user secret; empty if the option is not set.

    Args:
        charm: The charm.
        option: The name of the option that holds the secret's URI.
        uri: The value of the option.
        field: The key in the secret's content.

    Raises:
        Blocked: The secret cannot be read, or it does not have the key. Juju does not fire an
            event when a secret is granted.
    """
    if not uri:
        return ""
    try:
        content = charm.model.get_secret(id=uri).get_content(refresh=True)
    except (ops.SecretNotFoundError, ops.ModelError):
        raise statuses.Blocked(
            f"{option}: cannot read the secret: juju grant-secret {uri} {charm.app.name}"
            " (checked again at the next update-status)"
        ) from None
    if not content.get(field):
        raise statuses.Blocked(
            f"{option}: the secret has no {field}: juju update-secret {uri} {field}=…"
        )
    return content[field]


def read_maas_api_key(charm: ops.CharmBase, uri: str) -> str:
    """Return the API key from the user secret of maas-api-key; empty if the option is not set.

    Raises:
        Blocked: The secret cannot be read, or it is not an API key.
    """
    key = read_user_secret(charm, "maas-api-key", uri, "api-key").strip()
    if key and [bool(part) for part in key.split(":")] != [True] * 3:
        raise statuses.Blocked(
            "maas-api-key: expected three parts separated by colons, as `maas apikey` prints them"
        )
    return key


def read_ssh_private_key(charm: ops.CharmBase, uri: str) -> str:
    """Return the key from the user secret of ssh-private-key; empty if the option is not set.

    Raises:
        Blocked: The secret cannot be read, or it is not a private key.
    """
    key = read_user_secret(charm, "ssh-private-key", uri, "private-key")
    if not key:
        return ""
    try:
        public_key(key)
    except errors.IdentityError as error:
        raise statuses.Blocked(
            f"ssh-private-key: expected a private key without a passphrase: {error}"
        ) from None
    return key.rstrip() + "\n"


def new_ssh_key() -> str:
    """Create a private key."""
    from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, rarely needed

    return ssh_keys.new_private_key()


def public_key(private_key: str) -> str:
    """Return the public key of a private key. Raises `IdentityError` if that is invalid."""
    from maas_virtualbox.transport import ssh_keys  # noqa: PLC0415 - slow to load, rarely needed

    return ssh_keys.public_key(private_key)
