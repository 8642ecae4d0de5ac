# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How VMs are found, and what looking costs the host."""

from __future__ import annotations

from concurrent import futures
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline

from tests.behaviour import benches

if TYPE_CHECKING:
    from tests.behaviour.benches import Bench


def test_a_uuid_a_mac_and_a_uuid_tail_find_the_same_vm(fleet: mv.Fleet) -> None:
    vm = fleet.find("node03")
    tail = vm.uuid[-12:]

    selectors = [
        vm.uuid.upper(),
        f"{{{vm.uuid}}}",
        vm.macs[0],
        vm.macs[0].upper().replace(":", "-"),
        vm.macs[0].replace(":", ""),
        ":".join(tail[i : i + 2] for i in range(0, 12, 2)),
    ]

    assert {fleet.find(selector).uuid for selector in selectors} == {vm.uuid}


def test_an_unknown_vm_is_an_error_that_names_the_account_asked(
    bench: Bench, fleet: mv.Fleet
) -> None:
    with pytest.raises(mv.UnknownVM, match=bench.host_entry.partition("@")[0]):
        fleet.find("nosuch")


def test_a_vm_made_meanwhile_is_found(bench: Bench, fleet: mv.Fleet) -> None:
    fleet.vms()
    bench.vboxmanage("createvm", "--name", "latecomer", "--register")

    assert fleet.find("latecomer").name == "latecomer"


def test_a_mac_two_vms_share_is_ambiguous_and_both_are_named(
    bench: Bench, fleet: mv.Fleet
) -> None:
    mac = fleet.find("node01").macs[0].replace(":", "")
    bench.vboxmanage("modifyvm", "node02", "--macaddress1", mac)
    fleet.hosts[0].state.settings(Deadline.after(20.0), max_age=0.0)

    with pytest.raises(mv.AmbiguousVM, match=r"node01.*node02"):
        fleet.find(mac)


def test_ten_queries_at_once_are_one_command_on_the_host(bench: Bench, fleet: mv.Fleet) -> None:
    fleet.vms()
    fleet.hosts[0].state.invalidate()
    before = bench.commands_run()

    with futures.ThreadPoolExecutor(10) as threads:
        asked = [threads.submit(fleet.vms) for _ in range(10)]
        found = [one.result() for one in asked]

    assert [len(vms) for vms in found] == [len(benches.NAMES)] * 10
    assert bench.commands_run() - before == 1


def test_a_fresh_picture_answers_without_a_command(bench: Bench) -> None:
    with benches.fleet_of(bench, PowerPolicy(state_max_age=600.0)) as fleet:
        fleet.vms()
        before = bench.commands_run()

        for name in benches.NAMES:
            fleet.find(name)

        assert bench.commands_run() == before


def test_an_action_makes_pictures_stale_at_once(fleet: mv.Fleet) -> None:
    vm = fleet.find("node01")

    fleet.power_on(vm)
    on = fleet.find("node01").power
    fleet.power_off(vm)
    off = fleet.find("node01").power

    assert (on, off) == (mv.Power.ON, mv.Power.OFF)
