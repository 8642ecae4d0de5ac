# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What a Juju model holds: charms as they are unpacked, relations with their databags, secrets.

Nothing here runs a process. A hook works on a copy of `State`, which takes the place of the old
one when the hook has succeeded: as in Juju, a hook that fails has written nothing.
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
    """Juju refuses what was asked of it; worded as Juju words it where that is known."""

    code = 1
    """What the hook tool exits with."""


class UsageError(JujuError):
    """A hook tool cannot read its command line."""

    code = 2


def application_of(name: str) -> str:
    """The application of a unit; an application's own name stays as it is."""
    return name.partition("/")[0]


@dataclasses.dataclass(frozen=True, order=True)
class Version:
    """A version of Juju, as far as charms see a difference."""

    major: int
    minor: int
    patch: int

    @classmethod
    def parse(cls, text: str) -> Version:
        """Read such as "3.6.12"."""
        return cls(*map(int, text.split(".")))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def reads_own_writes(self) -> bool:
        """Whether a label leads to what the same hook has written (juju#18713)."""
        return self >= Version(4, 0, 1)

    def reads_secret_uri(self, text: str) -> bool:
        """Whether a text is a secret's URI: since 4.0 it needs a scheme."""
        found = _SECRET_URI.fullmatch(text)
        return found is not None and (self.major < 4 or text.startswith("secret:"))


# --- Charms -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Address:
    """An address of a machine, as network-get shows it."""

    value: str
    """An IP address; a host name where Juju could not resolve it; or empty."""
    cidr: str = ""
    hostname: str = ""
    device: str = "eth0"

    @property
    def subnet(self) -> str:
        """Of this address alone, as in egress-subnets."""
        return f"{self.value}/{128 if ':' in self.value else 32}"


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A relation that a charm's metadata offers."""

    role: str
    """provides, requires or peers."""
    interface: str


@dataclasses.dataclass(frozen=True)
class Charm:
    """An unpacked charm."""

    folder: Path
    endpoints: dict[str, Endpoint]
    bindings: frozenset[str]
    """Names that network-get takes."""
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
        """Check a value of an option; strings are read as `juju config` reads them.

        Raises:
            JujuError: there is no such option, or it has another type.
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
        """The options that have a default."""
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
    """A relation of two applications, or of one with itself (peers)."""

    id: int
    endpoints: dict[str, str]
    """Its one or two applications and the name that each has for it."""
    bags: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict[str, dict[str, str]])
    """The databags of applications and units."""
    versions: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """How often each databag has changed."""
    members: set[str] = dataclasses.field(default_factory=set[str])
    """The units in it."""
    dying: bool = False

    @property
    def is_peer(self) -> bool:
        """Whether it relates the units of one application."""
        return len(self.endpoints) == 1

    def remote_application(self, application: str) -> str:
        """The application on the other side."""
        return next((name for name in self.endpoints if name != application), application)

    def remote_units(self, unit: str) -> list[str]:
        """The members that a unit sees."""
        remote = self.remote_application(application_of(unit))
        return sorted(name for name in self.members - {unit} if application_of(name) == remote)


@dataclasses.dataclass
class Secret:
    """A secret of an application, of a unit, or of the person who uses Juju."""

    owner: str
    """An application or unit, or nothing for a person's."""
    revisions: dict[int, dict[str, str]]
    label: str = ""
    description: str = ""
    rotate: str = ""
    expire: str = ""
    grants: dict[str, int | None] = dataclasses.field(default_factory=dict[str, "int | None"])
    """Who may read it, application or unit, and the relation that the grant hangs on."""
    tracked: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """The revision that each unit which has read it keeps to."""
    labels: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    """The label that each reader has given it."""
    removals_told: set[int] = dataclasses.field(default_factory=set[int])
    """The revisions that its owner was told nobody needs any more."""
    id: str = dataclasses.field(
        default_factory=lambda: "".join(secrets.choice(_SECRET_ID_ALPHABET) for _ in range(20))
    )

    @property
    def uri(self) -> str:
        """How people write it in config."""
        return f"secret:{self.id}"

    @property
    def full_uri(self) -> str:
        """How secret-add prints it."""
        return f"secret://{MODEL_UUID}/{self.id}"

    @property
    def latest(self) -> int:
        """The number of the newest revision."""
        return max(self.revisions)

    def is_readable_by(self, unit: str) -> bool:
        """Whether a unit may read it."""
        allowed = {self.owner, *self.grants}
        return unit in allowed or application_of(unit) in allowed

    def unneeded(self) -> list[int]:
        """The revisions that nobody keeps to."""
        return sorted(set(self.revisions) - {self.latest} - set(self.tracked.values()))


def check_secret_content(content: dict[str, str]) -> dict[str, str]:
    """Return the content of a secret; JujuError if it is empty or has a key that is not valid."""
    if not content:
        raise JujuError("empty secret value not valid")
    for key in content:
        if not SECRET_KEY.fullmatch(key):
            raise JujuError(f'secret key "{key}" not valid')
    return content


def secret_id(uri: str) -> str:
    """The id in a secret's URI; JujuError if it is none."""
    if (found := _SECRET_URI.fullmatch(uri)) is None:
        raise JujuError(f'secret URI "{uri}" not valid')
    return found[1]


@dataclasses.dataclass
class State:
    """What hooks change, and what is taken back when they fail."""

    relations: dict[int, Relation] = dataclasses.field(default_factory=dict[int, Relation])
    secrets: dict[str, Secret] = dataclasses.field(default_factory=dict[str, Secret])
    """By id."""
    ports: dict[str, set[str]] = dataclasses.field(default_factory=dict[str, set[str]])
    """The ports each unit has opened, as "80/tcp"."""
    stored: dict[str, dict[str, str]] = dataclasses.field(
        default_factory=dict[str, dict[str, str]]
    )
    """What each unit has put away with state-set."""

    def count_changes_since(self, before: State) -> list[tuple[Relation, str]]:
        """Raise the version of every databag that differs; returns these databags."""
        changed: list[tuple[Relation, str]] = []
        for relation in self.relations.values():
            for name, bag in relation.bags.items():
                if bag != before.relations[relation.id].bags.get(name, {}):
                    relation.versions[name] = relation.versions.get(name, 0) + 1
                    changed.append((relation, name))
        return changed
