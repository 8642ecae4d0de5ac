# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the machine is to be like, by options, secrets, relations and the unit's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

import credentials
import network
import workload
from maas_virtualbox.config.config_file import Listen

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm


def collect(charm: MAASVirtualBoxCharm) -> workload.Wanted:
    """Return what is wanted of the power service.

    Raises:
        Unready: something is wrong or missing.
    """
    chosen = charm.hosts.merge(charm.chosen())
    if not chosen.hosts:
        raise charm.hosts.missing()
    shared = charm.shared.load()
    certificate, certificate_key = charm.certificates.assigned()
    return workload.Wanted(
        options=chosen.service_options(),
        listen=str(Listen(network.any_address(charm.address()), chosen.listen_port)),
        ssh_private_key=credentials.given_ssh_key(charm, chosen.ssh_private_key)
        or shared.ssh_private_key,
        tokens=shared.tokens,
        maas_api_key=credentials.given_api_key(charm, chosen.maas_api_key),
        tls_certificate=certificate,
        tls_key=certificate_key,
        power_template=chosen.power_template,
    )
