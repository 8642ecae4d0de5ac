# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The cost of enlisting 1,000 VMs: CPU time without HTTP, calls, and parallel calls.

The fake region's machines are padded to the size of real machines.
"""

from __future__ import annotations

import json
import time
from typing import Any

from maas_virtualbox.config import tokens
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.enlistment import EnlistmentSettings
from maas_virtualbox.maas.session import MAX_PARALLEL

from tests import fake_maas
from tests.vms import A, B, mac, vm

_VMS = 1000
_MOST = 3.0
"""The maximum CPU time of a plan, relative to parsing the list of MAAS's machines."""
_PADDING = [{"id": number, "name": f"sda-part{number}", "tags": ["ssd"]} for number in range(400)]
"""20 KB."""


def run() -> list[tuple[str, ...]]:
    """Measure. Return a row for each result."""
    settings = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.2", 5307)
    vms = [vm(f"node{number}", mac(number), host=(A, B)[number % 2]) for number in range(_VMS)]
    rows: list[tuple[str, ...]] = []

    def row(what: str, ours: str, beside: str, mark: str, *, good: bool, ratio: str = "") -> None:
        rows.append((what, ours, beside, ratio, mark, "ok" if good else "failed"))

    with fake_maas.served() as region, fake_maas.client(region) as client:
        for number in range(_VMS):
            padding = {"blockdevice_set": _PADDING}
            region.add_machine(f"other{number}", macs=[mac(5000 + number)], **padding)
        for what in ("new to MAAS", "known to it"):
            region.clear_calls()
            # The fake region runs in other threads.
            began = time.thread_time()
            plan = enlistment.plan(vms, enlistment.read(client), settings)
            seconds = time.thread_time() - began
            calls = len(region.calls)
            parsing = _cpu_seconds_to_parse(list(region.machines.values()))
            row(
                f"plan of {_VMS} VMs {what}",
                f"{seconds:.2f} s CPU, {calls} calls",
                f"to parse the machines: {parsing:.2f} s CPU",
                f"at most {_MOST} x, 8 calls",
                good=seconds <= _MOST * parsing and calls == 8,
                ratio=f"{seconds / parsing:.1f}",
            )
            if plan.writing:
                region.delay_s = 0.005
                began = time.perf_counter()
                outcome = enlistment.apply(client, plan)
                seconds = time.perf_counter() - began
                row(
                    f"{_VMS} VMs enlisted",
                    f"{seconds:.1f} s",
                    f"{region.most_at_once} calls at a time",
                    f"{MAX_PARALLEL} at the most",
                    good=region.most_at_once <= MAX_PARALLEL and len(outcome.done) == _VMS,
                )
                region.delay_s = 0.0
                region.machines = {
                    system_id: machine | {"blockdevice_set": _PADDING}
                    for system_id, machine in region.machines.items()
                    if not machine["hostname"].startswith("other")
                }
            else:
                row("written where all is known", str(len(plan.writing)), "", "0", good=True)
    return rows


def _cpu_seconds_to_parse(machines: list[dict[str, Any]]) -> float:
    listing = json.dumps(machines, default=str)
    began = time.thread_time()
    json.loads(listing)
    return time.thread_time() - began
