# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The tokens that open the power service: one for each VM, one for metrics, one for everything.

MAAS passes a machine's token on command lines, so a VM's token opens that VM alone. All tokens
are derived from one master secret (HMAC-SHA256), so nothing is stored for a VM, and whoever has
the secret can make its token anywhere. The file is YAML, readable by its owner only:

master: Jc9fQ…
previous: 0aVtK…
previous-valid-until: 2026-11-22T10:00:00Z
earlier:
- secret: pX41r…
  valid-until: 2026-11-22T08:00:00Z

After a rotation the tokens of the previous secret stay valid for a while, in which MAAS is given
the new ones. Where secrets before that one are still valid, they are `earlier` ones; otherwise
there is no such option, and versions that do not know it can read the file.
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

METRICS: Literal["metrics"] = "metrics"
"""The door of `Secrets.opens` that is no VM."""

MAX_VALID_SECRETS = 8
"""How many secrets may be valid at once beside the master secret: each is tried for each token."""

_SECRET_BYTES = 32
_SHORTEST_SECRET = 32

_Secret = Annotated[
    pydantic.SecretStr, pydantic.Field(min_length=_SHORTEST_SECRET, max_length=1024)
]


class EarlierSecret(options.Options):
    """A secret from before the previous one. Immutable."""

    secret: _Secret
    valid_until: pydantic.AwareDatetime


def _decoded(value: object) -> object:
    """Read what a Juju secret holds: texts only, therefore a list is JSON."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        raise ValueError("earlier: expected a list of secrets") from None


class Secrets(options.Options):
    """The master secret, and those before it while they are still valid. Immutable."""

    master: _Secret
    """Any text of 32 characters or more; what `new` makes has 256 random bits."""
    previous: _Secret | None = None
    """The secret before the last rotation."""
    previous_valid_until: pydantic.AwareDatetime | None = None
    """Until when the previous secret's tokens are valid. None: for ever."""
    earlier: Annotated[
        tuple[EarlierSecret, ...],
        pydantic.BeforeValidator(_decoded),
        pydantic.Field(max_length=MAX_VALID_SECRETS),
    ] = ()
    """Those before the previous one, the latest first."""

    @classmethod
    def new(cls) -> Secrets:
        """Make a random master secret."""
        return cls(master=pydantic.SecretStr(secrets.token_urlsafe(_SECRET_BYTES)))

    def rotated(self, grace: datetime.timedelta) -> Secrets:
        """Return a new master secret; the present one's tokens stay valid for `grace`.

        Those of secrets before it stay valid as long as they were to, but no longer than `grace`:
        a rotation without grace ends them all.

        Raises:
            ConfigError: too many secrets are still valid; the text names when the first one ends.
        """
        now = datetime.datetime.now(datetime.timezone.utc)
        until = (now + grace).replace(microsecond=0)
        ends = {
            secret: min(end or until, until)
            for secret, end in self._earlier_secrets()
            if min(end or until, until) > now
        }
        if len(ends) >= MAX_VALID_SECRETS:
            raise errors.ConfigError(
                f"the tokens of {len(ends)} earlier secrets are still valid: rotate again after"
                f" {min(ends.values()).isoformat()}, when the first of them ends, or with a grace"
                " of 0 hours, which ends them all at once"
            )
        return Secrets(
            master=Secrets.new().master,
            previous=self.master,
            previous_valid_until=until,
            earlier=tuple(
                EarlierSecret(secret=secret, valid_until=end) for secret, end in ends.items()
            ),
        )

    def content(self) -> dict[str, str]:
        """Return it as text by option, as a Juju secret has it."""
        content = {"master": self.master.get_secret_value()}
        if self.previous is not None:
            content["previous"] = self.previous.get_secret_value()
        if self.previous_valid_until is not None:
            content["previous-valid-until"] = self.previous_valid_until.isoformat()
        if self.earlier:
            content["earlier"] = json.dumps(self._earlier_content())
        return content

    def dump(self) -> str:
        """Return the text of a secrets file."""
        earlier = {"earlier": self._earlier_content()} if self.earlier else {}
        return yaml.safe_dump({**self.content(), **earlier}, sort_keys=False)

    def admin_token(self) -> str:
        """Return the token that opens everything."""
        return _derive(self.master, "admin")

    def vm_token(self, uuid: str) -> str:
        """Return the token that opens one VM's power, given its UUID in lower case."""
        return _derive(self.master, f"vm {uuid}")

    def metrics_token(self) -> str:
        """Return the token that reads the metrics, for who scrapes them."""
        return _derive(self.master, METRICS)

    def opens(self, token: str, door: str) -> Literal["vm", "metrics", "admin", ""]:
        """Tell what a token is good for: one door, everything, or nothing.

        Takes as long for a wrong token as for a right one.

        Args:
            token: what was presented.
            door: what is to be opened: the UUID of a VM, `METRICS`, or an empty text for what
                only the admin token opens.
        """
        given = token.encode("utf-8", "surrogateescape")
        purpose = METRICS if door == METRICS else f"vm {door}"
        found: Literal["vm", "metrics", "admin", ""] = ""
        for secret in self._valid_secrets():
            if hmac.compare_digest(given, _derive(secret, purpose).encode()) and door:
                found = "metrics" if door == METRICS else "vm"
            if hmac.compare_digest(given, _derive(secret, "admin").encode()):
                found = "admin"
        return found

    def _valid_secrets(self) -> list[pydantic.SecretStr]:
        now = datetime.datetime.now(datetime.timezone.utc)
        earlier = self._earlier_secrets()
        return [self.master, *(secret for secret, end in earlier if end is None or end > now)]

    def _earlier_secrets(self) -> list[tuple[pydantic.SecretStr, datetime.datetime | None]]:
        """Return all but the master secret, the latest first, with the ends of their validity."""
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
        ConfigError: it is missing, not YAML, not what is expected, or open to everybody.
    """
    what = f"secrets-file {path}"
    try:
        file = atomic_files.read(path)
    except FileNotFoundError:
        raise errors.ConfigError(
            f"{what}: there is none; make it: maas-virtualbox rotate-tokens --secrets-file {path}"
        ) from None
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be read: {error.strerror}") from None
    if os.name == "posix" and file.mode & 0o007:
        raise errors.ConfigError(
            f"{what}: everybody may use it (mode {file.mode:04o}): chmod 0600 {path}"
        )
    return _parse(file.content, what)


def rotate(path: Path, grace: datetime.timedelta) -> bool:
    """Write a new master secret into a secrets file, or the first; return whether one was there.

    An owner there is kept. Calls at the same time, in other processes too, wait for each other.

    Raises:
        ConfigError: as `load`, `Secrets.rotated` and `save`; the file stays as it was.
    """
    what = f"secrets-file {path}"
    if path.exists():
        load(path)  # a file that is open to everybody is refused
    rotated: list[bool] = []

    def change(content: bytes | None) -> bytes:
        rotated[:] = [content is not None]
        known = Secrets.new() if content is None else _parse(content, str(path)).rotated(grace)
        return known.dump().encode()

    with atomic_files.renamed(path, what):
        atomic_files.update(path, change, kept_mode=0o660)
    return rotated[0]


def save(path: Path, new: Secrets) -> None:
    """Write a secrets file atomically, for its owner only; an owner there is kept.

    Raises:
        ConfigError: it cannot be written.
    """
    atomic_files.write_secret(path, new.dump(), what=f"secrets-file {path}")


def _parse(content: bytes, what: str) -> Secrets:
    expected = "master: and a random text"
    return options.parse(content, Secrets, what=what, expected=expected, secret=True)
