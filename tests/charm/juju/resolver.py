# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Decides which hook a unit runs next: it compares what the unit knows with the model.

The order is that of Juju's uniter (internal/worker/uniter/resolver.go, relation/resolver.go,
operation/runhook.go). There is no queue of events: two changes before the next hook cause one
event. Only the hooks after upgrade-charm and after the first config-changed are queued.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.charm.juju.applications import Unit
    from tests.charm.juju.context import Action
    from tests.charm.juju.model import Address, Relation


@dataclasses.dataclass(frozen=True)
class Hook:
    """One dispatch of a charm."""

    name: str
    """The value of JUJU_HOOK_NAME; empty for an action."""
    relation: int | None = None
    remote_application: str = ""
    remote_unit: str = ""
    departing_unit: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    """Further environment variables."""
    action: Action | None = None
    prepare: Callable[[], object] = lambda: None
    """What Juju does before the hook."""
    succeeded: Callable[[], object] = lambda: None
    """Records what the unit knows after the hook."""


@dataclasses.dataclass
class RelationView:
    """What a unit knows about one relation."""

    created: bool = False
    members: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """The version of the databag of each remote unit that has joined."""
    application: int = 0
    """The version of the remote application's databag."""
    joined: str = ""
    """A unit that has joined. Its changed hook is next."""


@dataclasses.dataclass
class UnitView:
    """What a unit knows about the model."""

    installed: bool = False
    started: bool = False
    stopped: bool = False
    leader: bool = False
    status_set: bool = False
    """Whether the charm has ever set the unit's status."""
    config: int = -1
    addresses: tuple[Address, ...] = ()
    """The addresses at the last config-changed."""
    queued: str = ""
    """The hook that must be next."""
    upgrades: int = 0
    relations: dict[int, RelationView] = dataclasses.field(default_factory=dict[int, RelationView])
    secrets: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    """The newest revision of each secret."""


def next_hook(unit: Unit) -> Hook | None:
    """Return the next hook of a unit; None if it knows the current state of the model."""
    return next(_due(unit), None)


def _due(unit: Unit) -> Iterator[Hook]:
    view = unit.view
    if unit.failed is not None:
        # Only actions run until the failed hook has succeeded.
        yield unit.failed
    if view.queued:
        yield _named(unit, view.queued)
    if view.installed and not unit.dying:
        yield from _before_others(unit)
    if unit.dying:
        yield from _end(unit)
        return
    if not view.installed:
        yield _named(unit, "install")
    if view.upgrades != unit.upgrades:
        yield _named(unit, "upgrade-charm")
    if view.config != unit.application.config_version or view.addresses != unit.addresses:
        yield _named(unit, "config-changed")
    for relation in _relations(unit):
        if relation.dying:
            yield from _leave(unit, relation)
        else:
            yield from _follow(unit, relation)


def _named(unit: Unit, name: str) -> Hook:
    """Return a lifecycle hook, with its consequences."""
    view, upgrades = unit.view, unit.upgrades
    match name:
        case "install":
            # A unit that was refreshed before its install hook has only had the new charm.
            known = {"installed": True, "upgrades": upgrades}
            return Hook(name, prepare=unit.swap_charm, succeeded=_set(view, **known))
        case "upgrade-charm":
            known = {"upgrades": upgrades, "queued": "config-changed"}
            return Hook(name, prepare=unit.swap_charm, succeeded=_set(view, **known))
        case "config-changed":
            known = {
                "config": unit.application.config_version,
                "addresses": unit.addresses,
                "queued": "" if view.started else "start",
            }
            return Hook(name, succeeded=_set(view, **known))
        case "start":
            return Hook(name, succeeded=_set(view, started=True, queued=""))
        case _:
            raise AssertionError(name)


def _before_others(unit: Unit) -> Iterator[Hook]:
    """Yield the hooks that precede all others after install."""
    view = unit.view
    _enter(unit)
    for relation in _relations(unit):
        seen = view.relations.get(relation.id)
        if seen is not None and not seen.created and not relation.dying:
            hook = _relation_hook(unit, relation, "created")
            yield dataclasses.replace(hook, succeeded=_set(seen, created=True))
    if unit.is_leader and not view.leader:
        yield Hook("leader-elected", succeeded=_set(view, leader=True))
    yield from _secrets(unit)


def _end(unit: Unit) -> Iterator[Hook]:
    for relation in _relations(unit):
        yield from _leave(unit, relation)
    if unit.view.started and not unit.view.stopped:
        yield Hook("stop", succeeded=_set(unit.view, stopped=True))
    elif unit.view.installed:
        yield Hook("remove", succeeded=unit.gone)
    else:
        unit.gone()


def _relations(unit: Unit) -> list[Relation]:
    found = unit.juju.state.relations.values()
    return [relation for relation in found if unit.application.name in relation.endpoints]


def _set(record: UnitView | RelationView, **values: object) -> Callable[[], None]:
    def apply() -> None:
        for name, value in values.items():
            setattr(record, name, value)

    return apply


def _relation_hook(unit: Unit, relation: Relation, event: str, remote_unit: str = "") -> Hook:
    return Hook(
        f"{relation.endpoints[unit.application.name]}-relation-{event}",
        relation.id,
        relation.remote_application(unit.application.name),
        remote_unit,
    )


def _enter(unit: Unit) -> None:
    """Add a unit to all relations that are not dying, before its first relation hook."""
    addresses = [address for address in unit.addresses if address.value]
    for relation in _relations(unit):
        if unit.name not in relation.members and not relation.dying:
            relation.members.add(unit.name)
            unit.view.relations[relation.id] = RelationView()
            relation.bags[unit.name] = {}
            for address in addresses[:1]:
                relation.bags[unit.name] = {
                    "egress-subnets": address.subnet,
                    "ingress-address": address.value,
                    "private-address": address.value,
                }


def _leave(unit: Unit, relation: Relation) -> Iterator[Hook]:
    seen = unit.view.relations.get(relation.id)
    if seen is not None:
        for member in sorted(seen.members):
            yield _departed(unit, relation, seen, member)
        if seen.created and not relation.is_peer:
            broken = _relation_hook(unit, relation, "broken")
            left = functools.partial(unit.left, relation.id)
            yield dataclasses.replace(broken, succeeded=left)
    unit.left(relation.id)


def _departed(unit: Unit, relation: Relation, seen: RelationView, member: str) -> Hook:
    return dataclasses.replace(
        _relation_hook(unit, relation, "departed", member),
        departing_unit=unit.name if unit.dying or unit.application.dying else member,
        succeeded=functools.partial(seen.members.pop, member),
    )


def _follow(unit: Unit, relation: Relation) -> Iterator[Hook]:
    """Yield the hooks of a relation that is not dying, in the order of nextHookForRelation."""
    seen = unit.view.relations.get(relation.id)
    if seen is None:
        # The unit has already left the relation.
        return
    remote = relation.remote_application(unit.application.name)
    members = relation.remote_units(unit.name)
    if seen.joined:
        yield _changed(unit, relation, seen, seen.joined)
    for member in sorted(set(seen.members) - set(members)):
        yield _departed(unit, relation, seen, member)
    if seen.application != (version := relation.versions.get(remote, 0)):
        hook = _relation_hook(unit, relation, "changed")
        yield dataclasses.replace(hook, succeeded=_set(seen, application=version))
    for member in members:
        if member not in seen.members:
            hook = _relation_hook(unit, relation, "joined", member)
            known = {**seen.members, member: -1}
            yield dataclasses.replace(hook, succeeded=_set(seen, members=known, joined=member))
    for member in members:
        if seen.members[member] != relation.versions.get(member, 0):
            yield _changed(unit, relation, seen, member)


def _changed(unit: Unit, relation: Relation, seen: RelationView, member: str) -> Hook:
    known = {**seen.members, member: relation.versions.get(member, 0)}
    hook = _relation_hook(unit, relation, "changed", member)
    return dataclasses.replace(hook, succeeded=_set(seen, members=known, joined=""))


def _secrets(unit: Unit) -> Iterator[Hook]:
    for secret in sorted(unit.juju.state.secrets.values(), key=lambda secret: secret.id):
        owner = secret.owner == unit.name or (
            secret.owner == unit.application.name and unit.is_leader
        )
        own_label = secret.label if owner or secret.owner == unit.application.name else ""
        label = secret.labels.get(unit.name) or own_label
        named = (("JUJU_SECRET_ID", secret.uri), ("JUJU_SECRET_LABEL", label))
        latest = secret.latest
        known = max(secret.tracked.get(unit.name, latest), unit.view.secrets.get(secret.id, 0))
        # This includes the owner, unless it has read its latest revision.
        if known < latest and secret.is_readable_by(unit.name):
            note = functools.partial(unit.view.secrets.__setitem__, secret.id, latest)
            yield Hook("secret-changed", environment=named, succeeded=note)
        for revision in secret.unneeded() if owner else ():
            if revision not in secret.removals_notified:
                numbered = (*named, ("JUJU_SECRET_REVISION", str(revision)))
                note = functools.partial(_note_removal, unit, secret.id, revision)
                yield Hook("secret-remove", environment=numbered, succeeded=note)


def _note_removal(unit: Unit, identifier: str, revision: int) -> None:
    # The charm may have removed the secret in the meantime.
    if (secret := unit.juju.state.secrets.get(identifier)) is not None:
        secret.removals_notified.add(revision)
