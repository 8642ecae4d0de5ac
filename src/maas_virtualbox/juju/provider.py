# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The provider of `virtualbox_hosts`: it authorises public keys and publishes its account."""

from __future__ import annotations

import ops

from maas_virtualbox.juju import databags, statuses
from maas_virtualbox.juju.databags import AccountData, KeysData


class KeysChangedEvent(ops.EventBase):
    """The set of keys may have changed. Keys that are no longer in it must be revoked."""


class ProviderEvents(ops.ObjectEvents):
    """The events of `VirtualBoxHostsProvider`."""

    keys_changed = ops.EventSource(KeysChangedEvent)


class VirtualBoxHostsProvider(ops.Object):
    """All relations of one endpoint with the interface `virtualbox_hosts`. A charm creates it."""

    on = ProviderEvents()  # pyright: ignore[reportAssignmentType, reportIncompatibleVariableOverride]

    def __init__(self, charm: ops.CharmBase, relation_name: str) -> None:
        """Observe the relations.

        Args:
            charm: The charm.
            relation_name: The name of the endpoint in charmcraft.yaml.
        """
        super().__init__(charm, f"{relation_name}-provider")
        self._charm = charm
        self._name = relation_name
        self._cache: dict[int, list[str]] = {}
        """The keys by relation ID. A cache, so that each warning is logged once in a hook."""
        events = charm.on[relation_name]
        for event in (events.relation_changed, events.relation_broken):
            self.framework.observe(event, self._on_relation_event)

    def keys(self) -> tuple[str, ...]:
        """Return the public keys to authorise, each as `type base64`. No other key may log in."""
        relations = self._charm.model.relations[self._name]
        return tuple(sorted({key for relation in relations for key in self._keys_of(relation)}))

    def publish(self, account: AccountData) -> None:
        """Publish this unit's account, after its keys have been authorised.

        A relation without a key gets the account later. If the account has no address, each
        relation gets its own ingress address.

        Raises:
            Waiting: Juju does not know that address yet. It fires config-changed later.
        """
        for relation in self._charm.model.relations[self._name]:
            if self._keys_of(relation):
                address = account.address or self._address_for(relation)
                relation.save(account.model_copy(update={"address": address}), self._charm.unit)

    def _address_for(self, relation: ops.Relation) -> str:
        try:
            address = self._charm.model.get_binding(relation).network.ingress_address
        except (ops.ModelError, ValueError):
            # network-get fails while no address is known. ops fails if it is a host name.
            address = None
        if not address:
            raise statuses.Waiting("waiting for an IP address from Juju")
        return str(address)

    def _keys_of(self, relation: ops.Relation) -> list[str]:
        if relation.id not in self._cache:
            self._cache[relation.id] = self._read_keys(relation)
        return self._cache[relation.id]

    def _read_keys(self, relation: ops.Relation) -> list[str]:
        # In some events of a relation that breaks, the other application is no longer known.
        application = relation.app if relation.active else None
        if application is None:  # pyright: ignore[reportUnnecessaryComparison]
            return []
        data = databags.read(relation, application, KeysData, lambda data: data)
        usable: list[str] = []
        for public_key in data.public_keys if data else ():
            if public_key.is_usable:
                usable.append(public_key.key)
            else:
                reason = f"{public_key.key!r} is not a public key"
                databags.warn(relation, application, reason)
        return usable

    def _on_relation_event(self, _event: ops.EventBase) -> None:
        self.on.keys_changed.emit()
