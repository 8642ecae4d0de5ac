# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Calls to all hosts of a fleet, some of which are down."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.selectors import Selector
from maas_virtualbox.simulator import Action, Fault, Simulator

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.host.host import VirtualBoxHost

TIMEOUT_S = 1.0


@pytest.fixture
def up() -> Generator[Simulator]:
    """A host with three VMs."""
    with Simulator(vms=3, user="up") as simulator:
        yield simulator


@pytest.fixture
def other(up: Simulator) -> Generator[Simulator]:
    """A host with one VM, which hangs in some tests."""
    with Simulator(user="other", key_file=up.key_file) as simulator:
        simulator.virtualbox.add_vm("far")
        yield simulator


@pytest.fixture
def fleet(up: Simulator, other: Simulator) -> Generator[mv.Fleet]:
    """A fleet that has polled both hosts."""
    entries = f"{up.host_entry} name=up, {other.host_entry} name=other"
    policy = mv.PowerPolicy(state_max_age=0.0)
    with mv.Fleet(mv.parse_hosts(entries), identity=up.key_file, policy=policy) as fleet:
        fleet.vms()
        yield fleet


def test_vms_of_a_fleet_with_a_host_that_is_down(fleet: mv.Fleet, other: Simulator) -> None:
    other.close_port()

    with pytest.raises(mv.HostsDown, match=r"^other: .*refused") as caught:
        fleet.vms()

    assert [vm.name for vm in caught.value.vms] == ["node01", "node02", "node03"]
    assert [report.host.name for report in caught.value.reports] == ["up", "other"]
    assert (caught.value.retry, caught.value.code) == (True, mv.ErrorCode.HOST_DOWN)


def test_vms_of_a_host_that_is_up(fleet: mv.Fleet, other: Simulator) -> None:
    other.close_port()

    assert len(fleet.vms(host="up")) == 3


def test_power_on_vms_reports_each_vm(fleet: mv.Fleet) -> None:
    node = fleet.find("node01")
    progress: list[mv.VMResult] = []

    results = fleet.power_on_vms([node, "nosuch", "far"], progress=progress.append)

    assert [result.vm for result in results] == [node, "nosuch", "far"]
    assert [type(result.error) for result in results] == [type(None), mv.UnknownVM, type(None)]
    assert sorted(progress, key=results.index) == results
    assert {fleet.find(name).power for name in ("node01", "far")} == {mv.Power.ON}


def test_power_off_vms_passes_the_mode(fleet: mv.Fleet, up: Simulator) -> None:
    fleet.power_on("node01")

    (result,) = fleet.power_off_vms(["node01"], mode="acpi")

    assert result.error is None
    assert up.count("acpipowerbutton") == 1


def test_power_on_vms_without_vms(fleet: mv.Fleet) -> None:
    assert fleet.power_on_vms([]) == []


def test_power_on_vms_does_not_wait_for_a_hanging_host(
    fleet: mv.Fleet, up: Simulator, other: Simulator
) -> None:
    vms = fleet.vms()
    other.inject(Fault(Action.HANG, times=1000))
    done: list[str] = []

    def note(result: mv.VMResult) -> None:
        assert isinstance(result.vm, mv.VM)
        done.append(result.vm.name)

    results = fleet.power_on_vms(vms, progress=note, timeout=5 * TIMEOUT_S)

    assert [type(result.error) for result in results[:3]] == [type(None)] * 3
    assert isinstance(results[3].error, mv.HostDown | mv.PowerTimeout)
    assert done[3:] == ["far"]
    assert up.count("startvm") == 3


def test_wait_for_returns_when_the_vm_is_on(fleet: mv.Fleet, up: Simulator) -> None:
    uuid = up.virtualbox.vm("node02").uuid
    starter = threading.Timer(0.3, up.vboxmanage, ("startvm", uuid))
    starter.start()

    vm = fleet.wait_for("node02", mv.Power.ON, timeout=30.0)

    starter.join()
    assert (vm.uuid, vm.power) == (uuid, mv.Power.ON)


def test_wait_for_a_state_that_does_not_come(fleet: mv.Fleet) -> None:
    with pytest.raises(mv.PowerTimeout, match=r"node02: waiting for power on .* it is off"):
        fleet.wait_for("node02", mv.Power.ON, timeout=5.0)


def test_wait_that_ends_during_a_poll_says_what_was_seen(fleet: mv.Fleet, up: Simulator) -> None:
    fleet.find("node02")
    first = up.count("poll") + 1

    def hang() -> None:
        while up.count("poll") <= first:  # until the first poll of the wait has ended
            time.sleep(0.01)
        up.inject(Fault(Action.HANG, times=100))

    hanging = threading.Thread(target=hang)
    hanging.start()
    with pytest.raises(mv.PowerTimeout, match=r"node02: waiting for power on .* it is off"):
        fleet.wait_for("node02", mv.Power.ON, timeout=5.0)
    hanging.join()


def test_wait_for_a_vm_that_does_not_exist(fleet: mv.Fleet) -> None:
    with pytest.raises(mv.UnknownVM):
        fleet.wait_for("nosuch", mv.Power.ON, timeout=TIMEOUT_S)


def test_wait_for_a_host_that_comes_back(fleet: mv.Fleet, up: Simulator) -> None:
    vm = fleet.find("node01")
    up.inject(Fault(Action.DROP, times=3))

    assert fleet.wait_for(vm, mv.Power.OFF, timeout=30.0).power is mv.Power.OFF


# -- Which host is called -----------------------------------------------------------------------


def call(fleet: mv.Fleet, selector: str, *, missing: bool = False) -> list[tuple[str, str]]:
    """The hosts and UUIDs that a function is called with; it does not find the VM at first."""
    calls: list[tuple[str, str]] = []

    def function(host: VirtualBoxHost, uuid: str) -> None:
        calls.append((host.config.name, uuid))
        if missing and len(calls) == 1:
            raise mv.UnknownVM("it is not here")

    fleet.resolver.call(Selector.parse(selector), function, Deadline.after(30.0))
    return calls


def test_call_by_uuid_reads_nothing_first(
    fleet: mv.Fleet, up: Simulator, other: Simulator
) -> None:
    uuid = up.virtualbox.vm("node01").uuid
    before = len(up.commands), len(other.commands)

    assert call(fleet, uuid.upper()) == [("up", uuid)]
    assert (len(up.commands), len(other.commands)) == before


def test_call_by_uuid_follows_a_vm_that_moved(
    fleet: mv.Fleet, up: Simulator, other: Simulator
) -> None:
    uuid = up.virtualbox.vm("node01").uuid
    up.vboxmanage("unregistervm", uuid, "--delete")
    other.virtualbox.add_vm("node01", uuid=uuid)

    assert call(fleet, uuid, missing=True) == [("up", uuid), ("other", uuid)]


def test_call_by_name_reads_nothing_while_the_settings_are_new(
    fleet: mv.Fleet, up: Simulator, other: Simulator
) -> None:
    uuid = up.virtualbox.vm("node01").uuid
    before = len(up.commands), len(other.commands)

    assert call(fleet, "node01") == [("up", uuid)]
    assert (len(up.commands), len(other.commands)) == before
