# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The JSON of VMs and hosts, the same in the HTTP API and in `--format json`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.vm import VM


class VMView(pydantic.BaseModel):
    """One VM with its state at the last poll."""

    host: str
    zone: str
    name: str
    uuid: str
    macs: list[str]
    state: VMState
    power: Power

    @classmethod
    def of(cls, vm: VM) -> VMView:
        """Return the JSON model of a VM."""
        return cls(
            host=vm.host.name,
            zone=vm.host.zone,
            name=vm.name,
            uuid=vm.uuid,
            macs=list(vm.macs),
            state=vm.state,
            power=vm.power,
        )


class HostView(pydantic.BaseModel):
    """One host with its state at the last poll."""

    name: str
    account: str
    zone: str
    up: bool
    vms: int
    """How many VMs it has; 0 while it is down."""
    claims: int
    """How many VMs it lists that belong to another host."""
    running: int
    """How many of them are on."""
    error: str | None
    """Why it is down, and what to do about it."""
    code: str | None
    """The classification of the error: host-down, login-refused, host-key-changed, …"""

    @classmethod
    def of(cls, report: HostReport) -> HostView:
        """Return the JSON model of a host's report."""
        host, error = report.host, report.error
        return cls(
            name=host.name,
            account=host.account,
            zone=host.zone,
            up=error is None,
            vms=len(report.vms),
            claims=len(report.claims),
            running=sum(vm.power is Power.ON for vm in report.vms),
            error=None if error is None else str(error),
            code=None if error is None else str(error.code),
        )


class ClaimView(pydantic.BaseModel):
    """A VM that a host lists, but that is not known to belong to this host."""

    uuid: str
    host: str
    """The host that lists it."""
    first: str | None
    """The host that the VM belongs to; null: it is not known which of several had it first."""

    @classmethod
    def of(cls, claim: Claim) -> ClaimView:
        """Return the JSON model of a claim."""
        first = claim.first.name if claim.first else None
        return cls(uuid=claim.uuid, host=claim.host.name, first=first)
