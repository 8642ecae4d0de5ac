# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The requirer of `virtualbox_hosts`: it publishes its public keys and reads the hosts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import ops

from maas_virtualbox.juju import databags
from maas_virtualbox.juju.databags import AccountData, KeysData, SSHKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.config.host_list import HostConfig


class HostsChangedEvent(ops.EventBase):
    """The hosts may have changed, or there is a new relation that needs the keys."""


class RequirerEvents(ops.ObjectEvents):
    """The events of `VirtualBoxHostsRequirer`."""

    hosts_changed = ops.EventSource(HostsChangedEvent)


@dataclasses.dataclass(frozen=True, slots=True)
class RelatedHost:
    """An account of a related unit, which owns VMs."""

    unit: str
    """The unit's name in this model, for example `laptop/0`."""

    host: HostConfig
    """The account as an entry of a host list. Its name is the unit's with a dash: `laptop-0`."""

    gate: bool
    """Whether the keys are restricted keys, which can only control VMs."""

    virtualbox_version: str
    """For example `7.2.22`; empty if it is unknown."""


class VirtualBoxHostsRequirer(ops.Object):
    """All relations of one endpoint with the interface `virtualbox_hosts`. A charm creates it."""

    on = RequirerEvents()  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self, charm: ops.CharmBase, relation_name: str) -> None:
        """Observe the relations.

        Args:
            charm: The charm.
            relation_name: The name of the endpoint in charmcraft.yaml.
        """
        super().__init__(charm, f"{relation_name}-requirer")
        self._charm = charm
        self._name = relation_name
        self._cache: tuple[RelatedHost, ...] | None = None
        """A cache, so that each warning is logged once in a hook."""
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
        """Whether there is a relation, possibly without hosts yet."""
        return bool(self._relations())

    def hosts(self) -> tuple[RelatedHost, ...]:
        """Return the hosts of all units that have published one, in a stable order."""
        if self._cache is None:
            self._cache = tuple(self._read_hosts())
        return self._cache

    def publish_keys(self, keys: Iterable[str]) -> None:
        """Publish the public keys to authorise. Units other than the leader do nothing.

        Args:
            keys: Each as `type base64`: the key in use and, during a rotation, the next key.
        """
        if self._charm.unit.is_leader():
            data = KeysData(public_keys=tuple(SSHKey(key=key) for key in keys))
            for relation in self._relations():
                relation.save(data, self._charm.app)

    def _read_hosts(self) -> list[RelatedHost]:
        hosts: list[RelatedHost] = []
        for relation in self._relations():
            for unit in sorted(relation.units, key=lambda unit: unit.name):

                def convert(account: AccountData, unit: ops.Unit = unit) -> RelatedHost:
                    name = unit.name.replace("/", "-")
                    return RelatedHost(
                        unit.name, account.host(name), account.gate, account.virtualbox_version
                    )

                related = databags.read(relation, unit, AccountData, convert)
                if related is not None:
                    hosts.append(related)
        return hosts

    def _relations(self) -> list[ops.Relation]:
        relations = self._charm.model.relations[self._name]
        active = (relation for relation in relations if relation.active)
        return sorted(active, key=lambda relation: relation.id)

    def _on_relation_event(self, _event: ops.EventBase) -> None:
        self.on.hosts_changed.emit()
