# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Actions with the YAML of Juju's own client, for parameters and results."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml
from ops import testing

import workload
from maas_virtualbox.host import scripts
from maas_virtualbox.juju import programs
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.transport import ssh_keys

from tests.charm import charmcraft
from tests.charm.conftest import state
from tests.charm.juju import JujuError, client

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from charm import MAASVirtualBoxCharm

    Context = testing.Context[MAASVirtualBoxCharm]


class Unit:
    """A unit whose actions run as with `juju run`."""

    def __init__(self, context: Context, before: testing.State, actions: Path) -> None:
        self._context = context
        self._before = before
        self._actions = actions

    def run(self, action: str, *arguments: str, string_args: bool = False) -> str:
        """Run an action. Return the output. Raise JujuError if it fails."""
        params = client.parameters(self._actions, action, arguments, string_args=string_args)
        try:
            self._context.run(self._context.on.action(action, params=params), self._before)
        except testing.ActionFailed as failed:
            raise JujuError(failed.message) from None
        return client.show(self._context.action_results or {})


@pytest.fixture
def simulator() -> Generator[Simulator]:
    with Simulator(vms=2) as simulator:
        yield simulator


@dataclasses.dataclass
class HostSetup:
    """A fake of the program's `host-setup`, which the simulated host does not support."""

    key: str
    calls: list[tuple[str, ...]] = dataclasses.field(default_factory=list[tuple[str, ...]])

    def run(
        self, _root: Path, *arguments: str, key: str = "", timeout: float | None = None
    ) -> programs.Result:
        """Return the result of the program."""
        del key, timeout
        self.calls.append(arguments)
        line = scripts.restrict_key("/Users/a person", self.key)
        return programs.Result(json.dumps({"files": [], "authorized_key": line}), "")


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, simulator: Simulator) -> HostSetup:
    """Replace the program for install-host-extensions."""
    fake = HostSetup(ssh_keys.public_key(simulator.key_file.read_text()))
    monkeypatch.setattr(workload, "run", fake.run)
    return fake


@pytest.fixture
def unit(
    context: Context, simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Unit:
    """Return a leader that is configured with this host."""
    # ops.testing does not support a parameter with several types.
    monkeypatch.setenv("SCENARIO_SKIP_CONSISTENCY_CHECKS", "1")
    actions = tmp_path / "actions.yaml"
    actions.write_text(yaml.safe_dump(charmcraft.read()["actions"]))
    key = testing.Secret({"private-key": simulator.key_file.read_text()})
    before = state(
        secrets=[key],
        hosts=f"{simulator.host_entry} name=demo zone=lab",
        ssh_private_key=key.id,
    )
    return Unit(context, context.run(context.on.config_changed(), before), actions)


def block(printed: str, name: str) -> str:
    """Return the lines below a name, without their indentation, as a person copies them."""
    lines = printed.splitlines()
    start = lines.index(f"{name}: |") + 1
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("  ")), len(lines))
    return "\n".join(line.removeprefix("  ") for line in lines[start:end])


def fingerprint(line: str) -> str:
    """Return the key that ssh-keygen reads from a line of authorized_keys."""
    done = subprocess.run(
        ["ssh-keygen", "-l", "-f", "-"], input=line, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[1]


def test_public_key_can_be_copied_as_printed(unit: Unit, simulator: Simulator) -> None:
    line = block(unit.run("get-public-key"), "public-key")

    assert "\n" not in line
    assert fingerprint(line) == fingerprint(ssh_keys.public_key(simulator.key_file.read_text()))


def test_restricted_key_can_be_copied_as_printed(unit: Unit, setup: HostSetup) -> None:
    line = block(unit.run("install-host-extensions", "host=demo"), "restricted-key")

    assert line == f"{scripts.restrict_key('/Users/a person', setup.key)}"
    assert fingerprint(line) == fingerprint(setup.key)


@pytest.mark.parametrize("name", ["node1", "Ubuntu #2", "node \U0001f600", "blanks   "])
def test_table_is_printed_line_by_line(unit: Unit, simulator: Simulator, name: str) -> None:
    simulator.virtualbox.vms[0].name = name

    table = block(unit.run("list-vms"), "vms").splitlines()

    assert table[0].split()[:4] == ["HOST", "ZONE", "NAME", "POWER"]
    assert len(table) == 3
    assert name.split(maxsplit=1)[0] in table[1]


@pytest.mark.parametrize("format", ["table", "json"])
def test_findings_are_printed_line_by_line(unit: Unit, format: str) -> None:  # noqa: A002
    assert block(unit.run("check-hosts", f"format={format}"), "findings")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("101", "a number (101)"),
        ("0101", "a number (65)"),
        ("080027112233", "a number (80027112233)"),
        ("1.5", "a number (1.5)"),
        ("1_0", "a number (10)"),
        ("yes", "true or false (true)"),
    ],
)
def test_name_that_yaml_changes_is_refused(unit: Unit, typed: str, read: str) -> None:
    with pytest.raises(JujuError) as refused:
        unit.run("power", f"vm={typed}", "change=off")

    assert str(refused.value) == (
        f"vm: expected text, but Juju read it as {read}: repeat the command with --string-args"
        " after `juju run`"
    )


@pytest.mark.parametrize(
    "typed",
    [
        "list-vms zone=1",
        "list-vms host=1",
        "check-hosts host=1",
        "enlist name=1 dry-run=true",
        "install-host-extensions host=1",
        "power vm=node01 host=1 change=on",
        "show-power-parameters vm=1",
        "trust-host host=1",
        "trust-vm vm=95581d29-3e5e-472e-8f12-f452e8095714 host=1",
    ],
)
def test_name_parameters_refuse_a_number(unit: Unit, typed: str) -> None:
    with pytest.raises(JujuError, match="expected text, but Juju read it as a number"):
        unit.run(*typed.split())


@pytest.mark.parametrize("name", ["101", "080027112233", "Ubuntu #2"])
@pytest.mark.parametrize("quoted", [False, True])
def test_name_is_accepted_quoted_or_with_string_args(
    unit: Unit, simulator: Simulator, name: str, quoted: bool
) -> None:
    vm = simulator.virtualbox.vms[0]
    vm.name = name

    typed = f'"{name}"' if quoted else name
    unit.run("power", f"vm={typed}", "change=on", string_args=not quoted)

    assert vm.state == "running"


def test_name_with_a_hash_fails_with_a_hint(unit: Unit, simulator: Simulator) -> None:
    simulator.virtualbox.vms[0].name = "Ubuntu #2"

    with pytest.raises(JujuError, match="--string-args after `juju run`"):
        unit.run("power", "vm=Ubuntu #2", "change=on")


@pytest.mark.parametrize("string_args", [False, True])
@pytest.mark.parametrize(
    ("typed", "flag"),
    [("true", "--remove"), ("yes", "--remove"), ("false", "--gate"), ("off", "--gate")],
)
def test_flag_means_the_same_with_string_args(
    unit: Unit, setup: HostSetup, string_args: bool, typed: str, flag: str
) -> None:
    unit.run("install-host-extensions", "host=demo", f"remove={typed}", string_args=string_args)

    assert flag in setup.calls[0]


def test_flag_with_an_invalid_value_is_refused(unit: Unit) -> None:
    with pytest.raises(JujuError, match="remove: expected true or false, not 'maybe'"):
        unit.run("install-host-extensions", "host=demo", "remove=maybe")


@pytest.mark.parametrize("grace", ["-1", "721", "soon", "nan"])
def test_grace_out_of_range_is_refused_with_string_args(unit: Unit, grace: str) -> None:
    with pytest.raises(JujuError, match="grace: expected a number from 0 to 720"):
        unit.run("rotate-tokens", f"grace={grace}", string_args=True)


def test_grace_is_accepted_with_string_args(unit: Unit) -> None:
    assert "old-tokens-good-until" in unit.run("rotate-tokens", "grace=1.5", string_args=True)
