# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Applying plans: commissioning, hostnames, problems of the region, and interrupted runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from maas_virtualbox import errors
from maas_virtualbox.maas import client as maas_client
from maas_virtualbox.maas import enlistment, messages
from maas_virtualbox.maas.enlistment import Kind

from tests import fake_maas
from tests.enlisting import HERE, enlist, plan
from tests.fake_maas import Region
from tests.vms import mac, ten, vm

COMMISSION = dataclasses.replace(HERE, commission=True)


def statuses(region: Region) -> set[str]:
    """Return the statuses of all machines."""
    return {machine["status_name"] for machine in region.machines.values()}


def commissions(region: Region) -> int:
    """Return the number of requests to commission since `clear_calls`."""
    return sum(call.op == "commission" for call in region.calls)


# -- Commissioning ------------------------------------------------------------------------------


def test_503_at_commissioning_is_reported_once(region: Region) -> None:
    region.racks = {"rack1": ["192.168.0.0/24"]}

    outcome = enlist(region, ten(), COMMISSION)

    assert outcome.error is None
    assert len(outcome.results) == len(region.machines) == 10
    (failure,) = outcome.failures
    assert str(failure).startswith("10 VMs (a/a-node1, a/a-node2, a/a-node3, …): MAAS has the")
    assert str(messages.NOT_COMMISSIONED) in str(failure)
    assert failure.retry
    assert all(machine["tag_names"] for machine in region.machines.values())


def test_commissioning_is_repeated_by_the_next_run(region: Region) -> None:
    region.racks = {"rack1": ["192.168.0.0/24"]}
    enlist(region, ten(), COMMISSION)
    region.racks = {"rack1": ["10.0.0.0/24"]}

    found = plan(region, ten(), COMMISSION)
    outcome = enlist(region, ten(), COMMISSION)

    assert {(change.kind, change.text) for change in found.changes} == {
        (Kind.UPDATE, "commission")
    }
    assert (len(outcome.done), commissions(region)) == (10, 10)
    assert statuses(region) == {"Commissioning"}
    assert plan(region, ten(), COMMISSION).changes == ()


def test_new_machines_are_commissioned_only_on_request(region: Region) -> None:
    enlist(region, ten())

    assert plan(region, ten()).changes == ()
    assert statuses(region) == {"New"}


def test_commissioning_without_racks_is_not_requested(region: Region) -> None:
    region.racks = {}

    found = plan(region, ten(), COMMISSION)
    outcome = enlist(region, ten(), COMMISSION)

    assert found.messages == (messages.NO_RACK,)
    assert (len(outcome.done), outcome.failures) == (10, ())
    assert commissions(region) == 0


def test_503_of_maas_itself_ends_the_run(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan(ten(), enlistment.read(client), COMMISSION)
        region.forced = [(503, "")]
        outcome = enlistment.apply(client, found)

    assert outcome.error is not None
    assert not isinstance(outcome.error, errors.NotCommissioned)
    assert len(outcome.not_tried) == 10


# -- Hostnames and MACs of other nodes ----------------------------------------------------------


@pytest.mark.parametrize("name", ["printer", "rack1", "region1"])
def test_hostname_of_another_node_is_not_used(region: Region, name: str) -> None:
    region.add_device("printer")

    outcome = enlist(region, [vm(name, mac(1))])

    assert outcome.failures == ()
    assert [machine["hostname"] for machine in region.machines.values()] == [f"{name}-a"]


def test_hostname_used_since_the_plan_is_replaced(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan([vm("node1", mac(1))], enlistment.read(client), HERE)
        region.add_device("node1")
        region.add_machine("node1-a")
        outcome = enlistment.apply(client, found)

    assert outcome.failures == ()
    (result,) = outcome.results
    assert result.hostname == f"node1-{result.change.uuid}"
    assert region.machine(result.hostname)["power_type"] == "webhook"
    assert plan(region, [vm("node1", mac(1))]).changes == ()


def test_rename_to_used_hostname_still_updates_power(region: Region) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    after = vm("web", mac(1), uuid=before.uuid)
    moved = dataclasses.replace(HERE, address="10.0.0.9")
    with fake_maas.client(region) as client:
        found = enlistment.plan([after], enlistment.read(client), moved)
        for name in ("web", "web-a", f"web-{before.uuid}"):
            region.add_device(name)
        outcome = enlistment.apply(client, found)

    assert outcome.failures == ()
    machine = region.machine("node1")
    assert machine["power_parameters"]["power_on_uri"].startswith("http://10.0.0.9:5307/")


def test_rejected_mac_is_not_tried_again(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan([vm("node1", mac(1))], enlistment.read(client), HERE)
        region.add_device("node1", macs=[mac(1)])
        region.clear_calls()
        outcome = enlistment.apply(client, found)

    (failure,) = outcome.failures
    assert "mac_addresses: " in str(failure)
    assert len(region.headers) == 2  # the zone and one attempt


@pytest.mark.parametrize("is_known", [False, True])
def test_mac_of_a_device_is_a_conflict(region: Region, *, is_known: bool) -> None:
    before = vm("node1", mac(1))
    if is_known:
        enlist(region, [before])
    region.add_device("printer", macs=[mac(2)])

    found = plan(region, [vm("node1", mac(1), mac(2), uuid=before.uuid)])

    change = found.changes[-1]
    assert change.kind is Kind.CONFLICT
    assert change.text == f"its MAC {mac(2)} belongs to the device printer in MAAS"
    assert change.hint.startswith(f"VBoxManage modifyvm {before.uuid} --macaddress2 auto")
    assert found.writing == ()


# -- Problems of the region ---------------------------------------------------------------------


def test_missing_images_are_reported_once(region: Region) -> None:
    region.images = []
    vms = [*ten(), vm("arm", mac(200), architecture="arm64")]

    found = plan(region, vms)
    outcome = enlist(region, vms)

    assert found.messages == (messages.NO_IMAGES,)
    (failure,) = outcome.failures
    assert str(failure).startswith("11 VMs (a/a-node1, a/a-node2, a/a-node3, …): MAAS has no boo")
    assert str(failure).endswith(str(messages.NO_IMAGES))


def test_missing_architecture_is_reported_once(region: Region) -> None:
    region.images = ["amd64"]
    arms = [vm(f"arm{n}", mac(200 + n), architecture="arm64") for n in range(60)]

    found = plan(region, [*ten(), *arms])
    outcome = enlist(region, [*ten(), *arms])

    message = messages.NO_IMAGE.of(architecture="arm64")
    assert found.messages == (message,)
    (failure,) = outcome.failures
    assert str(failure).startswith("60 VMs (a/arm0, a/arm1, a/arm2, …): ")
    assert str(failure).endswith(str(message))
    assert len(outcome.done) == 10
    refused = len(region.headers) - len(region.calls)
    assert refused <= 8  # those in progress when the first is rejected


def test_apply_with_unknown_images_creates_machines(region: Region) -> None:
    known: Any = None
    with fake_maas.client(region) as client:
        known = dataclasses.replace(enlistment.read(client), images=None)
        outcome = enlistment.apply(client, enlistment.plan(ten(), known, HERE))

    assert len(outcome.done) == 10


def test_conflicts_are_reported_once(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan(ten(), enlistment.read(client), HERE)
        for number, other in enumerate(ten()[:5]):
            powers = dataclasses.asdict(HERE.power_parameters(other.uuid)) | {
                "power_token": "other"
            }
            region.add_machine(f"other{number}", power=("webhook", powers))
        outcome = enlistment.apply(client, found)

    (failure,) = outcome.failures
    vms = "5 VMs (a/a-node1, a/a-node2, a/a-node3, …)"
    assert str(failure) == f"{vms}: {messages.CONFLICT}"
    assert len(outcome.done) == 5


def test_conflict_with_a_reason_shows_the_reason(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan([vm("node1", mac(1))], enlistment.read(client), HERE)
        region.forced = [(200, "{}"), (409, "it is locked")]  # the zone, and the machine
        outcome = enlistment.apply(client, found)

    (failure,) = outcome.failures
    message = messages.CONFLICT_REASON.of(reason="it is locked")
    assert str(failure) == f"a/node1: {message}"
    assert "delete" not in str(failure)


# -- Errors and interruptions --------------------------------------------------------------------


def test_apply_with_rejected_machine_continues(region: Region) -> None:
    vms = [vm("node1", mac(1), architecture="i386"), vm("node2", mac(2))]

    outcome = enlist(region, vms)

    (failure,) = outcome.failures
    assert str(failure).startswith("a/node1: MAAS has no boot image for i386")
    assert [machine["hostname"] for machine in region.machines.values()] == ["node2"]
    assert outcome.error is None


def test_apply_with_rejected_zone_fails_only_its_machines(region: Region) -> None:
    with fake_maas.client(region) as client:
        found = enlistment.plan(ten(), enlistment.read(client), HERE)
        region.zones["izMBP13"] = "made meanwhile"
        outcome = enlistment.apply(client, found)

    (failure,) = outcome.failures
    assert len(outcome.done) == 5
    assert str(failure).startswith("5 VMs (a/a-node1, a/a-node2, a/a-node3, …): its zone izMBP13")
    enlist(region, ten())
    assert plan(region, ten()).changes == ()


@pytest.mark.parametrize("writes", range(1, 32, 5))
def test_apply_repeated_after_a_crash_completes(region: Region, writes: int) -> None:
    region.dies_after_writes = writes
    outcome = enlist(region, ten())
    assert len(outcome.failures) == 1
    assert len(outcome.results) + len(outcome.not_tried) == 10
    for machine in region.machines.values():
        assert (machine["power_type"], machine["zone"][:2]) == ("webhook", "iz")
        assert len(machine["interface_set"]) == 2

    region.dies_after_writes = None
    enlist(region, ten())

    assert len(region.machines) == 10
    assert plan(region, ten()).changes == ()


def test_apply_repeated_after_a_lost_response_completes(region: Region) -> None:
    region.loses_answer_to = "machines/"
    first = enlist(region, [vm("node1", mac(1))])
    region.loses_answer_to = ""

    second = enlist(region, [vm("node1", mac(1))])

    assert "unknown" in str(first.failures[0])
    assert (len(region.machines), second.failures) == (1, ())
    assert plan(region, [vm("node1", mac(1))]).changes == ()


# -- Timeouts -----------------------------------------------------------------------------------


def test_timeouts_exceed_a_real_regions_latencies() -> None:
    latencies = fake_maas.Latencies(scale=1.0)

    listing_s = latencies.of(("GET", "machines/", ""), 1000, 0)
    assert 10 * listing_s < maas_client.LISTING_TIMEOUT_S
    assert 10 * max(latencies.made_s) < maas_client.CALL_TIMEOUT_S
