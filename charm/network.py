# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which of this machine's addresses MAAS reaches the power service by.

MAAS polls literal IP addresses on a subnet of one of its racks, and nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import options
import statuses

if TYPE_CHECKING:
    import ops


BINDING = "peers"


def address(model: ops.Model, listen_subnet: str) -> str:
    """Return the binding's address, or the one in a subnet, if it is not empty.

    Raises:
        Unready: it is no subnet, or Juju knows of no such address.
    """
    try:
        subnet = options.parse_subnet(listen_subnet)
    except ValueError as error:
        raise statuses.blocked(str(error)) from None
    interfaces = model.get_binding(BINDING).network.interfaces
    known = [interface.address for interface in interfaces]
    addresses = [each for each in known if each is not None and not isinstance(each, str)]
    if subnet is not None:
        addresses = [each for each in addresses if each in subnet]
    if not addresses:
        if subnet is None:
            raise statuses.waiting("Juju knows no IP address of this machine yet")
        others = ", ".join(map(str, known)) or "none"
        raise statuses.blocked(
            f"listen-subnet: this machine has no address in {subnet}; it has {others}"
        )
    return str(addresses[0])


def any_address(like: str) -> str:
    """Return what stands for all of this machine's addresses, where one of them is like this."""
    return "::" if ":" in like else "0.0.0.0"  # noqa: S104 - MAAS is on other machines
