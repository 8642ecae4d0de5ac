# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the charm says of itself in charmcraft.yaml, for tests of what is written about it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

_VALUE = r"""=(?:'[^']*'|"[^"]*"|[^\s`]*)"""
_GIVEN = rf"((?:\s+[\w-]+{_VALUE})*)"
_ACTION = re.compile(
    rf"juju run (?:-m \S+ )?(?:maas-virtualbox/[\w…]+|\{{\{{.*?\}}\}})\s+([\w-]+){_GIVEN}"
)
_OPTIONS = re.compile(rf"juju config maas-virtualbox{_GIVEN}((?: --reset [\w,-]+)?)")
_OPTION_AT_DEPLOY = re.compile(rf"--config ([\w-]+){_VALUE}")
_ENDPOINT = re.compile(r"maas-virtualbox:([\w-]+)")
_BINDINGS = re.compile(rf"(?:juju bind maas-virtualbox|--bind){_GIVEN}")
_SECRET = re.compile(r"juju (?:add|update)-secret \S+((?:\s+[\w-]+(?:#file)?=\S*)*)")
_SECRET_FIELDS = {"api-key", "private-key"}


def read() -> dict[str, Any]:
    """The content of charmcraft.yaml."""
    return yaml.safe_load((ROOT / "charmcraft.yaml").read_text())


def actions_in(text: str) -> list[tuple[str, set[str]]]:
    """The actions of the charm that a text tells people to run, with the parameters they have."""
    return [(action, _names(given)) for action, given in _ACTION.findall(text)]


def assert_commands_exist(text: str) -> None:
    """Assert that the charm has all that a text tells people to type.

    Actions with their parameters, options, fields of secrets, endpoints and bindings.
    """
    charm = read()
    for name, parameters in actions_in(text):
        assert name in charm["actions"]
        action = charm["actions"][name]
        assert set(action.get("required", [])) <= parameters <= set(action.get("params", {})), name
    options: set[str] = set(_OPTION_AT_DEPLOY.findall(text))
    for given, reset in _OPTIONS.findall(text):
        options |= _names(given) | set(reset.removeprefix(" --reset ").split(",")) - {""}
    assert options <= set(charm["config"]["options"])
    endpoints: set[str] = set(_ENDPOINT.findall(text))
    for given in _BINDINGS.findall(text):
        endpoints |= _names(given)
    assert endpoints <= {*charm["peers"], *charm["provides"], *charm["requires"]}
    for given in _SECRET.findall(text):
        assert _names(given.replace("#file", "")) <= _SECRET_FIELDS


def _names(given: str) -> set[str]:
    return set(re.findall(rf"([\w-]+){_VALUE}", given))
