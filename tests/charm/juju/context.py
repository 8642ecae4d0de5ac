# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The context of one hook: its unit, and the state that its calls read and write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.charm.juju.model import JujuError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.charm.juju.applications import Application, Unit
    from tests.charm.juju.model import Relation, State
    from tests.charm.juju.resolver import Hook


class Action:
    """A running action."""

    def __init__(self, name: str, parameters: dict[str, object]) -> None:
        self.name = name
        self.parameters = parameters
        self.results: dict[str, Any] = {}
        self.messages: list[str] = []
        self.failure = ""
        """The charm's message about its failure."""


class HookContext:
    """A running hook."""

    def __init__(self, unit: Unit, hook: Hook, state: State, before: State) -> None:
        self.unit = unit
        self.hook = hook
        self.state = state
        """A copy of the model's state, which replaces it if the hook succeeds."""
        self._before = before
        self._relabelled: set[str] = set()
        """The IDs of the secrets to which the hook has given a label."""
        self._files: Mapping[str, str] = {}
        """The content of files in the arguments of the current call; "-" is its standard input."""

    @property
    def _action(self) -> Action:
        if self.hook.action is None:
            raise JujuError("not running an action")
        return self.hook.action

    @property
    def _application(self) -> Application:
        return self.unit.application

    def _must_lead(self, refusal: str) -> None:
        if not self.unit.is_leader:
            raise JujuError(refusal)

    def _relations(self) -> list[Relation]:
        """Return the relations of the unit."""
        return [it for it in self.state.relations.values() if self.unit.name in it.members]

    def _relation(self, reference: str) -> Relation:
        """Find a relation by the value of -r. Default: the relation of the hook."""
        if not reference and self.hook.relation is None:
            raise JujuError("no relation id specified")
        endpoint, _, number = reference.rpartition(":")
        wanted = number or str(self.hook.relation)
        for relation in self._relations():
            name = relation.endpoints[self._application.name]
            if str(relation.id) == wanted and endpoint in {"", name}:
                return relation
        raise JujuError(f'invalid value "{reference}" for option -r: relation not found')
