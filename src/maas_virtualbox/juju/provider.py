# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The side that owns VMs: authorises public keys, tells of its account."""

from __future__ import annotations

import ops

from maas_virtualbox.juju import databags, statuses
from maas_virtualbox.juju.schema import AccountData, KeysData


class KeysChangedEvent(ops.EventBase):
    """Keys may have come or gone: those that are gone are to be revoked."""


class ProviderEvents(ops.ObjectEvents):
    """What `VirtualBoxHostsProvider.on` has."""

    keys_changed = ops.EventSource(KeysChangedEvent)


class VirtualBoxHostsProvider(ops.Object):
    """All relations of one endpoint of the interface `virtualbox_hosts`. Made by the charm."""

    on = ProviderEvents()  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self, charm: ops.CharmBase, relation_name: str) -> None:
        """Observe the relations.

        Args:
            charm: ours.
            relation_name: the endpoint, as its metadata has it.
        """
        super().__init__(charm, f"{relation_name}-provider")
        self._charm = charm
        self._name = relation_name
        self._known: dict[int, list[str]] = {}
        """The keys by relation: during one hook they stay the same, and so do complaints."""
        events = charm.on[relation_name]
        for event in (events.relation_changed, events.relation_broken):
            self.framework.observe(event, self._on_relation_event)

    def keys(self) -> tuple[str, ...]:
        """Return the public keys, `type base64` each, that are to be let in, and no others."""
        known = self._charm.model.relations[self._name]
        return tuple(sorted({key for relation in known for key in self._keys_of(relation)}))

    def publish(self, account: AccountData) -> None:
        """Tell of this unit's account, after the keys have been authorised.

        Those who have published no key yet are told later. Without an address, each is told the
        one that it reaches this unit by.

        Raises:
            Unready: Juju knows no such address yet; config-changed tells when it does.
        """
        for relation in self._charm.model.relations[self._name]:
            if self._keys_of(relation):
                address = account.address or self._address_for(relation)
                relation.save(account.model_copy(update={"address": address}), self._charm.unit)

    def _address_for(self, relation: ops.Relation) -> str:
        try:
            reached = self._charm.model.get_binding(relation).network.ingress_address
        except (ops.ModelError, ValueError):
            # network-get fails while Juju knows no address, and ops does for a host name instead.
            reached = None
        if not reached:
            raise statuses.waiting("Juju knows no IP address of this machine yet")
        return str(reached)

    def _keys_of(self, relation: ops.Relation) -> list[str]:
        if relation.id not in self._known:
            self._known[relation.id] = self._read_keys(relation)
        return self._known[relation.id]

    def _read_keys(self, relation: ops.Relation) -> list[str]:
        # The other application is not known any more in some events of a relation that breaks.
        application = relation.app if relation.active else None
        if application is None:  # pyright: ignore[reportUnnecessaryComparison]
            return []
        data = databags.read(relation, application, KeysData, lambda data: data)
        usable: list[str] = []
        for each in data.public_keys if data else ():
            if each.is_usable:
                usable.append(each.key)
            else:
                databags.warn(relation, application, f"{each.key!r} is no public key")
        return usable

    def _on_relation_event(self, _event: ops.EventBase) -> None:
        self.on.keys_changed.emit()
