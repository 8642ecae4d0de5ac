# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Queries, and power actions that are repeated, opposed or given up by their callers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from maas_virtualbox import Fleet, errors, parse_hosts
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.service.actions import Caller, Change, Superseded
from maas_virtualbox.service.dispatcher import Dispatcher
from maas_virtualbox.service.dispatcher import Timings as DispatcherTimings
from maas_virtualbox.simulator import Action, Fault, Simulator, Timings
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
async def serving(
    simulator: Simulator, timings: DispatcherTimings | None = None
) -> AsyncGenerator[Dispatcher]:
    """A dispatcher for it."""
    dispatcher = Dispatcher(timings)
    fleet = Fleet(parse_hosts(simulator.host_entry), identity=simulator.key_file)
    await dispatcher.adopt(fleet)
    try:
        yield dispatcher
    finally:
        await dispatcher.close()


async def in_progress(simulator: Simulator) -> None:
    """Wait until the VM is being started."""
    while not simulator.count("startvm"):  # noqa: ASYNC110 - the simulator knows no events
        await asyncio.sleep(0.01)


def test_action_continues_after_a_late_answer_and_is_joined(simulator: Simulator) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid

    async def play() -> None:
        async with serving(simulator, DispatcherTimings(action_answer=0.4)) as dispatcher:
            with pytest.raises(errors.PowerTimeout, match=r"still in progress .* continues"):
                await dispatcher.act(uuid, Change.ON, CALLER)
            while await dispatcher.query(uuid) is not Power.ON:
                with contextlib.suppress(errors.PowerTimeout):
                    await dispatcher.act(uuid, Change.ON, CALLER)

    asyncio.run(play())
    assert simulator.count("startvm") == 1


def test_opposite_action_starts_after_the_first(simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as dispatcher:
            first = asyncio.create_task(dispatcher.act(vm.uuid, Change.ON, CALLER))
            await in_progress(simulator)
            await dispatcher.act(vm.uuid, Change.OFF, CALLER)
            assert first.done()
            await first

    asyncio.run(play())
    assert vm.starts == 1
    assert vm.state is VMState.POWEROFF


def test_latest_request_cancels_an_action_that_waits(
    simulator: Simulator,
) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as dispatcher:
            first = asyncio.create_task(dispatcher.act(vm.uuid, Change.ON, CALLER))
            await in_progress(simulator)
            offs = [
                asyncio.create_task(dispatcher.act(vm.uuid, Change.OFF, CALLER)) for _ in range(2)
            ]
            await asyncio.sleep(0.1)
            await dispatcher.act(vm.uuid, Change.ON, CALLER)
            await first
            for off in offs:
                with pytest.raises(Superseded, match="a later request wants something else"):
                    await off
            # Nothing is left that a later request would join.
            await dispatcher.act(vm.uuid, Change.OFF, CALLER)

    asyncio.run(play())
    assert vm.starts == 1
    assert simulator.count("poweroff") == 1
    assert vm.state is VMState.POWEROFF


def test_action_continues_when_its_caller_disconnects(simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")

    async def play() -> None:
        async with serving(simulator) as dispatcher:
            caller = asyncio.create_task(dispatcher.act(vm.uuid, Change.ON, CALLER))
            await in_progress(simulator)
            caller.cancel()
            while await dispatcher.query(vm.uuid) is not Power.ON:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)

    asyncio.run(play())


def test_query_is_answered_while_many_vms_change(simulator: Simulator) -> None:
    for number in range(2, 31):
        simulator.virtualbox.add_vm(f"node{number:02}")
    uuids = [vm.uuid for vm in simulator.virtualbox.vms]

    async def play() -> None:
        async with serving(simulator) as dispatcher:
            acts = [asyncio.create_task(dispatcher.act(uuid, Change.ON, CALLER)) for uuid in uuids]
            while not all(act.done() for act in acts):
                assert await dispatcher.query(uuids[0]) is not Power.UNKNOWN
                await asyncio.sleep(0.01)
            await asyncio.gather(*acts)

    asyncio.run(play())
    assert {vm.starts for vm in simulator.virtualbox.vms} == {1}


def test_bug_with_one_host_does_not_affect_another(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    with Simulator(vms=1, user="second", key_file=simulator.key_file) as second:
        hosts = parse_hosts(f"{simulator.host_entry} name=a, {second.host_entry} name=b")
        fleet = Fleet(hosts, identity=simulator.key_file)
        monkeypatch.setattr(fleet.hosts[1].vboxmanage, "poll", Mock(side_effect=ZeroDivisionError))

        async def play() -> tuple[Power, Power]:
            dispatcher = Dispatcher()
            await dispatcher.adopt(fleet)
            try:
                other = second.virtualbox.vm("node01").uuid
                return await dispatcher.query(uuid), await dispatcher.query(other)
            finally:
                await dispatcher.close()

        assert asyncio.run(play()) == (Power.OFF, Power.UNKNOWN)


def test_vm_that_moved_to_another_host_is_found(simulator: Simulator) -> None:
    with Simulator(user="second", key_file=simulator.key_file) as second:
        uuid = simulator.virtualbox.vm("node01").uuid
        entries = f"{simulator.host_entry} name=first, {second.host_entry} name=second"

        async def play() -> None:
            dispatcher = Dispatcher()
            await dispatcher.adopt(Fleet(parse_hosts(entries), identity=simulator.key_file))
            try:
                assert await dispatcher.query(uuid) is Power.OFF
                simulator.vboxmanage("unregistervm", uuid, "--delete")
                second.virtualbox.add_vm("node01", uuid=uuid)
                await asyncio.sleep(2.1)  # until the state is too old
                await dispatcher.act(uuid, Change.ON, CALLER)
                assert await dispatcher.query(uuid) is Power.ON
            finally:
                await dispatcher.close()

        asyncio.run(play())
        assert second.virtualbox.vm(uuid).state is VMState.RUNNING


def test_power_actions_of_a_warm_service_are_one_command_each(simulator: Simulator) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    commands: list[list[str]] = []

    async def play() -> None:
        async with serving(simulator) as desk:
            for change in (Change.ON, Change.OFF):
                before = len(simulator.commands)
                await desk.act(uuid, change, CALLER)
                commands.append([command.kind for command in simulator.commands[before:]])

    asyncio.run(play())
    assert [len(kinds) for kinds in commands] == [1, 1], commands


def test_reports_wait_longer_for_a_slow_host_than_queries(simulator: Simulator) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid

    async def play() -> None:
        async with serving(simulator, DispatcherTimings(query=0.2)) as dispatcher:
            await asyncio.sleep(PowerPolicy().state_max_age)
            simulator.inject(Fault(Action.DELAY, on="poll", seconds=1.5))
            assert await dispatcher.query(uuid) is Power.UNKNOWN

            (report,) = await dispatcher.reports()
            assert report.error is None

    asyncio.run(play())
