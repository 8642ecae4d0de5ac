# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The door for MAAS 1.4 to 1.9: what its extension scripts do where no power service runs.

A script is given a MAC and answers by its exit code, as `templates/VBox_extensions` does over the
service's UNIX socket.
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

DONE, FAILED, NO_VM, OUT_OF_REACH = 0, 1, 4, 5
"""Exit codes; the power template wakes over the network what no host in reach has."""

VERBS = ("on", "off", "shutdown", "query")


def run(hosts: Fleet, verb: str, mac: str) -> int:
    """Switch or query the VM that a MAC stands for; returns the exit code.

    Args:
        hosts: where to look.
        verb: one of `VERBS`; a query prints on or off.
        mac: a NIC's, or the last 12 hex digits of a VM's UUID (the convention of 2015).
    """
    try:
        if not settings_xml.parse_mac(mac):
            raise errors.UnknownVM(f"{mac!r} is not a MAC address")
        vm = hosts.find(mac)
        if verb == "on":
            hosts.power_on(vm)
        elif verb == "off":
            hosts.power_off(vm)
        elif verb == "shutdown":
            hosts.host_of(vm).power_off(vm.uuid, mode="acpi")
        elif vm.power is Power.UNKNOWN:
            raise errors.PowerError(f"{vm}: its power cannot be told")
        else:
            print(vm.power)
    except errors.UnknownVM as error:
        print(printable(error), file=sys.stderr)
        return NO_VM
    except errors.VMUnreachable as error:
        print(printable(error), file=sys.stderr)
        return OUT_OF_REACH
    except errors.Error as error:
        print(printable(error), file=sys.stderr)
        return FAILED
    return DONE
