# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""For random hosts and regions: enlistment converges and does not change other machines."""

from __future__ import annotations

import copy
import dataclasses
import uuid as uuids
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from maas_virtualbox.config import tokens
from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.host.vm import VM
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.enlistment import EnlistmentSettings
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import Power, VMState

from tests import fake_maas
from tests.fake_maas import Region

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.2", 5307)
BEFORE = dataclasses.replace(HERE, address="10.0.0.1")
OTHERS = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.77", 5307)

HOSTS = [
    HostConfig(user="i", address="10.0.0.5", name="a", zone="za"),
    HostConfig(user="i", address="10.0.0.6", name="b", zone="zb"),
    HostConfig(user="i", address="10.0.0.7", name="c"),
]
# Few of each, so that conflicts occur.
UUIDS = [str(uuids.UUID(int=number << 96 | number)) for number in range(1, 6)]
MACS = [f"08:00:27:00:00:{number:02x}" for number in range(8)]
NAMES = ["node1", "node2", "Node 1", "a-node1", "ü", " x\n"]
STATUSES = ["New", "Ready", "Deployed", "Commissioning", "Allocated"]


@st.composite
def a_vm(draw: st.DrawFn) -> VM:
    """Generate a VM. The settings of some VMs are inaccessible."""
    macs = draw(st.lists(st.sampled_from(MACS), max_size=3))
    accessible = draw(st.integers(0, 9)) > 0
    machine = VMSettings(
        draw(st.sampled_from(UUIDS)),
        draw(st.sampled_from(NAMES)),
        "/x.vbox",
        VMState.POWEROFF,
        accessible=accessible,
        nics=tuple(
            NIC(slot, mac, "82540EM", "nat", "", cable=True)
            for slot, mac in enumerate(macs if accessible else (), 1)
        ),
        architecture="amd64",
    )
    return VM(draw(st.sampled_from(HOSTS)), machine, VMState.POWEROFF, Power.OFF)


FLEETS = st.lists(a_vm(), max_size=5)
FOREIGN = st.lists(
    st.fixed_dictionaries(
        {
            "macs": st.lists(st.sampled_from(MACS), max_size=2, unique=True),
            "kind": st.sampled_from(["", "manual", "ipmi", "webhook", "other service"]),
            "hostname": st.sampled_from(["node1", "node-1", "node2", "fast-cod"]),
            "status_name": st.sampled_from(STATUSES),
        }
    ),
    max_size=3,
)


def powered(kind: str, number: int, uuid: str) -> tuple[str, dict[str, str]]:
    """Return a power type and its parameters for a machine that is not managed here."""
    if kind == "ipmi":
        return kind, {"power_address": f"10.1.0.{number}"}
    if kind == "webhook":
        uri = f"http://10.2.0.{number}"
        return kind, {f"power_{verb}_uri": f"{uri}/{verb}" for verb in ("on", "off", "query")}
    if kind == "other service":
        return "webhook", dataclasses.asdict(OTHERS.power_parameters(uuid))
    return kind, {}


def populate(region: Region, foreign: Sequence[dict[str, Any]], ours: set[str]) -> list[str]:
    """Add unmanaged machines. Return the IDs of those that enlistment must not change: they have a
    power type, or no MAC of `ours`."""
    theirs: list[str] = []
    for number, options in enumerate(foreign):
        used = {nic["mac_address"] for m in region.machines.values() for nic in m["interface_set"]}
        if options["hostname"] in [machine["hostname"] for machine in region.machines.values()]:
            continue
        made = region.add_machine(
            options["hostname"],
            macs=[mac for mac in options["macs"] if mac not in used],
            status_name=options["status_name"],
            power=powered(options["kind"], number, str(uuids.UUID(int=900 + number))),
        )
        if options["kind"] not in ("", "manual") or ours.isdisjoint(options["macs"]):
            theirs.append(made["system_id"])
    return theirs


def settle(region: Region, vms: Sequence[VM]) -> None:
    """Enlist until nothing is left to write, four times at most."""
    with fake_maas.client(region) as client:
        for _ in range(4):
            plan = enlistment.plan(vms, enlistment.read(client), HERE)
            if not plan.writing:
                return
            assert enlistment.apply(client, plan).failures == ()
    raise AssertionError("there is always something left to write")


def ours(region: Region) -> dict[str, object]:
    """Return the managed machines by their URIs."""
    return {
        machine["power_parameters"]["power_on_uri"]: (
            machine["zone"],
            machine["tag_names"],
            sorted(nic["mac_address"] for nic in machine["interface_set"]),
            machine["power_parameters"],
        )
        for machine in region.machines.values()
        if machine["power_parameters"].get("power_on_uri", "").startswith("http://10.0.0.2:")
    }


@settings(max_examples=60)  # Each example enlists two fleets in a fake region.
@given(
    before=FLEETS,
    now=FLEETS,
    foreign=FOREIGN,
    cut=st.integers(0, 5),
    status=st.sampled_from(STATUSES),
)
def test_plan_prefix_converges_and_spares_other_machines(
    before: list[VM], now: list[VM], foreign: list[dict[str, Any]], cut: int, status: str
) -> None:
    region = Region()
    theirs = populate(region, foreign, {mac for vm in (*before, *now) for mac in vm.macs})
    with fake_maas.client(region) as client:
        enlistment.apply(client, enlistment.plan(before, enlistment.read(client), BEFORE))
        for machine in region.machines.values():
            if machine["power_parameters"].get("power_on_uri", "").startswith("http://10.0.0.1:"):
                machine["status_name"] = status
        untouched = copy.deepcopy({name: region.machines[name] for name in theirs})
        whole = copy.deepcopy(region.machines), dict(region.zones), dict(region.tags)

        plan = enlistment.plan(now, enlistment.read(client), HERE)
        prefix = dataclasses.replace(plan, changes=plan.changes[:cut])
        outcome = enlistment.apply(client, prefix)
        assert outcome.failures == ()
    settle(region, now)

    assert {name: region.machines[name] for name in theirs} == untouched
    assert not region.unexpected
    assert len(region.machines) >= len(whole[0])
    at_once = Region()
    at_once.machines, at_once.zones, at_once.tags = whole
    at_once.last_number = region.last_number
    settle(at_once, now)
    assert ours(region) == ours(at_once)
