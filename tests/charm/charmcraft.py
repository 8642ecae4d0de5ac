# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the charm says of itself in charmcraft.yaml, for tests of what is written about it."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

FOLDERS = {"maas-virtualbox": ROOT, "virtualbox-host": ROOT / "virtualbox-host"}
"""Our charms by name."""

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
"""What Juju's YAML reader makes of a parameter's value, by the type that the action wants."""
_SECRET_FIELDS = {"api-key", "private-key"}


def read(name: str = "maas-virtualbox") -> dict[str, Any]:
    """The content of a charm's charmcraft.yaml."""
    return yaml.safe_load((FOLDERS[name] / "charmcraft.yaml").read_text())


def for_ops_testing(name: str = "maas-virtualbox") -> dict[str, Any]:
    """What `ops.testing.Context` is given: it knows no parameter of several types."""
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
    """The actions that a text tells people to run: charm, action, and the parameters they have."""
    return [
        (charm or "maas-virtualbox", action, _names(given))
        for _, charm, action, given in _ACTION.findall(text)
    ]


def assert_commands_exist(text: str) -> None:
    """Assert that our charms have all that a text tells people to type, and that it works so.

    Actions with their parameters, options, fields of secrets, endpoints and bindings. Juju reads
    parameters as YAML, in which a name may be a number; its account on a machine reads no journal.
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
        option for each in charms.values() for option in each["config"]["options"]
    }
    for charm, endpoint in _ENDPOINT.findall(text):
        assert endpoint in _endpoints(charms[charm])
    for given in _BINDINGS.findall(text):
        assert _names(given) <= _endpoints(charms["maas-virtualbox"])
    for given in _SECRET.findall(text):
        assert _names(given.replace("#file", "")) <= _SECRET_FIELDS


def _assert_types(action: dict[str, Any], flags: str, given: str) -> None:
    """Assert that Juju takes an action's parameters as they are written."""
    assert all(flag.startswith(_RUN_FLAGS) for flag in re.findall(r"(?<!\S)-\S+", flags)), flags
    for name, value in _PARAMETER.findall(given):
        (typed,) = shlex.split(value.removeprefix("=")) or [""]
        raw = "--string-args" in flags
        content = typed if raw else _as_juju_reads(typed)
        schema = action["params"][name]
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        if "enum" not in schema:
            # The first is meant; the charm refuses others, except for text of --string-args.
            kinds = [kinds[0], *({"string"} & set(kinds) if raw else ())]
        wanted = [kind for each in kinds for kind in _KINDS[each]]
        assert type(content) in wanted or "…" in typed, f"{name}{value}: --string-args"


def _as_juju_reads(text: str) -> object:
    """Read YAML as Go's reader does, for which all that looks like a number is one."""
    with contextlib.suppress(ValueError):
        return int(text) if text.isdecimal() else float(text)
    # What a template fills in may be anything.
    return None if text.startswith("{{") else yaml.safe_load(text)


def _endpoints(charm: dict[str, Any]) -> set[str]:
    kinds = ("peers", "provides", "requires")
    return {endpoint for kind in kinds for endpoint in charm.get(kind, {})}


def _names(given: str) -> set[str]:
    return set(re.findall(rf"([\w-]+){_VALUE}", given))
