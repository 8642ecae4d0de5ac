# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The tokens of the power service: one for each VM, one for metrics, and the admin token.

MAAS passes a machine's token on command lines, so the token of a VM gives access to that VM only.
All tokens are derived from one master secret (HMAC-SHA256). Nothing is stored for a VM, and any
program that has the secret can derive its token. The secrets file is YAML that only its owner may
read:

    master: Jc9fQ…
    previous: 0aVtK…
    previous-valid-until: 2026-11-22T10:00:00Z
    earlier:
    - secret: pX41r…
      valid-until: 2026-11-22T08:00:00Z

After a rotation, the tokens of the previous secret remain valid for a while, so that MAAS can be
given the new ones. The option `earlier` exists only if older secrets are also still valid;
versions that do not know the option can read any other file. Which requests need which token
belongs to `service.auth`.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import json
import os
import secrets
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic
import yaml

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files, options

if TYPE_CHECKING:
    from pathlib import Path

Role = Literal["admin", "metrics", "vm"]
"""What a token gives access to."""

METRICS: Literal["metrics"] = "metrics"
"""The metrics, as a resource of `Secrets.role_of`. All other resources are VMs."""

MAX_VALID_SECRETS = 8
"""How many earlier secrets may be valid. Each token is compared with those of all secrets."""

_SECRET_BYTES = 32
_MIN_SECRET_LENGTH = 32

_Secret = Annotated[
    pydantic.SecretStr, pydantic.Field(min_length=_MIN_SECRET_LENGTH, max_length=1024)
]


class EarlierSecret(options.Options):
    """A secret that is older than the previous one. Immutable."""

    secret: _Secret
    valid_until: pydantic.AwareDatetime


def _decode_list(value: object) -> object:
    """Decode JSON: the values of a Juju secret are texts, so a list is stored as JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("earlier: expected a list of secrets") from None


class Secrets(options.Options):
    """The master secret, and the earlier secrets whose tokens are still valid. Immutable."""

    master: _Secret
    """A text of at least 32 characters. `new` creates one with 256 random bits."""
    previous: _Secret | None = None
    """The secret before the last rotation."""
    previous_valid_until: pydantic.AwareDatetime | None = None
    """When the tokens of the previous secret expire. None: never."""
    earlier: Annotated[
        tuple[EarlierSecret, ...],
        pydantic.BeforeValidator(_decode_list),
        pydantic.Field(max_length=MAX_VALID_SECRETS),
    ] = ()
    """The secrets older than the previous one, the latest first."""

    @classmethod
    def new(cls) -> Secrets:
        """Create a random master secret."""
        return cls(master=pydantic.SecretStr(secrets.token_urlsafe(_SECRET_BYTES)))

    def rotated(self, grace: datetime.timedelta) -> Secrets:
        """Return secrets with a new master secret. The present tokens remain valid for `grace`.

        The tokens of earlier secrets expire when they would have expired, but at the end of
        `grace` at the latest. A rotation without grace therefore ends them all.

        Raises:
            ConfigError: too many secrets are still valid. The message says when the first one
                expires.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        end_of_grace = (now + grace).replace(microsecond=0)
        ends = [
            (secret, min(end or end_of_grace, end_of_grace))
            for secret, end in self._earlier_secrets()
        ]
        earlier = tuple(
            EarlierSecret(secret=secret, valid_until=end) for secret, end in ends if end > now
        )
        if len(earlier) >= MAX_VALID_SECRETS:
            first = min(old.valid_until for old in earlier)
            raise errors.ConfigError(
                f"the tokens of {len(earlier)} earlier secrets are still valid: rotate again after"
                f" {first.isoformat()}, when the first of them ends, or with a grace of 0 hours,"
                " which ends them all at once"
            )
        return Secrets(
            master=Secrets.new().master,
            previous=self.master,
            previous_valid_until=end_of_grace,
            earlier=earlier,
        )

    def content(self) -> dict[str, str]:
        """Return the content of a Juju secret: a text for each option."""
        content = {"master": self.master.get_secret_value()}
        if self.previous is not None:
            content["previous"] = self.previous.get_secret_value()
        if self.previous_valid_until is not None:
            content["previous-valid-until"] = self.previous_valid_until.isoformat()
        if self.earlier:
            content["earlier"] = json.dumps(self._earlier_content())
        return content

    def to_yaml(self) -> str:
        """Return the content of a secrets file."""
        earlier = {"earlier": self._earlier_content()} if self.earlier else {}
        return yaml.safe_dump({**self.content(), **earlier}, sort_keys=False)

    def admin_token(self) -> str:
        """Return the token that gives access to everything."""
        return _derive(self.master, "admin")

    def vm_token(self, uuid: str) -> str:
        """Return the token for the power of one VM, given its UUID in lower case."""
        return _derive(self.master, f"vm {uuid}")

    def metrics_token(self) -> str:
        """Return the token for the metrics, for Prometheus."""
        return _derive(self.master, METRICS)

    def role_of(self, token: str, resource: str) -> Role | None:
        """Return the role that gives a token access to a resource, or None if it has no access.

        Takes the same time for wrong tokens as for right ones.

        Args:
            token: the token that a client has presented.
            resource: the UUID of a VM, or `METRICS`. Empty: something that only the admin token
                gives access to.
        """
        presented = token.encode("utf-8", "surrogateescape")
        resource_role: Role = "metrics" if resource == METRICS else "vm"
        purpose = METRICS if resource == METRICS else f"vm {resource}"
        role: Role | None = None
        for secret in self._valid_secrets():
            if hmac.compare_digest(presented, _derive(secret, purpose).encode()) and resource:
                role = resource_role
            if hmac.compare_digest(presented, _derive(secret, "admin").encode()):
                role = "admin"
        return role

    def _valid_secrets(self) -> list[pydantic.SecretStr]:
        now = datetime.datetime.now(datetime.timezone.utc)
        earlier = self._earlier_secrets()
        return [self.master, *(secret for secret, end in earlier if end is None or end > now)]

    def _earlier_secrets(self) -> list[tuple[pydantic.SecretStr, datetime.datetime | None]]:
        """Return all secrets but the master secret and when they expire, the latest first."""
        previous = [(self.previous, self.previous_valid_until)] if self.previous else []
        return [*previous, *((old.secret, old.valid_until) for old in self.earlier)]

    def _earlier_content(self) -> list[dict[str, str]]:
        return [
            {
                "secret": old.secret.get_secret_value(),
                "valid-until": old.valid_until.isoformat(),
            }
            for old in self.earlier
        ]


def _derive(secret: pydantic.SecretStr, purpose: str) -> str:
    key = secret.get_secret_value().encode()
    digest = hmac.digest(key, f"maas-virtualbox {purpose}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def load(path: Path) -> Secrets:
    """Read a secrets file.

    Raises:
        ConfigError: the file is missing, is not YAML, has a wrong option, or everybody may use it.
    """
    what = f"secrets-file {path}"
    try:
        file = atomic_files.read(path)
    except FileNotFoundError:
        raise errors.ConfigError(
            f"{what}: the file does not exist; create it with: maas-virtualbox rotate-tokens"
            f" --secrets-file {path}"
        ) from None
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be read: {error.strerror}") from None
    if os.name == "posix" and file.mode & 0o007:
        raise errors.ConfigError(
            f"{what}: everybody may use it (mode {file.mode:04o}): chmod 0600 {path}"
        )
    return _parse(file.content, what)


def rotate(path: Path, grace: datetime.timedelta) -> bool:
    """Write a new master secret to a secrets file. Return whether the file had one before.

    An existing file keeps its owner. Parallel calls, in all processes, wait for each other.

    Raises:
        ConfigError: as `load`, `Secrets.rotated` and `save`. The file was not changed.
    """
    what = f"secrets-file {path}"
    if path.exists():
        load(path)  # refuses a file that everybody may use
    existed = False

    def change(content: bytes | None) -> bytes:
        nonlocal existed
        existed = content is not None
        new = Secrets.new() if content is None else _parse(content, str(path)).rotated(grace)
        return new.to_yaml().encode()

    with atomic_files.described_as(path, what):
        atomic_files.update(path, change, kept_mode=0o660)
    return existed


def save(path: Path, new: Secrets) -> None:
    """Write a secrets file atomically, for its owner only. An existing file keeps its owner.

    Raises:
        ConfigError: the file cannot be written.
    """
    atomic_files.write_secret(path, new.to_yaml(), what=f"secrets-file {path}")


def _parse(content: bytes, what: str) -> Secrets:
    expected = "master: and a random text"
    return options.parse(content, Secrets, what=what, expected=expected, secret=True)
