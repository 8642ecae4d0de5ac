# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Checks whether MAAS can control the VMs' power, and whether it knows their current power state.

Reads only, like `host.checks`.
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

    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.client import MAAS
    from maas_virtualbox.maas.enlistment import Change, EnlistmentSettings, Plan
    from maas_virtualbox.maas.models import Machine, Rack

HOST = "MAAS"
"""Replaces the host's name in findings about MAAS itself."""

_OLDEST_VERSION = (2, 9, 2)
"""The first version with the webhook power type."""
_FIRST_TO_VERIFY_SSL = (3, 0, 0)
"""The first version whose webhook power type does not ignore `power_verify_ssl`."""

_LEVELS = {
    Kind.CREATE: Level.WARNING,
    Kind.ADOPT: Level.WARNING,
    Kind.UPDATE: Level.WARNING,
    Kind.SKIP: Level.WARNING,
    Kind.ORPHAN: Level.WARNING,
    Kind.CONFLICT: Level.ERROR,
}


def examine(
    client: MAAS, reports: Sequence[HostReport], settings: EnlistmentSettings
) -> list[Finding]:
    """Check MAAS and its machines for these VMs. Problems are findings, never exceptions.

    Args:
        client: the MAAS.
        reports: the reports of all hosts, from `Fleet.reports`.
        settings: as for enlistment. The findings say what enlistment would do.
    """
    findings: list[Finding] = []
    try:
        version = client.version()
        findings += [_version(version), _key(client), _rack(client, settings.address)]
        plan = enlistment.plan_fleet(reports, enlistment.read(client), settings)
    except errors.MAASError as error:
        check = "API key" if error.status in (401, 403) else "API"
        findings.append(_finding(check, Level.ERROR, str(error)))
        return findings
    findings += _images(plan)
    findings += _certificates(version, plan.machines.values(), settings)
    findings += map(_planned, plan.changes)
    findings += _powers(plan, (vm for report in reports for vm in report.vms))
    return findings


def _finding(check: str, level: Level, text: str, hint: str = "") -> Finding:
    """Return a finding about MAAS as a whole."""
    return Finding(HOST, "", check, level, text, hint)


def _version(version: str) -> Finding:
    text = f"MAAS {version} answers"
    if _parse_version(version) >= _OLDEST_VERSION:
        return _finding("API", Level.OK, text)
    hint = "upgrade MAAS: version 2.9.2 introduced the webhook power type"
    return _finding("API", Level.ERROR, text, hint)


def _parse_version(version: str) -> tuple[int, int, int]:
    """Return the numbers of a version, such as (3, 5, 10); zeros if it has none."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    major, minor, patch = match.groups() if match else (0, 0, 0)
    return int(major), int(minor), int(patch or 0)


def _key(client: MAAS) -> Finding:
    user = client.whoami()
    if user.is_admin:
        return _finding("API key", Level.OK, f"{user.name} is an administrator")
    text = f"the API key's user {user.name} is not an administrator and cannot enlist machines"
    hint = "run maas-virtualbox maas login with an administrator's API key"
    return _finding("API key", Level.ERROR, text, hint)


def _rack(client: MAAS, address: str) -> Finding:
    """Check that MAAS polls an address.

    It polls only addresses on a subnet in which a rack controller has an interface.
    """
    if problem := power_parameters.address_problem(address):
        return _finding("rack", Level.ERROR, problem)
    racks = client.racks()
    if not racks:
        return _finding("rack", Level.ERROR, messages.NO_RACK.text, messages.NO_RACK.hint)
    ip = ipaddress.ip_address(address)
    near = [rack.hostname for rack in racks if any(ip in subnet for subnet in rack.subnets)]
    if near:
        return _finding("rack", Level.OK, f"{near[0]} is on a subnet of {address}")
    return _no_rack_near(racks, address)


def _no_rack_near(racks: Iterable[Rack], address: str) -> Finding:
    subnets = dict.fromkeys(str(subnet) for rack in racks for subnet in rack.subnets)
    text = f"no rack controller is on a subnet of {address}, so MAAS does not poll this address"
    hint = f"use --address with an IP of this machine in {' or '.join(subnets) or 'its network'}"
    return _finding("rack", Level.ERROR, text, hint)


def _images(plan: Plan) -> Iterator[Finding]:
    for message in plan.messages:
        if message != messages.NO_RACK:  # see `_rack`
            yield _finding("images", Level.ERROR, message.text, message.hint)


def _certificates(
    version: str, machines: Iterable[Machine], settings: EnlistmentSettings
) -> Iterator[Finding]:
    """Check that `power_verify_ssl=y`, which only people set, works with this version of MAAS."""
    verifying = [
        machine.hostname
        for machine in machines
        if machine.power_parameters.get("power_verify_ssl") == "y"
    ]
    numbers = _parse_version(version)
    broken = messages.VERIFY_SSL_BROKEN.of(version=version)
    if not verifying:
        if settings.tls and _breaks_verify_ssl(numbers):
            yield _finding("certificates", Level.WARNING, broken.text, broken.hint)
        return
    names = enlistment.list_few(verifying)
    if _breaks_verify_ssl(numbers):
        yield _finding("certificates", Level.ERROR, f"{broken.text}: {names}", broken.hint)
    elif numbers < _FIRST_TO_VERIFY_SSL:
        ignored = messages.VERIFY_SSL_IGNORED.of(version=version)
        yield _finding("certificates", Level.WARNING, f"{ignored.text}: {names}", ignored.hint)


def _breaks_verify_ssl(version: tuple[int, int, int]) -> bool:
    """Whether each power request of this MAAS with `power_verify_ssl=y` fails (a ValueError in
    3.0 to 3.4, 3.5.0 to 3.5.4 and 3.6.0)."""
    return _FIRST_TO_VERIFY_SSL <= version < (3, 5, 5) or version == (3, 6, 0)


def _planned(change: Change) -> Finding:
    """Return what enlistment would do, as a finding."""
    text = "MAAS has no machine for it" if change.kind is Kind.CREATE else change.text
    hint = "maas-virtualbox maas enlist" if change.kind in enlistment.WRITING else change.hint
    level = _LEVELS[change.kind]
    if change.kind is Kind.UPDATE and "power_type" in dict(change.writes.fields):
        level = Level.ERROR  # its power parameters are wrong, so MAAS cannot control its power
    host, vm = change.host or HOST, change.vm or change.machine
    return Finding(host, vm, str(change.kind), level, text, hint)


def _powers(plan: Plan, vms: Iterable[VM]) -> Iterator[Finding]:
    """Compare the power states of MAAS with those of VirtualBox.

    A VM for which there is another finding gets one about its power only if the two differ.
    """
    changed = {change.uuid for change in plan.changes}
    for vm in vms:
        machine = plan.machines.get(vm.uuid)
        if machine is None or vm.power is Power.UNKNOWN:
            continue
        finding = _power(vm, machine)
        if finding.level is not Level.OK or vm.uuid not in changed:
            yield finding


def _power(vm: VM, machine: Machine) -> Finding:
    state = machine.power_state
    if state == str(vm.power):
        text = f"MAAS knows it as {machine.hostname} and reports that it is {state}"
        return Finding(vm.host.name, vm.name, "power", Level.OK, text)
    text = f"MAAS reports {machine.hostname} as {state}, but VirtualBox reports {vm.power}"
    hint = "MAAS polls every 5 minutes; if this persists, see the power service's log"
    return Finding(vm.host.name, vm.name, "power", Level.WARNING, text, hint)
