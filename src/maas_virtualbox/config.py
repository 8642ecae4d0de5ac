# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration file of the command line and of the power service: YAML, checked whole.

hosts: ivan@10.0.0.5 zone=izMBP13, ivan@10.0.0.6
ssh-private-key-file: /etc/maas-virtualbox/id_ed25519
known-hosts-file: /var/lib/maas-virtualbox/known_hosts
off-mode: acpi
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

import pydantic

from maas_virtualbox import documents, errors, hosts
from maas_virtualbox.host import PowerPolicy
from maas_virtualbox.hosts import Host


class Config(pydantic.BaseModel):
    """What a configuration file says. Immutable; unknown options are errors."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda field: field.replace("_", "-"),
        populate_by_name=True,
        arbitrary_types_allowed=True,
    )

    hosts: tuple[Host, ...] = ()
    """The host list, in short form or as YAML."""
    ssh_private_key_file: Path | None = None
    """The private key for all hosts. None: ssh-agent's keys, then the usual files in ~/.ssh."""
    known_hosts_file: Path | None = None
    """Where host keys are pinned."""
    off_mode: Literal["hard", "acpi"] = "hard"
    """See `PowerPolicy.off_mode`."""
    off_timeout: float = pydantic.Field(default=10.0, ge=1.0, le=20.0)
    """Seconds a guest has to react to the power button."""
    saved_state: Literal["discard", "resume"] = "discard"
    """See `PowerPolicy.saved_state`."""
    snapshot_age: float = pydantic.Field(default=2.0, ge=0.0, le=60.0)
    """Seconds for which one observation of a host answers every query."""

    @pydantic.field_validator("hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, value: object) -> object:
        if isinstance(value, str):
            return hosts.parse_hosts(value)
        if isinstance(value, list):
            return hosts.parse_hosts(cast("list[object]", value))
        return value

    @property
    def policy(self) -> PowerPolicy:
        """What on and off mean."""
        return PowerPolicy(
            off_mode=self.off_mode,
            off_timeout=self.off_timeout,
            saved_state=self.saved_state,
            snapshot_age=self.snapshot_age,
        )


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: the file is missing, not YAML, or an option is unknown or wrong; the text
            names the line and the option.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.ConfigError(f"{path}: cannot be read: {reason}") from None
    try:
        document = documents.parse(text)
    except documents.NotYAML as error:
        raise errors.ConfigError(f"{path}{error}") from None
    content = document.content
    if not isinstance(content, dict):
        raise errors.ConfigError(f"{path}: expected options, such as hosts: user@address")
    try:
        return Config.model_validate(cast("dict[str, object]", content))
    except errors.HostListError as error:
        where = document.where("hosts")
        raise errors.ConfigError(f"{path}{where}: hosts: {error}") from None
    except pydantic.ValidationError as error:
        location = error.errors()[0]["loc"]
        where = document.where(str(location[0]).replace("_", "-")) if location else ""
        raise errors.ConfigError(f"{path}{where}: {hosts.explain(error)}") from None
