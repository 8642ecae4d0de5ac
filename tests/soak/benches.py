# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The hosts that long runs are made on, simulated and real."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from maas_virtualbox import parse_hosts
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.simulator import Action, Fault

from tests.behaviour import benches
from tests.service import ServiceProcess
from tests.soak import faults, starvation
from tests.soak.proxy import Proxy
from tests.virtualbox.lab.lab import Lab

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.behaviour.benches import Bench

ALWAYS = 1_000_000


@contextlib.contextmanager
def host(*, real: bool) -> Generator[Bench]:
    """A host with ten VMs, all off."""
    if not real:
        with benches.simulated() as bench:
            yield bench
        return
    lab = Lab()
    lab.up()
    lab.start_sshd()
    lab.reset("vbox10")
    yield benches.RealBench(lab)


def uuids_of(bench: Bench) -> list[str]:
    """The UUIDs of a host's VMs."""
    with Fleet(parse_hosts(bench.host_entry), identity=bench.key_file) as fleet:
        return [vm.uuid for vm in fleet.vms()]


def starve(folder: Path, *, real: bool, seconds: float) -> starvation.Report:
    """Switch all VMs of a host but one: ten of a real one, 30 of one whose polls take a second.

    Args:
        folder: where the service has its files.
        real: a real VirtualBox instead of a simulated one.
        seconds: how long.
    """
    with host(real=real) as bench:
        bench.vboxmanage("createvm", "--name", "idle", "--register")
        if isinstance(bench, benches.SimulatedBench):
            for number in range(11, 31):
                bench.simulator.virtualbox.add_vm(f"node{number}")
        with Fleet(parse_hosts(bench.host_entry), identity=bench.key_file) as fleet:
            idle = fleet.find("idle").uuid
        switched = [uuid for uuid in uuids_of(bench) if uuid != idle]
        with ServiceProcess(folder, [f"{bench.host_entry} name=bench"], bench.key_file) as service:
            if isinstance(bench, benches.SimulatedBench):
                bench.simulator.inject(Fault(Action.LATE, on="poll", times=ALWAYS, seconds=1.0))
            return starvation.run(service, switched, idle, seconds)


def fail(folder: Path, *, real: bool, cycles: int, seed: int) -> faults.Report:
    """Switch the ten VMs of a host while everything fails.

    Args:
        folder: where the service has its files.
        real: a real VirtualBox instead of a simulated one.
        cycles: how often VMs go on and off, taken together.
        seed: of the order of faults.
    """
    with host(real=real) as bench:
        account, _, port = bench.host_entry.rpartition(":")
        uuids = uuids_of(bench)
        with (
            Proxy(int(port)) as proxy,
            ServiceProcess(
                folder, [f"{account}:{proxy.port} name=bench"], bench.key_file
            ) as service,
        ):
            return faults.Soak(bench, proxy, service, uuids, seed).run(cycles)
