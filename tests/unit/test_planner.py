# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The planner, its matching and its writes, tested with a fake region in this process."""

from __future__ import annotations

import dataclasses
import datetime
import uuid as uuids
from typing import Any

import pytest

from maas_virtualbox.config import tokens
from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.host.vm import VM
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.enlistment import Kind

from tests import fake_maas
from tests.enlisting import HERE, SECRETS, enlist, plan
from tests.fake_maas import Region
from tests.vms import B, mac, ten, vm


def kinds(found: enlistment.Plan) -> list[tuple[Kind, str]]:
    """Return the kind and the VM or machine of each change."""
    return [(change.kind, change.vm or change.machine) for change in found.changes]


def only(found: enlistment.Plan) -> enlistment.Change:
    """Return the only change of a plan."""
    (change,) = found.changes
    return change


def paths(region: Region) -> list[tuple[str, str]]:
    """Return the method and path of each write."""
    return [(call.method, call.path) for call in region.writes]


# -- New and managed machines -------------------------------------------------------------------


def test_enlist_new_vms_creates_machines_and_zones(region: Region) -> None:
    outcome = enlist(region, ten())

    assert (len(outcome.done), outcome.failures) == (10, ())
    assert region.zones == {
        "default": "",
        "izMBP13": "ivan@10.0.0.5",
        "izMBP15": "ivan@10.0.0.6",
    }
    machine = region.machine("b-node3")
    found = next(other for other in ten() if other.name == "b-node3")
    assert [nic["mac_address"] for nic in machine["interface_set"]] == list(found.macs)
    assert machine["power_parameters"] == dataclasses.asdict(HERE.power_parameters(found.uuid))
    assert (machine["zone"], machine["power_type"], machine["architecture"]) == (
        "izMBP15",
        "webhook",
        "amd64/generic",
    )
    assert (machine["status_name"], machine["power_state"]) == ("New", "unknown")
    assert machine["tag_names"] == [f"virtualbox-{found.uuid}"]


def test_enlist_repeated_writes_nothing(region: Region) -> None:
    enlist(region, ten())

    again = plan(region, ten())
    enlist(region, ten())

    assert again.changes == ()
    assert again.summary() == "10 up to date"
    assert region.writes == []


def test_read_sends_eight_requests(region: Region) -> None:
    enlist(region, ten())
    region.clear_calls()

    plan(region, ten())

    asked = sorted((call.path, call.op) for call in region.calls)
    assert asked == [
        ("boot-resources/", ""),
        ("devices/", ""),
        ("machines/", ""),
        ("machines/", "power_parameters"),
        ("rackcontrollers/", ""),
        ("regioncontrollers/", ""),
        ("tags/", ""),
        ("zones/", ""),
    ]


def test_enlist_with_commission_commissions_new_machines(region: Region) -> None:
    enlist(region, [vm("node1", mac(1))], dataclasses.replace(HERE, commission=True))

    assert region.machine("node1")["status_name"] == "Commissioning"


def test_plan_with_other_address_keeps_its_machines(region: Region) -> None:
    enlist(region, ten())
    both = dataclasses.replace(HERE, address="10.0.0.9", other_addresses=("10.0.0.2",))
    rotated = dataclasses.replace(both, secrets=SECRETS.rotated(datetime.timedelta(hours=1)))

    assert plan(region, ten(), both).changes == ()
    enlist(region, ten(), rotated)

    found = [machine["power_parameters"] for machine in region.machines.values()]
    assert {parameters["power_on_uri"].split("/vm/")[0] for parameters in found} == {
        "http://10.0.0.2:5307"
    }
    assert plan(region, ten(), rotated).changes == ()


def test_plan_with_new_address_updates_uris_only(region: Region) -> None:
    enlist(region, ten())
    moved = dataclasses.replace(HERE, address="10.0.0.9")

    found = plan(region, ten(), moved)
    enlist(region, ten(), moved)

    assert {change.kind for change in found.changes} == {Kind.UPDATE}
    assert found.changes[0].text == "URIs http://10.0.0.2:5307 → http://10.0.0.9:5307"
    assert len(region.writes) == 10
    assert {call.method for call in region.writes} == {"PUT"}
    assert plan(region, ten(), moved).changes == ()


def test_plan_with_rotated_secrets_updates_tokens(region: Region) -> None:
    enlist(region, [vm("node1", mac(1))])
    rotated = dataclasses.replace(HERE, secrets=SECRETS.rotated(datetime.timedelta(hours=1)))

    found = only(plan(region, [vm("node1", mac(1))], rotated))

    assert (found.kind, found.text) == (Kind.UPDATE, "token")


def test_plan_repairs_regexes_but_keeps_verify_ssl(
    region: Region,
) -> None:
    found = vm("node1", mac(1))
    enlist(region, [found])
    region.machine("node1")["power_parameters"]["power_verify_ssl"] = "y"
    assert plan(region, [found]).changes == ()

    region.machine("node1")["power_parameters"]["power_on_regex"] = "on"
    assert only(plan(region, [found])).text == "regular expressions"
    enlist(region, [found])

    parameters = region.machine("node1")["power_parameters"]
    assert parameters["power_on_regex"] == HERE.power_parameters(found.uuid).power_on_regex
    assert parameters["power_verify_ssl"] == "y"


def test_apply_of_selected_kinds_writes_only_these(region: Region) -> None:
    region.add_machine("there", macs=[mac(1)])
    found = plan(region, [vm("node1", mac(1)), vm("node2", mac(2), host=B)])

    adopting = found.of(Kind.ADOPT, Kind.UPDATE)
    with fake_maas.client(region) as client:
        enlistment.apply(client, adopting)

    assert [zone.name for zone in adopting.zones] == ["izMBP13"]
    assert list(region.zones) == ["default", "izMBP13"]
    assert len(region.machines) == 1


# -- Changed VMs --------------------------------------------------------------------------------


def test_plan_with_renamed_vm_renames_its_machine(region: Region) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    after = vm("Web server", mac(1), uuid=before.uuid)

    found = only(plan(region, [after]))
    enlist(region, [after])

    assert (found.kind, found.text) == (Kind.UPDATE, "hostname node1 → web-server; tag")
    assert region.machine("web-server")["system_id"] == found.system_id
    assert plan(region, [after]).changes == ()


def test_plan_with_renamed_machine_keeps_its_name(region: Region) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    region.machine("node1")["hostname"] = "controller"

    assert plan(region, [before]).changes == ()
    renamed = vm("node9", mac(1), uuid=before.uuid)
    enlist(region, [renamed])

    assert region.machine("controller")
    assert plan(region, [renamed]).changes == ()


def test_plan_with_replaced_nic_reuses_its_interface(region: Region) -> None:
    before = vm("node1", mac(1), mac(2))
    enlist(region, [before])
    number = region.machine("node1")["interface_set"][0]["id"]
    after = vm("node1", mac(7), mac(2), mac(8), uuid=before.uuid)

    found = only(plan(region, [after]))
    enlist(region, [after])

    system_id = found.system_id
    assert found.text == f"MAC {mac(7)}; MAC {mac(8)}"
    assert paths(region) == [
        ("PUT", f"nodes/{system_id}/interfaces/{number}/"),
        ("POST", f"nodes/{system_id}/interfaces/"),
    ]
    assert plan(region, [after]).changes == ()


@pytest.mark.parametrize(
    ("status", "new", "kind"),
    [
        ("Deployed", [mac(7)], Kind.UPDATE),
        ("Deployed", [mac(1), mac(7)], Kind.SKIP),
        ("Commissioning", [mac(7)], Kind.SKIP),
    ],
)
def test_plan_with_new_mac_depends_on_the_status(
    region: Region, status: str, new: list[str], kind: Kind
) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    region.machine("node1")["status_name"] = status

    after = vm("node1", *new, uuid=before.uuid)
    found = only(plan(region, [after]))
    outcome = enlist(region, [after])

    assert found.kind is kind
    assert outcome.failures == ()


def test_plan_with_moved_vm_changes_its_zone(region: Region) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    after = vm("node1", mac(1), uuid=before.uuid, host=B)

    found = only(plan(region, [after]))
    enlist(region, [after])

    assert (found.kind, found.text) == (Kind.UPDATE, "zone izMBP13 → izMBP15")
    assert paths(region) == [("POST", "zones/"), ("PUT", f"machines/{found.system_id}/")]
    assert len(region.machines) == 1


# -- Existing machines --------------------------------------------------------------------------


@pytest.mark.parametrize("power", [("", {}), ("manual", {})])
@pytest.mark.parametrize("by", ["mac", "hardware", "swapped"])
def test_plan_adopts_machine_without_power_type(
    region: Region, power: tuple[str, dict[str, str]], by: str
) -> None:
    found = vm("node1", mac(1), uuid="00112233-4455-6677-8899-aabbccddeeff")
    options: dict[str, Any] = {
        "mac": {"macs": [mac(1)]},
        "hardware": {"hardware_uuid": found.uuid.upper()},
        "swapped": {"hardware_uuid": "33221100-5544-7766-8899-aabbccddeeff"},
    }[by]
    region.add_machine("fast-cod", power=power, **options)

    change = only(plan(region, [found]))
    enlist(region, [found])

    assert (change.kind, change.machine) == (Kind.ADOPT, "fast-cod")
    machine = region.machine("fast-cod")
    assert machine["power_type"] == "webhook"
    assert [nic["mac_address"] for nic in machine["interface_set"]] == [mac(1)]
    assert plan(region, [found]).changes == ()


def test_plan_skips_other_power_type_unless_taking_over(region: Region) -> None:
    region.add_machine("fast-cod", macs=[mac(1)], power=("ipmi", {"power_address": "10.0.0.77"}))
    found = vm("node1", mac(1))
    taking = dataclasses.replace(HERE, take_over=True)

    change = only(plan(region, [found]))
    enlist(region, [found])
    assert region.writes == []
    enlist(region, [found], taking)

    assert change.kind is Kind.SKIP
    assert "fast-cod in MAAS has the power type ipmi" in change.text
    assert "--take-over" in change.hint
    assert region.machine("fast-cod")["power_parameters"] == dataclasses.asdict(
        HERE.power_parameters(found.uuid)
    )
    assert plan(region, [found]).changes == ()


def test_take_over_of_recreated_vm_replaces_the_tag(
    region: Region,
) -> None:
    enlist(region, [vm("node1", mac(1))])
    recreated = vm("node1", mac(1), uuid=str(uuids.uuid4()))

    assert kinds(plan(region, [recreated])) == [(Kind.SKIP, "node1")]
    enlist(region, [recreated], dataclasses.replace(HERE, take_over=True))

    assert region.machine("node1")["tag_names"] == [f"virtualbox-{recreated.uuid}"]
    assert plan(region, [recreated]).changes == ()


def test_plan_finds_machine_by_tag_alone(region: Region) -> None:
    before = vm("node1", mac(1))
    enlist(region, [before])
    region.machine("node1").update(power_type="manual", power_parameters={})

    found = only(plan(region, [vm("node1", mac(9), uuid=before.uuid)]))

    assert (found.kind, found.machine) == (Kind.ADOPT, "node1")


def test_plan_without_vm_reports_an_orphan(region: Region) -> None:
    enlist(region, ten())

    found = plan(region, ten()[1:])
    enlist(region, ten()[1:])

    assert kinds(found) == [(Kind.ORPHAN, "a-node1")]
    assert region.writes == []
    assert len(region.machines) == 10


def test_plan_with_unreachable_host_reports_no_orphans(
    region: Region,
) -> None:
    enlist(region, ten())
    down = dataclasses.replace(HERE, unreachable=("a",))
    moved = dataclasses.replace(down, address="10.0.0.9")

    assert plan(region, ten()[5:], down).changes == ()
    enlist(region, ten()[5:], moved)

    assert len(region.writes) == 10
    assert plan(region, ten(), moved).changes == ()


def test_plan_ignores_machines_of_other_services(region: Region) -> None:
    other = dataclasses.replace(HERE, secrets=tokens.Secrets.new(), address="10.0.0.77")
    enlist(region, ten(), other)

    assert plan(region, []).changes == ()
    assert plan(region, [], dataclasses.replace(HERE, unreachable=("a",))).changes == ()
    assert (
        plan(region, [], dataclasses.replace(HERE, other_addresses=("10.0.0.77",))).changes == ()
    )


# -- Conflicts ----------------------------------------------------------------------------------


def test_equal_names_on_two_hosts_are_a_conflict(region: Region) -> None:
    twins = [vm("node1", mac(1)), vm("node1", mac(2), host=B)]

    found = plan(region, twins)
    enlist(region, twins)

    assert kinds(found) == [(Kind.CONFLICT, "node1"), (Kind.CONFLICT, "node1")]
    assert "it would get the same hostname as b/node1" in found.changes[0].text
    assert "--host a" in found.changes[0].hint
    assert region.writes == []


def test_equal_names_enlisted_separately_get_the_hosts_name(region: Region) -> None:
    twins = [vm("node1", mac(1)), vm("node1", mac(2), host=B)]

    enlist(region, twins, dataclasses.replace(HERE, host="a"))
    enlist(region, twins, dataclasses.replace(HERE, host="b"))

    assert [machine["hostname"] for machine in region.machines.values()] == ["node1", "node1-b"]
    assert plan(region, twins).changes == ()


def test_cloned_mac_of_unselected_vm_is_a_conflict(region: Region) -> None:
    clones = [vm("node1", mac(1)), vm("node2", mac(1), host=B)]

    found = only(plan(region, clones, dataclasses.replace(HERE, host="a")))

    assert found.kind is Kind.CONFLICT
    assert f"its MAC {mac(1)} also belongs to b/node2" in found.text
    assert "--macaddress1 auto" in found.hint


def test_clone_does_not_affect_the_managed_vm(region: Region) -> None:
    first = vm("node1", mac(1))
    enlist(region, [first])
    moved = dataclasses.replace(HERE, address="10.0.0.9")

    found = plan(region, [first, vm("node2", mac(1))], moved)

    assert kinds(found) == [(Kind.UPDATE, "node1"), (Kind.CONFLICT, "node2")]


def test_equal_uuids_are_a_conflict(region: Region) -> None:
    first = vm("node1", mac(1))

    found = plan(region, [first, vm("node1", mac(1), uuid=first.uuid, host=B)])

    assert {change.kind for change in found.changes} == {Kind.CONFLICT}
    assert "several hosts have a VM with its UUID: a, b" in found.changes[0].text


def test_two_machines_matching_one_vm_are_a_conflict(region: Region) -> None:
    region.add_machine("one", macs=[mac(1)])
    region.add_machine("two", macs=[mac(2)])

    found = only(plan(region, [vm("node1", mac(1), mac(2))]))

    assert (found.kind, "one, two" in found.text) == (Kind.CONFLICT, True)


def test_two_vms_matching_one_machine_are_a_conflict(region: Region) -> None:
    region.add_machine("one", macs=[mac(1), mac(2)])

    found = plan(region, [vm("node1", mac(1)), vm("node2", mac(2))])

    assert kinds(found) == [(Kind.CONFLICT, "node1"), (Kind.CONFLICT, "node2")]


def test_two_machines_with_equal_uris_are_a_conflict(region: Region) -> None:
    found = vm("node1", mac(1))
    enlist(region, [found])
    region.add_machine("copy", power=("webhook", region.machine("node1")["power_parameters"]))

    assert "several machines have its power URIs" in only(plan(region, [found])).text


def test_mac_of_another_managed_machine_is_a_conflict(region: Region) -> None:
    first = vm("node1", mac(1))
    enlist(region, [first])
    swapped = [vm("node1", mac(2), uuid=first.uuid), vm("node2", mac(1))]

    found = plan(region, swapped)

    assert (Kind.CONFLICT, "node2") in kinds(found)
    assert "node1 in MAAS matches, but belongs to a/node1" in found.changes[-1].text


def test_new_mac_of_another_machine_is_a_conflict(region: Region) -> None:
    first = vm("node1", mac(1))
    enlist(region, [first])
    region.add_machine("other", macs=[mac(2)])

    found = only(plan(region, [vm("node1", mac(2), uuid=first.uuid)]))

    assert (found.kind, "belongs to the machine other" in found.text) == (Kind.CONFLICT, True)


# -- Other reasons to skip a VM, and filters ----------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (vm("node1"), "has no network adapter"),
        (vm("", mac(1), accessible=False), "cannot read its settings"),
        (
            vm("node1", mac(1), host=HostConfig(user="i", address="h", name="h", zone="a.b")),
            "MAAS does not accept the zone name 'a.b'",
        ),
    ],
)
def test_plan_skips_what_maas_would_reject(region: Region, found: VM, text: str) -> None:
    change = only(plan(region, [found]))

    assert change.kind is Kind.SKIP
    assert text in change.text
    assert change.hint


def test_plan_with_used_hostname_appends_the_host(region: Region) -> None:
    region.add_machine("node1")

    enlist(region, [vm("Node 1", mac(1)), vm("node-1", mac(2)), vm("node1", mac(3))])

    names = {machine["hostname"] for machine in region.machines.values()}
    assert names == {"node1", "node-1", "node-1-a", "node1-a"}


def test_plan_filters_by_host_zone_and_name(region: Region) -> None:
    def chosen(**filters: str) -> list[str]:
        found = plan(region, ten(), dataclasses.replace(HERE, **filters))
        return [change.vm for change in found.changes]

    assert len(chosen(host="a")) == 5
    assert chosen(zone="izMBP15", name="*[12]") == ["b-node1", "b-node2"]


def test_plan_representation_contains_no_token(region: Region) -> None:
    found = plan(region, ten())

    token = SECRETS.vm_token(found.changes[0].uuid)
    assert token in str(found.changes[0].writes.fields)
    assert token not in repr(found)
    assert token not in str([change.to_dict() for change in found.changes])
    enlist(region, ten())
    assert token not in repr(plan(region, ten()[1:]))
