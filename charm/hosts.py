# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The hosts: those of the option `hosts`, and those of the relation `virtualbox-hosts`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import credentials
import statuses
from maas_virtualbox.config import config_file
from maas_virtualbox.juju import VirtualBoxHostsRequirer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import ops

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.juju import RelatedHost
    from options import CharmOptions

log = logging.getLogger(__name__)

RELATION = "virtualbox-hosts"


class Hosts:
    """Merges the related hosts with the configured hosts, which have priority.

    If a related unit publishes an account that is also configured, it is ignored, and a message is
    logged. If a related host has the name of another account, it is ignored, and the status says
    so.
    """

    def __init__(self, charm: ops.CharmBase, shared: credentials.SharedCredentials) -> None:
        """Observe the relation."""
        self._charm = charm
        self._shared = shared
        self._related = VirtualBoxHostsRequirer(charm, RELATION)
        self._logged: set[str] = set()
        self.changed = self._related.on.hosts_changed

    def publish_keys(self, uri: str) -> None:
        """Publish the public keys to the related units, including the next key of a rotation.

        Args:
            uri: The URI of the user secret with the private key; empty if there is none.

        Raises:
            NotReady: A key does not exist yet, or cannot be read.
        """
        if self._related.is_related and self._charm.unit.is_leader():
            key = credentials.read_ssh_private_key(self._charm, uri)
            keys = [credentials.public_key(key)] if key else self._shared.public_keys()
            self._related.publish_keys(keys)

    def merge(self, chosen: CharmOptions) -> CharmOptions:
        """Return the options with the related hosts added to the configured hosts."""
        if chosen.hosts == config_file.FROM_ZONES:
            return chosen
        merged = {_account_key(host): host for host in chosen.hosts}
        names = {host.name for host in chosen.hosts}
        for related in self._related.hosts():
            host = related.host
            if known := merged.get(_account_key(host)):
                self._warn(f"{related.unit}: {host.account} is already configured as {known.name}")
            elif host.name not in names:
                merged[_account_key(host)] = host
        return chosen.model_copy(update={"hosts": tuple(merged.values())})

    def check_not_empty(self, merged: CharmOptions) -> None:
        """Check that there is a host.

        Raises:
            NotReady: There is none. The status says what to do.
        """
        if merged.hosts:
            return
        if self._related.is_related:
            raise statuses.Waiting("waiting for the related units to publish a host")
        raise statuses.Blocked(
            f"no hosts: juju config {self._charm.app.name} hosts='user@address'"
        )

    def check(self, chosen: CharmOptions) -> None:
        """Check that no related host is ignored or published twice.

        Args:
            chosen: The options, without related hosts.

        Raises:
            Blocked: There is such a host. The status says what to do.
        """
        related = self._related.hosts()
        _check_duplicates(related)
        if chosen.hosts == config_file.FROM_ZONES:
            if related:
                units = ", ".join(host.unit for host in related)
                raise statuses.Blocked(f"hosts: from-zones ignores related units: {units}")
        else:
            _check_names(related, chosen.hosts)

    def _warn(self, message: str) -> None:
        """Log a warning, once in a hook."""
        if message not in self._logged:
            self._logged.add(message)
            log.warning("%s", message)


def _check_duplicates(related: Sequence[RelatedHost]) -> None:
    published: dict[tuple[str, str, int], RelatedHost] = {}
    for host in related:
        first = published.setdefault(_account_key(host.host), host)
        if first is not host:
            raise statuses.Blocked(
                f"virtualbox-hosts: {first.unit} and {host.unit} publish the same host,"
                f" {host.host.account}: remove one of them"
            )


def _check_names(related: Sequence[RelatedHost], configured: Sequence[HostConfig]) -> None:
    configured_by_name = {host.name: host for host in configured}
    for host in related:
        other = configured_by_name.get(host.host.name)
        if other is not None and _account_key(other) != _account_key(host.host):
            raise statuses.Blocked(
                f"hosts: {host.host.account} of {host.unit} is ignored, because"
                f" {other.account} has the name {other.name}: set another name="
            )


def _account_key(host: HostConfig) -> tuple[str, str, int]:
    return host.user, host.address.lower(), host.port
