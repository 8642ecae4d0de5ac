# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm's relation `virtualbox-hosts`: related hosts in addition to configured ones."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import ops
import pytest
from ops import testing

from maas_virtualbox.config import host_list
from maas_virtualbox.transport import ssh_keys

from tests.charm.conftest import hooks_of_both_jujus, state
from tests.charm.test_charm import RELOADED, STARTED, replaced, service_config, state_after
from tests.charm.test_interface import HOST_KEY, PUBLISHED

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import Hook, ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]

RELATED = {
    "address": "10.0.0.5",
    "user": "vbox",
    "port": 2222,
    "name": "laptop-0",
    "zone": "rack1",
    "host-key": [host_list.key_fingerprint(HOST_KEY)],
    "vboxmanage": "/usr/bin/VBoxManage",
}


def relation(*units: dict[str, str]) -> testing.Relation:
    """Return a relation in which some units have published hosts."""
    return testing.Relation(
        "virtualbox-hosts",
        remote_app_name="laptop",
        remote_units_data=dict(enumerate(units or (PUBLISHED,))),
    )


def keys_in(out: testing.State, related: testing.Relation) -> list[str]:
    """Return the keys that the application has published."""
    published = json.loads(out.get_relation(related.id).local_app_data["public-keys"])
    return [entry["key"] for entry in published]


def own_keys(out: testing.State) -> list[str]:
    """Return the public keys of the application's own keys."""
    (secret,) = (secret for secret in out.secrets if secret.owner == "app")
    content = secret.latest_content or {}
    names = ("private-key", "next-private-key")
    return [ssh_keys.public_key(content[name]) for name in names if name in content]


def test_key_is_published_before_the_first_host(context: Context, machine: ScratchMachine) -> None:
    related = testing.Relation("virtualbox-hosts", remote_units_data={})

    out = context.run(context.on.relation_created(related), state(hosts="", relations=[related]))

    assert keys_in(out, related) == own_keys(out)
    assert out.unit_status == ops.WaitingStatus("waiting for the related units to publish a host")
    assert machine.systemctl_calls() == []


def test_related_host_is_used_with_pinned_keys(context: Context, machine: ScratchMachine) -> None:
    related = relation()

    out = context.run(context.on.relation_changed(related), state(hosts="", relations=[related]))

    assert service_config(machine)["hosts"] == [RELATED]
    assert machine.systemctl_calls() == STARTED
    assert isinstance(out.unit_status, ops.ActiveStatus)


def test_related_hosts_are_added_to_configured_hosts(
    context: Context, machine: ScratchMachine
) -> None:
    related = relation(PUBLISHED, {**PUBLISHED, "address": '"10.0.0.6"'})

    context.run(context.on.relation_changed(related), state(relations=[related]))

    assert [host["name"] for host in service_config(machine)["hosts"]] == [
        "alpha",
        "laptop-0",
        "laptop-1",
    ]


def test_host_of_a_removed_unit_is_removed(context: Context, machine: ScratchMachine) -> None:
    related = relation()
    first = context.run(context.on.relation_changed(related), state(relations=[related]))
    machine.systemctl_calls()

    # As in Juju: in relation-departed, the unit is no longer in the relation.
    known = first.get_relation(related.id)
    left = testing.Relation(
        "virtualbox-hosts",
        id=related.id,
        remote_app_name="laptop",
        remote_units_data={},
        local_app_data=known.local_app_data,
    )
    out = context.run(
        context.on.relation_departed(left, remote_unit=0, departing_unit=0),
        replaced(first, relations={*first.relations, left} - {known}),
    )

    assert [host["name"] for host in service_config(machine)["hosts"]] == ["alpha"]
    assert machine.systemctl_calls() == RELOADED
    assert isinstance(out.unit_status, ops.ActiveStatus)


def test_service_stops_without_relation_and_hosts(
    context: Context, machine: ScratchMachine
) -> None:
    related = relation()
    first = context.run(context.on.relation_changed(related), state(hosts="", relations=[related]))
    machine.systemctl_calls()

    out = context.run(context.on.relation_broken(first.get_relation(related.id)), first)

    assert out.unit_status == ops.BlockedStatus("no hosts: juju config power hosts='user@address'")
    assert machine.systemctl_calls() == ["disable --now maas-virtualbox.service"]


def test_configured_account_has_priority_over_a_related_one(
    context: Context, machine: ScratchMachine
) -> None:
    related = relation()

    out = context.run(
        context.on.relation_changed(related),
        state(hosts="vbox@10.0.0.5:2222 name=mine", relations=[related]),
    )

    (host,) = service_config(machine)["hosts"]
    assert host["name"] == "mine"
    assert isinstance(out.unit_status, ops.ActiveStatus)
    sentence = "laptop/0: vbox@10.0.0.5:2222 is already configured as mine"
    assert [log.message for log in context.juju_log].count(sentence) == 1


@pytest.mark.parametrize(
    ("second", "others"),
    [
        ({**PUBLISHED}, "laptop/0 and laptop/1"),
        ({**PUBLISHED, "zone": '"attic"', "host-keys": "[]"}, "laptop/0 and laptop/1"),
    ],
)
def test_two_units_with_the_same_host_block(
    context: Context, machine: ScratchMachine, second: dict[str, str], others: str
) -> None:
    related = relation(PUBLISHED, second, {**PUBLISHED, "user": '"lab"'})

    out = context.run(context.on.relation_changed(related), state(hosts="", relations=[related]))

    assert out.unit_status == ops.BlockedStatus(
        f"virtualbox-hosts: {others} publish the same host, vbox@10.0.0.5:2222: remove one of them"
    )
    served = [(host["name"], host["user"]) for host in service_config(machine)["hosts"]]
    assert served == [("laptop-0", "vbox"), ("laptop-2", "lab")]


def test_two_applications_with_the_same_host_block(
    context: Context, machine: ScratchMachine
) -> None:
    related, other = relation(), dataclasses.replace(relation(), remote_app_name="attic")
    other = dataclasses.replace(other, id=related.id + 1)

    out = context.run(context.on.relation_changed(other), state(relations=[related, other]))

    assert out.unit_status.message.startswith("virtualbox-hosts: laptop/0 and attic/0 publish")
    names = [host["name"] for host in service_config(machine)["hosts"]]
    assert names == ["alpha", "laptop-0"]


def test_related_host_with_a_configured_name_blocks(
    context: Context, machine: ScratchMachine
) -> None:
    related = relation()

    out = context.run(
        context.on.relation_changed(related),
        state(hosts="ivan@10.0.0.9 name=laptop-0", relations=[related]),
    )

    (host,) = service_config(machine)["hosts"]
    assert host["address"] == "10.0.0.9"
    assert out.unit_status == ops.BlockedStatus(
        "hosts: vbox@10.0.0.5:2222 of laptop/0 is ignored, because ivan@10.0.0.9 has the name"
        " laptop-0: set another name="
    )


@hooks_of_both_jujus
def test_rotation_publishes_both_keys_and_then_the_new_one(
    context: Context, machine: ScratchMachine, hook: Hook
) -> None:
    del machine
    related = relation()
    first = context.run(context.on.relation_changed(related), state(relations=[related]))
    old = own_keys(first)

    with hook():
        begun = context.run(context.on.action("rotate-ssh-key"), first)
    _, new = own_keys(begun)
    assert keys_in(begun, related) == [*old, new]

    with hook():
        done = context.run(context.on.action("rotate-ssh-key", params={"force": True}), begun)
    assert keys_in(done, related) == own_keys(done) == [new]


def test_key_of_a_user_secret_is_published(context: Context, machine: ScratchMachine) -> None:
    del machine
    given = ssh_keys.new_private_key()
    secret = testing.Secret({"private-key": given})
    related = relation()
    first = context.run(context.on.relation_changed(related), state(relations=[related]))

    out = context.run(
        context.on.config_changed(),
        state_after(replaced(first, secrets={*first.secrets, secret}), ssh_private_key=secret.id),
    )

    assert keys_in(out, related) == [ssh_keys.public_key(given)]
