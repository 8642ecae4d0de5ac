# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The extension scripts and the power template on a real VirtualBox."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import scripts
from maas_virtualbox.maas import power_template

from tests.behaviour import benches
from tests.legacy_maas import VERSIONS, LegacyMAAS
from tests.service import PROGRAM, ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from tests.virtualbox.lab.lab import Lab

pytestmark = pytest.mark.real


@pytest.fixture
def bench(lab: Lab) -> Generator[benches.RealBench]:
    """Account vbox10 with all VMs off."""
    lab.start_sshd()
    lab.reset("vbox10")
    yield benches.RealBench(lab)
    lab.authorize()


@pytest.fixture
def service(bench: benches.RealBench, tmp_path: Path) -> Generator[ServiceProcess]:
    """A power service for that account, with a UNIX socket."""
    entry = f"{bench.host_entry} name=bench"
    with ServiceProcess(
        tmp_path, [entry], bench.key_file, socket_file=str(tmp_path / "power.sock")
    ) as service:
        yield service


@pytest.mark.parametrize("version", VERSIONS)
def test_legacy_maas_controls_vms(
    service: ServiceProcess, bench: benches.RealBench, tmp_path: Path, version: str
) -> None:
    maas = LegacyMAAS(tmp_path / "root", service.config_file, tmp_path / "power.sock")
    power_template.install(maas.root, maas.settings)
    vm = service.api("/api/v1/vms")["vms"][0]
    tail = vm["uuid"][-12:]
    for mac in (vm["macs"][0], ":".join(tail[place : place + 2] for place in range(0, 12, 2))):
        assert maas.power("query", mac, version).stdout == "off\n"
        assert maas.power("on", mac, version).returncode == 0
        assert bench.processes(vm["uuid"]) == 1
        assert maas.power("query", mac, version).stdout == "on\n"
        assert maas.power("off", mac, version).returncode == 0
        assert bench.processes(vm["uuid"]) == 0
    assert maas.power("on", "52:54:00:00:00:01", version).returncode == 0
    assert maas.woken() == ["52:54:00:00:00:01"]


def test_host_setup_installs_and_removes_scripts(bench: benches.RealBench, tmp_path: Path) -> None:
    def run(*arguments: str) -> dict[str, list[dict[str, object]]]:
        options = ["--hosts", f"{bench.host_entry} name=bench", "--key", str(bench.key_file)]
        pins = ["--known-hosts", str(tmp_path / "pins"), "--format", "json"]
        done = subprocess.run(
            [PROGRAM, *options, *pins, "host-setup", "bench", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout)

    before = bench.files_in_home()
    assert all(file["changed"] for file in run()["files"])
    assert not any(file["changed"] for file in run()["files"])
    assert bench.files_in_home() == before | {scripts.FOLDER}
    line = str(run("--gate")["authorized_key"])
    assert line.startswith(
        f'restrict,command="/home/vbox10/{scripts.FOLDER}/gate" ssh-ed25519 AAAA'
    )

    with benches.fleet_of(bench) as fleet:
        vm = fleet.find("node03")
        tail = ":".join(vm.uuid[-12:][place : place + 2] for place in range(0, 12, 2))

        def script(name: str, selector: str) -> str:
            command = f"VBox_host_extensions/{name} {selector}"
            done = fleet.hosts[0].transport.run(command, deadline=Deadline.after(30))
            assert done.exit_code == 0, done.stderr
            return done.stdout.decode()

        assert script("checkvm", "node03") == "off\n"
        script("startvm", tail)
        assert script("checkvm", vm.uuid) == "on\n"
        assert bench.processes(vm.uuid) == 1
        script("killvm", tail)
        assert script("checkvm", tail) == "off\n"

    assert all(file["changed"] for file in run("--remove")["files"])
    assert not any(file["changed"] for file in run("--remove")["files"])
    assert bench.files_in_home() <= before | {".config", "VirtualBox VMs"}


def test_restricted_key_only_controls_power(
    lab: Lab, bench: benches.RealBench, tmp_path: Path
) -> None:
    restricted = benches.GatedBench(lab, "vbox10", tmp_path)
    with benches.fleet_of(restricted) as fleet:
        owner = fleet.hosts[0]
        fleet.power_on("node01")
        fleet.power_off("node01")
        for command in ("id", "cat .ssh/id_ed25519", "sh -c 'touch pwned'"):
            done = owner.transport.run(command, deadline=Deadline.after(20))
            assert done.exit_code == 77
            assert b"gate: refused" in done.stderr
            assert done.stdout == b""
        with pytest.raises(mv.Error, match="a restricted key cannot"):
            scripts.install(owner)
    assert "pwned" not in bench.files_in_home()
