# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The packed charm as real processes, on a machine with a real systemd.

Its service is queried over HTTP, with a simulated host and with a real VirtualBox. Only Juju is a
fake.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import re
import shutil
import signal
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any
from urllib import parse

import pytest

from maas_virtualbox.maas import power_template
from maas_virtualbox.simulator import Action, Fault, Simulator
from maas_virtualbox.version import VERSION

from tests import legacy_maas
from tests.charm import machine as machines
from tests.charm.conftest import ROOT
from tests.charm.juju import ActionFailed, Address, HookFailed, Juju
from tests.charm.machine import Machine
from tests.charm.test_juju_run import block
from tests.conftest import unavailable
from tests.service import Pulse, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.charm.juju import Application, Unit
    from tests.virtualbox.lab.lab import Lab

LONGEST_GAP_S = 2.0
"""Seconds between two answers of the service during a refresh, on a machine that is not busy."""

RESTARTS_IN_A_GAP = 3.0
"""On a busy machine: so many times the gap of a plain restart in the same run."""


@dataclasses.dataclass
class Host:
    """A simulated or real VirtualBox host."""

    entry: str
    vm: str
    vms: int
    authorise: Callable[[str], None]
    is_running: Callable[[], bool]
    simulator: Simulator | None = None
    """The simulator; None for a real host."""


@pytest.fixture(params=["simulator", pytest.param("virtualbox", marks=pytest.mark.real)])
def host(request: pytest.FixtureRequest) -> Generator[Host]:
    """Yield a host that has not authorised the charm's key yet."""
    if request.param == "simulator":
        with Simulator(vms=3) as simulator:
            vm = simulator.virtualbox.vms[0]
            yield Host(
                simulator.host_entry,
                vm.name,
                3,
                simulator.authorise,
                lambda: vm.state == "running",
                simulator,
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
    """Return the packed charm, unpacked."""
    return pack(ROOT)


@pytest.fixture
def machine(tmp_path: Path) -> Generator[Machine]:
    """Return a machine with its own systemd."""
    if (reason := machines.unsupported()) is not None:
        unavailable(reason)
    with Machine(tmp_path) as made:
        yield made


def ask(parameters: dict[str, Any], change: str, token: str | None = None) -> tuple[int, str]:
    """Send a request to the service as MAAS does, with a VM's power parameters."""
    uri = parse.urlsplit(str(parameters[f"power-{change}-uri"]))
    headers = {"Authorization": f"Bearer {token or parameters['power-token']}"}
    with contextlib.closing(
        http.client.HTTPConnection(uri.hostname or "", uri.port, timeout=30)
    ) as connection:
        connection.request("GET" if change == "query" else "POST", uri.path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def test_packed_charm_from_deploy_to_remove(
    charm: Path, machine: Machine, host: Host, tmp_path: Path
) -> None:
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

        host.authorise(block(unit.run("get-public-key"), "public-key"))
        wait_for(unit, ("active", f"{host.vms} VMs on 1 host, 0 running"))
        parameters = unit.run_action("show-power-parameters", {"vm": host.vm})

        check_power(unit, host, parameters)
        if host.simulator is None:
            check_extensions(unit)
        check_that_nothing_changes(unit, machine)
        check_secrets(juju, app, machine)
        check_refresh(juju, app, machine, host, parameters, tmp_path / "next")
        check_other_port(juju, app, machine, host, parameters)

        app.remove()
        juju.settle()
    assert machine.changes() == {}


def check_power(unit: Unit, host: Host, parameters: dict[str, Any]) -> None:
    """Power a VM on and off, with the webhook and with the action."""
    assert ask(parameters, "query") == (200, '{"status": "stopped"}')
    assert ask(parameters, "on")[0] == 200
    assert host.is_running()
    assert ask(parameters, "query", token="wrong")[0] == 401

    results = unit.run_action("power", {"vm": host.vm, "change": "status"})
    assert results["power"] == "on"
    unit.run("power", f"vm={host.vm}", "change=off")
    assert not host.is_running()
    with pytest.raises(ActionFailed, match="no VM"):
        unit.run_action("power", {"vm": "nobody", "change": "on"})


def check_extensions(unit: Unit) -> None:
    """Install the extension scripts on the host, twice, and remove them."""
    scripts = "startvm stopvm killvm checkvm gate"
    first = unit.run_action("install-host-extensions", {"host": "alpha"})
    assert first["changed"] == scripts
    assert first["restricted-key"].startswith('restrict,command="')
    again = unit.run_action("install-host-extensions", {"host": "alpha"})
    assert again["changed"] == "nothing"
    taken = unit.run_action("install-host-extensions", {"host": "alpha", "remove": True})
    assert taken["changed"] == scripts


def check_that_nothing_changes(unit: Unit, machine: Machine) -> None:
    """Run hooks without any change."""
    unit.fire("update-status")
    process, files, status = main_pid(machine), own_files(machine), unit.status
    for hook in ("config-changed", "update-status"):
        unit.fire(hook)
    assert (main_pid(machine), own_files(machine), unit.status) == (process, files, status)


def own_files(machine: Machine) -> dict[str, str]:
    """Return what the charm has changed on the machine, outside Juju's folders."""
    changes = machine.changes()
    return {path: changes[path] for path in changes if not path.startswith("/var/lib/juju")}


def check_secrets(juju: Juju, app: Application, machine: Machine) -> None:
    """Search for secrets in Juju's log (including arguments and statuses), journal and files."""
    marker = "MARKER:of-the:api-key"
    uri = juju.add_secret({"api-key": marker})
    juju.grant_secret(uri, app.name)
    app.config({"maas-api-key": uri})
    juju.settle()
    (shared,) = (secret for secret in juju.state.secrets.values() if secret.owner)
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
    juju: Juju,
    app: Application,
    machine: Machine,
    host: Host,
    parameters: dict[str, Any],
    new: Path,
) -> None:
    """Refresh the unit while its service is queried and, on a simulated host, an action hangs."""
    shutil.copytree(app.charm.folder, new, symlinks=True)
    with (new / "src/maas_virtualbox/version.py").open("a") as code:
        code.write("# the next revision\n")
    with Pulse(lambda: ask(parameters, "query")[0]) as restart:
        machine.run(["systemctl", "restart", "maas-virtualbox"])
    process = main_pid(machine)
    releases = releases_of(machine)
    with futures.ThreadPoolExecutor() as threads:
        asked: list[futures.Future[tuple[int, str]]] = []
        if host.simulator:
            (unit,) = app.units
            vm = host.simulator.virtualbox.vms[1]
            host.simulator.inject(Fault(Action.HANG, on="startvm", times=100))
            hanging = unit.run_action("show-power-parameters", {"vm": vm.name})
            asked.append(threads.submit(ask, hanging, "on"))
        with Pulse(lambda: ask(parameters, "query")[0]) as pulse:
            app.refresh(new)
            juju.settle()
        assert [job.result()[0] for job in asked] == [503 for _ in asked]

    after = releases_of(machine)
    assert main_pid(machine) != process
    assert len(after) == len(releases) == 2
    assert after & releases == {"current"}
    assert pulse.failures == []
    assert pulse.answers > 10
    assert pulse.longest_gap < max(LONGEST_GAP_S, RESTARTS_IN_A_GAP * restart.longest_gap)


def check_other_port(
    juju: Juju, app: Application, machine: Machine, host: Host, parameters: dict[str, Any]
) -> None:
    """Change the port of the service, and then remove its hosts."""
    (unit,) = app.units
    app.config({"listen-port": free_port()})
    juju.settle()
    wait_for(unit, ("active",))  # queried over the UNIX socket
    with pytest.raises(ConnectionRefusedError):
        ask(parameters, "query")
    parameters = unit.run_action("show-power-parameters", {"vm": host.vm})
    assert ask(parameters, "query")[0] == 200

    app.config({"hosts": ""})
    juju.settle()
    assert not machine.path("/run/maas-virtualbox").exists()
    with pytest.raises(ConnectionRefusedError):
        ask(parameters, "query")


@pytest.mark.parametrize("version", ["3.6.12", "4.0.1"])
def test_packed_charm_rotates_in_juju_3_and_4(
    charm: Path, machine: Machine, tmp_path: Path, version: str
) -> None:
    with Simulator(vms=1) as simulator, Juju(tmp_path / "juju", version) as juju:
        hosts = f"{simulator.host_entry} name=alpha"
        config = {"hosts": hosts, "listen-port": free_port()}
        app = juju.deploy(charm, "power", on=[machine], config=config)
        juju.settle()
        (unit,) = app.units
        simulator.authorise(block(unit.run("get-public-key"), "public-key"))
        wait_for(unit, ("active", "1 VM on 1 host, 0 running"))

        vm = simulator.virtualbox.vms[0].name
        old = unit.run_action("show-power-parameters", {"vm": vm})
        unit.run("rotate-tokens", "grace=1")
        new = unit.run_action("show-power-parameters", {"vm": vm})
        assert new["power-token"] != old["power-token"]
        assert [ask(parameters, "query")[0] for parameters in (old, new)] == [200, 200]

        announced = block(unit.run("rotate-ssh-key"), "next-public-key")
        simulator.authorise(announced)
        assert block(unit.run("rotate-ssh-key"), "public-key") == announced

        juju.settle()
        assert block(unit.run("get-public-key"), "public-key") == announced
        assert [ask(parameters, "query")[0] for parameters in (old, new)] == [200, 200]
        (secret,) = (secret for secret in juju.state.secrets.values() if secret.owner)
        assert list(secret.revisions) == [secret.latest]


def test_packed_charm_with_late_addresses_and_killed_hooks(
    charm: Path, machine: Machine, tmp_path: Path
) -> None:
    with Simulator(vms=1) as simulator, Juju(tmp_path / "juju") as juju:
        key = juju.add_secret({"private-key": simulator.key_file.read_text()})
        hosts = f"{simulator.host_entry} name=alpha"
        config = {"hosts": hosts, "listen-port": free_port(), "ssh-private-key": key}
        app = juju.deploy(charm, "power", on=[machine], config=config)
        juju.grant_secret(key, "power")
        (unit,) = app.units
        known = unit.addresses
        for unusable in ((), (Address("laptop.lan"),)):
            unit.addresses = unusable
            juju.settle()
            assert unit.status == ("waiting", "waiting for an IP address from Juju")
        unit.addresses = (Address("", hostname="laptop"), Address("fe80::1"), *known)
        juju.settle()
        assert unit.runs[-1].name == "config-changed"
        active = ("active", "1 VM on 1 host, 0 running")
        wait_for(unit, active)

        app.config({"log-level": "debug"})
        check_killed_hook(juju, unit, "secret-get", "config-changed")
        juju.settle()
        new = shutil.copytree(app.charm.folder, tmp_path / "next", symlinks=True)
        with (new / "src/maas_virtualbox/version.py").open("a") as code:
            code.write("# the next revision\n")
        app.refresh(new)
        check_killed_hook(juju, unit, "status-set", "upgrade-charm")
        check_killed_hook(juju, unit, "network-get", "upgrade-charm")
        juju.settle()
        wait_for(unit, active)
        assert "level: debug" in machine.path("/etc/maas-virtualbox/config.yaml").read_text()
        assert "Traceback" not in "\n".join(juju.log)

        app.remove()
        juju.settle()
        assert unit.status == ("terminated", "")
    assert machine.changes() == {}


def check_killed_hook(juju: Juju, unit: Unit, call: str, hook: str) -> None:
    """Kill the next hook in the middle."""
    unit.kill_at(call)
    with pytest.raises(HookFailed, match=f"{hook} failed with -{signal.SIGKILL.value}"):
        juju.settle()


def test_packed_charm_beside_an_old_maas(charm: Path, machine: Machine, tmp_path: Path) -> None:
    install_old_maas(machine)
    template = machine.path(f"/{power_template.TEMPLATE}")
    with Simulator(vms=1) as simulator, Juju(tmp_path / "juju") as juju:
        key = juju.add_secret({"private-key": simulator.key_file.read_text()})
        hosts = f"{simulator.host_entry} name=alpha"
        config = {"hosts": hosts, "listen-port": free_port(), "ssh-private-key": key}
        app = juju.deploy(charm, "power", on=[machine], config=config)
        juju.grant_secret(key, "power")
        juju.settle()
        (unit,) = app.units
        vm = simulator.virtualbox.vms[0]
        mac = ":".join(re.findall("..", vm.macs[0].lower()))
        before = legacy_maas.STOCK
        assert template.read_bytes() != before

        for change, state in (("on", "running"), ("query", "running"), ("off", "poweroff")):
            script = legacy_maas.render(template, legacy_maas.variables("1.9", change, mac))
            done = machine.run(
                ["setpriv", "--reuid=maas", "--regid=maas", "--init-groups", "/bin/sh"],
                input=script,
                env={},
            )
            assert done.returncode == 0, done
            assert vm.state == state

        app.config({"power-template": "off"})
        juju.settle()
        assert template.read_bytes() == before
        assert socket_group(machine) == "maas-virtualbox"
        app.config({"power-template": "on"})
        juju.settle()
        assert template.read_bytes() != before
        assert socket_group(machine) == "maas"
        wait_for(unit, ("active",))

        app.remove()
        juju.settle()
    assert template.read_bytes() == before
    assert not machine.path("/var/lib/maas/VBox_extensions").exists()
    assert not [path for path in machine.changes() if "virtualbox" in path.lower()]


def test_packed_charm_twice_on_one_machine(charm: Path, machine: Machine, tmp_path: Path) -> None:
    notes = machine.path("/etc/maas-virtualbox/notes")
    notes.parent.mkdir()
    notes.write_text("mine")
    with Juju(tmp_path / "juju") as juju:
        first = juju.deploy(charm, "power", on=[machine])
        juju.settle()
        (unit,) = first.units
        assert unit.status[1].startswith("/etc/maas-virtualbox existed before this charm")
        assert not machine.path("/opt/maas-virtualbox").exists()

        notes.rename(machine.path("/etc/notes"))
        unit.fire("update-status")
        before = own_files(machine)
        second = juju.deploy(charm, "other", on=[machine])
        juju.settle()
        (late,) = second.units
        assert late.status[1].startswith("power/0 is already on this machine")
        assert own_files(machine) == before

        machine.path("/etc/maas-virtualbox").mkdir(exist_ok=True)
        kept = machine.path("/etc/maas-virtualbox/later")
        kept.mkdir()
        first.remove()
        juju.settle()
        late.fire("update-status")
        assert late.status[1].startswith("/etc/maas-virtualbox existed before this charm")
        kept.rmdir()
        late.fire("update-status")
        assert late.status == ("blocked", "no hosts: juju config other hosts='user@address'")
        second.remove()
        juju.settle()
    assert [*machine.changes()] == ["/etc/notes"]


def install_old_maas(machine: Machine) -> None:
    """Create the files of MAAS 1.4 to 1.9 that the charm uses."""
    add = ["useradd", "--system", "--home-dir", "/var/lib/maas", "--create-home", "maas"]
    assert machine.run(add).returncode == 0
    template = machine.path(f"/{power_template.TEMPLATE}")
    template.parent.mkdir(parents=True)
    template.write_bytes(legacy_maas.STOCK)


def socket_group(machine: Machine) -> str:
    """The user of MAAS, whose programs need no token."""
    done = machine.run(["stat", "--format", "%G", "/run/maas-virtualbox/power.sock"])
    return done.stdout.strip()


def releases_of(machine: Machine) -> set[str]:
    """Return the releases on a machine, and the link to the one in use."""
    folder = machine.path("/opt/maas-virtualbox")
    return {path.name for path in folder.iterdir() if path.is_symlink() or path.is_dir()}


def main_pid(machine: Machine) -> str:
    """Return the PID of the service."""
    show = ["systemctl", "show", "--property", "MainPID,ActiveState", "maas-virtualbox"]
    shown = machine.run(show).stdout
    assert "ActiveState=active" in shown
    return shown


def wait_for(unit: Unit, status: tuple[str, ...]) -> None:
    """Run update-status until the status starts like this: the service tries again later."""
    deadline = time.monotonic() + 60
    while unit.status[: len(status)] != status and time.monotonic() < deadline:
        time.sleep(0.5)
        unit.fire("update-status")
    assert unit.status[: len(status)] == status
