# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the charm says of itself in charmcraft.yaml, for tests of what is written about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

FOLDERS = {"maas-virtualbox": ROOT, "virtualbox-host": ROOT / "virtualbox-host"}
"""Our charms by name."""

_ACTION = re.compile(
    r"juju run (?:-m \S+ )?(?:(?P<name>maas-virtualbox|virtualbox-host)/\S+|\{\{.*?\}\})"
    r" (?P<action>[a-z-]+)(?P<parameter>(?: [a-z-]+=)?)"
)
_OPTIONS = re.compile(
    r"juju config (?P<name>maas-virtualbox|virtualbox-host) (?P<options>(?:[a-z-]+=\S* ?)+)"
)


def read(name: str = "maas-virtualbox") -> dict[str, Any]:
    """The content of a charm's charmcraft.yaml."""
    return yaml.safe_load((FOLDERS[name] / "charmcraft.yaml").read_text())


def actions_in(text: str) -> list[tuple[str, str, set[str]]]:
    """The actions that a text tells people to run: charm, action, and the parameter they have."""
    return [
        (
            found["name"] or "maas-virtualbox",
            found["action"],
            {found["parameter"].strip(" =")} - {""},
        )
        for found in _ACTION.finditer(text)
    ]


def assert_commands_exist(text: str) -> None:
    """Assert that our charms have all actions and options that a text tells people to type."""
    for charm, name, parameters in actions_in(text):
        actions = read(charm)["actions"]
        assert name in actions
        action = actions[name]
        assert set(action.get("required", [])) <= parameters <= set(action.get("params", {})), name
    for given in _OPTIONS.finditer(text):
        known = set(read(given["name"])["config"]["options"])
        assert set(re.findall(r"([a-z-]+)=", given["options"])) <= known
