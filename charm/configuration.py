# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The desired state of a unit, from its options, secrets, relations and address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import certificates
import credentials
import hosts
import network
import options
import statuses
import workload
from maas_virtualbox.config.config_file import Listen

if TYPE_CHECKING:
    import ops


class Configuration:
    """Collects the desired state of a unit. The charm creates one for each event."""

    def __init__(self, charm: ops.CharmBase) -> None:
        """Observe the relations that belong to the configuration."""
        self._charm = charm
        self.certificates = certificates.Certificates(charm, self.address)
        self.credentials = credentials.SharedCredentials(charm)
        self.hosts = hosts.Hosts(charm, self.credentials)

    def address(self) -> str:
        """Return the literal IP address at which MAAS reaches this unit.

        Raises:
            NotReady: Juju does not know such an address, or listen-subnet is invalid.
        """
        # Only this option is validated: another invalid option must not revoke a certificate.
        return network.address(self._charm.model, str(self._charm.config["listen-subnet"]))

    def config_inputs(self) -> str:
        """Return everything that config-changed can be about, as one text. Raises `NotReady`."""
        return repr((sorted(self._charm.config.items()), self.address()))

    def options(self) -> options.CharmOptions:
        """Return the options, without related hosts. Raises `Blocked` if one is invalid."""
        try:
            return options.parse(self._charm.config)
        except ValueError as error:
            raise statuses.Blocked(str(error)) from None

    def options_with_related_hosts(self) -> options.CharmOptions:
        """Return the options, with the related hosts. Raises `Blocked` if one is invalid."""
        return self.hosts.merge(self.options())

    def publish_keys(self) -> None:
        """Publish the public keys to related hosts. Raises `NotReady` if there is no key."""
        self.hosts.publish_keys(self.options().ssh_private_key)

    def service_config(self) -> workload.ServiceConfig:
        """Return the desired configuration of the power service.

        Raises:
            NotReady: Something is invalid or missing.
        """
        charm, chosen = self._charm, self.options_with_related_hosts()
        self.hosts.check_not_empty(chosen)
        shared = self.credentials.load()
        certificate, certificate_key = self.certificates.assigned()
        listen = Listen(network.wildcard_address(self.address()), chosen.listen_port)
        return workload.ServiceConfig(
            options=chosen.service_options(),
            listen=str(listen),
            ssh_private_key=self.ssh_private_key(),
            tokens=shared.tokens,
            maas_api_key=credentials.read_maas_api_key(charm, chosen.maas_api_key),
            tls_certificate=certificate,
            tls_key=certificate_key,
            power_template=chosen.power_template,
        )

    def ssh_private_key(self) -> str:
        """Return the private key for the hosts. Raises `NotReady` if there is none."""
        uri = self.options().ssh_private_key
        key = credentials.read_ssh_private_key(self._charm, uri)
        return key or self.credentials.load().ssh_private_key
