# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The content of charmcraft.yaml, for tests of texts that mention it."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

FOLDERS = {"maas-virtualbox": ROOT, "virtualbox-host": ROOT / "virtualbox-host"}
"""The charms by name."""

_VALUE = r"""=(?:'[^']*'|"[^"]*"|[^\s`]*)"""
_GIVEN = rf"((?:\s+[\w-]+{_VALUE})*)"
_CHARM = f"({'|'.join(FOLDERS)})"
_FLAGS = r"((?:(?:-m \S+|--[\w-]+(?:=\S+)?)\s+)*)"
_ACTION = re.compile(rf"juju run {_FLAGS}(?:{_CHARM}/[\w…]+|\{{\{{.*?\}}\}})\s+([\w-]+){_GIVEN}")
_PARAMETER = re.compile(rf"([\w-]+)({_VALUE})")
_ASKS_WITHOUT_SUDO = re.compile(r"(?<!sudo )journalctl")
_RUN_FLAGS = ("-m", "--string-args", "--wait=")
_OPTIONS = re.compile(rf"juju config {_CHARM}{_GIVEN}((?: --reset [\w,-]+)?)")
_OPTION_AT_DEPLOY = re.compile(rf"--config ([\w-]+){_VALUE}")
_ENDPOINT = re.compile(rf"{_CHARM}:([\w-]+)")
_BINDINGS = re.compile(rf"(?:juju bind maas-virtualbox|--bind){_GIVEN}")
_SECRET = re.compile(r"juju (?:add|update)-secret \S+((?:\s+[\w-]+(?:#file)?=\S*)*)")
_KINDS = {
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "string": (str,),
}
"""The Python types of YAML values, by the type of a parameter."""
_SECRET_FIELDS = {"api-key", "private-key"}


def read(name: str = "maas-virtualbox") -> dict[str, Any]:
    """Return the content of a charm's charmcraft.yaml."""
    return yaml.safe_load((FOLDERS[name] / "charmcraft.yaml").read_text())


def for_ops_testing(name: str = "maas-virtualbox") -> dict[str, Any]:
    """Return the content for `ops.testing.Context`, which needs one type for each parameter."""
    described = read(name)
    for action in described["actions"].values():
        for schema in action.get("params", {}).values():
            if not isinstance(schema["type"], str):
                schema["type"] = schema["type"][0]
    kinds = ("config", "actions")
    return {
        "meta": {key: value for key, value in described.items() if key not in kinds},
        **{kind: described[kind] for kind in kinds},
    }


def actions_in(text: str) -> list[tuple[str, str, set[str]]]:
    """Return the actions in a text: charm, action, and names of parameters."""
    return [
        (charm or "maas-virtualbox", action, _names(given))
        for _, charm, action, given in _ACTION.findall(text)
    ]


def assert_commands_exist(text: str) -> None:
    """Assert that the Juju commands in a text are valid for the charms.

    This covers actions with their parameters, options, keys of secrets, endpoints and bindings.
    Juju reads parameters as YAML, in which a name may be a number. The account of `juju ssh` needs
    sudo to read the journal.
    """
    assert not _ASKS_WITHOUT_SUDO.findall(text), "sudo journalctl"
    charms = {name: read(name) for name in FOLDERS}
    for charm, name, parameters in actions_in(text):
        assert name in charms[charm]["actions"]
        action = charms[charm]["actions"][name]
        assert set(action.get("required", [])) <= parameters <= set(action.get("params", {})), name
    for flags, charm, name, given in _ACTION.findall(text):
        _assert_types(charms[charm or "maas-virtualbox"]["actions"][name], flags, given)
    for charm, given, reset in _OPTIONS.findall(text):
        named = _names(given) | set(reset.removeprefix(" --reset ").split(",")) - {""}
        assert named <= set(charms[charm]["config"]["options"])
    at_deploy: set[str] = set(_OPTION_AT_DEPLOY.findall(text))
    assert at_deploy <= {
        option for charm in charms.values() for option in charm["config"]["options"]
    }
    for charm, endpoint in _ENDPOINT.findall(text):
        assert endpoint in _endpoints(charms[charm])
    for given in _BINDINGS.findall(text):
        assert _names(given) <= _endpoints(charms["maas-virtualbox"])
    for given in _SECRET.findall(text):
        assert _names(given.replace("#file", "")) <= _SECRET_FIELDS


def _assert_types(action: dict[str, Any], flags: str, given: str) -> None:
    """Assert that Juju accepts an action's parameters as they are written."""
    assert all(flag.startswith(_RUN_FLAGS) for flag in re.findall(r"(?<!\S)-\S+", flags)), flags
    for name, value in _PARAMETER.findall(given):
        (typed,) = shlex.split(value.removeprefix("=")) or [""]
        raw = "--string-args" in flags
        content = typed if raw else _as_juju_reads(typed)
        schema = action["params"][name]
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if "enum" not in schema:
            # The first type is the real one. The charm also accepts text with --string-args.
            kinds = [kinds[0], *({"string"} & set(kinds) if raw else ())]
        expected = [python for kind in kinds for python in _KINDS[kind]]
        assert type(content) in expected or "…" in typed, f"{name}{value}: --string-args"


def _as_juju_reads(text: str) -> object:
    """Read YAML as Juju does: everything that looks like a number is a number."""
    with contextlib.suppress(ValueError):
        return int(text) if text.isdecimal() else float(text)
    # The value of a template variable is unknown.
    return None if text.startswith("{{") else yaml.safe_load(text)


def _endpoints(charm: dict[str, Any]) -> set[str]:
    kinds = ("peers", "provides", "requires")
    return {endpoint for kind in kinds for endpoint in charm.get(kind, {})}


def _names(given: str) -> set[str]:
    return set(re.findall(rf"([\w-]+){_VALUE}", given))
