# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The side that switches VMs: publishes its public keys, is told of accounts that own VMs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import ops

from maas_virtualbox.juju import databags
from maas_virtualbox.juju.schema import AccountData, KeysData, SSHKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.config.host_list import HostConfig


class HostsChangedEvent(ops.EventBase):
    """Hosts may have come, changed or gone, or there is somebody new to be told the keys."""


class RequirerEvents(ops.ObjectEvents):
    """What `VirtualBoxHostsRequirer.on` has."""

    hosts_changed = ops.EventSource(HostsChangedEvent)


@dataclasses.dataclass(frozen=True, slots=True)
class RelatedHost:
    """A unit's account that owns VMs."""

    unit: str
    """The unit, such as `laptop/0`; its name in this model."""

    host: HostConfig
    """The account, as in a host list; its name is the unit's with a dash: `laptop-0`."""

    gate: bool
    """Whether the keys are bound to the gate, and can switch VMs and nothing else."""

    virtualbox_version: str
    """Such as `7.2.22`; empty where it is not told."""


class VirtualBoxHostsRequirer(ops.Object):
    """All relations of one endpoint of the interface `virtualbox_hosts`. Made by the charm."""

    on = RequirerEvents()  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self, charm: ops.CharmBase, relation_name: str) -> None:
        """Observe the relations.

        Args:
            charm: ours.
            relation_name: the endpoint, as its metadata has it.
        """
        super().__init__(charm, f"{relation_name}-requirer")
        self._charm = charm
        self._name = relation_name
        self._known: tuple[RelatedHost, ...] | None = None
        """During one hook they stay the same, and so do complaints."""
        events = charm.on[relation_name]
        for event in (
            events.relation_created,
            events.relation_changed,
            events.relation_departed,
            events.relation_broken,
        ):
            self.framework.observe(event, self._on_relation_event)

    @property
    def is_related(self) -> bool:
        """Whether there is a relation, be it without hosts yet."""
        return bool(self._relations())

    def hosts(self) -> tuple[RelatedHost, ...]:
        """Return the hosts of all units that have published one, in a stable order."""
        if self._known is None:
            self._known = tuple(self._read_hosts())
        return self._known

    def publish_keys(self, keys: Iterable[str]) -> None:
        """Publish the public keys, of which each is to be let in; does nothing off the leader.

        Args:
            keys: `type base64` each: the one in use, and, while it is replaced, the next.
        """
        if self._charm.unit.is_leader():
            data = KeysData(public_keys=tuple(SSHKey(key=key) for key in keys))
            for relation in self._relations():
                relation.save(data, self._charm.app)

    def _read_hosts(self) -> list[RelatedHost]:
        found: list[RelatedHost] = []
        for relation in self._relations():
            for unit in sorted(relation.units, key=lambda unit: unit.name):

                def use(account: AccountData, unit: ops.Unit = unit) -> RelatedHost:
                    name = unit.name.replace("/", "-")
                    return RelatedHost(
                        unit.name, account.host(name), account.gate, account.virtualbox_version
                    )

                related = databags.read(relation, unit, AccountData, use)
                if related is not None:
                    found.append(related)
        return found

    def _relations(self) -> list[ops.Relation]:
        known = self._charm.model.relations[self._name]
        return sorted((each for each in known if each.active), key=lambda relation: relation.id)

    def _on_relation_event(self, _event: ops.EventBase) -> None:
        self.on.hosts_changed.emit()
