# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the charm says of itself in charmcraft.yaml, for tests of what is written about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

_ACTION = re.compile(
    r"juju run (?:-m \S+ )?(?:maas-virtualbox/\S+|\{\{.*?\}\}) ([a-z-]+)((?: [a-z-]+=)?)"
)
_OPTIONS = re.compile(r"juju config maas-virtualbox ((?:[a-z-]+=\S* ?)+)")


def read() -> dict[str, Any]:
    """The content of charmcraft.yaml."""
    return yaml.safe_load((ROOT / "charmcraft.yaml").read_text())


def actions_in(text: str) -> list[tuple[str, set[str]]]:
    """The actions of the charm that a text tells people to run, with the parameter they have."""
    return [
        (action, {parameter.strip(" =")} - {""}) for action, parameter in _ACTION.findall(text)
    ]


def assert_commands_exist(text: str) -> None:
    """Assert that the charm has all actions and options that a text tells people to type."""
    charm = read()
    for name, parameters in actions_in(text):
        assert name in charm["actions"]
        action = charm["actions"][name]
        assert set(action.get("required", [])) <= parameters <= set(action.get("params", {})), name
    for given in _OPTIONS.findall(text):
        assert set(re.findall(r"([a-z-]+)=", given)) <= set(charm["config"]["options"])
