# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fake of Juju behaves as Juju does, for a charm that uses ops."""

from __future__ import annotations

import copy
import json
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.charm.juju import (
    ActionFailed,
    Address,
    Application,
    HookFailed,
    Juju,
    JujuError,
    Unit,
    client,
)
from tests.charm.juju.calls import UnknownCall
from tests.charm.juju.context import Action
from tests.charm.juju.hook_tools import HookTools
from tests.charm.juju.model import UsageError, Version, secret_id
from tests.charm.juju.resolver import Hook

if TYPE_CHECKING:
    from collections.abc import Generator

PROBE = Path(__file__).with_name("probe")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the unpacked charm."""
    folder = tmp_path_factory.mktemp("charm") / "probe"
    shutil.copytree(PROBE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    dispatch = folder / "dispatch"
    dispatch.write_text(f'#!/bin/sh\nexec {sys.executable} "$JUJU_CHARM_DIR/charm.py"\n')
    dispatch.chmod(0o755)
    return folder


@pytest.fixture
def probe(unpacked: Path, tmp_path: Path) -> Path:
    """Return a copy of the unpacked charm, for a test that changes its files."""
    return Path(shutil.copytree(unpacked, tmp_path / "probe"))


@pytest.fixture(scope="module")
def resting(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Generator[Unit]:
    """Return a settled unit, for tests that do not change it."""
    with Juju(tmp_path_factory.mktemp("machine")) as juju:
        app = juju.deploy(unpacked, "one")
        juju.settle()
        yield app.units[0]


@pytest.fixture
def juju(tmp_path: Path) -> Generator[Juju]:
    with Juju(tmp_path / "machine") as model:
        yield model


@pytest.fixture
def app(juju: Juju, probe: Path) -> Application:
    """Return a deployed unit."""
    app = juju.deploy(probe, "one")
    juju.settle()
    return app


def hooks(unit: Unit) -> list[str]:
    """Return the names of the hooks that a unit has run."""
    return [run.name for run in unit.runs]


def events(unit: Unit) -> list[str]:
    """Return the events that a unit's charm has observed."""
    mark = ": event "
    lines = (line for line in unit.juju.log if line.startswith(unit.name) and mark in line)
    return [line.rpartition(mark)[2] for line in lines]


def call(unit: Unit, tool: str, *arguments: str) -> Any:
    """Call a hook tool in an action of a unit. Return its output, parsed if it is JSON."""
    before = unit.juju.state
    called = tools(unit)
    out = called.call(tool, arguments, {})
    unit.commit(called.state, before)
    return json.loads(out) if "--format=json" in arguments else out


def refusal(unit: Unit, tool: str, *arguments: str) -> str:
    """Call a hook tool that refuses the call. Return its message."""
    with pytest.raises(JujuError) as caught:
        call(unit, tool, *arguments)
    return str(caught.value)


def tools(unit: Unit) -> HookTools:
    """Return the hook tools of an action of a unit."""
    state = unit.juju.state
    return HookTools(unit, Hook("", action=Action("call", {})), copy.deepcopy(state), state)


# --- Lifecycle


def test_unit_runs_hooks_in_order(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    app.remove()
    juju.settle()
    begin = ["install", "peers-relation-created", "leader-elected", "config-changed", "start"]
    assert hooks(unit) == [*begin, "stop", "remove"]
    assert events(unit) == [name.replace("-", "_") for name in hooks(unit)]
    assert not unit.place.path("/var/lib/juju").exists()
    assert all(seconds > 0 for _, seconds in unit.hook_seconds)


def test_refresh_replaces_files_of_the_charm_only(juju: Juju, probe: Path, tmp_path: Path) -> None:
    (probe / "removed").touch()
    app = juju.deploy(probe, "one")
    juju.settle()
    (unit,) = app.units
    folder = unit.place.path(unit.charm)
    (folder / "notes").write_text("kept")
    new = Path(shutil.copytree(probe, tmp_path / "new"))
    (new / "added").touch()
    (new / "removed").unlink()
    app.refresh(new)
    juju.settle()
    assert hooks(unit)[-2:] == ["upgrade-charm", "config-changed"]
    assert (folder / "added").exists()
    assert (folder / "notes").read_text() == "kept"
    assert not (folder / "removed").exists()


def test_failed_hook_writes_nothing_and_is_retried(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    before = juju.databag("one:peers", unit.name)
    app.config({"fail-on": "config-changed"})
    with pytest.raises(HookFailed, match="one/0: config-changed failed with 7"):
        juju.settle()
    assert unit.status == ("error", 'hook failed: "config-changed"')
    assert unit.ports == set()
    assert juju.databag("one:peers", unit.name) == before
    assert [secret.label for secret in juju.state.secrets.values()] == ["shared"]
    app.config({"fail-on": None})
    juju.settle()
    assert unit.status == ("active", "hello")


def test_upgrade_charm_has_the_order_of_juju(
    juju: Juju, app: Application, probe: Path, tmp_path: Path
) -> None:
    (unit,) = app.units
    two = juju.deploy(probe, "two")
    uri = juju.add_secret({"value": "abc"})
    juju.grant_secret(uri, "one")
    app.config({"key": uri})
    juju.settle()
    ran = len(unit.runs)

    app.refresh(Path(shutil.copytree(probe, tmp_path / "new")))
    (tmp_path / "new/added").touch()
    app.config({"greeting": "hi"})
    juju.update_secret(uri, {"value": "abcdef"})
    juju.relate("one:above", "two:below")
    assert unit.run_action("call", {"argv": ["is-leader"]})
    assert not unit.place.path(f"{unit.charm}/added").exists(), "the old charm ran the action"
    while "upgrade-charm" not in hooks(unit):
        unit.run_next_hook()
    assert unit.place.path(f"{unit.charm}/added").exists()
    juju.update_secret(uri, {"value": "abcdefghi"})
    two.units[0].run_next_hook()
    while unit.run_next_hook():
        pass

    assert hooks(unit)[ran:] == [
        *("call", "above-relation-created", "secret-changed", "upgrade-charm"),
        # No hook runs between these two, not even secret-changed.
        *("config-changed", "above-relation-joined", "above-relation-changed"),
    ]


def test_changed_address_fires_config_changed(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    ran = len(unit.runs)

    unit.addresses = (Address("10.0.0.2", "10.0.0.0/24"),)
    juju.settle()

    assert hooks(unit)[ran:] == ["config-changed"]


def test_unit_that_never_started_gets_no_stop(juju: Juju, probe: Path) -> None:
    installed, new = juju.deploy(probe, "one", units=2).units
    installed.run_next_hook()

    for unit in (installed, new):
        unit.remove()
    juju.settle()

    assert hooks(installed) == ["install", "remove"]
    assert hooks(new) == []
    assert juju.applications["one"].units == []


def test_failed_hook_is_retried_before_any_other(
    juju: Juju, app: Application, probe: Path
) -> None:
    (unit,) = app.units
    juju.deploy(probe, "two")
    app.config({"fail-on": "config-changed"})
    with pytest.raises(HookFailed):
        juju.settle()
    ran = len(unit.runs)

    juju.relate("one:above", "two:below")
    assert unit.run_action("call", {"argv": ["is-leader"]})
    with pytest.raises(HookFailed):
        juju.settle()
    app.config({"fail-on": None})
    juju.settle()

    again = ["call", "config-changed", "config-changed", "above-relation-created"]
    assert hooks(unit)[ran : ran + 4] == again


def test_killed_hook_writes_nothing_and_is_retried(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    app.config({"port": 8080, "greeting": "hi"})
    unit.kill_at("status-set")
    with pytest.raises(HookFailed, match=f"config-changed failed with -{signal.SIGKILL.value}"):
        juju.settle()
    assert unit.ports == set()
    assert unit.status[0] == "error"

    juju.settle()

    assert hooks(unit)[-2:] == ["config-changed"] * 2
    assert (unit.ports, unit.status) == ({"8080/tcp"}, ("active", "hi"))


def test_juju_sets_its_own_statuses(juju: Juju, probe: Path) -> None:
    app = juju.deploy(probe, "one")
    (unit,) = app.units
    seen = [unit.status]
    unit.run_next_hook()
    seen.append(unit.status)
    juju.settle()
    app.remove()
    while unit.run_next_hook():
        seen.append(unit.status)

    assert seen == [
        ("waiting", "waiting for machine"),
        ("maintenance", "installing charm software"),
        ("maintenance", ""),
        ("terminated", ""),
    ]


# --- Calls


@pytest.mark.parametrize(
    "argv",
    [
        ("config-get", "--everything"),
        ("relation-ids", "peers", "one", "too", "many"),
        ("goal-state",),
        ("no-such-tool",),
        ("status-set", "--application=perhaps", "active"),
        ("juju-log", "--log-level"),
    ],
    ids=" ".join,
)
def test_hook_tool_rejects_an_unknown_call(resting: Unit, argv: tuple[str, ...]) -> None:
    with pytest.raises(UnknownCall):
        tools(resting).call(argv[0], argv[1:], {})


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("secret-get", "secret:x"), 'secret URI "secret:x" not valid'),
        (("secret-get",), "require either a secret URI or label"),
        (("secret-get", "--label=a", "--peek", "--refresh"), "specify one of --peek or --refr"),
        (("secret-add", "a"), 'key value "a" not valid'),
        (("secret-add", "--rotate=often", "key=a"), 'rotate policy "often" not valid'),
        (("secret-add", "--owner=me", "key=a"), 'secret owner "me" not valid'),
        (("secret-add", "--expire=-1h", "key=a"), 'negative expire duration "-1h" not valid'),
        (("secret-add", "--expire=2022-01-01", "key=a"), 'expire time or duration "2022-01-01" n'),
    ],
    ids=str,
)
def test_hook_tool_with_a_usage_error_exits_with_2(
    resting: Unit, argv: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        tools(resting).call(argv[0], argv[1:], {})
    assert caught.value.code == 2


def test_settle_fails_after_an_unknown_call(tmp_path: Path, probe: Path) -> None:
    def run() -> None:
        with Juju(tmp_path / "machine") as juju:
            app = juju.deploy(probe, "one")
            app.units[0].run_action("call", {"argv": ["config-get", "--everything"]})

    with pytest.raises(JujuError, match="one/0: config-get --everything: flag provided but not"):
        run()


def test_log_has_arguments_but_not_files(resting: Unit) -> None:
    juju = resting.juju
    assert any("secret-add --label shared" in line for line in juju.log)
    assert not any("password=first" in line for line in juju.log)
    assert next(iter(juju.state.secrets.values())).revisions == {1: {"password": "first"}}
    assert resting.workload_version == "1.2"


# --- Config


def test_config_has_types_and_defaults(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    assert call(unit, "config-get", "--format=json") == {"greeting": "hello"}
    assert call(unit, "config-get", "--format=json", "port") is None
    app.config({"greeting": "hi", "port": "8080"})
    juju.settle()
    assert call(unit, "config-get", "--format=json") == {"greeting": "hi", "port": 8080}
    assert unit.status == ("active", "hi")
    assert call(unit, "opened-ports", "--format=json") == ["8080/tcp"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "red"}, 'unknown option "color"'),
        ({"port": "high"}, 'option "port" expected int'),
        ({"key": "hunter2"}, 'option "key" expected secret'),
    ],
)
def test_config_of_a_wrong_type_is_refused(
    resting: Unit, options: dict[str, object], message: str
) -> None:
    before = resting.application.config_values
    with pytest.raises(JujuError, match=message):
        resting.application.config({"greeting": "hi", **options})
    assert resting.application.config_values == before


# --- Secrets


def test_user_secret_needs_a_grant_and_fires_changes(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    uri = juju.add_secret({"value": "abc"})
    app.config({"key": uri})
    juju.settle()
    assert unit.status == ("blocked", "ERROR permission denied")
    juju.grant_secret(uri, "one")
    ran = len(unit.runs)
    juju.settle()
    assert len(unit.runs) == ran, "a grant fires no hook"
    unit.fire("config-changed")
    assert unit.status == ("active", "3 characters")
    juju.update_secret(uri, {"value": "abcdef"})
    juju.settle()
    assert hooks(unit)[-1] == "secret-changed"
    assert unit.status == ("active", "6 characters")
    juju.revoke_secret(uri, "one")
    unit.fire("config-changed")
    assert unit.status[0] == "blocked"
    juju.remove_secret(uri)
    unit.fire("config-changed")
    assert unit.status == ("blocked", "no such secret")


def test_application_secret_is_read_by_peers(juju: Juju, probe: Path) -> None:
    app = juju.deploy(probe, "one", units=2)
    juju.settle()
    leader, other = app.units
    uri = juju.databag("one:peers")["secret"]
    assert [call(unit, "is-leader", "--format=json") for unit in app.units] == [True, False]
    get = ("secret-get", "--format=json")
    assert call(other, *get, "--label", "shared") == {"password": "first"}
    assert "not the leader" in refusal(other, "secret-set", uri, "password=other")
    assert "not the leader" in refusal(other, "secret-add", "password=other")
    assert call(other, "secret-ids", "--format=json") == []
    call(leader, "secret-set", uri, "password=second")
    assert call(other, *get, uri) == {"password": "first"}
    assert call(other, *get, uri, "--peek") == {"password": "second"}
    juju.settle()
    assert hooks(other)[-1] == "secret-changed"
    assert "secret-remove" not in hooks(leader), "the other one keeps to the first revision"
    assert call(other, *get, uri, "--refresh") == {"password": "second"}
    juju.settle()
    assert hooks(leader)[-1] == "secret-remove"
    (info,) = call(leader, "secret-info-get", uri, "--format=json").values()
    assert info == {"revision": 2, "label": "shared", "owner": "application"}
    assert list(juju.state.secrets[secret_id(uri)].revisions) == [2]

    leader.remove()
    juju.settle()
    assert call(other, "is-leader", "--format=json") is True
    assert hooks(other)[-2:] == ["peers-relation-departed", "leader-elected"]
    call(other, "secret-set", uri, "password=third")


def test_hook_reads_its_own_write_as_juju_does(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    uri = juju.databag("one:peers")["secret"]
    by_label = ("--label", "shared", "--refresh", "--format=json")
    call(unit, "secret-get", *by_label)
    for version, read in (("3.6.12", "old"), ("4.0.0", "old"), ("4.0.1", "new")):
        juju.version = Version.parse(version)
        ran = len(unit.runs)
        old = call(unit, "secret-get", *by_label)["password"]
        new = f"set by {version}"

        hook, before = tools(unit), juju.state
        hook.call("secret-set", [uri, f"password={new}"], {})
        found = json.loads(hook.call("secret-get", by_label, {}))["password"]
        unit.commit(hook.state, before)
        juju.settle()

        assert found == {"old": old, "new": new}[read]
        # The owner is notified like any other reader, unless it has read the latest revision.
        assert hooks(unit)[ran:] == {"old": ["secret-changed"], "new": ["secret-remove"]}[read]
        hook = tools(unit)
        hook.call("secret-set", [uri, "password=by URI"], {})
        assert hook.call("secret-get", [uri, "password", "--refresh"], {}) == "by URI\n"
        call(unit, "secret-get", *by_label)
        juju.settle()


def test_owner_that_never_read_its_secret_gets_no_event(juju: Juju, app: Application) -> None:
    (unit,) = app.units
    uri = call(unit, "secret-add", "password=first").strip()
    ran = len(unit.runs)

    call(unit, "secret-set", uri, "password=second")
    juju.settle()

    assert hooks(unit)[ran:] == ["secret-remove"]


def test_secret_uri_needs_its_scheme_in_juju_4(
    resting: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    identifier = secret_id(resting.juju.databag("one:peers")["secret"])
    assert "first" in call(resting, "secret-get", identifier)

    monkeypatch.setattr(resting.juju, "version", Version.parse("4.0.1"))

    assert "first" in call(resting, "secret-get", f"secret:{identifier}")
    assert f'"{identifier}" not valid' in refusal(resting, "secret-get", identifier)
    with pytest.raises(JujuError, match="expected secret URI"):
        resting.application.config({"key": identifier})


# --- Addresses


def test_network_get_without_an_address_fails(
    resting: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resting, "addresses", ())

    message = refusal(resting, "network-get", "peers", "--format=json")

    assert message == 'no network config found for binding "peers"'


def test_network_get_shows_devices_and_addresses(
    resting: Unit, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = (
        Address("", hostname="laptop"),
        Address("2001:db8::2", "2001:db8::/64"),
        Address("10.0.0.2", "10.0.0.0/24", device="eth1"),
    )
    monkeypatch.setattr(resting, "addresses", addresses)

    answer = call(resting, "network-get", "peers", "--format=json")

    assert [device["interface-name"] for device in answer["bind-addresses"]] == ["eth0", "eth1"]
    first, second = answer["bind-addresses"][0]["addresses"]
    assert first == {"hostname": "laptop", "value": "", "cidr": ""}
    assert second["value"] == "2001:db8::2"
    assert answer["ingress-addresses"] == ["2001:db8::2"]
    assert answer["egress-subnets"] == ["2001:db8::2/128"]


# --- Relations


def test_relation_events_have_the_order_of_juju(juju: Juju, probe: Path) -> None:
    leader, other = juju.deploy(probe, "one", units=2).units
    (two,) = juju.deploy(probe, "two").units
    juju.settle()
    juju.relate("one:above", "two:below")
    juju.settle()
    prefix = "below-relation-"
    events = [name.removeprefix(prefix) for name in hooks(two) if name.startswith(prefix)]
    # The event for the application's databag is first; the units follow.
    assert events == ["created", "changed", "joined", "changed", "joined", "changed"]
    assert hooks(leader)[-3:] == [
        f"above-relation-{it}" for it in ("created", "joined", "changed")
    ]
    assert juju.databag("two:below", "one/1")["from"] == "one/1"
    assert juju.databag("one:above") == {"for": "two"}
    (number,) = call(two, "relation-ids", "below", "--format=json")
    read = ("relation-get", "--format=json", "-r", number)
    assert call(two, *read, "--app", "-", "one") == {"for": "two"}
    assert call(two, *read, "from", "one/0") == "one/0"
    assert call(two, "relation-list", "--format=json", "-r", number) == ["one/0", "one/1"]
    uri = juju.databag("one:peers")["secret"]
    assert call(two, "secret-get", "--format=json", uri) == {"password": "first"}

    # Only the leader reads and writes the databag of its application. Peers read each other's.
    (number,) = call(other, "relation-ids", "above", "--format=json")
    write = ("relation-set", "--app", "-r", number)
    assert "cannot write relation settings" in refusal(other, *write, "colour=red")
    read_own = ("relation-get", "--format=json", "--app", "-r", number, "-", "one")
    assert "permission denied" in refusal(other, *read_own)
    call(leader, *write, "colour=red")
    assert call(leader, *read_own) == {"for": "two", "colour": "red"}
    call(leader, *write, "colour=")
    assert call(leader, *read_own) == {"for": "two"}
    (peers,) = call(other, "relation-ids", "peers", "--format=json")
    bag = call(other, "relation-get", "--format=json", "--app", "-r", peers, "-", "one")
    assert bag["leader"] == "one/0"

    juju.remove_relation("one:above", "two:below")
    juju.settle()
    ended = ["departed", "departed", "broken"]
    assert hooks(two)[-3:] == [f"below-relation-{it}" for it in ended]
    assert "relation not found" in refusal(two, *read, "-", "one/0")
    assert "permission denied" in refusal(two, "secret-get", uri)


def test_relate_with_incompatible_endpoints_fails(juju: Juju, probe: Path) -> None:
    for name in ("one", "two"):
        juju.deploy(probe, name)
    for other in ("two:above", "two:peers", "two:nothing"):
        with pytest.raises(JujuError, match="no relations found"):
            juju.relate("one:above", other)


# --- Actions


def test_action_results_are_nested_strings(resting: Unit) -> None:
    results = resting.run_action("call", {"argv": ["config-get", "greeting"]})
    assert results["tool"] == {"out": "hello\n", "err": ""}
    # The results include those of Juju itself.
    assert results["return-code"] == 0
    assert results["stdout"] == "event call_action\n"


@pytest.mark.parametrize("key", ["Host", "vm_name", "-a", "a-", "a--b", "a..b", "a.stdout"])
def test_action_result_keys_follow_the_rule_of_juju(resting: Unit, key: str) -> None:
    with pytest.raises(JujuError, match="key"):
        tools(resting).call("action-set", ["--", f"{key}=1"], {})


def test_action_with_invalid_parameters_does_not_run(resting: Unit) -> None:
    unit = resting
    ran = len(unit.runs)
    wrong: list[dict[str, object]] = [{}, {"argv": "is-leader"}, {"argv": [], "more": 1}]
    for parameters in wrong:
        with pytest.raises(ActionFailed, match="validation failed"):
            unit.run_action("call", parameters)
    with pytest.raises(ActionFailed, match="not defined"):
        unit.run_action("dance")
    assert len(unit.runs) == ran


def test_failed_action_has_its_message_and_results(resting: Unit) -> None:
    with pytest.raises(ActionFailed, match="no such VM") as caught:
        resting.run_action("call", {"argv": ["is-leader"], "then-fail": "no such VM"})
    assert caught.value.results["tool"]["out"] == "True\n"


# --- Input and output of `juju run`


def test_arguments_are_yaml_without_string_args(resting: Unit) -> None:
    with pytest.raises(ActionFailed) as refused:
        resting.run("call", "argv=[is-leader]", "then-fail=0101")
    assert str(refused.value) == (
        "validation failed: (root).then-fail : must be of type string, given 65"
    )
    with pytest.raises(ActionFailed, match=r"^Ubuntu$"):
        resting.run("call", "argv=[is-leader]", "then-fail=Ubuntu #2")
    with pytest.raises(ActionFailed, match="argv : must be of type array, given"):
        resting.run("call", "argv=[is-leader]", string_args=True)
    with pytest.raises(ActionFailed, match="of the form key"):
        resting.run("call", "is-leader")


def test_results_are_printed_as_yaml_with_the_output(resting: Unit) -> None:
    printed = resting.run("call", "argv=[is-leader]")

    assert printed == ('tool:\n  err: ""\n  out: |\n    True\n\nevent call_action\n')


def test_juju_run_stops_waiting_after_its_timeout(resting: Unit) -> None:
    ran = len(resting.runs)

    with pytest.raises(ActionFailed, match="timed out waiting for results from: unit one/0"):
        resting.run("call", "argv=[is-leader]", wait=0)

    assert len(resting.runs) == ran + 1


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ("short", "key: short\n"),
        (f"{'a' * 80} bc", f"key: {'a' * 80}\n  bc\n"),
        (f"{'a' * 80}bc", f"key: {'a' * 80}bc\n"),
        ("a line\n", "key: |\n  a line\n"),
        ("A  B\nc\n", "key: |\n  A  B\n  c\n"),
        ("A  B \nc\n", 'key: "A  B \\nc\\n"\n'),
        ("tab\there\n", 'key: "tab\\there\\n"\n'),
        ("101", 'key: "101"\n'),
        ("on", 'key: "on"\n'),
    ],
)
def test_values_are_printed_as_juju_prints_them(value: str, printed: str) -> None:
    assert client.show({"key": value}) == f"{printed}\n"
