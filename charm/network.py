# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The address at which MAAS reaches the power service.

MAAS polls only literal IP addresses on a subnet of one of its rack controllers.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import ops

import options
import statuses

if TYPE_CHECKING:
    from collections.abc import Sequence

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

BINDING = "peers"


def address(model: ops.Model, listen_subnet: str) -> str:
    """Return the first address of the binding, or its first address in a subnet.

    Args:
        model: The Juju model.
        listen_subnet: The option of this name; empty if it is not set.

    Raises:
        NotReady: The option is invalid, or Juju does not know such an address.
    """
    try:
        subnet = options.parse_subnet(listen_subnet)
    except ValueError as error:
        raise statuses.Blocked(str(error)) from None
    addresses = _list_addresses(model)
    if not addresses:
        raise statuses.Waiting("waiting for an IP address from Juju")
    matching = [address for address in addresses if subnet is None or address in subnet]
    if not matching:
        raise statuses.Blocked(
            f"listen-subnet: expected a subnet of this machine ({', '.join(map(str, addresses))}),"
            f" not {subnet}"
        )
    return str(matching[0])


def _list_addresses(model: ops.Model) -> Sequence[Address]:
    """Return the binding's IP addresses that other machines can reach, in Juju's order."""
    try:
        interfaces = model.get_binding(BINDING).network.interfaces
    except (ops.ModelError, ValueError):
        # network-get fails while no address is known. ops fails if it is a host name.
        return []
    addresses = [interface.address for interface in interfaces]
    return [
        address
        for address in addresses
        if isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
        and not address.is_link_local
    ]


def wildcard_address(address: str) -> str:
    """Return the address that means all of this machine, in the family of one of its addresses."""
    return "::" if ":" in address else "0.0.0.0"  # noqa: S104 - MAAS is on other machines
