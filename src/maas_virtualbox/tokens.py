# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The tokens that open the power service: one for each VM, one for metrics, one for everything.

MAAS passes a machine's token on command lines, so a VM's token opens that VM alone. All tokens
are derived from one master secret (HMAC-SHA256), so nothing is stored for a VM, and whoever has
the secret can make its token anywhere. The file is YAML, readable by its owner only:

master: Jc9fQ…
previous: 0aVtK…
previous-valid-until: 2026-11-22T10:00:00Z

After a rotation the tokens of the previous secret stay good for a while, in which MAAS is given
the new ones.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import os
import secrets
import stat
from pathlib import Path
from typing import Literal

import pydantic
import yaml

from maas_virtualbox import documents, errors, files

METRICS: Literal["metrics"] = "metrics"
"""The door of `Secrets.opens` that is no VM."""

_SECRET_BYTES = 32
_SHORTEST_SECRET = 32


class Secrets(documents.Options):
    """The master secret, and the one before it while that is still good. Immutable."""

    master: pydantic.SecretStr = pydantic.Field(min_length=_SHORTEST_SECRET, max_length=1024)
    """Any text of 32 characters or more; what `new` makes has 256 random bits."""
    previous: pydantic.SecretStr | None = pydantic.Field(
        default=None, min_length=_SHORTEST_SECRET, max_length=1024
    )
    """The secret before the last rotation."""
    previous_valid_until: pydantic.AwareDatetime | None = None
    """Until when the previous secret's tokens are good. None: for ever."""

    @classmethod
    def new(cls) -> Secrets:
        """Make a random master secret."""
        return cls(master=pydantic.SecretStr(secrets.token_urlsafe(_SECRET_BYTES)))

    def rotated(self, grace: datetime.timedelta) -> Secrets:
        """Return a new master secret; the present one's tokens stay good for `grace`."""
        until = datetime.datetime.now(datetime.timezone.utc) + grace
        return Secrets(
            master=Secrets.new().master,
            previous=self.master,
            previous_valid_until=until.replace(microsecond=0),
        )

    def content(self) -> dict[str, str]:
        """Return it as plain text by option, as a secrets file or a Juju secret has it."""
        content = {"master": self.master.get_secret_value()}
        if self.previous is not None:
            content["previous"] = self.previous.get_secret_value()
        if self.previous_valid_until is not None:
            content["previous-valid-until"] = self.previous_valid_until.isoformat()
        return content

    def dump(self) -> str:
        """Return the text of a secrets file."""
        return yaml.safe_dump(self.content(), sort_keys=False)

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
        for secret in self._good_secrets():
            if hmac.compare_digest(given, _derive(secret, purpose).encode()) and door:
                found = "metrics" if door == METRICS else "vm"
            if hmac.compare_digest(given, _derive(secret, "admin").encode()):
                found = "admin"
        return found

    def _good_secrets(self) -> list[pydantic.SecretStr]:
        until = self.previous_valid_until
        if self.previous is None or (
            until is not None and until <= datetime.datetime.now(datetime.timezone.utc)
        ):
            return [self.master]
        return [self.master, self.previous]


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
        mode = stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        raise errors.ConfigError(
            f"{what}: there is none; make it: maas-virtualbox rotate-tokens --secrets-file {path}"
        ) from None
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be read: {error.strerror}") from None
    if os.name == "posix" and mode & 0o007:
        raise errors.ConfigError(
            f"{what}: everybody may use it (mode {mode:04o}): chmod 0600 {path}"
        )
    return documents.load(
        path, Secrets, what=what, expected="master: and a random text", secret=True
    )


def save(path: Path, new: Secrets) -> None:
    """Write a secrets file, whole or not at all, for its owner only; an owner there is kept.

    Raises:
        ConfigError: it cannot be written.
    """
    files.write_secret(path, new.dump(), what=f"secrets-file {path}")
