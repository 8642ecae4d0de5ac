# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm's actions, with the real program and a simulated host, as root."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml
from ops import testing

from maas_virtualbox.config import tokens
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.transport import ssh_keys
from maas_virtualbox.virtualbox.states import VMState

from tests.charm.conftest import ROOT, answer_network_get, hooks_of_both_jujus, state
from tests.charm.test_charm import RELOADED, state_after
from tests.charm.test_secrets import TOKENS_FILE, shared_secret

if TYPE_CHECKING:
    from collections.abc import Generator

    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import Hook, ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """Return a host with three VMs."""
    with Simulator(vms=3) as simulator:
        yield simulator


@pytest.fixture
def unit(context: Context, machine: ScratchMachine, simulator: Simulator) -> testing.State:
    """Return a leader that is configured with this host."""
    key = testing.Secret({"private-key": simulator.key_file.read_text()})
    before = state(
        secrets=[key],
        hosts=f"{simulator.host_entry} name=demo zone=lab",
        ssh_private_key=key.id,
    )
    out = context.run(context.on.config_changed(), before)
    machine.systemctl_calls()
    return out


def act(context: Context, unit: testing.State, name: str, /, **params: Any) -> dict[str, Any]:
    """Run an action with its defaults, as Juju does. Return its results."""
    described = yaml.safe_load((ROOT / "charmcraft.yaml").read_text())["actions"][name]
    defaults = {
        param: schema["default"]
        for param, schema in described.get("params", {}).items()
        if "default" in schema
    }
    context.run(context.on.action(name, params={**defaults, **params}), unit)
    assert context.action_results is not None
    return context.action_results


def test_list_vms_prints_a_table_or_json(context: Context, unit: testing.State) -> None:
    table = act(context, unit, "list-vms")["vms"]
    listed = json.loads(act(context, unit, "list-vms", zone="lab", format="json")["vms"])

    assert table.splitlines()[0].split()[:4] == ["HOST", "ZONE", "NAME", "POWER"]
    assert [vm["name"] for vm in listed] == ["node01", "node02", "node03"]


def test_power_changes_and_shows_the_state(
    context: Context, unit: testing.State, simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vms[0]

    for change, after in (("on", VMState.RUNNING), ("reset", VMState.RUNNING)):
        results = act(context, unit, "power", vm=vm.name, change=change)
        assert (results["result"], results["uuid"], vm.state) == (change, vm.uuid, after)
    assert act(context, unit, "power", vm=vm.name, change="status")["power"] == "on"
    act(context, unit, "power", vm=vm.name, change="off", host="demo")
    assert vm.state is VMState.POWEROFF


@pytest.mark.parametrize("name", ["attic", "--help", "; touch /tmp/pwned", "$(id)"])
def test_power_of_an_unknown_vm_fails_with_its_name(
    context: Context, unit: testing.State, name: str
) -> None:
    with pytest.raises(testing.ActionFailed) as failed:
        act(context, unit, "power", vm=name, change="on")

    assert name in failed.value.message


def test_check_hosts_shows_findings_and_fails_on_a_problem(
    context: Context, unit: testing.State, simulator: Simulator
) -> None:
    checked = json.loads(act(context, unit, "check-hosts", host="demo", format="json")["findings"])
    assert "error" not in {finding["level"] for finding in checked}

    simulator.change_host_key()
    with pytest.raises(testing.ActionFailed) as failed:
        act(context, unit, "check-hosts")
    assert context.action_results is not None
    assert "host key" in context.action_results["findings"]
    assert failed.value.message


def test_trust_host_pins_the_key_with_the_fingerprint(
    context: Context, unit: testing.State, simulator: Simulator, machine: ScratchMachine
) -> None:
    act(context, unit, "list-vms")
    simulator.change_host_key()

    shown = act(context, unit, "trust-host", host="demo")
    assert shown["trusted"] == "False"
    assert machine.systemctl_calls() == []

    accepted = act(context, unit, "trust-host", host="demo", fingerprint=shown["presented"])
    assert accepted["trusted"] == "True"
    assert machine.systemctl_calls() == RELOADED
    assert act(context, unit, "list-vms")["vms"]


def test_trust_vm_shows_and_assigns_the_host(
    context: Context, unit: testing.State, simulator: Simulator, machine: ScratchMachine
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    with Simulator(user="second", key_file=simulator.key_file) as second:
        second.virtualbox.add_vm("copy", uuid=uuid)
        both = f"{simulator.host_entry} name=demo, {second.host_entry} name=second"
        pair = context.run(context.on.config_changed(), state_after(unit, hosts=both))
        machine.systemctl_calls()

        shown = act(context, pair, "trust-vm", vm=uuid)
        assert shown == {"uuid": uuid, "listed-by": "demo second", "unreachable": ""}
        with pytest.raises(testing.ActionFailed, match=f"trust-vm {uuid} --host NAME"):
            act(context, pair, "power", vm=uuid, change="on")

        decided = act(context, pair, "trust-vm", vm=f"{{{uuid.upper()}}}", host="demo")
        assert decided["host"] == "demo"
        assert machine.systemctl_calls() == []
        assert act(context, pair, "power", vm=uuid, change="on")["host"] == "demo"
        with pytest.raises(testing.ActionFailed, match="no host 'nosuch'"):
            act(context, pair, "trust-vm", vm=uuid, host="nosuch")
    assert simulator.virtualbox.vm(uuid).state is VMState.RUNNING


def test_get_public_key_shows_the_key_in_use(
    context: Context, unit: testing.State, simulator: Simulator
) -> None:
    given = ssh_keys.public_key(simulator.key_file.read_text())
    own = shared_secret(unit).latest_content
    assert own is not None

    assert act(context, unit, "get-public-key")["public-key"] == f"{given} power@lab\n"
    without = state_after(unit, ssh_private_key=None)
    assert act(context, without, "get-public-key")["public-key"] == (
        f"{ssh_keys.public_key(own['private-key'])} power@lab\n"
    )


def test_show_power_parameters_of_a_vm_has_the_units_address(
    context: Context, unit: testing.State, simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vms[0]

    results = act(context, unit, "show-power-parameters", vm=vm.name)

    assert results["power-type"] == "webhook"
    assert results["power-on-uri"] == f"http://10.0.0.2:5307/vm/{vm.uuid}/on"
    assert results["power-token"]


@hooks_of_both_jujus
def test_rotate_tokens_keeps_old_tokens_valid_in_the_grace(
    context: Context,
    unit: testing.State,
    machine: ScratchMachine,
    simulator: Simulator,
    hook: Hook,
) -> None:
    before = shared_secret(unit).latest_content
    uuid = simulator.virtualbox.vms[0].uuid

    with hook():
        out = context.run(context.on.action("rotate-tokens", params={"grace": 2}), unit)

    after = shared_secret(out).latest_content
    assert before is not None
    assert after is not None
    assert after["previous"] == before["master"] != after["master"]
    assert after["master"] in machine.text(TOKENS_FILE)
    assert machine.systemctl_calls() == RELOADED
    assert context.action_results is not None
    assert context.action_results["old-tokens-good-until"]
    # The old revision is in use until a later hook reads the new one.
    later = context.run(context.on.update_status(), out)
    assert machine.systemctl_calls() == []
    context.run(context.on.secret_remove(shared_secret(later), revision=1), later)
    assert context.removed_secret_revisions == [1]
    assert act(context, out, "show-power-parameters", vm=uuid)["power-token"]


def test_rotate_tokens_twice_keeps_all_tokens_valid(
    context: Context, unit: testing.State, machine: ScratchMachine
) -> None:
    outs = [unit]
    for _ in range(2):
        rotate = context.on.action("rotate-tokens", params={"grace": 2})
        outs.append(context.run(rotate, outs[-1]))

    masters = [content["master"] for out in outs if (content := shared_secret(out).latest_content)]
    served = tokens.load(machine.root / TOKENS_FILE)
    assert len(set(masters)) == 3
    for master in masters:
        token = tokens.Secrets.model_validate({"master": master}).vm_token("a-vm")
        assert served.role_of(token, "a-vm") == "vm"


def test_rotate_tokens_too_often_fails_and_changes_nothing(
    context: Context, unit: testing.State
) -> None:
    for _ in range(tokens.MAX_VALID_SECRETS):
        unit = context.run(context.on.action("rotate-tokens", params={"grace": 2}), unit)
    before = shared_secret(unit).latest_content

    with pytest.raises(testing.ActionFailed, match="rotate again after") as failed:
        context.run(context.on.action("rotate-tokens", params={"grace": 2}), unit)

    after = cast("testing.State", failed.value.state)
    assert shared_secret(after).latest_content == before


@pytest.mark.parametrize("name", ["rotate-tokens", "rotate-ssh-key"])
def test_rotation_on_another_unit_than_the_leader_fails(context: Context, name: str) -> None:
    with pytest.raises(
        testing.ActionFailed, match="only the leader can do this: juju run power/leader"
    ):
        context.run(context.on.action(name), state(leader=False))


@pytest.mark.parametrize("name", ["rotate-tokens", "rotate-ssh-key"])
def test_rotation_with_an_invalid_option_changes_nothing(
    context: Context, unit: testing.State, name: str
) -> None:
    wrong = state_after(unit, ssh_private_key=None, off_mode="soft")
    params = {"force": False} if name == "rotate-ssh-key" else {"grace": 1}

    with pytest.raises(testing.ActionFailed, match="off-mode: expected hard or acpi") as failed:
        context.run(context.on.action(name, params=params), wrong)

    after = failed.value.state
    assert isinstance(after, testing.State)
    assert shared_secret(after).latest_content == shared_secret(unit).latest_content


def test_rotate_ssh_key_with_a_user_secret_fails(context: Context, unit: testing.State) -> None:
    with pytest.raises(testing.ActionFailed, match="the key is in the secret of ssh-private-key"):
        act(context, unit, "rotate-ssh-key")


@hooks_of_both_jujus
def test_rotate_ssh_key_needs_all_hosts_to_accept_the_new_key(
    context: Context,
    unit: testing.State,
    simulator: Simulator,
    machine: ScratchMachine,
    hook: Hook,
) -> None:
    own = state_after(unit, ssh_private_key=None)

    with hook():
        first = context.run(context.on.action("rotate-ssh-key", params={"force": False}), own)
    assert context.action_results is not None
    announced = context.action_results["next-public-key"]
    content = shared_secret(first).latest_content
    assert content is not None
    assert announced.startswith(ssh_keys.public_key(content["next-private-key"]))
    assert machine.systemctl_calls() == []

    with pytest.raises(testing.ActionFailed, match="the old key stays in use"):
        act(context, first, "rotate-ssh-key")
    assert machine.systemctl_calls() == []

    simulator.authorise(announced)
    with hook():
        second = context.run(context.on.action("rotate-ssh-key", params={"force": False}), first)
    after = shared_secret(second).latest_content
    assert after is not None
    assert after["private-key"] == content["next-private-key"]
    assert "next-private-key" not in after
    assert machine.text("etc/maas-virtualbox/ssh-private-key") == after["private-key"]
    assert machine.systemctl_calls() == RELOADED
    assert "other-ssh-key" not in machine.modes()


def test_rotate_ssh_key_with_force_replaces_the_key(context: Context, unit: testing.State) -> None:
    first = context.run(
        context.on.action("rotate-ssh-key"), state_after(unit, ssh_private_key=None)
    )

    second = context.run(context.on.action("rotate-ssh-key", params={"force": True}), first)

    before, after = (shared_secret(state).latest_content for state in (first, second))
    assert before is not None
    assert after is not None
    assert after["private-key"] == before["next-private-key"]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("list-vms", {}),
        ("check-hosts", {}),
        ("power", {"vm": "x", "change": "on"}),
        ("trust-host", {"host": "x"}),
        ("trust-vm", {"vm": "95581d29-3e5e-472e-8f12-f452e8095714"}),
        ("install-host-extensions", {"host": "x"}),
    ],
)
def test_action_without_a_service_fails_with_the_reason(
    context: Context, name: str, params: dict[str, Any]
) -> None:
    with pytest.raises(testing.ActionFailed, match="not configured yet: see juju status"):
        act(context, state(hosts=""), name, **params)


@pytest.mark.parametrize(
    ("name", "params"),
    [("check-hosts", {}), ("enlist", {}), ("show-power-parameters", {"vm": "node01"})],
)
def test_action_without_a_matching_address_fails(
    context: Context, unit: testing.State, name: str, params: dict[str, Any]
) -> None:
    wrong = state_after(unit, listen_subnet="10.0.0.1/24", maas_url="http://127.0.0.1:9/MAAS")

    with pytest.raises(testing.ActionFailed, match="listen-subnet: expected a subnet"):
        act(context, wrong, name, **params)


def test_action_without_any_address_fails(
    context: Context, unit: testing.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_network_get(monkeypatch)

    with pytest.raises(testing.ActionFailed, match="waiting for an IP address from Juju"):
        act(context, unit, "show-power-parameters", vm="node01")


def test_show_power_parameters_has_ipv6_in_brackets(
    context: Context, unit: testing.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_network_get(monkeypatch, {"value": "2001:db8::2", "cidr": "2001:db8::/64"})

    results = act(context, unit, "show-power-parameters", vm="node01")

    assert results["power-on-uri"].startswith("http://[2001:db8::2]:5307/vm/")
