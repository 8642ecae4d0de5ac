# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The check of VMs that hosts list and that may belong to other hosts."""

from __future__ import annotations

import collections
from typing import TYPE_CHECKING

from maas_virtualbox.host.checks import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.fleet.vm_hosts import Claim

_MAX_CLAIMS = 10
"""The number of claims of one host that have a finding of their own."""


def check_claims(claims: Iterable[Claim]) -> list[Finding]:
    """Return the findings about claims, at most eleven for each host."""
    by_host: dict[str, list[Claim]] = collections.defaultdict(list)
    for claim in claims:
        by_host[claim.host.name].append(claim)
    findings: list[Finding] = []
    for host, of_host in by_host.items():
        findings += [_finding(claim) for claim in of_host[:_MAX_CLAIMS]]
        if (more := len(of_host) - _MAX_CLAIMS) > 0:
            text = f"{more} more VMs may belong to other hosts"
            hint = "find out why this host lists the VMs of other hosts"
            findings.append(Finding(host, "", "host", Level.ERROR, text, hint))
    return findings


def _finding(claim: Claim) -> Finding:
    text = "another host lists this VM too, and it is not known which host had it first"
    if claim.first is not None:
        text = f"the VM belongs to {claim.first}, which is down or lists it too"
    hint = (
        "unregister it on all hosts but one, or decide which host it belongs to:"
        f" maas-virtualbox trust-vm {claim.uuid} --host NAME"
    )
    return Finding(claim.host.name, claim.uuid, "host", Level.ERROR, text, hint)
