# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A timeout holds for the whole of a call, also where the host hangs in the middle of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import state
from maas_virtualbox.simulator import Action, Fault, Simulator, texts
from maas_virtualbox.virtualbox import vboxmanage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

TIMEOUT_S = 1.0


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with three VMs."""
    with Simulator(vms=3) as simulator:
        yield simulator


@pytest.fixture
def fleet(simulator: Simulator) -> Generator[mv.Fleet]:
    """A fleet that knows the host's VMs."""
    hosts = mv.parse_hosts(f"{simulator.host_entry} name=demo")
    with mv.Fleet(hosts, identity=simulator.key_file) as fleet:
        fleet.vms()
        yield fleet


def refusal(call: Callable[[], object]) -> Exception:
    """The error of a call that has to end before one command of its own would time out."""
    began = time.monotonic()
    with pytest.raises((mv.HostDown, mv.PowerTimeout)) as caught:
        call()
    assert time.monotonic() - began < state.CALL_TIMEOUT_S / 2
    return caught.value


CALLS: dict[str, Callable[[mv.Fleet, str], object]] = {
    "vm": lambda fleet, uuid: fleet.hosts[0].vm(uuid, timeout=TIMEOUT_S),
    "vms": lambda fleet, _: fleet.hosts[0].vms(timeout=TIMEOUT_S),
    "exact": lambda fleet, _: fleet.hosts[0].vms(exact=True, timeout=TIMEOUT_S),
    "find": lambda fleet, uuid: fleet.find(uuid, timeout=TIMEOUT_S),
    "on": lambda fleet, uuid: fleet.hosts[0].power_on(uuid, timeout=TIMEOUT_S),
    "off": lambda fleet, uuid: fleet.hosts[0].power_off(uuid, timeout=TIMEOUT_S),
    "reset": lambda fleet, uuid: fleet.hosts[0].reset(uuid, timeout=TIMEOUT_S),
}


@pytest.mark.parametrize("call", list(CALLS))
def test_timeout_holds_while_a_renamed_vm_is_read(
    simulator: Simulator, fleet: mv.Fleet, call: str
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    simulator.vboxmanage("modifyvm", uuid, "--name", "renamed")
    fleet.hosts[0].state.invalidate()
    # The poll that shows the new name is answered; reading the settings files is not.
    simulator.inject(Fault(Action.DELAY, on="poll"))
    simulator.inject(Fault(Action.HANG, on="poll", times=1000))

    refusal(lambda: CALLS[call](fleet, uuid))


def test_reports_holds_its_timeout_for_a_renamed_vm(simulator: Simulator, fleet: mv.Fleet) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    simulator.vboxmanage("modifyvm", uuid, "--name", "renamed")
    fleet.hosts[0].state.invalidate()
    simulator.inject(Fault(Action.DELAY, on="poll"))
    simulator.inject(Fault(Action.HANG, on="poll", times=1000))

    (report,) = fleet.reports(timeout=TIMEOUT_S)

    assert isinstance(report.error, mv.CommandTimeout)
    assert report.seconds < state.CALL_TIMEOUT_S / 2


@pytest.mark.parametrize("call", ["power_on", "power_off", "reset"])
def test_timeout_of_an_action_includes_finding_the_vm(
    simulator: Simulator, fleet: mv.Fleet, call: str
) -> None:
    simulator.inject(Fault(Action.HANG, times=1000))

    refusal(lambda: getattr(fleet, call)("no such VM", timeout=TIMEOUT_S))


def test_vms_holds_its_timeout_on_a_hanging_host(simulator: Simulator, fleet: mv.Fleet) -> None:
    fleet.hosts[0].state.invalidate()
    simulator.inject(Fault(Action.HANG, times=1000))
    began = time.monotonic()

    with pytest.raises(mv.HostsDown, match="demo: VirtualBox has not answered"):
        fleet.vms(timeout=TIMEOUT_S)
    assert time.monotonic() - began < state.CALL_TIMEOUT_S / 2


def test_timeout_holds_while_the_long_list_hangs(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = fleet.hosts[0]
    # As on a host whose VirtualBox.xml is not where it is looked for.
    monkeypatch.setattr(vboxmanage.VBoxManage, "_machines", Mock(return_value=None))
    simulator.inject(Fault(Action.HANG, on="list", times=1000))

    refusal(lambda: host.state.settings(Deadline.after(TIMEOUT_S), max_age=0.0))


def test_timeout_holds_while_a_crashed_vm_is_asked(simulator: Simulator, fleet: mv.Fleet) -> None:
    fleet.power_on("node01")
    simulator.virtualbox.crash_vm("node01")
    fleet.hosts[0].state.invalidate()
    simulator.inject(Fault(Action.HANG, on="showvminfo", times=1000))

    began = time.monotonic()
    (vm, *_) = fleet.hosts[0].vms(exact=True, timeout=3.0)

    # What could not be asked is known as far as the process list shows it.
    assert (vm.power, vm.state) == (mv.Power.ON, mv.VMState.STARTING)
    assert time.monotonic() - began < state.CALL_TIMEOUT_S / 2


def test_power_off_ends_before_its_deadline_with_a_lock(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    fleet.power_on(uuid)
    words = texts.locked_by_session("node01")
    simulator.inject(Fault(Action.FAIL, on="poweroff", times=1000, stderr=words))

    error = refusal(lambda: fleet.power_off(uuid, timeout=TIMEOUT_S))

    assert "already locked by a session" in str(error)
