# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Creation and deletion of VMs with faults, on a simulated host."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING, Any

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.provisioning import ownership, plan
from maas_virtualbox.simulator import Action, Fault, Simulator
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

STEPS = ("createvm", "setextradata", "modifyvm", "createmedium", "storagectl", "storageattach")
BROKEN = "VBoxManage: error: It is broken (VERR_BROKEN)\n"


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host without VMs."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def fleet(simulator: Simulator) -> Generator[mv.Fleet]:
    """A fleet of that host."""
    hosts = mv.parse_hosts(f"{simulator.host_entry} name=demo")
    with mv.Fleet(hosts, identity=simulator.key_file) as fleet:
        yield fleet


def vms_and_disks(simulator: Simulator) -> tuple[list[str], list[str]]:
    """Return the names of the host's VMs, and the files of its disks."""
    names = [vm.name for vm in simulator.virtualbox.vms]
    return names, [path.rpartition("/")[2] for path in simulator.virtualbox.disks]


# -- Steps that fail --------------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_create_rolls_back_a_step_that_virtualbox_refuses(
    simulator: Simulator, fleet: mv.Fleet, step: str
) -> None:
    simulator.inject(Fault(Action.FAIL, on=step, stderr=BROKEN))

    (result,) = fleet.create_vms([mv.VMSpec(name="vm")])

    assert str(result.error) == "demo/vm: not created: It is broken (VERR_BROKEN)"
    assert vms_and_disks(simulator) == ([], [])


@pytest.mark.parametrize("step", STEPS)
def test_create_retries_a_step_whose_connection_breaks(
    simulator: Simulator, fleet: mv.Fleet, step: str
) -> None:
    simulator.inject(Fault(Action.DROP, on=step))

    (result,) = fleet.create_vms([mv.VMSpec(name="vm")])

    assert result.error is None
    assert vms_and_disks(simulator) == (["vm"], ["vm.vdi"])


def test_create_retries_after_the_service_died(simulator: Simulator, fleet: mv.Fleet) -> None:
    fleet.vms()
    simulator.virtualbox.kill_vboxsvc()

    (result,) = fleet.create_vms([mv.VMSpec(name="vm")])

    assert result.error is None


@pytest.mark.parametrize("step", ["createmedium", "unregistervm"])
def test_create_and_delete_retry_after_a_service_error(
    simulator: Simulator, fleet: mv.Fleet, step: str
) -> None:
    service_error = (
        "VBoxManage: error: Failed to create the VirtualBox object!\n"
        "VBoxManage: error: Code NS_ERROR_FAILURE (0x80004005) - Operation failed\n"
    )
    simulator.inject(Fault(Action.FAIL, on=step, stderr=service_error))

    vm = fleet.create_vm(mv.VMSpec(name="vm"))
    made = vms_and_disks(simulator)
    fleet.delete_vm(vm)

    assert made == (["vm"], ["vm.vdi"])
    assert vms_and_disks(simulator) == ([], [])


def test_create_keeps_a_vm_whose_last_answer_is_lost(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    manage = fleet.hosts[0].vboxmanage
    modifyvm = manage.modifyvm

    def lose(uuid: str, options: Mapping[str, str], *, timeout: float) -> None:
        modifyvm(uuid, options, timeout=timeout)
        if "--name" in options:
            raise mv.ConnectionLost("demo", "the connection broke during a command")

    monkeypatch.setattr(manage, "modifyvm", lose)

    (result,) = fleet.create_vms([mv.VMSpec(name="vm")])

    assert result.error is None
    assert simulator.count("createvm") == 1
    assert vms_and_disks(simulator) == (["vm"], ["vm.vdi"])


def test_create_removes_what_an_earlier_call_could_not(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    simulator.inject(Fault(Action.FAIL, on="storageattach", stderr=BROKEN))
    simulator.inject(Fault(Action.FAIL, on="unregistervm", stderr=BROKEN, times=2))
    (failed,) = fleet.create_vms([mv.VMSpec(name="vm")])
    (name,), _ = vms_and_disks(simulator)

    fleet.create_vms([mv.VMSpec(name="vm")])

    assert "the incomplete VM cannot be removed now" in str(failed.error)
    assert failed.error is not None
    assert failed.error.retry
    assert name.startswith("vm (being made by maas-virtualbox on ")
    assert vms_and_disks(simulator) == (["vm"], ["vm.vdi"])


def test_create_reuses_the_mac_of_an_incomplete_vm(simulator: Simulator, fleet: mv.Fleet) -> None:
    spec = mv.VMSpec(name="vm", mac="02:00:5e:00:53:01")
    simulator.inject(Fault(Action.FAIL, on="storageattach", stderr=BROKEN))
    simulator.inject(Fault(Action.FAIL, on="unregistervm", stderr=BROKEN, times=2))
    fleet.create_vms([spec])

    (result,) = fleet.create_vms([spec])

    assert result.error is None


def test_create_keeps_a_vm_completed_in_the_meantime(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = "0c06ecdf-282e-4a3b-8cfb-b50f570662a8"
    name = ownership.begin_creation(uuid, "slow")
    ownership.end_creation(uuid)
    slow = simulator.virtualbox.add_vm(name, uuid=uuid)
    cache = fleet.hosts[0].state
    read = cache.settings

    def finish(deadline: Deadline, **options: Any) -> Any:
        machines = read(deadline, **options)
        slow.name = "slow"
        return machines

    monkeypatch.setattr(cache, "settings", finish)

    fleet.create_vms([mv.VMSpec(name="vm")])

    assert vms_and_disks(simulator)[0] == ["slow", "vm"]


def test_create_without_time_creates_nothing(simulator: Simulator, fleet: mv.Fleet) -> None:
    with pytest.raises(mv.CommandTimeout):
        fleet.create_vms([mv.VMSpec(name="vm")], timeout=0.0)

    assert vms_and_disks(simulator) == ([], [])


def test_create_skips_an_incomplete_vm_of_another_machine(
    simulator: Simulator, fleet: mv.Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    other = "vm (being made by maas-virtualbox on elsewhere process 7)"
    uuid = simulator.virtualbox.add_vm(other).uuid

    with caplog.at_level(logging.WARNING):
        fleet.create_vms([mv.VMSpec(name="vm")])

    assert sorted(vms_and_disks(simulator)[0]) == ["vm", other]
    assert f"maas-virtualbox delete {uuid}" in caplog.text
    fleet.delete_vm(uuid)  # as the log says
    assert vms_and_disks(simulator)[0] == ["vm"]


def test_create_on_a_host_that_is_down_is_an_error(simulator: Simulator, fleet: mv.Fleet) -> None:
    simulator.close_port()

    with pytest.raises(mv.HostUnreachable):
        fleet.create_vms([mv.VMSpec(name="vm")])


def test_create_ends_in_time_on_a_host_that_hangs(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: object, **__: object) -> str:
        simulator.inject(Fault(Action.HANG, on="poll", times=99))
        raise mv.ConnectionLost("demo", "the connection broke during a command")

    monkeypatch.setattr(fleet.hosts[0].vboxmanage, "createvm", hang)
    began = time.monotonic()

    (result,) = fleet.create_vms([mv.VMSpec(name="vm")], timeout=2.0)

    assert result.error is not None
    assert result.error.retry
    assert time.monotonic() - began < 10.0  # the deadline of a single call is 18 s


# -- Validation -------------------------------------------------------------------------------


def test_create_refuses_an_unknown_os_type_before_the_first_vm(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    specs = [mv.VMSpec(name="a"), mv.VMSpec(name="b", os_type="Nonsense")]

    with pytest.raises(mv.CreationError, match=r"demo/b: not created: .* 'Nonsense'"):
        fleet.create_vms(specs)

    assert simulator.count("createvm") == 0


def test_create_accepts_an_os_type_in_any_case(fleet: mv.Fleet) -> None:
    (result,) = fleet.create_vms([mv.VMSpec(name="vm", os_type="ubuntu_64")])

    assert result.error is None


# -- Networks and MACs ------------------------------------------------------------------------


def test_create_uses_the_only_network(fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(mv.VMSpec(name="vm"))

    assert vm.settings.nics
    assert (vm.settings.nics[0].attachment, vm.settings.nics[0].network) == (
        "hostonly",
        "vboxnet0",
    )


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([], "the host has no host-only network: run there VBoxManage hostonlyif create"),
        (["a", "b"], "several host-only networks: choose one with --network: a, b"),
    ],
)
def test_create_refuses_a_network_it_cannot_choose(
    simulator: Simulator, fleet: mv.Fleet, networks: list[str], message: str
) -> None:
    simulator.virtualbox.interfaces["hostonlyifs"] = networks

    with pytest.raises(mv.CreationError, match=message):
        fleet.create_vms([mv.VMSpec(name="vm")])

    assert vms_and_disks(simulator) == ([], [])


def test_create_knows_the_networks_of_macos(
    fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = fleet.hosts[0]
    mac = dataclasses.replace(host.vboxmanage.installation(timeout=5), system="Darwin")
    names = {"hostonlynets": ["maas"], "bridgedifs": ["en0: Wi-Fi", "en01: Thunderbolt 1"]}
    given: list[dict[str, str]] = []

    def installation(**_: float) -> Any:
        return mac

    def list_networks(kind: str, **_: float) -> list[str]:
        return names[kind]

    def modifyvm(uuid: str, options: dict[str, str], **_: float) -> None:
        del uuid
        given.append(options)
        raise mv.CreationError("enough")

    monkeypatch.setattr(host.vboxmanage, "installation", installation)
    monkeypatch.setattr(host.vboxmanage, "list_networks", list_networks)
    monkeypatch.setattr(host.vboxmanage, "modifyvm", modifyvm)

    fleet.create_vms([mv.VMSpec(name="a")])
    fleet.create_vms([mv.VMSpec(name="b", attachment="bridged", network="en0")])

    assert given[0].items() >= {"--nic1": "hostonlynet", "--host-only-net1": "maas"}.items()
    assert given[1].items() >= {"--nic1": "bridged", "--bridgeadapter1": "en0: Wi-Fi"}.items()


def test_create_uses_no_mac_of_another_host(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Simulator(vms=1, key_file=simulator.key_file) as other:
        taken = settings_xml.format_mac(other.virtualbox.vm("node01").macs[0])
        hosts = mv.parse_hosts(f"{simulator.host_entry} name=a, {other.host_entry} name=b")
        drawn = iter([taken, "08:00:27:c0:ff:ee"])
        monkeypatch.setattr(plan, "random_mac", lambda: next(drawn))
        with mv.Fleet(hosts, identity=simulator.key_file) as fleet:
            (result,) = fleet.create_vms([mv.VMSpec(name="vm")], host="a")
            with pytest.raises(mv.CreationError, match="a VM of another host already has the MAC"):
                fleet.create_vms([mv.VMSpec(name="vm2", mac=taken)], host="a")
            with pytest.raises(mv.UnknownHost, match=r"name the host .* has a, b"):
                fleet.create_vms([mv.VMSpec(name="vm3")])

    assert result.vm is not None
    assert result.vm.macs == ("08:00:27:c0:ff:ee",)


# -- Deleting ---------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["getextradata", "hdds", "unregistervm"])
def test_delete_retries_a_step_whose_connection_breaks(
    simulator: Simulator, fleet: mv.Fleet, step: str
) -> None:
    vm = fleet.create_vm(mv.VMSpec(name="vm"))
    simulator.inject(Fault(Action.DROP, on="list" if step == "hdds" else step))

    fleet.delete_vm(vm)

    assert vms_and_disks(simulator) == ([], [])


def test_delete_succeeds_if_only_the_answer_is_lost(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    vm = fleet.create_vm(mv.VMSpec(name="vm"))
    manage = fleet.hosts[0].vboxmanage
    unregistervm = manage.unregistervm

    def lose(uuid: str, *, timeout: float) -> None:
        unregistervm(uuid, timeout=timeout)
        raise mv.ConnectionLost("demo", "the connection broke during a command")

    monkeypatch.setattr(manage, "unregistervm", lose)

    fleet.delete_vm(vm)

    assert vms_and_disks(simulator) == ([], [])


def test_delete_error_has_virtualboxs_message(simulator: Simulator, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(mv.VMSpec(name="vm"))
    simulator.inject(Fault(Action.FAIL, on="unregistervm", stderr=BROKEN))

    with pytest.raises(mv.DeletionError, match=r"^demo/vm: not deleted: It is broken") as caught:
        fleet.delete_vm(vm)

    assert not caught.value.retry
    assert vms_and_disks(simulator) == (["vm"], ["vm.vdi"])


def test_delete_refuses_a_vm_that_cannot_be_read(simulator: Simulator, fleet: mv.Fleet) -> None:
    vm = fleet.create_vm(mv.VMSpec(name="vm"))
    simulator.virtualbox.vm("vm").accessible = False

    with pytest.raises(
        mv.DeletionError, match="whether maas-virtualbox created the VM is unknown"
    ):
        fleet.delete_vm(vm)
