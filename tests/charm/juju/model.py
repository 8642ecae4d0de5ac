# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The data of a Juju model: unpacked charms, relations with their databags, secrets.

This module does not run processes. A hook works on a copy of `State`, which replaces the old state
if the hook succeeds. As in Juju, a failed hook changes nothing.
"""

from __future__ import annotations

import dataclasses
import re
import secrets
from pathlib import Path
from typing import Any, cast

import yaml

SECRET_KEY = re.compile(r"[a-z](?:-?[a-z0-9]){2,}")
"""Juju's rule for the keys of a secret (core/secrets)."""

MODEL_UUID = "deadbeef-0bad-400d-8000-4b1d0d06f00d"

_SECRET_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_SECRET_URI = re.compile(r"(?:secret:)?(?://[-0-9a-f]+/)?([0-9a-v]{20})")


class JujuError(Exception):
    """Juju refuses a request. The message is that of Juju, if it is known."""

    code = 1
    """The exit code of the hook tool."""


class UsageError(JujuError):
    """A hook tool cannot read its command line."""

    code = 2


def application_of(name: str) -> str:
    """Return the application of a unit. The name of an application is returned unchanged."""
    return name.partition("/")[0]


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A version of Juju, with the differences that charms can see."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Parse a version such as "3.6.12"."""
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def reads_own_writes(self) -> bool:
        """Whether a hook that reads a secret by label reads its own write (juju#18713)."""
        return self >= Version(4, 0, 1)

    def reads_secret_uri(self, text: str) -> bool:
        """Return whether a text is the URI of a secret. Since 4.0, it needs a scheme."""
        found = _SECRET_URI.fullmatch(text)
        return found is not None and (self.major < 4 or text.startswith("secret:"))


# --- Charms -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Address:
    """An address of a machine, as network-get shows it."""

    value: str
    """An IP address, a host name that Juju could not resolve, or empty."""
    cidr: str = ""
    hostname: str = ""
    device: str = "eth0"

    @property
    def subnet(self) -> str:
        """The subnet that contains only this address, as in egress-subnets."""
        return f"{self.value}/{128 if ':' in self.value else 32}"


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An endpoint in the metadata of a charm."""

    role: str
    """provides, requires or peers."""
    interface: str


@dataclasses.dataclass(frozen=True)
class Charm:
    """An unpacked charm."""

    folder: Path
    endpoints: dict[str, Endpoint]
    bindings: frozenset[str]
    """The names that network-get accepts."""
    options: dict[str, dict[str, Any]]
    actions: dict[str, dict[str, Any]]

    @classmethod
    def load(cls, folder: Path) -> Charm:
        """Read metadata.yaml, config.yaml and actions.yaml of a folder."""
        metadata = _read_yaml(folder / "metadata.yaml")
        endpoints = {
            name: Endpoint(role, endpoint["interface"])
            for role in ("provides", "requires", "peers")
            for name, endpoint in metadata.get(role, {}).items()
        }
        return cls(
            folder,
            endpoints,
            frozenset(endpoints) | frozenset(metadata.get("extra-bindings", ())) | {"juju-info"},
            _read_yaml(folder / "config.yaml").get("options", {}),
            _read_yaml(folder / "actions.yaml"),
        )

    def config_value(self, name: str, value: object, version: Version) -> object:
        """Validate the value of an option. Strings are parsed as in `juju config`.

        Raises:
            JujuError: The option does not exist, or has another type.
        """
        if name not in self.options:
            raise JujuError(f'unknown option "{name}"')
        kind = self.options[name]["type"]
        try:
            if isinstance(value, str) and kind in {"int", "float"}:
                value = int(value) if kind == "int" else float(value)
            elif isinstance(value, str) and kind == "boolean":
                value = {"true": True, "false": False}[value.lower()]
        except (ValueError, KeyError):
            value = None
        kinds = {"string": str, "secret": str, "int": int, "float": (int, float), "boolean": bool}
        if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean"):
            raise JujuError(f'option "{name}" expected {kind}, got {value!r}')
        if kind == "secret" and not version.reads_secret_uri(str(value)):
            raise JujuError(f'option "{name}" expected secret URI, got {value!r}')
        return value

    def defaults(self) -> dict[str, object]:
        """Return the options that have a default, with their defaults."""
        return {
            name: option["default"]
            for name, option in self.options.items()
            if option.get("default") is not None
        }


def _read_yaml(file: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(file.read_text()) or {}) if file.exists() else {}


# --- Relations and secrets ----------------------------------------------------------------------


@dataclasses.dataclass
class Relation:
    """A relation of two applications, or of one application with itself (peers)."""

    id: int
    endpoints: dict[str, str]
    """The endpoint of each of its one or two applications."""
    bags: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict[str, dict[str, str]])
    """The databags of applications and units."""
    versions: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """The number of changes of each databag."""
    members: set[str] = dataclasses.field(default_factory=set[str])
    """The units that have entered it."""
    dying: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it relates the units of one application."""
        return len(self.endpoints) == 1

    def remote_application(self, application: str) -> str:
        """Return the application on the other side."""
        return next((name for name in self.endpoints if name != application), application)

    def remote_units(self, unit: str) -> list[str]:
        """Return the members that a unit sees."""
        remote = self.remote_application(application_of(unit))
        return sorted(name for name in self.members - {unit} if application_of(name) == remote)


@dataclasses.dataclass
class Secret:
    """A secret of an application, of a unit, or of a user."""

    owner: str
    """The application or unit; empty for a user secret."""
    revisions: dict[int, dict[str, str]]
    label: str = ""
    description: str = ""
    rotate: str = ""
    expire: str = ""
    grants: dict[str, int | None] = dataclasses.field(default_factory=dict[str, "int | None"])
    """The applications and units that may read it, each with the relation of its grant."""
    tracked: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """The revision that each reading unit tracks."""
    labels: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """The label of each reader."""
    removals_notified: set[int] = dataclasses.field(default_factory=set[int])
    """The unused revisions of which the owner was notified."""
    id: str = dataclasses.field(
        default_factory=lambda: "".join(secrets.choice(_SECRET_ID_ALPHABET) for _ in range(20))
    )

    @property
    def uri(self) -> str:
        """The URI for config."""
        return f"secret:{self.id}"

    @property
    def full_uri(self) -> str:
        """The URI as printed by secret-add."""
        return f"secret://{MODEL_UUID}/{self.id}"

    @property
    def latest(self) -> int:
        """The number of the newest revision."""
        return max(self.revisions)

    def is_readable_by(self, unit: str) -> bool:
        """Return whether a unit may read it."""
        allowed = {self.owner, *self.grants}
        return unit in allowed or application_of(unit) in allowed

    def unneeded(self) -> list[int]:
        """Return the revisions that no unit tracks."""
        return sorted(set(self.revisions) - {self.latest} - set(self.tracked.values()))


def check_secret_content(content: dict[str, str]) -> dict[str, str]:
    """Return the content of a secret. Raise JujuError if it is empty or has an invalid key."""
    if not content:
        raise JujuError("empty secret value not valid")
    for key in content:
        if not SECRET_KEY.fullmatch(key):
            raise JujuError(f'secret key "{key}" not valid')
    return content


def secret_id(uri: str) -> str:
    """Return the ID in the URI of a secret. Raise JujuError if the URI is invalid."""
    if (found := _SECRET_URI.fullmatch(uri)) is None:
        raise JujuError(f'secret URI "{uri}" not valid')
    return found[1]


@dataclasses.dataclass
class State:
    """What hooks change. If a hook fails, its changes are discarded."""

    relations: dict[int, Relation] = dataclasses.field(default_factory=dict[int, Relation])
    secrets: dict[str, Secret] = dataclasses.field(default_factory=dict[str, Secret])
    """The secrets by ID."""
    ports: dict[str, set[str]] = dataclasses.field(default_factory=dict[str, set[str]])
    """The open ports of each unit, for example "80/tcp"."""
    stored: dict[str, dict[str, str]] = dataclasses.field(
        default_factory=dict[str, dict[str, str]]
    )
    """What each unit has stored with state-set."""

    def count_changes_since(self, before: State) -> list[tuple[Relation, str]]:
        """Increment the version of each databag that differs. Return these databags."""
        changed: list[tuple[Relation, str]] = []
        for relation in self.relations.values():
            for name, bag in relation.bags.items():
                if bag != before.relations[relation.id].bags.get(name, {}):
                    relation.versions[name] = relation.versions.get(name, 0) + 1
                    changed.append((relation, name))
        return changed
