# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the world does to a host, and what must not come of it."""

from __future__ import annotations

import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox import Power

if TYPE_CHECKING:
    from tests.behaviour.benches import Bench


def test_a_second_copy_of_a_running_vm_is_refused(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.lose_sight()

    with pytest.raises(mv.OrphanedProcess, match="process"):
        fleet.power_on(vm)

    assert bench.processes(vm.uuid) == 1
    assert fleet.hosts[0].orphaned_process_refusals == 1


def test_a_vm_virtualbox_lost_sight_of_is_never_called_off(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.lose_sight()
    fleet.hosts[0].state.invalidate()

    seen = fleet.hosts[0].vm(vm.uuid)
    with pytest.raises(mv.OrphanedProcess, match="kill"):
        fleet.power_off(vm)

    assert seen.power is Power.ON
    assert bench.processes(vm.uuid) == 1


def test_connections_broken_in_the_middle_are_made_again(bench: Bench, fleet: mv.Fleet) -> None:
    vms = fleet.vms()[:4]

    def break_connections() -> None:
        time.sleep(0.25)
        bench.restart_sshd()

    breaker = threading.Thread(target=break_connections)
    breaker.start()
    with futures.ThreadPoolExecutor(len(vms)) as threads:
        list(threads.map(fleet.power_on, vms))
    breaker.join()

    assert {fleet.find(vm.uuid).power for vm in vms} == {Power.ON}


def test_an_idle_connection_that_died_is_made_again(bench: Bench, fleet: mv.Fleet) -> None:
    fleet.vms()
    bench.restart_sshd()
    fleet.hosts[0].state.invalidate()

    assert len(fleet.vms()) == 10


def test_vms_start_again_after_vboxsvc_was_killed(bench: Bench, fleet: mv.Fleet) -> None:
    vms = fleet.vms()[:3]
    for vm in vms:
        fleet.power_on(vm)

    bench.kill_service()
    with futures.ThreadPoolExecutor(len(vms)) as threads:
        for one in [threads.submit(fleet.power_on, vm, timeout=60) for vm in vms]:
            one.result()

    fleet.hosts[0].state.invalidate()
    assert {fleet.hosts[0].vm(vm.uuid).power for vm in vms} == {Power.ON}


def test_a_vm_that_does_not_exist_any_more_is_unknown(bench: Bench, fleet: mv.Fleet) -> None:
    bench.vboxmanage("createvm", "--name", "shortlived", "--register")
    vm = fleet.find("shortlived")
    bench.vboxmanage("unregistervm", vm.uuid, "--delete")

    with pytest.raises(mv.UnknownVM, match=vm.uuid):
        fleet.power_on(vm)
