# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The packed charm, as it goes to people: real processes on a machine with a real systemd, its
service reached over HTTP, on a simulated host and on a real VirtualBox. Only Juju is stood in for.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import shutil
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib import parse

import pytest

from maas_virtualbox.simulator import Simulator
from maas_virtualbox.version import VERSION

from tests.charm import machine as machines
from tests.charm.conftest import ROOT
from tests.charm.juju import ActionFailed, Juju
from tests.charm.machine import Machine
from tests.conftest import unavailable
from tests.service import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from typing_extensions import Self

    from tests.charm.juju import Application, Unit
    from tests.virtualbox.lab.lab import Lab

LONGEST_GAP_S = 2.0
"""For which the service may miss requests while the charm is refreshed."""


@dataclasses.dataclass
class Host:
    """A VirtualBox host, simulated or real."""

    entry: str
    vm: str
    vms: int
    authorise: Callable[[str], None]
    is_running: Callable[[], bool]


@pytest.fixture(params=["simulator", pytest.param("virtualbox", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest) -> Generator[Host]:
    """A host that does not know the charm's key yet."""
    if request.param == "simulator":
        with Simulator(vms=3) as simulator:
            vm = simulator.virtualbox.vms[0]
            yield Host(
                simulator.host_entry,
                vm.name,
                3,
                simulator.authorise,
                lambda: vm.state == "running",
            )
        return
    lab: Lab = request.getfixturevalue("lab")
    lab.start_sshd()
    lab.reset("vbox")
    yield Host(
        lab.host_entry("vbox"),
        "node1",
        3,
        lab.authorize,
        lambda: lab.state("vbox", "node1") == "running",
    )
    lab.authorize()
    lab.reset("vbox")


@pytest.fixture
def charm(pack: Callable[[Path], Path]) -> Path:
    """The packed charm, unpacked."""
    return pack(ROOT)


@pytest.fixture
def machine(tmp_path: Path) -> Generator[Machine]:
    """A machine with a systemd of its own."""
    if (reason := machines.unsupported()) is not None:
        unavailable(reason)
    with Machine(tmp_path) as made:
        yield made


def ask(parameters: dict[str, Any], change: str, token: str | None = None) -> tuple[int, str]:
    """Ask the service as MAAS does, by a VM's power parameters."""
    uri = parse.urlsplit(str(parameters[f"power-{change}-uri"]))
    headers = {"Authorization": f"Bearer {token or parameters['power-token']}"}
    with contextlib.closing(
        http.client.HTTPConnection(uri.hostname or "", uri.port, timeout=30)
    ) as connection:
        connection.request("GET" if change == "query" else "POST", uri.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Pulse:
    """Asks the service all the time, and tells for how long it was not there."""

    def __init__(self, parameters: dict[str, Any]) -> None:
        self._parameters = parameters
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.longest_gap = 0.0
        self.answers = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        seen = time.monotonic()
        while not self._stop.wait(0.02):
            try:
                code, _ = ask(self._parameters, "query")
            except OSError:
                code = 0
            if code == 200:
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - seen)
                self.answers += 1
                seen = now


def test_from_deploy_to_remove(charm: Path, machine: Machine, host: Host, tmp_path: Path) -> None:
    with Juju(tmp_path / "juju") as juju:
        app = juju.deploy(charm, "power", on=[machine])
        (unit,) = app.units
        juju.settle()
        assert unit.status == ("blocked", "no hosts: juju config power hosts='user@address'")
        assert unit.workload_version == VERSION

        hosts = f"{host.entry} name=alpha zone=lab"
        app.config({"hosts": hosts, "listen-port": free_port()})
        juju.settle()
        refused = "1 of 1 host unreachable: alpha (login refused: add the public key"
        assert unit.status[1].startswith(refused), unit.status

        host.authorise(unit.run_action("get-public-key")["public-key"])
        wait_for(unit, ("active", f"{host.vms} VMs on 1 host, 0 running"))
        parameters = unit.run_action("show-power-parameters", {"vm": host.vm})

        check_power(unit, host, parameters)
        check_that_nothing_changes(unit, machine)
        check_secrets(juju, app, machine)
        check_refresh(juju, app, machine, parameters, tmp_path / "next")

        app.remove()
        juju.settle()
    assert machine.changes() == {}


def check_power(unit: Unit, host: Host, parameters: dict[str, Any]) -> None:
    """Switch a VM by MAAS's door and by the action."""
    assert ask(parameters, "query") == (200, '{"status": "stopped"}')
    assert ask(parameters, "on")[0] == 200
    assert host.is_running()
    assert ask(parameters, "query", token="wrong")[0] == 401

    results = unit.run_action("power", {"vm": host.vm, "change": "status"})
    assert results["power"] == "on"
    unit.run_action("power", {"vm": host.vm, "change": "off"})
    assert not host.is_running()
    with pytest.raises(ActionFailed, match="no VM"):
        unit.run_action("power", {"vm": "nobody", "change": "on"})


def check_that_nothing_changes(unit: Unit, machine: Machine) -> None:
    """Let hooks run that bring nothing new."""
    unit.fire("update-status")
    process, files, status = main_pid(machine), ours(machine), unit.status
    for hook in ("config-changed", "update-status"):
        unit.fire(hook)
    assert (main_pid(machine), ours(machine), unit.status) == (process, files, status)


def ours(machine: Machine) -> dict[str, str]:
    """What the charm changed on the machine; its own folder is Juju's."""
    changes = machine.changes()
    return {path: changes[path] for path in changes if not path.startswith("/var/lib/juju")}


def check_secrets(juju: Juju, app: Application, machine: Machine) -> None:
    """Look for secrets in Juju's log (arguments and statuses too), the journal, and files."""
    marker = "MARKER:of-the:api-key"
    uri = juju.add_secret({"api-key": marker})
    juju.grant_secret(uri, app.name)
    app.config({"maas-api-key": uri})
    juju.settle()
    (shared,) = (each for each in juju.state.secrets.values() if each.owner)
    content = shared.revisions[shared.latest]
    secrets = [marker, content["master"], content["private-key"].splitlines()[2]]
    assert marker in machine.path("/etc/maas-virtualbox/maas-api-key").read_text()

    journal = machine.run(["journalctl", "--no-pager", "--boot"]).stdout
    shown = "\n".join([*juju.log, journal])
    assert "serving 1 hosts" in journal
    assert not [secret for secret in secrets if secret in shown]
    for top in ("/etc", "/opt/maas-virtualbox", "/run/maas-virtualbox", "/var/lib"):
        for path in machine.path(top).rglob("*"):
            if not path.is_symlink() and path.is_file() and path.stat().st_mode & 0o077:
                content = path.read_bytes()
                assert not [secret for secret in secrets if secret.encode() in content], path


def check_refresh(
    juju: Juju, app: Application, machine: Machine, parameters: dict[str, Any], new: Path
) -> None:
    """Give the unit the next revision, and ask its service all the while."""
    shutil.copytree(app.charm.folder, new, symlinks=True)
    with (new / "src/maas_virtualbox/version.py").open("a") as code:
        code.write("# the next revision\n")
    process = main_pid(machine)
    releases = {path.name for path in machine.path("/opt/maas-virtualbox").iterdir()}
    with Pulse(parameters) as pulse:
        app.refresh(new)
        juju.settle()

    after = {path.name for path in machine.path("/opt/maas-virtualbox").iterdir()}
    assert main_pid(machine) != process
    assert len(after) == len(releases) == 2
    assert after & releases == {"current"}
    assert pulse.answers > 10
    assert pulse.longest_gap < LONGEST_GAP_S


def main_pid(machine: Machine) -> str:
    """The service's process."""
    show = ["systemctl", "show", "--property", "MainPID,ActiveState", "maas-virtualbox"]
    shown = machine.run(show).stdout
    assert "ActiveState=active" in shown
    return shown


def wait_for(unit: Unit, status: tuple[str, str]) -> None:
    """Let update-status run until it says so: the service tries refused logins again later."""
    deadline = time.monotonic() + 60
    while unit.status != status and time.monotonic() < deadline:
        time.sleep(0.5)
        unit.fire("update-status")
    assert unit.status == status
