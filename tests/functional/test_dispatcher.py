# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Power actions that are repeated, opposed, given up and handed back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from maas_virtualbox import Fleet, errors, parse_hosts
from maas_virtualbox.service import dispatcher
from maas_virtualbox.service.dispatcher import Caller, Change, Dispatcher
from maas_virtualbox.simulator import Simulator, Timings
from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

CALLER = Caller("192.0.2.1", "vm")


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with a VM that takes a second to start."""
    with Simulator(vms=1, timings=Timings(start=1.0)) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def serving(simulator: Simulator) -> AsyncGenerator[Dispatcher]:
    """A dispatcher for it."""
    made = Dispatcher()
    fleet = Fleet(parse_hosts(simulator.host_entry), identity=simulator.key_file)
    await made.adopt(fleet)
    try:
        yield made
    finally:
        await made.close()


async def under_way(simulator: Simulator) -> None:
    """Wait until the VM is being started."""
    while not simulator.count("startvm"):  # noqa: ASYNC110 - the simulator knows no events
        await asyncio.sleep(0.01)


def test_an_action_goes_on_when_its_answer_is_late_and_who_asks_again_joins_it(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid

    async def play() -> None:
        async with serving(simulator) as desk:
            monkeypatch.setattr(dispatcher, "ANSWER_S", 0.4)
            with pytest.raises(errors.PowerTimeout, match=r"still under way .* goes on"):
                await desk.act(uuid, Change.ON, CALLER)
            monkeypatch.undo()
            await desk.act(uuid, Change.ON, CALLER)
            assert await desk.query(uuid) is Power.ON

    asyncio.run(play())
    assert simulator.count("startvm") == 1


def test_the_opposite_is_done_afterwards(simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as desk:
            first = asyncio.create_task(desk.act(vm.uuid, Change.ON, CALLER))
            await under_way(simulator)
            await desk.act(vm.uuid, Change.OFF, CALLER)
            assert first.done()
            await first

    asyncio.run(play())
    assert vm.starts == 1
    assert vm.state is VMState.POWEROFF


def test_what_was_asked_for_last_holds_and_what_it_takes_back_is_not_begun(
    simulator: Simulator,
) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as desk:
            first = asyncio.create_task(desk.act(vm.uuid, Change.ON, CALLER))
            await under_way(simulator)
            offs = [asyncio.create_task(desk.act(vm.uuid, Change.OFF, CALLER)) for _ in range(2)]
            await asyncio.sleep(0.1)
            await desk.act(vm.uuid, Change.ON, CALLER)
            await first
            for off in offs:
                with pytest.raises(dispatcher.Superseded, match="something else was asked for"):
                    await off
            # And nothing is left that a later one would join.
            await desk.act(vm.uuid, Change.OFF, CALLER)

    asyncio.run(play())
    assert vm.starts == 1
    assert simulator.count("poweroff") == 1
    assert vm.state is VMState.POWEROFF


def test_an_action_whose_asker_hung_up_goes_on(simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as desk:
            asker = asyncio.create_task(desk.act(vm.uuid, Change.ON, CALLER))
            await under_way(simulator)
            asker.cancel()
            while await desk.query(vm.uuid) is not Power.ON:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)

    asyncio.run(play())


def test_queries_are_answered_while_many_vms_change(simulator: Simulator) -> None:
    for number in range(2, 31):
        simulator.virtualbox.add_vm(f"node{number:02}")
    uuids = [vm.uuid for vm in simulator.virtualbox.vms]

    async def play() -> None:
        async with serving(simulator) as desk:
            acts = [asyncio.create_task(desk.act(uuid, Change.ON, CALLER)) for uuid in uuids]
            while not all(act.done() for act in acts):
                assert await desk.query(uuids[0]) is not Power.UNKNOWN
                await asyncio.sleep(0.01)
            await asyncio.gather(*acts)

    asyncio.run(play())
    assert {vm.starts for vm in simulator.virtualbox.vms} == {1}


def test_a_fault_of_ours_on_one_host_leaves_the_others(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    with Simulator(vms=1, user="second", key_file=simulator.key_file) as second:
        hosts = parse_hosts(f"{simulator.host_entry} name=a, {second.host_entry} name=b")
        fleet = Fleet(hosts, identity=simulator.key_file)
        monkeypatch.setattr(fleet.hosts[1].vboxmanage, "poll", Mock(side_effect=ZeroDivisionError))

        async def play() -> tuple[Power, Power]:
            desk = Dispatcher()
            await desk.adopt(fleet)
            try:
                other = second.virtualbox.vm("node01").uuid
                return await desk.query(uuid), await desk.query(other)
            finally:
                await desk.close()

        assert asyncio.run(play()) == (Power.OFF, Power.UNKNOWN)


def test_a_vm_that_moved_to_another_host_is_found_there(simulator: Simulator) -> None:
    with Simulator(user="second", key_file=simulator.key_file) as second:
        uuid = simulator.virtualbox.vm("node01").uuid
        entries = f"{simulator.host_entry} name=first, {second.host_entry} name=second"

        async def play() -> None:
            desk = Dispatcher()
            await desk.adopt(Fleet(parse_hosts(entries), identity=simulator.key_file))
            try:
                assert await desk.query(uuid) is Power.OFF
                simulator.vboxmanage("unregistervm", uuid, "--delete")
                second.virtualbox.add_vm("node01", uuid=uuid)
                await asyncio.sleep(2.1)  # past the snapshot
                await desk.act(uuid, Change.ON, CALLER)
                assert await desk.query(uuid) is Power.ON
            finally:
                await desk.close()

        asyncio.run(play())
        assert second.virtualbox.vm(uuid).state is VMState.RUNNING
