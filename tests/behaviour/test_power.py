# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What on, off, reset and status mean, the same on a simulated and on a real VirtualBox."""

from __future__ import annotations

import re
import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox import Power, VMState

from tests.behaviour import benches
from tests.virtualbox.lab.lab import ODD_NAMES

if TYPE_CHECKING:
    from tests.behaviour.benches import Bench


def state(bench: Bench, uuid: str) -> str:
    """VirtualBox's own word, asked past our code."""
    info = bench.vboxmanage("showvminfo", uuid, "--machinereadable").stdout
    match = re.search(r'^VMState="([a-z-]+)"$', info, re.MULTILINE)
    assert match, info
    return match[1]


def until(bench: Bench, uuid: str, word: str) -> None:
    """Wait until VirtualBox says that word; showvminfo takes a lock, so look seldom."""
    while state(bench, uuid) != word:
        time.sleep(0.2)


def test_list_shows_every_vm_once_with_its_macs(fleet: mv.Fleet) -> None:
    vms = fleet.vms()

    assert [vm.name for vm in vms] == list(benches.NAMES)
    assert len({mac for vm in vms for mac in vm.macs}) == len(vms)
    assert {(vm.state, vm.power) for vm in vms} == {(VMState.POWEROFF, Power.OFF)}


def test_on_returns_when_the_vm_runs(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")

    fleet.power_on(vm)

    assert state(bench, vm.uuid) == "running"
    assert fleet.find("node01").power is Power.ON


@pytest.mark.parametrize("cached", [True, False])
def test_power_on_and_off_are_one_command_each(
    bench: Bench, fleet: mv.Fleet, *, cached: bool
) -> None:
    vm = fleet.find("node01")
    commands: list[int] = []

    for change in (fleet.power_on, fleet.power_off):
        if not cached:
            fleet.hosts[0].state.invalidate()
        before = bench.commands_run()
        change(vm)
        commands.append(bench.commands_run() - before)

    assert commands == [1, 1]
    assert state(bench, vm.uuid) == "poweroff"


def test_power_of_a_host_that_was_never_polled_is_one_command(bench: Bench) -> None:
    with benches.fleet_of(bench) as known:
        vm = known.find("node01")
    with benches.fleet_of(bench) as fleet:
        fleet.hosts[0].vboxmanage.installation(timeout=20.0)
        before = bench.commands_run()

        fleet.hosts[0].power_on(vm.uuid)

    assert bench.commands_run() - before == 1


def test_off_returns_when_no_process_runs_the_vm(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)

    fleet.power_off(vm)

    assert bench.processes(vm.uuid) == 0
    assert state(bench, vm.uuid) == "poweroff"
    assert fleet.find("node01").power is Power.OFF


def test_on_when_already_on_changes_nothing(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)

    fleet.power_on(vm)

    assert bench.processes(vm.uuid) == 1
    assert state(bench, vm.uuid) == "running"


def test_off_when_already_off_changes_nothing(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")

    fleet.power_off(vm)

    assert state(bench, vm.uuid) == "poweroff"


def test_reset_leaves_the_vm_running(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)

    fleet.reset(vm)

    assert state(bench, vm.uuid) == "running"


def test_reset_of_a_vm_that_is_off_is_refused(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")

    with pytest.raises(mv.PowerError, match="it is off"):
        fleet.reset(vm)

    assert state(bench, vm.uuid) == "poweroff"


def test_reset_of_a_paused_vm_runs(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.vboxmanage("controlvm", vm.uuid, "pause")

    fleet.reset(vm)

    assert state(bench, vm.uuid) == "running"


def test_on_of_a_saved_vm_boots_anew(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.vboxmanage("controlvm", vm.uuid, "savestate")
    until(bench, vm.uuid, "saved")

    fleet.power_on(vm)

    assert state(bench, vm.uuid) == "running"
    assert not bench.resumed(vm.uuid)


def test_on_of_a_saved_vm_resumes_it_where_the_policy_says_so(bench: Bench) -> None:
    with benches.fleet_of(bench, mv.PowerPolicy(saved_state="resume")) as fleet:
        vm = fleet.find("node01")
        fleet.power_on(vm)
        bench.vboxmanage("controlvm", vm.uuid, "savestate")
        until(bench, vm.uuid, "saved")

        fleet.power_on(vm)

    assert state(bench, vm.uuid) == "running"
    assert bench.resumed(vm.uuid)


def test_off_of_a_saved_vm_discards_the_state(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.vboxmanage("controlvm", vm.uuid, "savestate")
    until(bench, vm.uuid, "saved")

    fleet.power_off(vm)

    assert state(bench, vm.uuid) == "poweroff"


def test_on_of_a_paused_vm_lets_it_run(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.vboxmanage("controlvm", vm.uuid, "pause")

    fleet.power_on(vm)

    assert state(bench, vm.uuid) == "running"


def test_off_of_a_paused_vm_is_off(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.vboxmanage("controlvm", vm.uuid, "pause")

    fleet.power_off(vm)

    assert state(bench, vm.uuid) == "poweroff"


def test_on_of_an_aborted_vm_runs(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.kill_vm(vm.uuid)
    until(bench, vm.uuid, "aborted")

    fleet.power_on(vm)

    assert state(bench, vm.uuid) == "running"


def test_acpi_off_of_a_guest_that_does_not_react_pulls_the_plug(bench: Bench) -> None:
    with benches.fleet_of(bench, mv.PowerPolicy(off_mode="acpi", off_timeout=1.0)) as fleet:
        vm = fleet.find("node01")
        fleet.power_on(vm)
        began = time.monotonic()

        fleet.power_off(vm)

    assert time.monotonic() - began >= 1.0
    assert state(bench, vm.uuid) == "poweroff"


@pytest.mark.parametrize(
    ("preparation", "word", "power"),
    [
        ((), "running", Power.ON),
        (("pause",), "paused", Power.ON),
        (("savestate",), "saved", Power.OFF),
        (("poweroff",), "poweroff", Power.OFF),
    ],
)
def test_status_says_virtualboxs_word(
    bench: Bench, fleet: mv.Fleet, preparation: tuple[str, ...], word: str, power: Power
) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    for verb in preparation:
        bench.vboxmanage("controlvm", vm.uuid, verb)
    until(bench, vm.uuid, word)
    fleet.hosts[0].state.invalidate()

    seen = fleet.hosts[0].vm(vm.uuid, exact=True)

    assert (seen.state.value, seen.power) == (word, power)


def test_status_of_a_killed_vm_is_aborted(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")
    fleet.power_on(vm)
    bench.kill_vm(vm.uuid)
    until(bench, vm.uuid, "aborted")
    fleet.hosts[0].state.invalidate()

    assert fleet.hosts[0].vm(vm.uuid).state is VMState.ABORTED


def test_ten_vms_go_on_and_off_side_by_side(fleet: mv.Fleet) -> None:
    vms = fleet.vms()

    with futures.ThreadPoolExecutor(len(vms)) as threads:
        list(threads.map(fleet.power_on, vms))
        on = {vm.power for vm in fleet.vms()}
        list(threads.map(fleet.power_off, vms))

    assert on == {Power.ON}
    assert {vm.power for vm in fleet.vms()} == {Power.OFF}


def test_ten_ons_of_one_vm_start_it_once(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")

    with futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(fleet.power_on, [vm] * 10))

    assert bench.processes(vm.uuid) == 1
    assert state(bench, vm.uuid) == "running"


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_power_of_a_vm_with_any_name_executes_no_name(
    bench: Bench, fleet: mv.Fleet, name: str
) -> None:
    before = bench.files_in_home()
    made = bench.vboxmanage("createvm", "--name", name, "--register")
    assert made.returncode == 0, made.stderr
    vm = fleet.find(name)

    fleet.power_on(vm)
    on = fleet.hosts[0].vm(vm.uuid)
    fleet.power_off(vm)

    assert (on.name, on.power) == (name, Power.ON)
    assert fleet.find(name).power is Power.OFF
    assert bench.files_in_home() == before
