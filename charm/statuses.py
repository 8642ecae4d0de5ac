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
_MAX_NAMES = 3


def of_hosts(hosts: Sequence[HostView]) -> ops.StatusBase:
    """Return the status for the hosts of the service."""
    down = [host for host in hosts if not host.up]
    claiming = [host for host in hosts if host.claims]
    if claiming and not down:
        vms = count(sum(host.claims for host in claiming), "VM")
        named = ", ".join(host.name for host in claiming[:_MAX_NAMES])
        return ops.WaitingStatus(f"{vms} of other hosts listed by {named}: see check-hosts")
    if not down:
        vms, running = sum(host.vms for host in hosts), sum(host.running for host in hosts)
        return ops.ActiveStatus(
            f"{count(vms, 'VM')} on {count(len(hosts), 'host')}, {running} running"
        )
    named = [
        f"{host.name} ({_HINTS.get(host.code or '', 'no answer: see check-hosts')})"
        for host in down[:_MAX_NAMES]
    ]
    if len(down) > _MAX_NAMES:
        named.append(f"{len(down) - _MAX_NAMES} more")
    return ops.WaitingStatus(
        f"{len(down)} of {count(len(hosts), 'host')} unreachable: {', '.join(named)}"
    )
