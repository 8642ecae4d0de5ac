# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The work of MAAS 1.4 to 1.9's extension scripts on a machine without a power service.

The scripts pass a MAC and expect an exit code. With a power service, `templates/VBox_extensions`
sends the same requests over its UNIX socket.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.escape import printable
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from maas_virtualbox.fleet.fleet import Fleet
    from maas_virtualbox.host.vm import VM

DONE, FAILED, NO_VM, UNREACHABLE = 0, 1, 4, 5
"""Exit codes. The power template wakes a machine over the network if no reachable host has it."""

VERBS = ("on", "off", "shutdown", "query")


def run(fleet: Fleet, verb: str, mac: str) -> int:
    """Power or query the VM that a MAC stands for. Return the exit code.

    Args:
        fleet: the hosts.
        verb: one of `VERBS`; `query` prints on or off.
        mac: the MAC of a NIC, or the last 12 hex digits of the VM's UUID (the legacy convention).
    """
    try:
        if not settings_xml.parse_mac(mac):
            raise errors.UnknownVM(f"{mac!r} is not a MAC address")
        _run(fleet, verb, fleet.find(mac))
    except errors.Error as error:
        print(printable(error), file=sys.stderr)
        if isinstance(error, errors.UnknownVM):
            return NO_VM
        return UNREACHABLE if isinstance(error, errors.VMUnreachable) else FAILED
    return DONE


def _run(fleet: Fleet, verb: str, vm: VM) -> None:
    if verb == "on":
        fleet.power_on(vm)
    elif verb == "off":
        fleet.power_off(vm)
    elif verb == "shutdown":
        fleet.host_of(vm).power_off(vm.uuid, mode="acpi")
    elif vm.power is Power.UNKNOWN:
        raise errors.PowerError(f"{vm}: cannot determine whether it is on: it is {vm.state}")
    else:
        print(vm.power)
