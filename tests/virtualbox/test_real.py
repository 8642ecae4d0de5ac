# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What only a real VirtualBox can show: a boot from the network, a crash, 200 VMs, 200 cycles."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox import Power, VMState
from maas_virtualbox.deadline import Deadline

from tests.behaviour import benches
from tests.virtualbox.lab import lab as real

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.virtualbox.lab.lab import Lab

pytestmark = pytest.mark.real

CYCLES = int(os.environ.get("MAAS_VIRTUALBOX_CYCLES", "200"))

# lidt with a limit of 0, then a breakpoint: with no handler for it, nor for that failing, nor for
# that, the processor gives up, and VirtualBox calls it Guru Meditation.
TRIPLE_FAULT = b"\xfa\x31\xc0\x8e\xd8\x0f\x01\x1e\x20\x7c\xcc".ljust(510, b"\0") + b"\x55\xaa"


@pytest.fixture
def bootable(lab: Lab) -> benches.RealBench:
    """Account vbox: node1 to node3, which boot and say what from."""
    lab.start_sshd()
    lab.reset("vbox")
    return benches.RealBench(lab, "vbox")


@pytest.fixture
def ten(lab: Lab) -> benches.RealBench:
    """Account vbox10, all off."""
    lab.start_sshd()
    lab.reset("vbox10")
    return benches.RealBench(lab)


@pytest.fixture
def fleet(ten: benches.RealBench) -> Generator[mv.Fleet]:
    """A fleet of account vbox10."""
    with benches.fleet_of(ten) as fleet:
        yield fleet


def command_line(bench: benches.Bench, tmp_path: Path, *arguments: str) -> str:
    """Run the installed program as people do; return its output."""
    program = Path(sys.executable).with_name("maas-virtualbox")
    options = ("--hosts", bench.host_entry, "--key", str(bench.key_file))
    pins = ("--known-hosts", str(tmp_path / "known_hosts"))
    done = subprocess.run(
        [program, *options, *pins, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def boots_from_net(lab: Lab, vm: str) -> bool:
    """Wait for the line a boot writes to the serial port; 14 s on an idle machine."""
    while "BOOTED-FROM" not in lab.serial("vbox", vm):
        assert lab.state("vbox", vm) == "running"
        time.sleep(0.5)
    return "BOOTED-FROM-NET" in lab.serial("vbox", vm)


def test_on_by_the_command_line_boots_from_the_network(
    lab: Lab, bootable: benches.RealBench, tmp_path: Path
) -> None:
    command_line(bootable, tmp_path, "on", "08:00:27:AA:BB:01")

    assert boots_from_net(lab, "node1")


def test_on_of_a_saved_vm_boots_from_the_network_again(
    lab: Lab, bootable: benches.RealBench, tmp_path: Path
) -> None:
    command_line(bootable, tmp_path, "on", "node1")
    assert boots_from_net(lab, "node1")
    bootable.vboxmanage("controlvm", "node1", "savestate")
    (lab.home("vbox") / "node1.serial").unlink()

    command_line(bootable, tmp_path, "on", "node1")

    assert boots_from_net(lab, "node1")


def test_a_vm_lives_on_when_the_connection_that_started_it_ends(ten: benches.RealBench) -> None:
    with benches.fleet_of(ten) as fleet:
        vm = fleet.find("node01")
        fleet.power_on(vm)

    ten.restart_sshd()
    time.sleep(1.0)

    assert ten.processes(vm.uuid) == 1


def test_a_crashed_vm_is_on_and_can_be_switched_off_and_on(bootable: benches.RealBench) -> None:
    image = bootable.lab.home("vbox") / "crash.img"
    image.write_bytes(real.disk_image(TRIPLE_FAULT))
    image.chmod(0o644)
    for command in (
        ("convertfromraw", "crash.img", "crash.vdi", "--format", "VDI"),
        (
            "storageattach",
            "node1",
            "--storagectl",
            "IDE",
            "--port",
            "0",
            "--device",
            "0",
            "--type",
            "hdd",
            "--medium",
            "crash.vdi",
        ),
        ("modifyvm", "node1", "--boot1", "disk"),
    ):
        done = bootable.vboxmanage(*command)
        assert done.returncode == 0, done.stderr
    with benches.fleet_of(bootable) as fleet:
        vm = fleet.find("node1")
        fleet.power_on(vm)
        while bootable.lab.state("vbox", "node1") != "gurumeditation":
            time.sleep(0.5)
        fleet.hosts[0].state.invalidate()

        crashed = fleet.hosts[0].vm(vm.uuid, exact=True)
        fleet.power_on(vm)
        restarted = [
            "to 'RUNNING'" in line
            for line in fleet.hosts[0].vboxmanage.read_log(crashed.settings, lines=400, timeout=10)
        ]
        fleet.power_off(vm)

    assert (crashed.state, crashed.power) == (VMState.GURU_MEDITATION, Power.ON)
    assert any(restarted)
    assert bootable.processes(vm.uuid) == 0


def test_a_start_that_fails_says_why_at_once(bootable: benches.RealBench) -> None:
    bootable.vboxmanage("modifyvm", "node1", "--nic1", "intnet", "--intnet1", "lab")
    began = time.monotonic()
    plain = bootable.vboxmanage("startvm", "node1", "--type", "headless")
    plain_seconds = time.monotonic() - began

    with benches.fleet_of(bootable) as fleet:
        vm = fleet.find("node1")
        began = time.monotonic()
        with pytest.raises(mv.PowerError, match="VERR_SUP_DRIVERLESS") as caught:
            fleet.power_on(vm)
        seconds = time.monotonic() - began

    assert plain.returncode == 1
    assert seconds < 5 * plain_seconds
    assert caught.value.log_tail


def test_every_odd_name_is_listed_and_two_vms_are_inaccessible(lab: Lab) -> None:
    lab.reset("vboxodd")
    with benches.fleet_of(benches.RealBench(lab, "vboxodd")) as fleet:
        vms = fleet.vms()

    readable = {vm.name for vm in vms if vm.power is not Power.UNKNOWN}
    assert readable == set(real.ODD_NAMES)
    assert [vm.state for vm in vms if vm.power is Power.UNKNOWN] == [VMState.INACCESSIBLE] * 2


def test_an_inaccessible_vm_is_not_started_and_the_file_is_named(lab: Lab) -> None:
    lab.reset("vboxodd")
    with benches.fleet_of(benches.RealBench(lab, "vboxodd")) as fleet:
        broken = next(vm for vm in fleet.vms() if vm.power is Power.UNKNOWN)

        with pytest.raises(mv.PowerError, match=r"\.vbox"):
            fleet.power_on(broken)


def test_a_disk_from_elsewhere_is_found_behind_a_snapshot(ten: benches.RealBench) -> None:
    with benches.fleet_of(ten) as fleet:
        vm = fleet.create_vm(mv.VMSpec(name="made", disk=1, attachment="none"))
        path = f"{vm.settings.settings_file.partition('/VirtualBox VMs/')[0]}/precious.vdi"
        place = ("--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd")
        for command in (
            ("createmedium", "disk", "--filename", path, "--size", "8"),
            ("storagectl", vm.uuid, "--name", "IDE", "--add", "ide"),
            ("storageattach", vm.uuid, *place, "--medium", path),
            ("snapshot", vm.uuid, "take", "s1"),
            ("storageattach", vm.uuid, *place, "--medium", "none"),
        ):
            done = ten.vboxmanage(*command)
            assert done.returncode == 0, done.stderr

        with pytest.raises(mv.DeletionError, match=r"precious\.vdi.*delete the snapshots"):
            fleet.delete_vm(vm)

    assert ten.lab.path(path).exists()


def test_what_unregistervm_deletes_is_known(ten: benches.RealBench) -> None:
    """If VirtualBox became more careful, so might `ownership.foreign_disks`."""
    with benches.fleet_of(ten) as fleet:
        vm = fleet.create_vm(mv.VMSpec(name="made", disk=1, attachment="none"))
    folder, _, _ = vm.settings.settings_file.rpartition("/")
    notes = ten.lab.path(f"{folder}/notes.txt")
    notes.write_text("mine")
    elsewhere = f"{folder.partition('/VirtualBox VMs/')[0]}/precious.vdi"
    ten.vboxmanage("createmedium", "disk", "--filename", elsewhere, "--size", "8")
    place = ("--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd")
    ten.vboxmanage("storagectl", vm.uuid, "--name", "IDE", "--add", "ide")
    ten.vboxmanage("storageattach", vm.uuid, *place, "--medium", elsewhere)
    before = ten.lab.path(elsewhere).exists()

    ten.vboxmanage("unregistervm", vm.uuid, "--delete")

    assert (before, ten.lab.path(elsewhere).exists()) == (True, False)
    assert [path.name for path in ten.lab.path(folder).iterdir()] == ["notes.txt"]


def test_states_of_200_vms_are_one_command_for_ten_who_ask(lab: Lab) -> None:
    lab.up(scale=True)
    bench = benches.RealBench(lab, "vbox200")
    with benches.fleet_of(bench) as fleet:
        fleet.vms()
        fleet.hosts[0].state.invalidate()
        before = bench.commands_run()

        with futures.ThreadPoolExecutor(10) as threads:
            asked = [threads.submit(fleet.vms) for _ in range(10)]
            found = [one.result() for one in asked]

    assert [len(vms) for vms in found] == [200] * 10
    assert all(len(vm.macs) == 2 for vm in found[0])
    assert bench.commands_run() - before == 1


def test_200_cycles_of_ten_vms_side_by_side_without_a_failure(
    ten: benches.RealBench, fleet: mv.Fleet
) -> None:
    vms = fleet.vms()
    failures: list[str] = []

    def cycle(vm: mv.VM) -> None:
        try:
            fleet.power_on(vm)
            fleet.power_off(vm)
        except mv.Error as error:
            failures.append(str(error))

    with futures.ThreadPoolExecutor(len(vms)) as threads:
        for _ in range(-(-CYCLES // len(vms))):
            list(threads.map(cycle, vms))

    assert failures == []
    assert {ten.processes(vm.uuid) for vm in vms} == {0}


def test_login_after_a_refused_key_waits_before_the_next_attempt(
    lab: Lab, ten: benches.RealBench, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", wrong], check=True, timeout=30
    )
    lab.restart_sshd("PerSourcePenalties yes")
    try:
        with mv.Fleet(mv.parse_hosts(ten.host_entry), identity=wrong) as refused:
            texts: list[str] = []
            for _ in range(20):
                with pytest.raises(mv.LoginRefused) as caught:
                    refused.hosts[0].state.poll(Deadline.after(20.0), max_age=0.0)
                texts.append(str(caught.value))
        with benches.fleet_of(ten) as fleet:
            vms = fleet.vms()
    finally:
        lab.restart_sshd()

    assert all(Path(f"{wrong}.pub").read_text().split()[1] in text for text in texts)
    assert len(vms) == 10
