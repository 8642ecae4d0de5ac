# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The demonstration: all VMs on, verified, off, verified, and how long each step took."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import cli, hosts, simulator
from maas_virtualbox.cli import show
from maas_virtualbox.fleet import Fleet
from maas_virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.host import VM

_T = TypeVar("_T")


def run_simulated(vms: int, as_format: show.Format) -> bool:
    """Run the demonstration against a simulated host with the timings of a real one."""
    with simulator.Simulator(vms=vms, timings=simulator.Timings.real()) as host:
        print(f"A simulated VirtualBox host with {vms} VMs: {host.host_entry}")
        fingerprint = hosts.key_fingerprint(host.host_key)
        listed = hosts.parse_hosts(f"{host.host_entry} name=demo host-key={fingerprint}")
        with Fleet(listed, identity=host.key_file) as fleet:
            return run(fleet, as_format)


def run(fleet: Fleet, as_format: show.Format) -> bool:
    """Run the demonstration; true if every VM went on and off. VMs that are on stay alone.

    Whatever happens, what the demonstration switched on is switched off at the end.
    """
    steps: list[tuple[str, float]] = []

    def timed(step: str, work: Callable[[], _T]) -> _T:
        began = time.monotonic()
        try:
            return work()
        finally:
            steps.append((step, time.monotonic() - began))

    before = timed("list", lambda: _list(fleet))
    show.vms(before, as_format)
    chosen = [vm for vm in before if vm.power is Power.OFF]
    if not chosen:
        show.problem("no VM is off, so there is nothing to show")
        return False
    if len(chosen) < len(before):
        print(f"{len(before) - len(chosen)} VMs are not off and are left alone.")
    try:
        good = timed("on", lambda: _act(fleet, "on", Fleet.power_on, chosen))
        good &= timed("verify", lambda: _all_are(fleet, chosen, Power.ON))
        show.vms(_list(fleet), as_format)
    finally:
        good_off = timed("off", lambda: _act(fleet, "off", Fleet.power_off, chosen))
    good &= good_off
    good &= timed("verify off", lambda: _all_are(fleet, chosen, Power.OFF))
    print(
        f"{len(chosen)} VMs {'on, verified, off, verified' if good else 'tried, NOT all well'}: "
        + ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps)
    )
    return good


def _list(fleet: Fleet) -> list[VM]:
    reports = fleet.reports(exact=True)
    for report in reports:
        if report.error:
            show.problem(report.error)
    return [vm for report in reports for vm in report.vms]


def _act(fleet: Fleet, verb: str, action: Callable[..., None], vms: Sequence[VM]) -> bool:
    failures = [error for _, error, _ in cli.act_on_all(fleet, verb, action, vms, 60.0) if error]
    for failure in failures:
        show.problem(failure)
    return not failures


def _all_are(fleet: Fleet, vms: Sequence[VM], power: Power) -> bool:
    """Look anew, past every picture in memory."""
    for owner in fleet.hosts:
        owner.observer.make_stale()
    seen = {(vm.host.name, vm.uuid): vm.power for vm in _list(fleet)}
    wrong = [vm for vm in vms if seen.get((vm.host.name, vm.uuid)) is not power]
    for vm in wrong:
        show.problem(f"{vm} is not {power}")
    return not wrong
