# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Creation and deletion of VMs, on a simulated and on a real VirtualBox."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox import Power
from maas_virtualbox.host import checks

from tests.behaviour import benches

if TYPE_CHECKING:
    from tests.behaviour.benches import Bench

PROGRAM = Path(sys.executable).with_name("maas-virtualbox")

# A restricted key can neither create nor delete VMs.
unrestricted = pytest.mark.parametrize(
    "bench", ["simulator", pytest.param("virtualbox", marks=pytest.mark.real)], indirect=True
)
restricted = pytest.mark.parametrize(
    "bench", [pytest.param("restricted", marks=pytest.mark.real)], indirect=True
)


def small(name: str, **options: object) -> mv.VMSpec:
    """Return a specification that needs few resources and no network."""
    return mv.VMSpec.model_validate(
        {"name": name, "memory": 16, "disk": 1, "attachment": "none", **options}
    )


def vms(bench: Bench) -> list[str]:
    """Return the VMs that VirtualBox lists, without those of the bench."""
    listed = bench.vboxmanage("list", "vms").stdout.splitlines()
    names = [line.rpartition('"')[0].removeprefix('"') for line in listed]
    return [name for name in names if name not in benches.NAMES]


def disks(bench: Bench) -> list[str]:
    """Return the file names of the hard disks that VirtualBox lists."""
    listed = bench.vboxmanage("list", "hdds").stdout.splitlines()
    paths = [line.partition(":")[2].strip() for line in listed if line.startswith("Location:")]
    return [path.rpartition("/")[2] for path in paths]


# -- Creation ----------------------------------------------------------------------------------


@unrestricted
def test_create_of_ten_vms_makes_them_ready_for_maas(bench: Bench, fleet: mv.Fleet) -> None:
    host = fleet.hosts[0]
    network = host.vboxmanage.list_networks("bridgedifs", timeout=18)[0]
    names = [f"new {number:02}" for number in range(1, 11)]
    specs = [mv.VMSpec(name=name, disk=8, attachment="bridged", network=network) for name in names]
    done: list[str] = []

    made = fleet.create_vms(specs, progress=lambda spec, _: done.append(spec.name))

    assert [creation.error for creation in made] == [None] * 10
    assert [creation.vm.name for creation in made if creation.vm] == names
    assert sorted(done) == names
    seen = fleet.vms()
    macs = [mac for vm in seen for mac in vm.macs]
    assert len(set(macs)) == len(macs) == 20
    assert {vm.name for vm in seen if vm.settings.managed} == set(names)
    findings = [finding for finding in checks.check_host(host) if finding.vm in names]
    assert {finding.level for finding in findings} == {checks.Level.OK}
    assert {finding.vm for finding in findings} == set(names)
    assert sorted(disks(bench)) == [f"{name}.vdi" for name in names]


@unrestricted
def test_create_follows_the_specification(bench: Bench, fleet: mv.Fleet) -> None:
    spec = small("new", cpus=2, nic_model="virtio", mac="02:00:5e:00:53:01", memory=24)

    vm = fleet.create_vm(spec)
    info = bench.vboxmanage("showvminfo", vm.uuid, "--machinereadable").stdout.splitlines()
    fleet.power_on("02:00:5e:00:53:01")
    on = fleet.find("new").power
    fleet.power_off(vm)

    assert {"cpus=2", "memory=24", 'macaddress1="02005E005301"', 'boot1="net"'} <= set(info)
    assert vm.settings.nics
    assert (vm.settings.nics[0].model, vm.settings.nics[0].attachment) == ("virtio", "null")
    assert on is Power.ON


@unrestricted
def test_create_with_an_invalid_spec_creates_nothing(bench: Bench, fleet: mv.Fleet) -> None:
    mac = fleet.find("node02").macs[0]
    bridged = small("b", attachment="bridged", network="nosuch0")
    unknown = small("b", os_type="Nonsense")

    for spec, message in (
        (small("node01"), "bench/node01: not created: the host already has a VM with this name"),
        (small("b", mac=mac), f"VM node02 already has the MAC {mac}"),
        (unknown, "does not know the OS type 'Nonsense'"),
        (bridged, "the host has no network interface 'nosuch0': use one of "),
    ):
        with pytest.raises(mv.CreationError, match=message):
            fleet.create_vms([small("a"), spec])

    with pytest.raises(mv.CreationError, match="several of the new VMs have this name"):
        fleet.create_vms([small("a"), small("a")])
    assert vms(bench) == []


@unrestricted
def test_create_continues_after_one_vm_failed(bench: Bench, fleet: mv.Fleet) -> None:
    bench.vboxmanage("createvm", "--name", "odd$x", "--register")  # its folder is called odd_x

    first, folder, last = fleet.create_vms([small("a"), small("odd_x"), small("c")])

    assert (first.error, last.error) == (None, None)
    assert "Could not rename the directory" in str(folder.error)
    assert sorted(vms(bench)) == ["a", "c", "odd$x"]
    assert sorted(disks(bench)) == ["a.vdi", "c.vdi"]


@unrestricted
def test_create_removes_the_incomplete_vms_of_a_killed_one(
    bench: Bench, fleet: mv.Fleet, tmp_path: Path
) -> None:
    options = ("--hosts", bench.host_entry, "--key", str(bench.key_file))
    pins = ("--known-hosts", str(tmp_path / "known_hosts"))
    create = ("create", "--count", "30", "--attachment", "none", "--disk", "1", "--prefix")
    incomplete: list[str] = []
    for attempt in "abcde":  # each is killed in the middle, but that may be between two VMs
        before = bench.commands_run()
        with subprocess.Popen(
            [PROGRAM, *options, *pins, *create, attempt], stderr=subprocess.DEVNULL
        ) as killed:
            while bench.commands_run() - before < 40:  # of more than 200
                assert killed.poll() is None
                time.sleep(0.005)
            killed.kill()
        incomplete = [name for name in vms(bench) if "being made" in name]
        if incomplete:
            break

    fleet.create_vm(small("after"))

    assert incomplete
    whole = vms(bench)
    assert "after" in whole
    assert not [name for name in whole if "being made" in name]
    assert sorted(disks(bench)) == sorted(f"{name}.vdi" for name in whole)
    assert all(fleet.find(name).settings.managed for name in whole)


@unrestricted
def test_create_survives_broken_connections(bench: Bench, fleet: mv.Fleet) -> None:
    broken: list[str] = []

    def break_connections(spec: mv.VMSpec, error: mv.Error | None) -> None:
        del error
        if not broken:
            bench.restart_sshd()
        broken.append(spec.name)

    made = fleet.create_vms(
        [small(f"new{number}") for number in range(8)], progress=break_connections
    )

    assert [creation.error for creation in made] == [None] * 8
    assert sorted(vms(bench)) == sorted(creation.spec.name for creation in made)
    assert sorted(disks(bench)) == sorted(f"{creation.spec.name}.vdi" for creation in made)


@unrestricted
def test_create_that_is_interrupted_rolls_back(bench: Bench, fleet: mv.Fleet) -> None:
    def interrupt(spec: mv.VMSpec, error: mv.Error | None) -> None:
        del spec, error
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.create_vms([small(f"new{number}") for number in range(30)], progress=interrupt)

    whole = vms(bench)
    assert 0 < len(whole) < 30
    assert not [name for name in whole if "being made" in name]
    assert sorted(disks(bench)) == sorted(f"{name}.vdi" for name in whole)


# -- Deletion ----------------------------------------------------------------------------------


@unrestricted
def test_delete_removes_the_vm_and_its_disk(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(small("gone"))

    fleet.delete_vm(vm)

    assert (vms(bench), disks(bench)) == ([], [])
    with pytest.raises(mv.UnknownVM):
        fleet.delete_vm(vm)
    fleet.create_vm(small("gone"))  # the name is free


@unrestricted
def test_delete_refuses_vms_that_are_not_managed(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(small("managed"))
    bench.vboxmanage("clonevm", vm.uuid, "--name", "clone", "--register")

    for name in ("node01", "clone"):
        with pytest.raises(
            mv.DeletionError, match=f"bench/{name}: not deleted: maas-virtualbox did not create it"
        ):
            fleet.delete_vm(name, power_off=True)

    assert sorted(vms(bench)) == ["clone", "managed"]


@unrestricted
def test_delete_of_a_running_vm_needs_power_off(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(small("busy"))
    fleet.power_on(vm)

    with pytest.raises(mv.DeletionError, match="it is on"):
        fleet.delete_vm(vm)
    left = vms(bench), bench.processes(vm.uuid)
    fleet.delete_vm(vm, power_off=True)

    assert left == (["busy"], 1)
    assert (vms(bench), disks(bench)) == ([], [])


@unrestricted
def test_delete_refuses_a_disk_outside_the_folder(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(small("vm"))
    home = vm.settings.settings_file.partition("/VirtualBox VMs/")[0]
    path = f"{home}/precious.vdi"
    place = ("--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd")
    for command in (
        ("createmedium", "disk", "--filename", path, "--size", "8"),
        ("storagectl", vm.uuid, "--name", "IDE", "--add", "ide"),
        ("storageattach", vm.uuid, *place, "--medium", path),
    ):
        done = bench.vboxmanage(*command)
        assert done.returncode == 0, done.stderr

    with pytest.raises(mv.DeletionError, match=r"precious\.vdi: detach"):
        fleet.delete_vm(vm)
    refused = vms(bench), sorted(disks(bench))
    bench.vboxmanage("storageattach", vm.uuid, *place, "--medium", "none")
    fleet.delete_vm(vm)

    assert refused == (["vm"], ["precious.vdi", "vm.vdi"])
    assert (vms(bench), disks(bench)) == ([], ["precious.vdi"])


# -- The restricted key and the simulator -----------------------------------------------------


@restricted
def test_restricted_key_neither_creates_nor_deletes(bench: Bench, fleet: mv.Fleet) -> None:
    free_bench = benches.RealBench(bench.lab) if isinstance(bench, benches.RealBench) else bench
    with benches.fleet_of(free_bench) as other:
        vm = other.create_vm(small("vm"))

    with pytest.raises(mv.CreationError, match=r"may only control power.*another key with --key"):
        fleet.create_vms([small("new")])
    with pytest.raises(mv.DeletionError, match=r"may only control power.*another key with --key"):
        fleet.delete_vm(vm)

    assert vms(bench) == ["vm"]


@unrestricted
def test_simulator_has_virtualboxs_error_messages(bench: Bench, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(small("vm"))
    file = vm.settings.settings_file
    disk = file.replace(".vbox", ".vdi")
    sata = ("--storagectl", "SATA", "--port", "3", "--device", "0", "--type", "hdd")
    ide = ("--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd")

    for message, *command in (
        (f"Machine settings file '{file}' already exists", "createvm", "--name", "vm"),
        (
            f"Registered machine with UUID {{{vm.uuid}}} ('{file}') already exists",
            *("createvm", "--name", "b", "--uuid", vm.uuid, "--register"),
        ),
        ("Unknown or invalid guest OS type given.", "createvm", "--name", "c", "--ostype", "x"),
        ("Invalid NIC type 'x' specified for NIC 1", "modifyvm", vm.uuid, "--nictype1", "x"),
        ("Invalid type 'x' specfied for NIC 1", "modifyvm", vm.uuid, "--nic1", "x"),
        ("Invalid MAC address format", "modifyvm", vm.uuid, "--macaddress1", "010027000001"),
        ("Invalid RAM size: 3 MB", "modifyvm", vm.uuid, "--memory", "3"),
        ("Invalid virtual CPU count: 99", "modifyvm", vm.uuid, "--cpus", "99"),
        ("Could not rename the directory", "modifyvm", vm.uuid, "--name", "node01"),
        ("Storage controller named 'SATA'", "storagectl", vm.uuid, "--name", "SATA", "--add=ide"),
        ("Invalid --add argument 'x'", "storagectl", vm.uuid, "--name", "X", "--add", "x"),
        ("Could not find a controller", "storageattach", vm.uuid, *ide, "--medium", disk),
        ("Medium '", "storageattach", vm.uuid, *sata, "--medium", disk),
        ("Failed to create medium", "createmedium", "disk", "--filename", disk, "--size", "8"),
        ("Cannot delete storage: medium", "closemedium", "disk", disk, "--delete"),
        ("Could not find file for the medium", "closemedium", "disk", "/no.vdi", "--delete"),
        ("Could not find a registered machine", "setextradata", "nosuch", "a", "b"),
        ("Could not find a registered machine", "getextradata", "nosuch", "a"),
    ):
        done = bench.vboxmanage(*command)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"VBoxManage: error: {message}" in done.stderr
    missing = bench.vboxmanage("modifyvm", vm.uuid, "--nic1", "bridged", "--bridgeadapter1", "no")
    assert missing.returncode == 0
    assert missing.stderr == 'VBoxManage: warning: Interface "no" doesn\'t seem to exist\n'
    assert bench.vboxmanage("getextradata", vm.uuid, "nosuch").stdout == "No value set!\n"
