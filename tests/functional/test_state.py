# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Answers are given, and are right, while VMs change faster than their host is polled."""

from __future__ import annotations

import asyncio
import threading
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.service.actions import Caller, Change
from maas_virtualbox.service.dispatcher import Dispatcher
from maas_virtualbox.simulator import Action, Fault, Simulator

if TYPE_CHECKING:
    from collections.abc import Generator

ALWAYS = 1_000_000
CALLER = Caller("192.0.2.1", "vm")


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with 31 VMs."""
    with Simulator(vms=31) as simulator:
        yield simulator


def test_poll_ends_while_vms_change_faster_than_a_poll(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    simulator.inject(Fault(Action.LATE, on="poll", times=ALWAYS, seconds=0.3))
    cache = fleet.hosts[0].state
    over = threading.Event()

    def change() -> None:
        while not over.wait(0.02):
            cache.invalidate("one of its VMs")

    with futures.ThreadPoolExecutor(1) as threads:
        changing = threads.submit(change)
        try:
            state = cache.poll(Deadline.after(15.0), max_age=0.0)
        finally:
            over.set()
        changing.result()

    assert len(state.settings) == 31


def test_query_is_answered_while_30_vms_are_switched(simulator: Simulator) -> None:
    *switched, idle = (vm.uuid for vm in simulator.virtualbox.vms)

    async def play() -> list[mv.Power]:
        dispatcher = Dispatcher()
        await dispatcher.adopt(
            mv.Fleet(mv.parse_hosts(simulator.host_entry), identity=simulator.key_file)
        )
        simulator.inject(Fault(Action.LATE, on="poll", times=ALWAYS, seconds=1.0))
        answers: list[mv.Power] = []
        try:
            acts = [
                asyncio.create_task(dispatcher.act(uuid, Change.ON, CALLER)) for uuid in switched
            ]
            while not all(act.done() for act in acts):
                answers.append(await dispatcher.query(idle))
                await asyncio.sleep(0.05)
            await asyncio.gather(*acts)
            answers += await asyncio.gather(*(dispatcher.query(uuid) for uuid in switched))
        finally:
            await dispatcher.close()
        return answers

    answers = asyncio.run(play())

    assert set(answers[:-30]) == {mv.Power.OFF}
    assert set(answers[-30:]) == {mv.Power.ON}


def test_power_off_ignores_a_poll_from_before_the_start(
    simulator: Simulator, fleet: mv.Fleet
) -> None:
    vm = simulator.virtualbox.vm("node01")
    host = fleet.hosts[0]
    simulator.inject(Fault(Action.DELAY, on="startvm", seconds=0.4))

    with futures.ThreadPoolExecutor(2) as threads:
        on = threads.submit(host.power_on, vm.uuid)
        while not simulator.count("startvm"):
            pass
        # The poll is executed before the VM starts, and answered after that.
        simulator.inject(Fault(Action.LATE, on="poll", seconds=1.4))
        slow = threads.submit(host.state.poll, Deadline.after(10.0), max_age=0.0)
        on.result()

        host.power_off(vm.uuid)
        slow.result()

    assert vm.state is mv.VMState.POWEROFF
