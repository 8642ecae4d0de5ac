# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""`modifyvm`: how it changes one setting of a simulated VM, and what VirtualBox refuses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.texts import VBoxError
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from maas_virtualbox.simulator.vms import SimulatedVM

_NETWORK_LISTS = {"--bridgeadapter1": "bridgedifs", "--hostonlyadapter1": "hostonlyifs"}
_CHOICES = {
    "--nic1": (
        "attachment",
        ("null", "nat", "bridged", "intnet", "hostonly"),
        "Invalid type '{}' specfied for NIC 1",
    ),
    "--nictype1": (
        "nic_type",
        ("82540EM", "82543GC", "82545EM", "Am79C973", "virtio"),
        "Invalid NIC type '{}' specified for NIC 1",
    ),
}
_NUMBERS = {
    "--memory": ("memory", range(4, 2097153), texts.invalid_memory),
    "--cpus": ("cpus", range(1, 65), texts.invalid_cpus),
}
_IGNORED = ("--cableconnected1", "--ostype", "--vram")


def modify(
    vm: SimulatedVM, option: str, value: str, interfaces: Mapping[str, Sequence[str]]
) -> str:
    """Change one setting; returns what is printed on standard error. Raises `VBoxError`."""
    numbered = re.fullmatch(r"--(macaddress|boot)(\d)", option)
    if option in _NETWORK_LISTS:
        vm.network = value
        return "" if value in interfaces[_NETWORK_LISTS[option]] else texts.no_interface(value)
    if option in _CHOICES:
        field, choices, refusal = _CHOICES[option]
        if value not in choices:
            raise VBoxError(texts.complaint(refusal.format(value)))
        setattr(vm, field, value)
    elif option in _NUMBERS:
        field, allowed, refused = _NUMBERS[option]
        if int(value) not in allowed:
            raise VBoxError(refused(value))
        setattr(vm, field, int(value))
    elif option == "--firmware":
        vm.firmware = value.upper()
    elif numbered:
        _modify_numbered(vm, numbered[1], int(numbered[2]), value)
    elif option not in _IGNORED:
        raise VBoxError(texts.syntax_error(f"Unknown option: {option}"), 2)
    return ""


def _modify_numbered(vm: SimulatedVM, what: str, number: int, value: str) -> None:
    if what == "boot":
        order = [*vm.boot_order]
        order[number - 1] = value
        vm.boot_order = tuple(order)
        return
    if not settings_xml.is_unicast_mac(value):
        raise VBoxError(texts.INVALID_MAC)
    vm.macs += ["0800270000EE"] * (number - len(vm.macs))
    vm.macs[number - 1] = value.upper()
