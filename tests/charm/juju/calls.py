# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Parses the command lines of hook tools and formats their output, as Juju does.

A tool is a method. Its positional parameters are the tool's arguments, and its keyword-only
parameters are the flags. Any other call is an `UnknownCall`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

import yaml

Tool = Callable[..., object]
_Tool = TypeVar("_Tool", bound=Tool)

_FORMATTED: set[Tool] = set()
"""The tools that have the flag --format."""


def formatted(method: _Tool) -> _Tool:
    """Mark a tool that has the flag --format."""
    _FORMATTED.add(method)
    return method


class UnknownCall(Exception):
    """A hook has made a call that the fake does not know."""


def parse(method: Tool, arguments: Sequence[str]) -> tuple[list[str], dict[str, str | bool]]:
    """Separate flags from arguments, as Juju does. "--flag value" can be anywhere."""
    parameters = inspect.signature(method).parameters
    known = {
        name.replace("_", "-"): parameter.default
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    if method in _FORMATTED:
        known["format"] = "smart"
    positional: list[str] = []
    flags: dict[str, str | bool] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            positional += rest
            break
        if not argument.startswith("-") or argument == "-":
            positional.append(argument)
            continue
        name, equals, value = argument.lstrip("-").partition("=")
        if name not in known:
            raise UnknownCall(f"flag provided but not defined: {argument}")
        variable = name.replace("-", "_")
        if isinstance(known[name], bool):
            if value.lower() not in {"", "true", "false"}:
                raise UnknownCall(f"{argument}: expected true or false")
            flags[variable] = value.lower() != "false"
        elif equals or rest:
            flags[variable] = value if equals else rest.pop(0)
        else:
            raise UnknownCall(f"flag needs an argument: {argument}")
    try:
        given = {name: value for name, value in flags.items() if name != "format"}
        inspect.signature(method).bind(None, *positional, **given)
    except TypeError as error:
        raise UnknownCall(str(error)) from None
    return positional, flags


def render(method: Tool, value: object, style: str) -> str:
    """Return the output of a tool for a value."""
    if method not in _FORMATTED:
        return "" if value is None else f"{value}\n"
    if style == "json":
        return json.dumps(value) + "\n"
    if style not in {"smart", "yaml"}:
        raise UnknownCall(f"unknown format {style}")
    if value is None:
        return ""
    return f"{value}\n" if isinstance(value, str | bool) else yaml.safe_dump(value)
