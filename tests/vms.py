# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VMs as a fleet shows them, without one."""

from __future__ import annotations

import uuid as uuids
from typing import Any

from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.host.vm import VM
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import Power, VMState

A = HostConfig(user="ivan", address="10.0.0.5", name="a", zone="izMBP13")
B = HostConfig(user="ivan", address="10.0.0.6", name="b", zone="izMBP15")


def vm(name: str, *macs: str, host: HostConfig = A, uuid: str = "", **machine: Any) -> VM:
    """A VM; its UUID comes from its host's and its own name."""
    made = uuid or str(uuids.uuid5(uuids.NAMESPACE_DNS, f"{host.name} {name}"))
    nics = tuple(
        NIC(slot, mac, "82540EM", "hostonly", "vboxnet0", cable=True)
        for slot, mac in enumerate(macs, 1)
    )
    options: dict[str, Any] = {"nics": nics, "architecture": "amd64", **machine}
    found = VMSettings(made, name, f"/{name}.vbox", VMState.POWEROFF, **options)
    return VM(host, found, VMState.POWEROFF, Power.OFF)


def mac(number: int) -> str:
    """A MAC of its own for a number."""
    return f"08:00:27:00:{number >> 8:02x}:{number & 255:02x}"


def ten() -> list[VM]:
    """Five VMs on each of two hosts, with two NICs each."""
    return [
        vm(
            f"{host.name}-node{number}",
            mac(10 * number + place),
            mac(100 + 10 * number + place),
            host=host,
        )
        for place, host in enumerate((A, B))
        for number in range(1, 6)
    ]
