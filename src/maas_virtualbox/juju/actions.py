# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Actions as people type and read them: `juju run` reads parameters and prints results as YAML.

A VM named 101 arrives as a number, 0101 as 65, and with `--string-args` the parameter `force=true`
as text. So charms declare several types for a parameter, and `Action` says what was meant.

A string is folded at 80 columns, which breaks an authorized_keys line. A text with blanks before a
newline, or with a character that Juju does not print, becomes one long quoted string. What ends in
a newline and has none of these is printed as it is: so does `Action.show` write it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ops

from maas_virtualbox.juju import statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_FLAGS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_LONGEST_UNFOLDED = 70
"""Characters of a result's name and value that Juju never folds."""
_LAST_PRINTED = "\uffff"
"""Juju escapes all characters after this one, such as emoji."""


class Refused(Exception):
    """A parameter is not what the action expects; the text says what to type instead."""


class Action:
    """One action that runs: its parameters and its results. Made by `Actions`."""

    def __init__(self, event: ops.ActionEvent) -> None:
        """Take an event of ops."""
        self._event = event
        self._parameters: Mapping[str, Any] = event.params

    def fail(self, message: str) -> None:
        """Say why the action failed; results stay."""
        self._event.fail(message)

    def flag(self, name: str) -> bool:
        """Return true or false. Raises `Refused`."""
        value = self._parameters[name]
        try:
            return value if isinstance(value, bool) else _FLAGS[value.lower()]
        except KeyError:
            raise Refused(f"{name}: expected true or false, not {value!r}") from None

    def integer(self, name: str) -> int | None:
        """Return a whole number; None if it was not given. Raises `Refused`."""
        value = self._parameters.get(name)
        try:
            return None if value is None else int(value)
        except ValueError:
            raise Refused(f"{name}: expected a whole number, not {value!r}") from None

    def number(self, name: str, *, at_least: float, at_most: float) -> float:
        """Return a number within limits. Raises `Refused`."""
        value = self._parameters[name]
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not at_least <= number <= at_most:
            raise Refused(
                f"{name}: expected a number from {at_least:g} to {at_most:g}, not {value!r}"
            )
        return number

    def show(self, results: Mapping[str, object]) -> None:
        """Set results. Those with several lines, or that Juju would fold, end in a newline."""
        self._event.set_results(
            {name: _printed(str(value), room=len(name)) for name, value in results.items()}
        )

    def text(self, name: str) -> str:
        """Return text; empty if it was not given.

        Raises:
            Refused: Juju read a number or a boolean, in which what was typed is lost: 0101 and 65
                are the same.
        """
        value = self._parameters.get(name, "")
        if isinstance(value, str):
            return value
        kind = "true or false" if isinstance(value, bool) else "a number"
        raise Refused(
            f"{name}: expected text, but Juju read it as {kind} ({json.dumps(value)}):"
            " repeat the command with --string-args after `juju run`"
        )

    def word(self, name: str) -> str:
        """Return one of the words of an `enum`, in which `on` and `off` may be booleans."""
        value = self._parameters[name]
        return ("on" if value else "off") if isinstance(value, bool) else str(value)


class Actions(ops.Object):
    """Observes the actions of a charm."""

    def __init__(
        self, charm: ops.CharmBase, methods: Mapping[str, Callable[[Action], None]]
    ) -> None:
        """Observe them.

        Args:
            charm: whose.
            methods: what runs an action, by its name in charmcraft.yaml. It may raise `Refused`,
                or `Unready` where the unit cannot do it now.
        """
        super().__init__(charm, "actions")
        self._methods = methods
        for name in methods:
            self.framework.observe(charm.on[name].action, self._on_action)

    def _on_action(self, event: ops.ActionEvent) -> None:
        name = event.handle.kind.removesuffix("_action").replace("_", "-")
        try:
            self._methods[name](Action(event))
        except (Refused, statuses.Unready) as error:
            event.fail(str(error))


def _printed(text: str, *, room: int) -> str:
    lines = [_plain(line).rstrip() for line in text.splitlines()]
    is_folded = " " in text and room + len(text) > _LONGEST_UNFOLDED
    if len(lines) <= 1 and not is_folded:
        return "".join(lines)
    return "\n".join(lines).rstrip("\n") + "\n"


def _plain(line: str) -> str:
    """Write what Juju does not print as an escape that is right in JSON too."""
    return "".join(
        char if char.isprintable() and char <= _LAST_PRINTED else json.dumps(char)[1:-1]
        for char in line
    )
