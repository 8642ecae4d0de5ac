# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which of this machine's addresses MAAS reaches the power service by.

MAAS polls literal IP addresses on a subnet of one of its racks, and nothing else.
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
    """Return the binding's first address, or the one in a subnet, if it is not empty.

    Raises:
        Unready: it is no subnet, or Juju knows of no such address.
    """
    try:
        subnet = options.parse_subnet(listen_subnet)
    except ValueError as error:
        raise statuses.blocked(str(error)) from None
    known = _addresses(model)
    if not known:
        raise statuses.waiting("Juju knows no IP address of this machine yet")
    chosen = [each for each in known if subnet is None or each in subnet]
    if not chosen:
        raise statuses.blocked(
            f"listen-subnet: expected a subnet of this machine ({', '.join(map(str, known))}),"
            f" not {subnet}"
        )
    return str(chosen[0])


def _addresses(model: ops.Model) -> Sequence[Address]:
    """Return the binding's IP addresses that other machines can reach, in Juju's order."""
    try:
        interfaces = model.get_binding(BINDING).network.interfaces
    except (ops.ModelError, ValueError):
        # network-get fails while Juju knows no address, and ops does for a host name instead.
        return []
    addresses = [interface.address for interface in interfaces]
    return [
        each
        for each in addresses
        if isinstance(each, ipaddress.IPv4Address | ipaddress.IPv6Address)
        and not each.is_link_local
    ]


def any_address(like: str) -> str:
    """Return what stands for all of this machine's addresses, where one of them is like this."""
    return "::" if ":" in like else "0.0.0.0"  # noqa: S104 - MAAS is on other machines
