# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the charm says of itself in charmcraft.yaml, for tests of what is written about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

_ACTION = re.compile(r"juju run (?:-m \S+ )?(?:maas-virtualbox/\S+|\{\{.*?\}\}) ([a-z-]+)")
_OPTIONS = re.compile(r"juju config maas-virtualbox ((?:[a-z-]+=\S* ?)+)")


def read() -> dict[str, Any]:
    """The content of charmcraft.yaml."""
    return yaml.safe_load((ROOT / "charmcraft.yaml").read_text())


def commands_in(text: str) -> tuple[set[str], set[str]]:
    """The actions and the options of the charm that a text tells people to type."""
    actions = set(_ACTION.findall(text))
    options = {
        name for given in _OPTIONS.findall(text) for name in re.findall(r"([a-z-]+)=", given)
    }
    return actions, options


def assert_commands_exist(text: str) -> None:
    """Assert that the charm has all actions and options that a text tells people to type."""
    charm = read()
    actions, options = commands_in(text)
    assert actions <= set(charm["actions"])
    assert options <= set(charm["config"]["options"])
