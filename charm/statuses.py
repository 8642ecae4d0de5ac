# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The status of a unit whose service runs, in sentences that fit the column of `juju status`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ops

from maas_virtualbox.juju.statuses import Blocked, NotReady, Waiting, count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.schemas import HostView

__all__ = ["Blocked", "NotReady", "Waiting", "of_hosts"]

_HINTS = {
    "login-refused": "login refused: add the public key, see get-public-key",
    "host-key-changed": "host key changed: see trust-host",
    "vboxmanage-missing": "VBoxManage not found: see check-hosts",
}
_OTHER_HINT = "no answer: see check-hosts"
_MAX_NAMES = 3


def of_hosts(hosts: Sequence[HostView]) -> ops.StatusBase:
    """Return the status for the hosts of the service."""
    down = [host for host in hosts if not host.up]
    claiming = [host for host in hosts if host.claims]
    if down:
        return ops.WaitingStatus(_describe_down(down, of=len(hosts)))
    if claiming:
        return ops.WaitingStatus(_describe_claims(claiming))
    return ops.ActiveStatus(_describe_vms(hosts))


def _describe_down(down: Sequence[HostView], *, of: int) -> str:
    names = [f"{host.name} ({_HINTS.get(host.code or '', _OTHER_HINT)})" for host in down]
    if len(down) > _MAX_NAMES:
        names[_MAX_NAMES:] = [f"{len(down) - _MAX_NAMES} more"]
    return f"{len(down)} of {count(of, 'host')} unreachable: {', '.join(names)}"


def _describe_claims(claiming: Sequence[HostView]) -> str:
    vms = count(sum(host.claims for host in claiming), "VM")
    names = ", ".join(host.name for host in claiming[:_MAX_NAMES])
    return f"{vms} of other hosts listed by {names}: see check-hosts"


def _describe_vms(hosts: Sequence[HostView]) -> str:
    vms, running = sum(host.vms for host in hosts), sum(host.running for host in hosts)
    return f"{count(vms, 'VM')} on {count(len(hosts), 'host')}, {running} running"
