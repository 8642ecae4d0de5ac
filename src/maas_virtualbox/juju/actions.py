# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Actions. `juju run` reads parameters and prints results as YAML, which has pitfalls.

A VM named 101 arrives as a number, 0101 arrives as 65, and with `--string-args` the parameter
`force=true` arrives as text. Therefore charms declare several types for a parameter, and `Action`
converts the value to the intended type.

`juju run` folds a string at 80 columns, which breaks a line of authorized_keys. It quotes a string
that has blanks before a newline, or a character that Juju does not print. It prints any other
string that ends in a newline unchanged. Therefore `Action.set_results` writes such strings.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ops

from maas_virtualbox.juju import statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_MAX_UNFOLDED_LENGTH = 70
"""The length of a result's name and value, in characters, up to which Juju does not fold."""
_LAST_PRINTED = "\uffff"
"""Juju escapes all characters after this one, such as emoji."""


class ActionError(Exception):
    """The action cannot run. The message says what to type instead."""


class Action:
    """The parameters and results of one running action. `Actions` creates it."""

    def __init__(self, event: ops.ActionEvent) -> None:
        """Wrap an event of ops."""
        self._event = event
        self._parameters: Mapping[str, Any] = event.params

    def fail(self, message: str) -> None:
        """Mark the action as failed. Its results stay."""
        self._event.fail(message)

    def flag(self, name: str) -> bool:
        """Return a boolean. Raises `ActionError` if the value is invalid."""
        value = self._parameters[name]
        try:
            return value if isinstance(value, bool) else _FLAGS[value.lower()]
        except KeyError:
            raise ActionError(f"{name}: expected true or false, not {value!r}") from None

    def integer(self, name: str) -> int | None:
        """Return an integer, or None if it is not set. Raises `ActionError` if it is invalid."""
        value = self._parameters.get(name)
        try:
            return None if value is None else int(value)
        except ValueError:
            raise ActionError(f"{name}: expected a whole number, not {value!r}") from None

    def number(self, name: str, *, at_least: float, at_most: float) -> float:
        """Return a number within limits. Raises `ActionError` if it is invalid."""
        value = self._parameters[name]
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not at_least <= number <= at_most:
            raise ActionError(
                f"{name}: expected a number from {at_least:g} to {at_most:g}, not {value!r}"
            )
        return number

    def set_results(self, results: Mapping[str, object]) -> None:
        """Set results. If a value has several lines, or Juju would fold it, append a newline."""
        self._event.set_results(
            {name: _format(str(value), name_length=len(name)) for name, value in results.items()}
        )

    def text(self, name: str) -> str:
        """Return a string; empty if it is not set.

        Raises:
            ActionError: Juju read the value as a number or a boolean. The typed text is lost: 0101
                and 65 are the same number.
        """
        value = self._parameters.get(name, "")
        if isinstance(value, str):
            return value
        read_as = "true or false" if isinstance(value, bool) else "a number"
        raise ActionError(
            f"{name}: expected text, but Juju read it as {read_as} ({json.dumps(value)}):"
            " repeat the command with --string-args after `juju run`"
        )

    def choice(self, name: str) -> str:
        """Return a value of an `enum`. A boolean means `on` or `off`."""
        value = self._parameters[name]
        return ("on" if value else "off") if isinstance(value, bool) else str(value)


class Actions(ops.Object):
    """Observes the actions of a charm and runs their functions."""

    def __init__(
        self, charm: ops.CharmBase, functions: Mapping[str, Callable[[Action], None]]
    ) -> None:
        """Observe the actions.

        Args:
            charm: The charm.
            functions: The function of each action, by the action's name in charmcraft.yaml. It
                may raise `ActionError`, or `NotReady` if the unit cannot run the action now.
        """
        super().__init__(charm, "actions")
        self._functions = functions
        for name in functions:
            self.framework.observe(charm.on[name].action, self._on_action)

    def _on_action(self, event: ops.ActionEvent) -> None:
        name = event.handle.kind.removesuffix("_action").replace("_", "-")
        try:
            self._functions[name](Action(event))
        except (ActionError, statuses.NotReady) as error:
            event.fail(str(error))


def _format(text: str, *, name_length: int) -> str:
    lines = [_escape(line).rstrip() for line in text.splitlines()]
    is_folded = " " in text and name_length + len(text) > _MAX_UNFOLDED_LENGTH
    if len(lines) <= 1 and not is_folded:
        return "".join(lines)
    return "\n".join(lines).rstrip("\n") + "\n"


def _escape(line: str) -> str:
    """Replace characters that Juju does not print by escapes that are also valid in JSON."""
    return "".join(
        char if char.isprintable() and char <= _LAST_PRINTED else json.dumps(char)[1:-1]
        for char in line
    )
