# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The doctor: what is wrong with a host or a VM before MAAS finds out, and what to type about it.

Looks and never touches. Each finding is one sentence and, unless all is well, one remedy.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.vboxmanage import Installation, Surroundings

_TIMEOUT_S = 40.0
_OLDEST_VERSION = (6, 0)
_LOW_DISK_BYTES = 5 * 1024**3
_MAX_CLAIMS = 10

_BOOTING_MODELS = re.compile(r"8254\w+|virtio.*|Am79C97\w+|default", re.IGNORECASE)


class Level(str, enum.Enum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    """It works now and may not later, or works in some labs only."""
    ERROR = "error"
    """MAAS cannot use the host or the VM as it is."""

    def __str__(self) -> str:
        return self.value


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    host: str
    """The host's name."""

    vm: str
    """The VM's name; empty when it is about the host."""

    check: str
    """What was looked at: connection, login, host key, VBoxManage, account, DHCP, …"""

    level: Level
    """How bad it is."""

    text: str
    """What was found."""

    remedy: str = ""
    """What to do about it; empty when all is well."""


def examine(owner: VirtualBoxHost) -> list[Finding]:
    """Look at one host and all its VMs, with three commands; never raises for what it finds."""
    name = str(owner.config)
    try:
        deadline = Deadline.after(_TIMEOUT_S)
        where = owner.vboxmanage.installation(timeout=deadline.remaining)
        machines = owner.state.settings(deadline, max_age=0.0)
        folder = _folder(machines)
        around = owner.vboxmanage.inspect(folder, timeout=deadline.remaining)
    except errors.Error as error:
        return [_failure(name, error)]
    findings = [
        Finding(name, "", "connection", Level.OK, f"logged in to {owner.config.account}"),
        _version(name, where),
        _account(name, where.user, machines),
        *_surroundings(name, where.user, folder, around),
    ]
    findings += _shared_macs(name, machines)
    for machine in machines.values():
        findings += judge_vm(name, machine, around)
    return findings


def judge_claims(claims: Iterable[Claim]) -> list[Finding]:
    """Return what is to be done about VMs that hosts list and that are not known to be theirs."""
    by_host: dict[str, list[Claim]] = collections.defaultdict(list)
    for claim in claims:
        by_host[claim.host.name].append(claim)
    findings: list[Finding] = []
    for host, its_claims in by_host.items():
        for claim in its_claims[:_MAX_CLAIMS]:
            text = "another host lists it too, and which had it first is not known"
            if claim.first is not None:
                text = f"belongs to {claim.first}, which is down or lists it too"
            decide = f"maas-virtualbox trust-vm {claim.uuid} --host NAME"
            remedy = f"unregister it on all hosts but one, or decide whose it is: {decide}"
            findings.append(Finding(host, claim.uuid, "host", Level.ERROR, text, remedy))
        if (more := len(its_claims) - _MAX_CLAIMS) > 0:
            text = f"{more} more VMs are not known to be this host's own"
            remedy = "find out why it lists the VMs of other hosts"
            findings.append(Finding(host, "", "host", Level.ERROR, text, remedy))
    return findings


def _failure(host: str, error: errors.Error) -> Finding:
    reason = error.reason if isinstance(error, errors.HostError) else str(error)
    checks: dict[type[errors.Error], str] = {
        errors.LoginRefused: "login",
        errors.HostKeyChanged: "host key",
        errors.KnownHostsBroken: "host key",
        errors.VBoxManageMissing: "VBoxManage",
        errors.VBoxManageError: "VirtualBox",
        errors.BadOutput: "VirtualBox",
    }
    text, _, remedy = reason.partition(": ")
    return Finding(host, "", checks.get(type(error), "connection"), Level.ERROR, text, remedy)


def _version(host: str, where: Installation) -> Finding:
    text = f"VirtualBox {where.version}, {where.program}"
    if where.release >= _OLDEST_VERSION:
        return Finding(host, "", "VBoxManage", Level.OK, text)
    remedy = "upgrade VirtualBox on the host to 6.0 or newer; this one was never tried"
    return Finding(host, "", "VBoxManage", Level.WARNING, text, remedy)


def _account(host: str, user: str, machines: Mapping[str, VMSettings]) -> Finding:
    text = f"the account {user} owns {len(machines)} VMs"
    if machines:
        return Finding(host, "", "account", Level.OK, text)
    remedy = "each account has its own VMs: log in as the one that made them"
    return Finding(host, "", "account", Level.WARNING, text, remedy)


def _surroundings(host: str, user: str, folder: str, around: Surroundings) -> Iterator[Finding]:
    if around.kills_at_logout:
        yield Finding(
            host,
            "",
            "logout",
            Level.ERROR,
            "logind kills the account's VMs when the connection ends (KillUserProcesses=yes)",
            f"on the host: sudo loginctl enable-linger {user}",
        )
    if around.disk_free is not None and around.disk_free < _LOW_DISK_BYTES:
        free = around.disk_free / 1024**3
        yield Finding(
            host,
            "",
            "disk",
            Level.WARNING,
            f"{free:.1f} GiB are free for VMs in {folder}",
            "free some space: a VM pauses when the host's disk is full",
        )


def _shared_macs(host: str, machines: Mapping[str, VMSettings]) -> Iterator[Finding]:
    owners: dict[str, list[str]] = collections.defaultdict(list)
    for machine in machines.values():
        for mac in machine.macs:
            owners[mac].append(machine.name)
    for mac, names in owners.items():
        if len(names) > 1:
            yield Finding(
                host,
                names[1],
                "MAC",
                Level.ERROR,
                f"{mac} belongs to several VMs: {', '.join(names)}",
                "give all but one another: VBoxManage modifyvm NAME --macaddress1 auto",
            )


_Trouble = tuple[Level, str, str, str]
"""Level, check, text and remedy of a finding about a VM."""


def judge_vm(host: str, machine: VMSettings, around: Surroundings) -> list[Finding]:
    """Return what stands in the way of a VM's boot from MAAS's network, or that nothing does."""
    modify = f"VBoxManage modifyvm {machine.uuid}"
    if machine.accessible:
        troubles = [*_boot_troubles(machine, modify), *_nic_troubles(machine, modify, around)]
    else:
        what = f"VirtualBox cannot read {machine.settings_file}"
        remove = f"VBoxManage unregistervm {machine.uuid}"
        remedy = f"mend or restore the file, or remove the VM: {remove}"
        troubles = [(Level.ERROR, "settings", what, remedy)]
    if not troubles and machine.nics:
        nic = machine.nics[0]
        card = " ".join(word for word in (nic.model, nic.attachment, nic.network) if word)
        troubles = [(Level.OK, "boot", f"boots from the network ({card})", "")]
    name = machine.name or machine.uuid
    return [
        Finding(host, name, check, level, text, remedy) for level, check, text, remedy in troubles
    ]


def _boot_troubles(machine: VMSettings, modify: str) -> Iterator[_Trouble]:
    if machine.boot_order[:1] != ("net",):
        order = ", ".join(device for device in machine.boot_order if device != "none")
        text = f"boots from {order or 'nothing'}, not from the network first"
        remedy = f"{modify} --boot1 net --boot2 disk --boot3 none --boot4 none"
        yield Level.ERROR, "boot order", text, remedy
    if machine.firmware != "BIOS":
        text = f"has {machine.firmware} firmware, whose network boot broke in several versions"
        yield Level.WARNING, "firmware", text, f"{modify} --firmware bios"


def _nic_troubles(machine: VMSettings, modify: str, around: Surroundings) -> Iterator[_Trouble]:
    if not machine.nics:
        yield Level.ERROR, "NIC", "has no network card", f"{modify} --nic1 hostonly"
        return
    nic = machine.nics[0]
    attach = f"attach it to MAAS's network: {modify} --nic{nic.slot} hostonly (or bridged)"
    if not _BOOTING_MODELS.fullmatch(nic.model):
        text = f"the network card {nic.model} cannot boot"
        yield Level.ERROR, "NIC", text, f"{modify} --nictype{nic.slot} 82540EM"
    if not nic.cable:
        yield Level.ERROR, "NIC", "its cable is out", f"{modify} --cableconnected{nic.slot} on"
    if nic.attachment == "null":
        yield Level.ERROR, "NIC", "is attached to no network", attach
    elif nic.attachment in ("nat", "natnetwork"):
        text = "boots behind VirtualBox's own NAT, where MAAS's DHCP server does not reach it"
        yield Level.WARNING, "NIC", text, attach
    for network in around.dhcp_networks:
        if nic.network and network.endswith(f"-{nic.network}"):
            text = f"VirtualBox's own DHCP server answers on {nic.network} before MAAS's"
            remedy = f"on the host: VBoxManage dhcpserver remove --network={network}"
            yield Level.ERROR, "DHCP", text, remedy


def _folder(machines: Mapping[str, VMSettings]) -> str:
    files = [machine.settings_file for machine in machines.values() if machine.settings_file]
    return posixpath.dirname(files[0]) if files and files[0].startswith("/") else "."


def worst(findings: Sequence[Finding]) -> Level:
    """Return the worst level of several findings."""
    order = list(Level)
    return max((finding.level for finding in findings), key=order.index, default=Level.OK)
