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

_VALUE = r"""=(?:'[^']*'|"[^"]*"|[^\s`]*)"""
_GIVEN = rf"((?:\s+[\w-]+{_VALUE})*)"
_CHARM = f"({'|'.join(FOLDERS)})"
_ACTION = re.compile(
    rf"juju run (?:-m \S+ )?(?:{_CHARM}/[\w…]+|\{{\{{.*?\}}\}})\s+([\w-]+){_GIVEN}"
)
_OPTIONS = re.compile(rf"juju config {_CHARM}{_GIVEN}((?: --reset [\w,-]+)?)")
_OPTION_AT_DEPLOY = re.compile(rf"--config ([\w-]+){_VALUE}")
_ENDPOINT = re.compile(rf"{_CHARM}:([\w-]+)")
_BINDINGS = re.compile(rf"(?:juju bind maas-virtualbox|--bind){_GIVEN}")
_SECRET = re.compile(r"juju (?:add|update)-secret \S+((?:\s+[\w-]+(?:#file)?=\S*)*)")
_SECRET_FIELDS = {"api-key", "private-key"}


def read(name: str = "maas-virtualbox") -> dict[str, Any]:
    """The content of a charm's charmcraft.yaml."""
    return yaml.safe_load((FOLDERS[name] / "charmcraft.yaml").read_text())


def actions_in(text: str) -> list[tuple[str, str, set[str]]]:
    """The actions that a text tells people to run: charm, action, and the parameters they have."""
    return [
        (charm or "maas-virtualbox", action, _names(given))
        for charm, action, given in _ACTION.findall(text)
    ]


def assert_commands_exist(text: str) -> None:
    """Assert that our charms have all that a text tells people to type.

    Actions with their parameters, options, fields of secrets, endpoints and bindings.
    """
    charms = {name: read(name) for name in FOLDERS}
    for charm, name, parameters in actions_in(text):
        assert name in charms[charm]["actions"]
        action = charms[charm]["actions"][name]
        assert set(action.get("required", [])) <= parameters <= set(action.get("params", {})), name
    for charm, given, reset in _OPTIONS.findall(text):
        named = _names(given) | set(reset.removeprefix(" --reset ").split(",")) - {""}
        assert named <= set(charms[charm]["config"]["options"])
    at_deploy: set[str] = set(_OPTION_AT_DEPLOY.findall(text))
    assert at_deploy <= {
        option for each in charms.values() for option in each["config"]["options"]
    }
    for charm, endpoint in _ENDPOINT.findall(text):
        assert endpoint in _endpoints(charms[charm])
    for given in _BINDINGS.findall(text):
        assert _names(given) <= _endpoints(charms["maas-virtualbox"])
    for given in _SECRET.findall(text):
        assert _names(given.replace("#file", "")) <= _SECRET_FIELDS


def _endpoints(charm: dict[str, Any]) -> set[str]:
    kinds = ("peers", "provides", "requires")
    return {endpoint for kind in kinds for endpoint in charm.get(kind, {})}


def _names(given: str) -> set[str]:
    return set(re.findall(rf"([\w-]+){_VALUE}", given))
