# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The relation interface `virtualbox_hosts`, including invalid data of the other side."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

from maas_virtualbox.config import host_list
from maas_virtualbox.juju import (
    AccountData,
    SSHKey,
    VirtualBoxHostsProvider,
    VirtualBoxHostsRequirer,
)
from maas_virtualbox.transport import ssh_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maas_virtualbox.juju import RelatedHost

KEY, NEXT_KEY, HOST_KEY = (ssh_keys.public_key(ssh_keys.new_private_key()) for _ in range(3))
ENDPOINT = {"boxes": {"interface": "virtualbox_hosts"}}
ACCOUNT = AccountData(
    user="vbox",
    port=2222,
    host_keys=(SSHKey(key=HOST_KEY),),
    zone="rack1",
    virtualbox_version="7.2.22",
    vboxmanage="/usr/bin/VBoxManage",
    gate=True,
)
PUBLISHED = {
    "version": "1",
    "address": '"10.0.0.5"',
    "port": "2222",
    "user": '"vbox"',
    "host-keys": json.dumps([{"key": HOST_KEY}]),
    "zone": '"rack1"',
    "virtualbox-version": '"7.2.22"',
    "vboxmanage": '"/usr/bin/VBoxManage"',
    "gate": "true",
}
JUJUS_OWN = {"egress-subnets": "10.0.0.5/32", "ingress-address": "10.0.0.5"}


class Requirer(ops.CharmBase):
    """Publishes two keys, and counts its events."""

    found: tuple[RelatedHost, ...] = ()
    events = 0

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.related = VirtualBoxHostsRequirer(self, "boxes")
        framework.observe(self.related.on.hosts_changed, self._look)

    def _look(self, _event: ops.EventBase) -> None:
        Requirer.events += 1
        self.related.publish_keys([KEY, NEXT_KEY])
        Requirer.found = self.related.hosts()


class Provider(ops.CharmBase):
    """Publishes an account, and stores the keys."""

    found: tuple[str, ...] = ()

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self.switchers = VirtualBoxHostsProvider(self, "boxes")
        framework.observe(self.switchers.on.keys_changed, self._look)

    def _look(self, _event: ops.EventBase) -> None:
        Provider.found = self.switchers.keys()
        self.switchers.publish(ACCOUNT)


@pytest.fixture
def requirer() -> testing.Context[Requirer]:
    Requirer.found, Requirer.events = (), 0
    return testing.Context(Requirer, meta={"name": "switch", "requires": ENDPOINT})


@pytest.fixture
def provider() -> testing.Context[Provider]:
    Provider.found = ()
    return testing.Context(Provider, meta={"name": "laptop", "provides": ENDPOINT})


def from_provider(*units: Mapping[str, str], app: str = "laptop") -> testing.Relation:
    """Return a relation in which units have published these data."""
    data = {number: {**JUJUS_OWN, **unit} for number, unit in enumerate(units)}
    return testing.Relation("boxes", remote_app_name=app, remote_units_data=data)


def from_requirer(**published: str) -> testing.Relation:
    """Return a relation in which the other application has published these data."""
    names = {name.replace("_", "-"): value for name, value in published.items()}
    return testing.Relation("boxes", remote_app_name="switch", remote_app_data=names)


def related_to(
    context: testing.Context[Requirer], relation: testing.Relation
) -> tuple[RelatedHost, ...]:
    """Return the hosts that the requirer reads from a relation."""
    state = testing.State(leader=True, relations=[relation])
    context.run(context.on.relation_changed(relation), state)
    return Requirer.found


def test_publish_keys_on_the_leader_at_relation_created(
    requirer: testing.Context[Requirer],
) -> None:
    relation = testing.Relation("boxes")

    out = requirer.run(
        requirer.on.relation_created(relation), testing.State(leader=True, relations=[relation])
    )

    assert out.get_relation(relation.id).local_app_data == {
        "version": "1",
        "public-keys": json.dumps([{"key": KEY}, {"key": NEXT_KEY}]),
    }


def test_publish_keys_on_another_unit_does_nothing(
    requirer: testing.Context[Requirer],
) -> None:
    relation = testing.Relation("boxes")

    out = requirer.run(requirer.on.relation_created(relation), testing.State(relations=[relation]))

    assert Requirer.events == 1
    assert out.get_relation(relation.id).local_app_data == {}


def test_hosts_returns_published_accounts(
    requirer: testing.Context[Requirer],
) -> None:
    (related,) = related_to(requirer, from_provider(PUBLISHED))

    assert (
        related.host
        == host_list.parse_hosts(
            f"vbox@10.0.0.5:2222 name=laptop-0 zone=rack1 vboxmanage=/usr/bin/VBoxManage"
            f" host-key={host_list.key_fingerprint(HOST_KEY)}"
        )[0]
    )
    assert (related.unit, related.gate, related.virtualbox_version) == ("laptop/0", True, "7.2.22")


def test_publish_skips_relations_without_keys(
    provider: testing.Context[Provider],
) -> None:
    ready = from_requirer(version="1", public_keys=json.dumps([{"key": KEY}]))
    early = from_requirer()
    reached = testing.Network(
        "boxes",
        [testing.BindAddress([testing.Address("10.0.0.5")])],
        ingress_addresses=["10.0.0.5"],
        egress_subnets=[],
    )

    out = provider.run(
        provider.on.relation_changed(ready),
        testing.State(relations=[ready, early], networks={reached}),
    )

    assert Provider.found == (KEY,)
    data = out.get_relation(ready.id).local_unit_data
    assert {name: data[name] for name in PUBLISHED} == PUBLISHED
    assert not PUBLISHED.keys() & out.get_relation(early.id).local_unit_data.keys()


def test_hosts_of_an_older_provider_are_read(
    requirer: testing.Context[Requirer],
) -> None:
    (related,) = related_to(requirer, from_provider({"address": '"10.0.0.5"', "user": '"vbox"'}))

    assert related.host == host_list.HostConfig(address="10.0.0.5", user="vbox", name="laptop-0")
    assert (related.gate, related.virtualbox_version) == (False, "")


def test_hosts_of_a_newer_provider_are_read(
    requirer: testing.Context[Requirer],
) -> None:
    host_keys = [{"key": "ssh-mldsa65 AAAA"}, {"key": HOST_KEY, "from": "tpm"}]
    newer = {
        **PUBLISHED,
        "version": "7",
        "host-keys": json.dumps(host_keys),
        "hypervisors": '{"not": ["known"]}',
        "colour": "this is not JSON",
    }

    assert related_to(requirer, from_provider(newer)) == related_to(
        requirer, from_provider(PUBLISHED)
    )
    assert Requirer.found[0].host.host_key == (host_list.key_fingerprint(HOST_KEY),)


def test_keys_of_a_newer_requirer_are_read(
    provider: testing.Context[Provider],
) -> None:
    keys = [{"key": "ssh-mldsa65 AAAA"}, {"key": KEY, "valid-until": 2031}]
    relation = from_requirer(version="7", public_keys=json.dumps(keys), wishes="[1, 2]")

    provider.run(provider.on.relation_changed(relation), testing.State(relations=[relation]))

    assert Provider.found == (KEY,)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"address": '"10.0.0.5; touch /tmp/x"'}, "is neither a host name nor an IP address"),
        ({"user": '"vbox$(id)"'}, "the user 'vbox$(id)' is not allowed"),
        ({"user": '""'}, "it has no address or no user"),
        ({"vboxmanage": '"/bin/sh -c `id`"'}, "the vboxmanage path"),
        ({"zone": '"a\\nforged line"'}, "the zone 'a\\nforged line' is not allowed"),
        ({"port": "65536"}, "port: expected at most 65535"),
        ({"port": '"ssh"'}, "port: expected a whole number"),
        ({"host-keys": '[{"key": "ssh-ed25519 AAAA"}]'}, "it has no usable host key"),
        ({"host-keys": '["ssh-ed25519"]'}, "host-keys.0: Input should be a valid dictionary"),
        ({"host-keys": json.dumps([{"key": HOST_KEY}] * 17)}, "host-keys: Tuple should have at"),
        ({"virtualbox-version": '"7\\u001b[2J"'}, "virtualbox-version: String should match"),
        ({"user": "vbox"}, "Expecting value"),
        ({"zone": "[" * 100_000}, ""),
    ],
)
def test_hosts_with_invalid_data_are_ignored_with_one_line(
    requirer: testing.Context[Requirer], changed: dict[str, str], reason: str
) -> None:
    found = related_to(requirer, from_provider(PUBLISHED, {**PUBLISHED, **changed}))

    assert [related.unit for related in found] == ["laptop/0"]
    (line,) = (log.message for log in requirer.juju_log if log.level == "WARNING")
    assert line.startswith("boxes: invalid data of laptop/1 are ignored: ")
    assert reason in line
    assert "\n" not in line
    assert "\x1b" not in line
    assert len(line) < 400


@pytest.mark.parametrize(
    "key",
    [
        f"{KEY} comment",
        f"no-pty {KEY}",
        f'command="/bin/sh" {KEY}',
        f"{KEY}\n{NEXT_KEY}",
        f"{KEY}\n",
        KEY.replace(" ", "  "),
        KEY[:40],
        "ssh-ed25519 AAAA",
        "",
    ],
)
def test_keys_with_options_or_comments_are_ignored(
    provider: testing.Context[Provider], key: str
) -> None:
    published = json.dumps([{"key": key}, {"key": NEXT_KEY}])
    relation = from_requirer(public_keys=published)

    provider.run(provider.on.relation_changed(relation), testing.State(relations=[relation]))

    assert Provider.found == (NEXT_KEY,)
    (line,) = (log.message for log in provider.juju_log if log.level == "WARNING")
    assert "is not a public key" in line
    assert "\n" not in line


@pytest.mark.parametrize("garbage", ["{", "null", '"a"', '[["b"]]', '{"key": "c"}', "[" * 100_000])
def test_keys_that_are_unreadable_are_ignored(
    provider: testing.Context[Provider], garbage: str
) -> None:
    good = from_requirer(public_keys=json.dumps([{"key": KEY}]))
    bad = from_requirer(public_keys=garbage)

    provider.run(provider.on.relation_changed(bad), testing.State(relations=[good, bad]))

    assert Provider.found == (KEY,)
    assert len([log for log in provider.juju_log if log.level == "WARNING"]) == 1


def test_broken_relation_removes_keys_and_hosts(
    provider: testing.Context[Provider], requirer: testing.Context[Requirer]
) -> None:
    keys = from_requirer(public_keys=json.dumps([{"key": KEY}]))
    other = from_requirer(public_keys=json.dumps([{"key": NEXT_KEY}]))
    provider.run(provider.on.relation_broken(keys), testing.State(relations=[keys, other]))
    assert Provider.found == (NEXT_KEY,)

    gone = from_provider(PUBLISHED)
    stays = from_provider(PUBLISHED, app="remote-0123456789abcdef0123456789abcdef")
    requirer.run(
        requirer.on.relation_broken(gone), testing.State(leader=True, relations=[gone, stays])
    )
    assert [related.host.name for related in Requirer.found] == [
        "remote-0123456789abcdef0123456789abcdef-0"
    ]


def test_departed_unit_removes_its_host(requirer: testing.Context[Requirer]) -> None:
    # As in Juju: in relation-departed, the unit is no longer in the relation.
    relation = from_provider(PUBLISHED)
    state = testing.State(leader=True, relations=[relation])

    requirer.run(requirer.on.relation_departed(relation, remote_unit=1, departing_unit=1), state)

    assert [related.unit for related in Requirer.found] == ["laptop/0"]


def test_schema_docstring_names_every_field() -> None:
    from maas_virtualbox.juju import databags  # noqa: PLC0415 - only this test needs it

    documented: Any = databags.__doc__
    for model in (databags.KeysData, databags.AccountData):
        for field in model.model_fields.values():
            assert f"    {field.alias} " in documented
