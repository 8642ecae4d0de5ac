# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which hosts there are: those of config, and those of the relation `virtualbox-hosts`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import credentials
import statuses
from maas_virtualbox.config import config_file
from maas_virtualbox.juju import VirtualBoxHostsRequirer

if TYPE_CHECKING:
    import ops

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.juju import RelatedHost
    from options import CharmOptions

log = logging.getLogger(__name__)

RELATION = "virtualbox-hosts"


class Hosts:
    """Merges the related hosts with config's, which win.

    Nothing is lost where a related unit has an account that stands in config too, so that is only
    logged. Where it has the name of another account, it is left out, and the status says so.
    """

    def __init__(self, charm: ops.CharmBase, shared: credentials.Shared) -> None:
        """Observe the relation."""
        self._charm = charm
        self._shared = shared
        self._related = VirtualBoxHostsRequirer(charm, RELATION)
        self._said: set[str] = set()
        self.changed = self._related.on.hosts_changed

    def publish_keys(self, uri: str) -> None:
        """Tell the related units whom to let in, the next key of a rotation too.

        Args:
            uri: of the secret with the key that people made for us; empty if they made none.

        Raises:
            Unready: a key is not there yet, or cannot be read.
        """
        if self._related.is_related and self._charm.unit.is_leader():
            given = credentials.given_ssh_key(self._charm, uri)
            keys = [credentials.public_key(given)] if given else self._shared.public_keys()
            self._related.publish_keys(keys)

    def merge(self, chosen: CharmOptions) -> CharmOptions:
        """Return the options with the related hosts among config's."""
        if chosen.hosts == config_file.FROM_ZONES:
            return chosen
        merged = {_place(host): host for host in chosen.hosts}
        names = {host.name for host in chosen.hosts}
        for related in self._related.hosts():
            host = related.host
            if known := merged.get(_place(host)):
                self._say(f"{related.unit}: {host.account} is host {known.name} already")
            elif host.name not in names:
                merged[_place(host)] = host
        return chosen.model_copy(update={"hosts": tuple(merged.values())})

    def missing(self) -> statuses.Unready:
        """Return why there is no host at all."""
        if self._related.is_related:
            return statuses.waiting("the related units have published no host yet")
        return statuses.blocked(
            f"no hosts: juju config {self._charm.app.name} hosts='user@address'"
        )

    def check(self, chosen: CharmOptions) -> None:
        """Look for related hosts that are left out, or published twice.

        Args:
            chosen: the options as people wrote them.

        Raises:
            Unready: there is one; the status says what to type.
        """
        related = self._related.hosts()
        published: dict[tuple[str, str, int], RelatedHost] = {}
        for each in related:
            other = published.setdefault(_place(each.host), each)
            if other is not each:
                raise statuses.blocked(
                    f"virtualbox-hosts: {other.unit} and {each.unit} publish the same host,"
                    f" {each.host.account}: remove one of them"
                )
        if chosen.hosts == config_file.FROM_ZONES:
            if related:
                units = ", ".join(each.unit for each in related)
                raise statuses.blocked(f"hosts: from-zones leaves out what is related: {units}")
            return
        named = {host.name: host for host in chosen.hosts}
        for each in related:
            other = named.get(each.host.name)
            if other is not None and _place(other) != _place(each.host):
                raise statuses.blocked(
                    f"hosts: {each.host.account} of {each.unit} is left out, for"
                    f" {other.account} is called {other.name}: give that another name="
                )

    def _say(self, sentence: str) -> None:
        """Log a warning, once in a hook."""
        if sentence not in self._said:
            self._said.add(sentence)
            log.warning("%s", sentence)


def _place(host: HostConfig) -> tuple[str, str, int]:
    return host.user, host.address.lower(), host.port
