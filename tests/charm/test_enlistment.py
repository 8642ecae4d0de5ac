# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm enlists VMs in MAAS, by action and automatically.

The tests use the real program, a simulated host, and a strict fake of the MAAS API over HTTP.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

from maas_virtualbox.maas import messages

from tests import fake_maas
from tests.charm.conftest import network, state
from tests.charm.test_actions import act, simulator
from tests.charm.test_charm import replaced, service_config, state_after
from tests.service import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

    from charm import MAASVirtualBoxCharm
    from maas_virtualbox.simulator import Simulator

    from tests.charm.conftest import ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]

__all__ = ["simulator"]


@pytest.fixture
def region() -> Generator[fake_maas.Region]:
    """Return a MAAS without machines."""
    with fake_maas.served() as made:
        yield made
        assert not made.unexpected


def unit(simulator: Simulator, region: fake_maas.Region, **config: Any) -> testing.State:
    """Return a unit that is configured with MAAS and a host with three VMs."""
    ssh_key = testing.Secret({"private-key": simulator.key_file.read_text()})
    api_key = testing.Secret({"api-key": fake_maas.KEY})
    return state(
        secrets=[ssh_key, api_key],
        hosts=f"{simulator.host_entry} name=demo zone=lab",
        ssh_private_key=ssh_key.id,
        maas_url=region.url,
        maas_api_key=api_key.id,
        **config,
    )


def uris(region: fake_maas.Region) -> set[str]:
    """Return the addresses at which MAAS queries power."""
    return {
        machine["power_parameters"]["power_query_uri"].split("/vm/")[0]
        for machine in region.machines.values()
    }


def powers(region: fake_maas.Region) -> list[tuple[str, str]]:
    """Return the address and the token of each machine, sorted by hostname."""
    machines = sorted(region.machines.values(), key=lambda machine: machine["hostname"])
    parameters = [machine["power_parameters"] for machine in machines]
    return [
        (values["power_query_uri"].split("/")[2].partition(":")[0], values["power_token"])
        for values in parameters
    ]


def test_enlist_shows_and_applies_the_plan(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region))
    assert region.writes == []

    planned = act(context, before, "enlist", **{"dry-run": True})
    assert (planned["summary"], region.writes) == ("3 create", [])
    done = act(context, before, "enlist", name="node0[12]")
    assert done["summary"] == "2 create"
    assert "create: demo/node01" in done["changes"]
    assert "(done)" in done["changes"]
    assert uris(region) == {"http://10.0.0.2:5307"}
    assert fake_maas.KEY.split(":")[2] not in str(planned) + str(done)


def test_enlist_on_any_unit_uses_its_own_address(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    leader = context.run(context.on.config_changed(), unit(simulator, region))
    follower = replaced(leader, leader=False, networks={network("10.0.0.9")})

    assert act(context, follower, "enlist", **{"dry-run": True})["summary"] == "3 create"
    done = act(context, follower, "enlist", zone="lab", name="node03")

    assert done["summary"] == "1 create"
    assert uris(region) == {"http://10.0.0.9:5307"}


def test_auto_enlist_skips_machines_of_other_units(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    peers = testing.PeerRelation("peers", peers_data={1: {"address": "10.0.0.9"}})
    first = unit(simulator, region, relations=[peers])
    leader = context.run(context.on.config_changed(), first)
    follower = replaced(leader, leader=False, networks={network("10.0.0.9")})
    act(context, leader, "enlist", name="node0[12]")
    act(context, follower, "enlist", name="node03")
    before = powers(region)
    assert [address for address, _ in before] == ["10.0.0.2", "10.0.0.2", "10.0.0.9"]

    context.run(context.on.action("rotate-tokens", params={"grace": 1}), leader)

    after = powers(region)
    assert [address for address, _ in after] == [address for address, _ in before]
    assert not {token for _, token in after} & {token for _, token in before}
    checked = act(context, leader, "check-hosts")["findings-of-maas"]
    assert "10.0.0.9" not in checked


@pytest.mark.parametrize("leader", [True, False])
def test_unit_publishes_its_address_to_peers(
    context: Context, simulator: Simulator, region: fake_maas.Region, leader: bool
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region))

    moved = replaced(before, leader=leader, networks={network("10.0.0.7")})
    out = context.run(context.on.config_changed(), moved)

    (peers,) = (
        relation for relation in out.relations if isinstance(relation, testing.PeerRelation)
    )
    assert peers.local_unit_data["address"] == "10.0.0.7"


def test_enlist_reports_a_problem_of_maas_once(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    region.images, region.racks = [], {}
    before = context.run(context.on.config_changed(), unit(simulator, region))

    planned = act(context, before, "enlist", **{"dry-run": True})
    first, second, *changes = planned["changes"].splitlines()
    assert (first, second) == (str(messages.NO_IMAGES), str(messages.NO_RACK))
    assert len(changes) == 3

    with pytest.raises(testing.ActionFailed) as failed:
        act(context, before, "enlist")
    assert failed.value.message.count(messages.NO_IMAGES.text) == 1
    results = context.action_results or {}
    assert messages.NO_IMAGES.text not in results["changes"]
    assert results["changes"].count("(failed)") == 3


def test_check_hosts_also_checks_maas(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region))

    results = act(context, before, "check-hosts")

    assert "enlist" in results["findings-of-maas"]


@pytest.mark.parametrize(("choice", "known"), [("off", 1), ("adopt", 1), ("all", 3)])
def test_auto_enlist_applies_only_allowed_changes(
    context: Context, simulator: Simulator, region: fake_maas.Region, choice: str, known: int
) -> None:
    mac = simulator.virtualbox.vms[0].macs[0].lower()
    region.add_machine("known", macs=[":".join(re.findall("..", mac))])

    out = context.run(context.on.config_changed(), unit(simulator, region, auto_enlist=choice))

    powered = [m for m in region.machines.values() if m["power_type"] == "webhook"]
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert len(region.machines) == known
    assert len(powered) == (0 if choice == "off" else known)


def test_auto_enlist_off_still_updates_address_and_tokens(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region, auto_enlist="all"))
    manual = context.run(context.on.config_changed(), state_after(before, auto_enlist="off"))
    tokens = {m["power_parameters"]["power_token"] for m in region.machines.values()}
    region.clear_calls()

    context.run(context.on.update_status(), manual)
    assert region.calls == []

    moved = replaced(manual, networks={network("10.0.0.9")})
    out = context.run(context.on.config_changed(), moved)
    assert uris(region) == {"http://10.0.0.9:5307"}
    assert len(region.writes) == 3

    context.run(context.on.action("rotate-tokens", params={"grace": 1}), out)
    after = {m["power_parameters"]["power_token"] for m in region.machines.values()}
    assert len(after) == 3
    assert not after & tokens


def test_auto_enlist_refused_by_maas_waits_and_retries(
    context: Context, simulator: Simulator, region: fake_maas.Region, machine: ScratchMachine
) -> None:
    region.forced = [(401, "Authorization Error")]

    out = context.run(context.on.config_changed(), unit(simulator, region))

    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert out.unit_status.message.startswith("not all VMs are enlisted in MAAS (")
    assert "401" in out.unit_status.message
    assert (machine.systemd / "active").exists()

    region.forced = []
    assert isinstance(context.run(context.on.update_status(), out).unit_status, ops.ActiveStatus)


@pytest.mark.parametrize("leader", [True, False])
@pytest.mark.parametrize(
    ("given", "missing", "command"),
    [
        ((), "maas-url and maas-api-key", "maas-url=http://ADDRESS:5240/MAAS maas-api-key=sec"),
        (("maas_url",), "maas-api-key", "maas-api-key=secret:…"),
        (("maas_api_key",), "maas-url", "maas-url=http://ADDRESS:5240/MAAS"),
    ],
)
def test_auto_enlist_without_maas_is_blocked(
    context: Context,
    machine: ScratchMachine,
    given: tuple[str, ...],
    missing: str,
    command: str,
    leader: bool,
) -> None:
    key = testing.Secret({"api-key": "a:b:c"})
    values = {"maas_url": "http://127.0.0.1:9/MAAS", "maas_api_key": key.id}
    options = {name: values[name] for name in given}
    first = context.run(context.on.config_changed(), state(secrets=[key], off_mode="acpi"))
    before = state_after(replaced(first, leader=leader), auto_enlist="adopt", **options)

    out = context.run(context.on.config_changed(), state_after(before, off_mode="hard"))

    assert isinstance(out.unit_status, ops.BlockedStatus)
    sentence = f"auto-enlist: expected {missing} to be set: juju config power {command}"
    assert out.unit_status.message.startswith(sentence)
    assert service_config(machine)["off-mode"] == "hard"


def test_enlist_without_maas_fails_with_one_line(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region))
    nowhere = state_after(before, maas_url=f"http://127.0.0.1:{free_port()}/MAAS")
    nowhere = context.run(context.on.config_changed(), nowhere)

    with pytest.raises(testing.ActionFailed) as failed:
        act(context, nowhere, "enlist")

    assert "no response from MAAS" in failed.value.message
    assert "\n" not in failed.value.message


def test_auto_enlist_runs_only_on_the_leader(
    context: Context, simulator: Simulator, region: fake_maas.Region
) -> None:
    before = context.run(context.on.config_changed(), unit(simulator, region))
    region.clear_calls()

    context.run(
        context.on.config_changed(),
        replaced(state_after(before, auto_enlist="all"), leader=False),
    )

    assert region.calls == []
