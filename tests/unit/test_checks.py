# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The checks of a VM, from its settings."""

from __future__ import annotations

import dataclasses

import pytest

from maas_virtualbox.host import checks
from maas_virtualbox.host.checks import Level
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import VMState
from maas_virtualbox.virtualbox.vboxmanage import Surroundings

UUID = "95581d29-3e5e-472e-8f12-f452e8095714"
CARD = NIC(1, "08:00:27:aa:bb:01", "82540EM", "hostonly", "vboxnet0", cable=True)
GOOD = VMSettings(
    UUID,
    "node1",
    "/home/vbox/VirtualBox VMs/node1/node1.vbox",
    VMState.POWEROFF,
    nics=(CARD,),
    boot_order=("net", "disk", "none", "none"),
    firmware="BIOS",
)
NO_PROBLEMS = Surroundings(kills_at_logout=False, disk_free=None, dhcp_networks=())


def test_vm_that_boots_from_the_network_is_ok() -> None:
    (finding,) = checks.check_vm("lab", GOOD, NO_PROBLEMS)

    assert (finding.level, finding.hint) == (Level.OK, "")
    assert "82540EM hostonly vboxnet0" in finding.text


@pytest.mark.parametrize(
    ("vm", "check", "level", "hint"),
    [
        (
            dataclasses.replace(GOOD, boot_order=("disk", "net")),
            "boot order",
            Level.ERROR,
            f"VBoxManage modifyvm {UUID} --boot1 net",
        ),
        (dataclasses.replace(GOOD, firmware="EFI"), "firmware", Level.WARNING, "--firmware bios"),
        (dataclasses.replace(GOOD, nics=()), "NIC", Level.ERROR, "--nic1"),
        (
            dataclasses.replace(GOOD, nics=(dataclasses.replace(CARD, model="usb"),)),
            "NIC",
            Level.ERROR,
            "--nictype1 82540EM",
        ),
        (
            dataclasses.replace(GOOD, nics=(dataclasses.replace(CARD, cable=False),)),
            "NIC",
            Level.ERROR,
            "--cableconnected1 on",
        ),
        (
            dataclasses.replace(GOOD, nics=(dataclasses.replace(CARD, attachment="null"),)),
            "NIC",
            Level.ERROR,
            "--nic1 hostonly",
        ),
        (
            dataclasses.replace(GOOD, nics=(dataclasses.replace(CARD, attachment="nat"),)),
            "NIC",
            Level.WARNING,
            "--nic1 hostonly",
        ),
        (
            dataclasses.replace(GOOD, accessible=False, nics=None),
            "settings",
            Level.ERROR,
            f"VBoxManage unregistervm {UUID}",
        ),
    ],
)
def test_problem_of_a_vm_has_a_hint(vm: VMSettings, check: str, level: Level, hint: str) -> None:
    (finding,) = checks.check_vm("lab", vm, NO_PROBLEMS)

    assert (finding.check, finding.level) == (check, level)
    assert hint in finding.hint


def test_dhcp_server_on_the_network_of_a_vm_is_an_error() -> None:
    surroundings = dataclasses.replace(
        NO_PROBLEMS, dhcp_networks=("HostInterfaceNetworking-vboxnet0",)
    )

    (finding,) = checks.check_vm("lab", GOOD, surroundings)

    assert (finding.check, finding.level) == ("DHCP", Level.ERROR)
    assert "dhcpserver remove --network=HostInterfaceNetworking-vboxnet0" in finding.hint


def test_dhcp_server_on_another_network_is_ignored() -> None:
    surroundings = dataclasses.replace(
        NO_PROBLEMS, dhcp_networks=("HostInterfaceNetworking-vboxnet10",)
    )

    (finding,) = checks.check_vm("lab", GOOD, surroundings)

    assert finding.level is Level.OK


def test_worst_level_of_no_findings_is_ok() -> None:
    assert checks.worst_level([]) is Level.OK
