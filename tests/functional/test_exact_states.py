# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The exact states of VMs that VirtualBox does not list as running."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.virtualbox.vboxmanage import VMInfo


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with ten VMs."""
    with Simulator(vms=10) as simulator:
        yield simulator


def test_exact_states_of_ten_crashed_vms_settle_together(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    for vm in simulator.virtualbox.vms:
        fleet.power_on(vm.uuid)
        simulator.virtualbox.crash_vm(vm.uuid)
    fleet.hosts[0].state.invalidate()
    polls, asked = simulator.count("poll"), simulator.count("showvminfo")

    states = [vm.state for vm in fleet.vms(exact=True)]

    assert states == [mv.VMState.GURU_MEDITATION] * 10
    assert simulator.count("showvminfo") - asked == 10
    # All of them settle at the same time.
    assert simulator.count("poll") - polls <= 6


def test_exact_states_of_crashed_vms_are_asked_in_parallel(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vm in simulator.virtualbox.vms[:6]:
        fleet.power_on(vm.uuid)
        simulator.virtualbox.crash_vm(vm.uuid)
    fleet.hosts[0].state.invalidate()
    vboxmanage = fleet.hosts[0].vboxmanage
    showvminfo, all_in_progress = vboxmanage.showvminfo, threading.Barrier(6, timeout=30.0)

    def wait_for_the_others(uuid: str, *, timeout: float) -> VMInfo:
        all_in_progress.wait()
        return showvminfo(uuid, timeout=timeout)

    monkeypatch.setattr(vboxmanage, "showvminfo", wait_for_the_others)

    states = [vm.state for vm in fleet.vms(exact=True, timeout=60.0)]

    assert states[:6] == [mv.VMState.GURU_MEDITATION] * 6
