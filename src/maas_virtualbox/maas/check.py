# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The doctor on MAAS's side: whether it can switch the VMs, and sees what VirtualBox says.

Looks and never touches, as `doctor` does.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.host.checks import Finding, Level
from maas_virtualbox.maas import enlistment, messages, power_parameters
from maas_virtualbox.maas.enlistment import Kind
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from maas_virtualbox.fleet.fleet import HostReport
    from maas_virtualbox.host.host import VM
    from maas_virtualbox.maas.client import MAAS
    from maas_virtualbox.maas.enlistment import Plan, Settings
    from maas_virtualbox.maas.models import Machine

HOST = "MAAS"
"""Stands for the host's name in findings about MAAS itself."""

_OLDEST_VERSION = (2, 9, 2)
"""The first with the webhook power type."""

_LEVELS = {
    Kind.CREATE: Level.WARNING,
    Kind.ADOPT: Level.WARNING,
    Kind.UPDATE: Level.WARNING,
    Kind.SKIP: Level.WARNING,
    Kind.ORPHAN: Level.WARNING,
    Kind.CONFLICT: Level.ERROR,
}


def examine(client: MAAS, reports: Sequence[HostReport], settings: Settings) -> list[Finding]:
    """Look at MAAS and at its machines of these VMs; never raises for what it finds.

    Args:
        client: which MAAS.
        reports: as `Fleet.reports` returns them, of all hosts.
        settings: as for enlistment; the findings say what that would do.
    """
    findings: list[Finding] = []
    try:
        version = client.version()
        findings += [_version(version), *_key(client), *_racks(client, settings.address)]
        plan = enlistment.plan_fleet(reports, enlistment.read(client), settings)
    except errors.MAASError as error:
        check = "API key" if error.status in (401, 403) else "API"
        findings.append(Finding(HOST, "", check, Level.ERROR, str(error)))
        return findings
    findings += _images(plan)
    findings += _certificate_checks(version, plan.machines.values(), settings)
    findings += _planned(plan)
    findings += _powers(plan, (vm for report in reports for vm in report.vms))
    return findings


def _version(version: str) -> Finding:
    text = f"MAAS {version} answers"
    if _parts(version) >= _OLDEST_VERSION:
        return Finding(HOST, "", "API", Level.OK, text)
    remedy = "upgrade MAAS: the webhook power type came with 2.9.2"
    return Finding(HOST, "", "API", Level.ERROR, text, remedy)


def _parts(version: str) -> tuple[int, int, int]:
    """Return such as (3, 5, 10); zeros for what is no version."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    major, minor, patch = match.groups() if match else (0, 0, 0)
    return int(major), int(minor), int(patch or 0)


def _key(client: MAAS) -> Iterator[Finding]:
    user = client.whoami()
    if user.is_admin:
        yield Finding(HOST, "", "API key", Level.OK, f"{user.name} is an administrator")
    else:
        text = f"{user.name}, whose key it is, is no administrator, and may not enlist"
        remedy = "maas-virtualbox maas login, with an administrator's key"
        yield Finding(HOST, "", "API key", Level.ERROR, text, remedy)


def _racks(client: MAAS, address: str) -> Iterator[Finding]:
    """MAAS polls only what is on a subnet in which a rack has an interface (see `doubt`)."""
    if doubt := power_parameters.doubt(address):
        yield Finding(HOST, "", "rack", Level.ERROR, doubt)
        return
    racks = client.racks()
    if not racks:
        yield Finding(HOST, "", "rack", Level.ERROR, messages.NO_RACK.text, messages.NO_RACK.hint)
        return
    ours = ipaddress.ip_address(address)
    near = [rack for rack in racks if any(ours in subnet for subnet in rack.subnets)]
    if near:
        text = f"{near[0].hostname} is on a subnet of {address}"
        yield Finding(HOST, "", "rack", Level.OK, text)
        return
    subnets = dict.fromkeys(str(subnet) for rack in racks for subnet in rack.subnets)
    text = f"no rack is on a subnet of {address}, so MAAS does not ask there"
    remedy = f"--address with an IP of this machine in {' or '.join(subnets) or 'its network'}"
    yield Finding(HOST, "", "rack", Level.ERROR, text, remedy)


def _images(plan: Plan) -> Iterator[Finding]:
    for message in plan.messages:
        if message != messages.NO_RACK:  # see `_racks`
            yield Finding(HOST, "", "images", Level.ERROR, message.text, message.hint)


def _certificate_checks(
    version: str, machines: Iterable[Machine], settings: Settings
) -> Iterator[Finding]:
    """Whether `power_verify_ssl=y`, which people set, works with this version of MAAS."""
    parts = _parts(version)
    checked = [
        machine.hostname
        for machine in machines
        if machine.power_parameters.get("power_verify_ssl") == "y"
    ]
    if parts < (3, 0, 0) and checked:
        message, level = messages.VERIFY_SSL_IGNORED.of(version=version), Level.WARNING
    elif _breaks_verify_ssl(parts) and (checked or settings.tls):
        level = Level.ERROR if checked else Level.WARNING
        message = messages.VERIFY_SSL_BROKEN.of(version=version)
    else:
        return
    text = f"{message.text}{': ' if checked else ''}{enlistment.some(checked)}"
    yield Finding(HOST, "", "certificates", level, text, message.hint)


def _breaks_verify_ssl(version: tuple[int, int, int]) -> bool:
    """MAAS 3.0 to 3.4, 3.5.0 to 3.5.4 and 3.6.0: each power request ends in a ValueError."""
    return (3, 0, 0) <= version < (3, 5, 5) or version == (3, 6, 0)


def _planned(plan: Plan) -> Iterator[Finding]:
    for change in plan.changes:
        text = change.text
        if change.kind is Kind.CREATE:
            text = "MAAS does not know it"
        remedy = change.hint
        level = _LEVELS[change.kind]
        if change.kind in enlistment.WRITING:
            remedy = "maas-virtualbox maas enlist"
        if change.kind is Kind.UPDATE and "power_type" in dict(change.writes.fields):
            level = Level.ERROR  # MAAS cannot switch it as it is
        host, vm = change.host or HOST, change.vm or change.machine
        yield Finding(host, vm, str(change.kind), level, text, remedy)


def _powers(plan: Plan, vms: Iterable[VM]) -> Iterator[Finding]:
    touched = {change.uuid for change in plan.changes}
    for vm in vms:
        machine = plan.machines.get(vm.uuid)
        if machine is not None and vm.power is not Power.UNKNOWN:
            finding = _power(vm, machine)
            if finding.level is not Level.OK or vm.uuid not in touched:
                yield finding


def _power(vm: VM, machine: Machine) -> Finding:
    seen = machine.power_state
    name = vm.name
    if seen == str(vm.power):
        text = f"MAAS knows it as {machine.hostname}, and saw that it is {seen}"
        return Finding(vm.host.name, name, "power", Level.OK, text)
    text = f"MAAS last saw {machine.hostname} as {seen}; VirtualBox says {vm.power}"
    remedy = "MAAS asks every 5 minutes; if this stays, the power service's log says why"
    return Finding(vm.host.name, name, "power", Level.WARNING, text, remedy)
