# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power template of MAAS 1.4 to 1.9: installed, and run like MAAS runs it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox import errors
from maas_virtualbox.maas import power_template
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.virtualbox.states import VMState

from tests.legacy_maas import STOCK, VERSIONS, LegacyMAAS, render, variables
from tests.service import PROGRAM, ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator

HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    "a\ntouch pwned\n",
    "-h",
    "-b",
    "-aabbccddeeff",
    "",
    "08:00:27:00:00:01; touch pwned",
)


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with four VMs."""
    with Simulator(vms=4) as simulator:
        yield simulator


@pytest.fixture
def service(simulator: Simulator, tmp_path: Path) -> ServiceProcess:
    """A power service for that host with a UNIX socket, not started."""
    entry = f"{simulator.host_entry} name=alpha"
    socket_file = str(tmp_path / "power.sock")
    service = ServiceProcess(tmp_path, [entry], simulator.key_file, socket_file=socket_file)
    service.write_config()
    return service


@pytest.fixture
def maas(service: ServiceProcess, tmp_path: Path) -> LegacyMAAS:
    """A legacy MAAS with the patched template."""
    made = LegacyMAAS(tmp_path / "root", service.config_file, tmp_path / "power.sock")
    power_template.install(made.root, made.settings)
    return made


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[Simulator, ServiceProcess]]:
    """A host and its running power service, shared by tests that leave all VMs off."""
    folder = tmp_path_factory.mktemp("service")
    with (
        Simulator(vms=4) as simulator,
        ServiceProcess(
            folder,
            [f"{simulator.host_entry} name=alpha"],
            simulator.key_file,
            socket_file=str(folder / "power.sock"),
        ) as service,
    ):
        yield simulator, service


@pytest.fixture
def maas_beside(running: tuple[Simulator, ServiceProcess], tmp_path: Path) -> LegacyMAAS:
    """A legacy MAAS beside the running power service."""
    _, service = running
    socket_file = Path(str(service.options["socket-file"]))
    made = LegacyMAAS(tmp_path / "root", service.config_file, socket_file)
    power_template.install(made.root, made.settings)
    return made


# -- Running ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_power_through_the_service(
    maas_beside: LegacyMAAS, running: tuple[Simulator, ServiceProcess], version: str
) -> None:
    maas, (simulator, service) = maas_beside, running
    vm = simulator.virtualbox.vm("node02")
    logged = len(service.log)
    for mac in (
        "08:00:27:00:00:02",
        ":".join(vm.uuid[-12:][i : i + 2] for i in range(0, 12, 2)),
    ):
        assert maas.power("query", mac, version).stdout == "off\n"
        done = maas.power("on", mac, version)
        assert (done.returncode, done.stdout) == (0, "")
        assert maas.power("query", mac, version).stdout == "on\n"
        assert vm.state is VMState.RUNNING
        assert maas.power("off", mac, version).returncode == 0
        assert vm.state is VMState.POWEROFF
    assert "by a local program (socket)" in service.log[logged:]
    assert maas.woken() == []


def test_power_without_a_service(maas: LegacyMAAS, simulator: Simulator) -> None:
    mac = "08:00:27:00:00:03"
    assert maas.power("query", mac).stdout.splitlines()[-1] == "off"
    assert maas.power("on", mac).returncode == 0
    assert maas.power("query", mac).stdout == "on\n"
    assert maas.power("off", mac).returncode == 0
    assert simulator.virtualbox.vm("node03").state is VMState.POWEROFF


@pytest.mark.parametrize("running", [True, False], ids=["service", "no-service"])
def test_power_on_of_unknown_mac_uses_wake_on_lan(
    maas: LegacyMAAS, service: ServiceProcess, *, running: bool
) -> None:
    if running:
        service.start()
    try:
        mac = "52:54:00:12:34:56"
        assert maas.power("on", mac).returncode == 0
        assert maas.woken() == [mac]
        for change in ("off", "query"):
            done = maas.power(change, mac)
            assert done.returncode == 1
            assert "Wake-on-LAN can only power on" in done.stdout
    finally:
        if running:
            service.stop()


@pytest.mark.parametrize("running", [True, False], ids=["service", "no-service"])
def test_power_on_with_host_down_uses_wake_on_lan(
    maas: LegacyMAAS, service: ServiceProcess, simulator: Simulator, *, running: bool
) -> None:
    mac = "52:54:00:12:34:56"
    if running:
        service.start()
    try:
        simulator.close_port()
        time.sleep(2.1)  # until the cached state is stale
        done = maas.power("on", mac)
        assert (done.returncode, maas.woken()) == (0, [mac])
        assert "which may own it" in done.stdout
        assert maas.power("query", mac).returncode == 1
    finally:
        if running:
            service.stop()


def test_power_on_without_wake_on_lan_tools_fails(
    maas: LegacyMAAS, service: ServiceProcess
) -> None:
    (maas.bin / "etherwake").unlink()
    with service:
        done = maas.power("on", "52:54:00:12:34:56")
    assert done.returncode == 1
    assert "neither etherwake nor wakeonlan" in done.stdout


def test_failed_power_on_prints_the_reason(
    maas: LegacyMAAS, service: ServiceProcess, simulator: Simulator
) -> None:
    simulator.virtualbox.vm("node01").start_error = "broken"
    with service:
        done = maas.power("on", "08:00:27:00:00:01")
        assert done.returncode == 1
        assert "power_on: alpha/node01: power on failed" in done.stdout
        simulator.close_port()
        done = maas.power("query", "08:00:27:00:00:01")
        assert done.returncode == 1
        assert "power state is unknown" in done.stdout or "alpha" in done.stdout
    assert maas.woken() == []


@pytest.mark.parametrize("mac", HOSTILE)
@pytest.mark.parametrize("version", ["1.4", "1.9"])
def test_hostile_mac_reaches_no_shell(maas_beside: LegacyMAAS, mac: str, version: str) -> None:
    maas = maas_beside
    for change in ("on", "off", "query"):
        assert maas.power(change, mac, version).returncode != 0
    assert maas.power("on; touch pwned", "08:00:27:00:00:01", version).returncode == 1
    assert not list(maas.root.rglob("pwned"))
    assert maas.woken() == []


def test_power_down_presses_the_power_button(
    maas: LegacyMAAS, service: ServiceProcess, simulator: Simulator
) -> None:
    with service:
        maas.power("on", "08:00:27:00:00:01")
        script = maas.home / "VBox_extensions/power_down"
        simulator.virtualbox.vm("node01").acpi_reaction = 0.2
        done = subprocess.run([script, "08:00:27:00:00:01"], timeout=60, check=False)
    assert done.returncode == 0
    assert simulator.count("acpipowerbutton") == 1
    assert simulator.virtualbox.vm("node01").state is VMState.POWEROFF


def test_socket_is_private_and_removed_with_the_service(
    service: ServiceProcess, tmp_path: Path
) -> None:
    path = tmp_path / "power.sock"
    with service:
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o660
        service.kill()
        assert path.exists()
        service.start()  # replaces the socket of the killed process
        assert service.stop() == 0
    assert not path.exists()


# -- Installing -------------------------------------------------------------------------------


def describe(root: Path) -> dict[str, tuple[int, int, str]]:
    """Return owner, mode and digest of all files and folders below a root."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_uid,
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.fixture
def fresh(tmp_path: Path) -> LegacyMAAS:
    """A legacy MAAS with the stock template."""
    made = LegacyMAAS(tmp_path / "root", tmp_path / "config.yaml", tmp_path / "power.sock")
    (made.root / "var/lib/maas-virtualbox").mkdir()
    (made.root / "var/lib/maas-virtualbox/known_hosts").touch()
    return made


def test_remove_after_an_upgrade_restores_every_byte(fresh: LegacyMAAS) -> None:
    before = describe(fresh.root)
    assert len(power_template.install(fresh.root, fresh.settings)) == 6
    assert power_template.install(fresh.root, fresh.settings) == []
    assert fresh.template.stat().st_mode & 0o777 == 0o640
    assert power_template.upgrade_warning(fresh.root) == ""

    upgraded = STOCK + b"# a newer MAAS\n"
    fresh.template.write_bytes(upgraded)
    assert "install-template" in power_template.upgrade_warning(fresh.root)
    done = power_template.install(fresh.root, fresh.settings)
    assert "an upgrade of MAAS has replaced" in done[0]
    assert len(done) == 2

    assert power_template.remove(fresh.root)
    assert fresh.template.read_bytes() == upgraded
    fresh.template.write_bytes(STOCK)
    assert describe(fresh.root) == before
    assert power_template.remove(fresh.root) == []


def test_remove_keeps_the_template_of_an_upgrade(fresh: LegacyMAAS) -> None:
    power_template.install(fresh.root, fresh.settings)
    fresh.template.write_bytes(STOCK + b"# newer\n")
    power_template.remove(fresh.root)
    assert fresh.template.read_bytes() == STOCK + b"# newer\n"


@pytest.mark.parametrize("by", ["content", "link", "fifo"])
def test_remove_with_a_forged_original_changes_nothing(fresh: LegacyMAAS, by: str) -> None:
    power_template.install(fresh.root, fresh.settings)
    kept, ours = fresh.root / power_template.ORIGINAL, fresh.template.read_bytes()
    kept.unlink()
    if by == "content":
        kept.write_bytes(b"touch pwned\n")
    elif by == "link":
        (fresh.root / "secret").write_bytes(b"secret\n")
        kept.symlink_to(fresh.root / "secret")
    else:
        os.mkfifo(kept)

    with pytest.raises(errors.ConfigError, match="not MAAS's original template"):
        power_template.remove(fresh.root)

    assert fresh.template.read_bytes() == ours


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"something else\n", "not a Wake-on-LAN template"),
        (STOCK + b"VBox_extensions/power_on $mac\n", "already patched"),
    ],
)
def test_install_over_unexpected_template_needs_force(
    fresh: LegacyMAAS, content: bytes, words: str
) -> None:
    fresh.template.write_bytes(content)
    before = describe(fresh.root)
    with pytest.raises(errors.ConfigError, match=words):
        power_template.install(fresh.root, fresh.settings)
    assert describe(fresh.root) == before
    power_template.install(fresh.root, fresh.settings, force=True)
    power_template.remove(fresh.root)
    assert fresh.template.read_bytes() == content


def test_install_without_legacy_maas_raises(fresh: LegacyMAAS) -> None:
    (fresh.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    with pytest.raises(errors.ConfigError, match="no user 'maas'"):
        power_template.install(fresh.root, fresh.settings)
    (fresh.root / "etc/passwd").write_text("maas:x:0:0::/var/lib/maas:/bin/sh\n")
    fresh.template.unlink()
    with pytest.raises(errors.ConfigError, match="maas-virtualbox parameters"):
        power_template.install(fresh.root, fresh.settings)


def test_install_template_command_installs_and_removes(
    fresh: LegacyMAAS, service: ServiceProcess
) -> None:
    def run(*arguments: str) -> str:
        command = [str(PROGRAM), *arguments, "--root", str(fresh.root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout

    config = ("--config", str(service.config_file))
    assert "ether_wake.template: written" in run("install-template", *config)
    assert run("install-template", *config) == "nothing to do\n"
    assert str(PROGRAM) in (fresh.home / "VBox_extensions/power_on").read_text()
    assert "the original is restored" in run("remove-template")
    assert fresh.template.read_bytes() == STOCK


def test_scripts_are_executable_and_isolated(fresh: LegacyMAAS) -> None:
    power_template.install(fresh.root, fresh.settings)
    for name in power_template.SCRIPTS:
        path = fresh.home / "VBox_extensions" / name
        compile(path.read_text(), str(path), "exec")
        assert path.read_text().startswith(f"#!{sys.executable} -IS\n")
        assert os.access(path, os.X_OK)


def test_template_passes_shellcheck(fresh: LegacyMAAS) -> None:
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    assert shellcheck
    power_template.install(fresh.root, fresh.settings)
    rendered = render(fresh.template, variables("1.9", "on", "08:00:27:00:00:01"))
    done = subprocess.run(
        [shellcheck, "--shell=dash", "--exclude=SC2194", "-"],
        input=rendered,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
