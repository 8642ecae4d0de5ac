# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every event and action of a broken unit results in a sentence, never in a traceback."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

from tests.charm import charmcraft
from tests.charm.conftest import answer_network_get, state
from tests.charm.test_charm import replaced, state_after
from tests.charm.test_interface import KEY
from tests.charm.test_virtualbox_host import box, keys_relation, laptop, laptop_state

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm
    from virtualbox_host.charm import VirtualBoxHostCharm

    from tests.charm.conftest import ScratchMachine
    from tests.charm.test_virtualbox_host import Box

    Context = testing.Context[MAASVirtualBoxCharm]
    Laptop = testing.Context[VirtualBoxHostCharm]

__all__ = ["box", "laptop"]

EVENTS = (
    "install",
    "leader_elected",
    "config_changed",
    "start",
    "update_status",
    "upgrade_charm",
    "stop",
    "remove",
)
BROKEN: dict[str, dict[str, Any]] = {
    "option": {"off_mode": "soft"},
    "subnet": {"listen_subnet": "10.0.0.2/24"},
    "secret": {"ssh_private_key": "secret:d0000000000000000000"},
    "no network": {},
    "no leader": {},
    "no disk": {},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "power": {"vm": "node01", "change": "on"},
    "trust-host": {"host": "alpha"},
    "install-host-extensions": {"host": "alpha"},
    "show-power-parameters": {"vm": "node01"},
}


def broken(
    before: testing.State, how: str, machine: ScratchMachine, patch: pytest.MonkeyPatch
) -> testing.State:
    """Return the unit with a defect."""
    if how == "no network":
        answer_network_get(patch)
    elif how == "no leader":
        return replaced(before, leader=False, secrets=frozenset[testing.Secret]())
    elif how == "no disk":
        for folder in ("etc", "opt"):
            (machine.root / folder).rename(machine.root / f"{folder}-before")
            (machine.root / folder).write_text("")
    return state_after(before, **BROKEN[how])


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("event", EVENTS)
def test_event_of_a_broken_unit_sets_a_status(
    context: Context,
    machine: ScratchMachine,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    how: str,
    first: bool,
) -> None:
    before = state() if first else context.run(context.on.config_changed(), state())
    wrong = broken(before, how, machine, monkeypatch)

    out = context.run(getattr(context.on, event)(), wrong)

    assert out.unit_status.message.isprintable()
    if event not in ("stop", "remove") and how != "no leader":
        assert isinstance(out.unit_status, ops.BlockedStatus | ops.WaitingStatus)


@pytest.mark.parametrize("how", ["option", "no network", "no disk"])
@pytest.mark.parametrize("name", charmcraft.read()["actions"])
def test_action_of_a_broken_unit_fails_with_a_sentence(
    context: Context,
    machine: ScratchMachine,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    how: str,
) -> None:
    before = context.run(context.on.config_changed(), state(maas_url="http://127.0.0.1:9/MAAS"))
    wrong = broken(before, how, machine, monkeypatch)
    given = {**defaults("maas-virtualbox", name), **PARAMETERS.get(name, {})}

    said = ""
    try:
        context.run(context.on.action(name, params=given), wrong)
    except testing.ActionFailed as failed:
        said = failed.message
    assert "Traceback" not in said


@pytest.mark.parametrize("how", ["option", "no disk"])
@pytest.mark.parametrize("event", [event for event in EVENTS if event != "leader_elected"])
def test_event_of_a_broken_virtualbox_host_sets_a_status(
    laptop: Laptop, box: Box, event: str, how: str
) -> None:
    wrong = laptop_state(cpus=0) if how == "option" else laptop_state()
    if how == "no disk":
        (box.root / "etc").rename(box.root / "etc-before")
        (box.root / "etc").write_text("")

    out = laptop.run(getattr(laptop.on, event)(), wrong)

    assert out.unit_status.message.isprintable()


def test_revocation_ignores_a_process_with_an_odd_name(laptop: Laptop, box: Box) -> None:
    relation = keys_relation(KEY)
    first = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation))
    with subprocess.Popen(
        [b"sshd: \xff@notty", b"-c", b"input()"], executable=sys.executable, stdin=subprocess.PIPE
    ) as process:
        laptop.run(laptop.on.relation_broken(first.get_relation(relation.id)), first)
        assert process.poll() is None
        process.kill()

    assert box.keys() == []


def defaults(charm: str, name: str) -> dict[str, Any]:
    """Return the parameters of an action, with Juju's defaults."""
    params = charmcraft.read(charm)["actions"][name].get("params", {})
    return {param: schema["default"] for param, schema in params.items() if "default" in schema}
