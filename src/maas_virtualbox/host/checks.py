# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The checks of a host and its VMs: what would prevent MAAS from using them, and how to fix it.

The checks only read. Each finding is one sentence and, unless its level is OK, one hint.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import posixpath
import re
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
    from maas_virtualbox.virtualbox.vboxmanage import Installation, Surroundings

TIMEOUT_S = 40.0
"""Default timeout of the checks of one host: two calls may stall for 10 s each."""

_OLDEST_VERSION = (6, 0)
_LOW_DISK_BYTES = 5 * 1024**3

_BOOTING_MODELS = re.compile(r"8254\w+|virtio.*|Am79C97\w+|default", re.IGNORECASE)


class Level(str, enum.Enum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    """It works, but may stop working later, or does not work in every network."""
    ERROR = "error"
    """MAAS cannot use the host or the VM."""

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    host: str
    """The host's name."""

    vm: str
    """The VM's name; empty for a finding about the host."""

    check: str
    """What was checked: connection, login, host key, VBoxManage, account, DHCP, …"""

    level: Level
    """The severity."""

    text: str
    """What was found."""

    hint: str = ""
    """How to fix it; empty if the level is OK."""


_CHECKS = {
    ErrorCode.HOST_KEY_CHANGED: "host key",
    ErrorCode.KNOWN_HOSTS_BROKEN: "host key",
    ErrorCode.LOGIN_REFUSED: "login",
    ErrorCode.VBOXMANAGE_MISSING: "VBoxManage",
}
"""The failed check by the code of the error."""


def check_host(host: VirtualBoxHost, *, timeout: float = TIMEOUT_S) -> list[Finding]:
    """Check one host and all its VMs, with three commands.

    Args:
        host: the host.
        timeout: seconds for all commands.

    Returns:
        The findings. An `Error` is a finding too, and is not raised.
    """
    name = str(host.config)
    deadline = Deadline.after(timeout)
    try:
        installation = host.vboxmanage.installation(timeout=deadline.remaining)
        vms = host.state.settings(deadline, max_age=0.0)
        folder = _vm_folder(vms.values())
        surroundings = host.vboxmanage.inspect(folder, timeout=deadline.remaining)
    except errors.Error as error:
        return [_failure(name, error)]
    return [
        Finding(name, "", "connection", Level.OK, f"logged in to {host.config.account}"),
        _check_version(name, installation),
        _check_account(name, installation.user, len(vms)),
        *_check_surroundings(name, installation.user, folder, surroundings),
        *_check_macs(name, vms.values()),
        *(finding for vm in vms.values() for finding in check_vm(name, vm, surroundings)),
    ]


def worst_level(findings: Iterable[Finding]) -> Level:
    """Return the highest severity of several findings."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)


# -- Hosts --------------------------------------------------------------------------------------


def _failure(host: str, error: errors.Error) -> Finding:
    reason = error.reason if isinstance(error, errors.HostError) else str(error)
    is_virtualbox = isinstance(error, (errors.VBoxManageError, errors.BadOutput))
    check = _CHECKS.get(error.code, "VirtualBox" if is_virtualbox else "connection")
    text, _, hint = reason.partition(": ")
    return Finding(host, "", check, Level.ERROR, text, hint)


def _vm_folder(vms: Iterable[VMSettings]) -> str:
    """Return a folder on the disk that holds the VMs; the home if it is unknown."""
    file = next((vm.settings_file for vm in vms if vm.settings_file), "")
    return posixpath.dirname(file) if file.startswith("/") else "."


def _check_version(host: str, installation: Installation) -> Finding:
    text = f"VirtualBox {installation.version}, {installation.program}"
    if installation.release >= _OLDEST_VERSION:
        return Finding(host, "", "VBoxManage", Level.OK, text)
    hint = "upgrade VirtualBox on the host to 6.0 or newer: older versions are not tested"
    return Finding(host, "", "VBoxManage", Level.WARNING, text, hint)


def _check_account(host: str, user: str, number: int) -> Finding:
    text = f"the account {user} has {number} VMs"
    if number:
        return Finding(host, "", "account", Level.OK, text)
    hint = "each account has its own VMs: log in as the account that created them"
    return Finding(host, "", "account", Level.WARNING, text, hint)


def _check_surroundings(
    host: str, user: str, folder: str, surroundings: Surroundings
) -> Iterator[Finding]:
    if surroundings.kills_at_logout:
        text = (
            "systemd-logind ends the account's VMs when the connection closes"
            " (KillUserProcesses=yes)"
        )
        hint = f"run on the host: sudo loginctl enable-linger {user}"
        yield Finding(host, "", "logout", Level.ERROR, text, hint)
    free = surroundings.disk_free
    if free is not None and free < _LOW_DISK_BYTES:
        text = f"only {free / 1024**3:.1f} GiB are free for VMs in {folder}"
        hint = "free some space: VirtualBox pauses VMs when the host's disk is full"
        yield Finding(host, "", "disk", Level.WARNING, text, hint)


def _check_macs(host: str, vms: Iterable[VMSettings]) -> Iterator[Finding]:
    owners: dict[str, list[str]] = collections.defaultdict(list)
    for vm in vms:
        for mac in vm.macs:
            owners[mac].append(vm.name)
    hint = "give all but one a new MAC: VBoxManage modifyvm NAME --macaddress1 auto"
    for mac, names in owners.items():
        if len(names) > 1:
            text = f"several VMs have the MAC {mac}: {', '.join(names)}"
            yield Finding(host, names[1], "MAC", Level.ERROR, text, hint)


# -- VMs ----------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Problem:
    """A finding about a VM that is not OK."""

    level: Level
    check: str
    text: str
    hint: str


def check_vm(host: str, vm: VMSettings, surroundings: Surroundings) -> list[Finding]:
    """Return what prevents a VM from booting from MAAS's network, or that nothing does.

    Args:
        host: the host's name.
        vm: the VM.
        surroundings: the facts about its host.
    """
    name = vm.name or vm.uuid
    problems = list(_find_problems(vm, surroundings))
    if not problems and vm.nics:
        nic = vm.nics[0]
        facts = " ".join(fact for fact in (nic.model, nic.attachment, nic.network) if fact)
        return [Finding(host, name, "boot", Level.OK, f"boots from the network ({facts})")]
    return [
        Finding(host, name, problem.check, problem.level, problem.text, problem.hint)
        for problem in problems
    ]


def _find_problems(vm: VMSettings, surroundings: Surroundings) -> Iterator[_Problem]:
    modifyvm = f"VBoxManage modifyvm {vm.uuid}"
    if not vm.accessible:
        text = f"VirtualBox cannot read {vm.settings_file}"
        hint = f"repair the file, or remove the VM: VBoxManage unregistervm {vm.uuid}"
        yield _Problem(Level.ERROR, "settings", text, hint)
        return
    yield from _find_boot_problems(vm, modifyvm)
    if vm.nics:
        yield from _find_nic_problems(vm.nics[0], modifyvm)
        yield from _find_dhcp_problems(vm.nics[0], surroundings.dhcp_networks)
    else:
        hint = f"add one: {modifyvm} --nic1 hostonly"
        yield _Problem(Level.ERROR, "NIC", "the VM has no network card", hint)


def _find_boot_problems(vm: VMSettings, modifyvm: str) -> Iterator[_Problem]:
    if vm.boot_order[:1] != ("net",):
        order = ", ".join(device for device in vm.boot_order if device != "none")
        text = f"the network is not the first boot device (boot order: {order or 'none'})"
        hint = f"{modifyvm} --boot1 net --boot2 disk --boot3 none --boot4 none"
        yield _Problem(Level.ERROR, "boot order", text, hint)
    if vm.firmware != "BIOS":
        text = f"the firmware is {vm.firmware}, whose network boot broke in several versions"
        yield _Problem(Level.WARNING, "firmware", text, f"{modifyvm} --firmware bios")


def _find_nic_problems(nic: NIC, modifyvm: str) -> Iterator[_Problem]:
    attach = f"attach it to MAAS's network: {modifyvm} --nic{nic.slot} hostonly (or bridged)"
    if not _BOOTING_MODELS.fullmatch(nic.model):
        text = f"the network card {nic.model} cannot boot from the network"
        yield _Problem(Level.ERROR, "NIC", text, f"{modifyvm} --nictype{nic.slot} 82540EM")
    if not nic.cable:
        text = "the network cable is disconnected"
        yield _Problem(Level.ERROR, "NIC", text, f"{modifyvm} --cableconnected{nic.slot} on")
    if nic.attachment == "null":
        text = "the network card is not attached to a network"
        yield _Problem(Level.ERROR, "NIC", text, attach)
    elif nic.attachment in ("nat", "natnetwork"):
        text = "the network card is behind VirtualBox's NAT, which MAAS's DHCP server cannot reach"
        yield _Problem(Level.WARNING, "NIC", text, attach)


def _find_dhcp_problems(nic: NIC, dhcp_networks: Sequence[str]) -> Iterator[_Problem]:
    for network in dhcp_networks:
        if nic.network and network.endswith(f"-{nic.network}"):
            text = f"VirtualBox's own DHCP server answers on {nic.network} before MAAS's does"
            hint = f"run on the host: VBoxManage dhcpserver remove --network={network}"
            yield _Problem(Level.ERROR, "DHCP", text, hint)
