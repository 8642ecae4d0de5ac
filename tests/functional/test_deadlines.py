# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every call with a timeout ends within it and half a second, wherever the host hangs.

A busy machine delays each call too. So these tests measure beside each call for how long the
machine kept this process from running, and allow for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import threading
import time
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

import maas_virtualbox as mv
from maas_virtualbox.cli import fence_agent, nagios_plugin
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import checks
from maas_virtualbox.simulator import Action, Fault, Simulator, texts
from maas_virtualbox.virtualbox import vboxmanage

from tests import hanging_host

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from typing_extensions import Self

TIMEOUT_S = 0.3
SLACK_S = 0.5

ALWAYS = 1_000_000


class SchedulingDelay:
    """Measures for how long threads of this process that were due did not run. A context
    manager."""

    INTERVAL_S = 0.01

    def __init__(self) -> None:
        self.seconds = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _measure(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            time.sleep(self.INTERVAL_S)
            self.seconds += time.monotonic() - began - self.INTERVAL_S


@contextlib.contextmanager
def ends_in_time(timeout: float = TIMEOUT_S) -> Generator[None]:
    """Fail if the block takes longer than its timeout and the slack."""
    with SchedulingDelay() as delay:
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
    late = seconds - timeout - delay.seconds
    assert late <= SLACK_S, f"{seconds:.2f} s, of which {delay.seconds:.2f} s not running"


@dataclasses.dataclass(frozen=True)
class Call:
    """A call of the public API with the timeout `TIMEOUT_S`."""

    name: str
    make: Callable[[mv.Fleet, str], object]
    """Takes the UUID of the VM `node01`."""
    is_on: bool = False
    """Whether the VM `node01` is on before the call."""


CALLS = (
    Call("Fleet.find", lambda fleet, _: fleet.find("node01", timeout=TIMEOUT_S)),
    Call("Fleet.vms", lambda fleet, _: fleet.vms(timeout=TIMEOUT_S)),
    Call("Fleet.claims", lambda fleet, _: fleet.claims(fleet.hosts, timeout=TIMEOUT_S)),
    Call("Fleet.reports", lambda fleet, _: fleet.reports(exact=True, timeout=TIMEOUT_S)),
    Call("Fleet.power_on", lambda fleet, _: fleet.power_on("node01", timeout=TIMEOUT_S)),
    Call(
        "Fleet.power_on_vms",
        lambda fleet, _: fleet.power_on_vms(["node01", "node02"], timeout=TIMEOUT_S),
    ),
    Call(
        "Fleet.power_off",
        lambda fleet, _: fleet.power_off("node01", mode="acpi", timeout=TIMEOUT_S),
        is_on=True,
    ),
    Call("Fleet.reset", lambda fleet, _: fleet.reset("node01", timeout=TIMEOUT_S), is_on=True),
    Call(
        "Fleet.wait_for", lambda fleet, _: fleet.wait_for("node01", mv.Power.ON, timeout=TIMEOUT_S)
    ),
    Call("Fleet.delete_vm", lambda fleet, _: fleet.delete_vm("node01", timeout=TIMEOUT_S)),
    Call(
        "Fleet.trust_vm",
        lambda fleet, uuid: fleet.trust_vm(
            uuid, host=fleet.hosts[0].config.name, timeout=TIMEOUT_S
        ),
    ),
    Call("check_host", lambda fleet, _: checks.check_host(fleet.hosts[0], timeout=TIMEOUT_S)),
    Call("VirtualBoxHost.vm", lambda fleet, uuid: fleet.hosts[0].vm(uuid, timeout=TIMEOUT_S)),
    Call(
        "VirtualBoxHost.vms",
        lambda fleet, _: fleet.hosts[0].vms(exact=True, timeout=TIMEOUT_S),
        is_on=True,
    ),
    Call(
        "VirtualBoxHost.power_on",
        lambda fleet, uuid: fleet.hosts[0].power_on(uuid, timeout=TIMEOUT_S),
    ),
    Call(
        "VirtualBoxHost.power_off",
        lambda fleet, uuid: fleet.hosts[0].power_off(uuid, timeout=TIMEOUT_S),
        is_on=True,
    ),
    Call(
        "VirtualBoxHost.reset",
        lambda fleet, uuid: fleet.hosts[0].reset(uuid, timeout=TIMEOUT_S),
        is_on=True,
    ),
)

with_each_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
at_each_point = pytest.mark.parametrize("point", hanging_host.POINTS)


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with three VMs."""
    with Simulator(vms=3) as simulator:
        yield simulator


@pytest.fixture
def fleet(simulator: Simulator) -> Generator[mv.Fleet]:
    """A fleet that knows the host's VMs."""
    with new_fleet(simulator.host_entry, simulator) as fleet:
        fleet.vms()
        yield fleet


def new_fleet(entry: str, simulator: Simulator) -> mv.Fleet:
    return mv.Fleet(mv.parse_hosts(f"{entry} name=demo"), identity=simulator.key_file)


@with_each_call
@at_each_point
def test_first_call_ends_in_time(call: Call, point: str) -> None:
    with (
        hanging_host.hanging_host(point) as (simulator, entry),
        new_fleet(entry, simulator) as fleet,
        ends_in_time(),
        contextlib.suppress(mv.Error),
    ):
        call.make(fleet, simulator.virtualbox.vm("node01").uuid)


@with_each_call
@pytest.mark.parametrize("answered", [0, 1, 2])
def test_later_call_ends_in_time(
    simulator: Simulator, fleet: mv.Fleet, call: Call, answered: int
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    if call.is_on:
        fleet.power_on(uuid)
    fleet.hosts[0].state.invalidate()
    if answered:
        simulator.inject(Fault(Action.DELAY, times=answered))
    simulator.inject(Fault(Action.HANG, times=ALWAYS))

    with ends_in_time(), contextlib.suppress(mv.Error):
        call.make(fleet, uuid)


@with_each_call
def test_call_after_a_rename_ends_in_time(
    simulator: Simulator, fleet: mv.Fleet, call: Call
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    simulator.vboxmanage("modifyvm", uuid, "--name", "renamed")
    fleet.hosts[0].state.invalidate()
    # The poll that shows the new name is answered; the read of the settings files is not.
    simulator.inject(Fault(Action.DELAY, on="poll"))
    simulator.inject(Fault(Action.HANG, times=ALWAYS))

    with ends_in_time(), contextlib.suppress(mv.Error):
        call.make(fleet, uuid)


@at_each_point
def test_fence_agent_ends_in_time(
    point: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hanging_host.hanging_host(point) as (simulator, entry):
        config = tmp_path / "config.yaml"
        config.write_text(f"hosts: {entry}\nssh-private-key-file: {simulator.key_file}\n")
        half = TIMEOUT_S / 2
        timeouts = [f"--login-timeout={half}", f"--shell-timeout={half}", "--power-timeout=0"]
        argv = [fence_agent.NAME, "--config", str(config), "-n", "node01", "-o", "off", *timeouts]
        monkeypatch.setattr(sys, "argv", argv)
        with ends_in_time(), pytest.raises(SystemExit) as ended:
            fence_agent.main()

    assert ended.value.code == fence_agent.EXIT_FAILED


@at_each_point
def test_nagios_plugin_ends_in_time(point: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hanging_host.hanging_host(point) as (simulator, entry):
        argv = [nagios_plugin.NAME, "--hosts", entry, "--key", str(simulator.key_file), "-t", "1"]
        monkeypatch.setattr(sys, "argv", argv)
        with ends_in_time(1.0), pytest.raises(SystemExit) as ended:
            nagios_plugin.main()

    assert ended.value.code == nagios_plugin.CRITICAL


def test_long_list_that_hangs_ends_in_time(
    simulator: Simulator, fleet: mv.Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a host whose VirtualBox.xml is not where it is expected.
    monkeypatch.setattr(vboxmanage.VBoxManage, "_machines", Mock(return_value=None))
    simulator.inject(Fault(Action.HANG, on="list", times=ALWAYS))

    with ends_in_time(), pytest.raises(mv.CommandTimeout):
        fleet.hosts[0].state.settings(Deadline.after(TIMEOUT_S), max_age=0.0)


def test_question_about_a_crashed_vm_ends_in_time(simulator: Simulator, fleet: mv.Fleet) -> None:
    fleet.power_on("node01")
    simulator.virtualbox.crash_vm("node01")
    fleet.hosts[0].state.invalidate()
    simulator.inject(Fault(Action.HANG, on="showvminfo", times=ALWAYS))

    with ends_in_time(2.5):
        (vm, *_) = fleet.hosts[0].vms(exact=True, timeout=2.5)

    # The process list shows that the VM is on; VirtualBox has not reported its state.
    assert (vm.power, vm.state) == (mv.Power.ON, mv.VMState.STARTING)


def test_power_off_of_a_locked_vm_ends_in_time(simulator: Simulator, fleet: mv.Fleet) -> None:
    fleet.power_on("node01")
    error = texts.locked_by_session("node01")
    simulator.inject(Fault(Action.FAIL, on="poweroff", times=ALWAYS, stderr=error))

    with ends_in_time(), pytest.raises(mv.PowerTimeout, match="already locked by a session"):
        fleet.power_off("node01", timeout=TIMEOUT_S)
