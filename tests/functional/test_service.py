# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service as a process: its configuration, reloads, stops, systemd, TLS and API."""

from __future__ import annotations

import datetime
import itertools
import json
import signal
import socket
import subprocess
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.config import tokens
from maas_virtualbox.simulator import Simulator, Timings, maas
from maas_virtualbox.virtualbox.states import VMState

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.functional.conftest import Run


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with four VMs."""
    with Simulator(vms=4) as simulator:
        yield simulator


@pytest.fixture
def unstarted(simulator: Simulator, tmp_path: Path) -> Generator[ServiceProcess]:
    """A service for it, to be started by the test."""
    entry = f"{simulator.host_entry} name=alpha zone=lab"
    service = ServiceProcess(tmp_path, [entry], simulator.key_file)
    yield service
    if service.started:
        service.__exit__()


@pytest.fixture
def service(unstarted: ServiceProcess) -> ServiceProcess:
    """A service for it."""
    unstarted.start()
    return unstarted


def at_once(_seconds: float) -> None:
    """Replace the pauses of MAAS's driver."""


# -- Configuration ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"listen": "maas.example:5307"}, ["listen", "literal IP address", ", line "]),
        ({"listen": "127.0.0.1:99999"}, ["listen", "99999"]),
        ({"listen": "203.0.113.9:5307"}, ["listen", "203.0.113.9:5307", "cannot be used"]),
        ({"hosts": ["nobody@"]}, ["hosts", "entry 1"]),
        ({"hosts": []}, ["hosts", "expected at least one"]),
        ({"off-timeout": 90}, ["off-timeout", "20"]),
        ({"off-mode": "softly"}, ["off-mode", "expected hard or acpi"]),
        ({"log-level": "loud"}, ["log-level", "expected debug, info"]),
        ({"colour": "blue"}, ["unknown option 'colour'", ", line "]),
        ({"secrets-file": None}, ["secrets-file"]),
        ({"secrets-file": "/nowhere/secrets"}, ["/nowhere/secrets", "rotate-tokens"]),
        ({"ssh-private-key-file": "/nowhere/key"}, ["/nowhere/key"]),
        ({"tls-key-file": "/nowhere/key.pem"}, ["tls-certificate-file", "go together"]),
        (
            {"tls-certificate-file": "/nowhere/crt", "tls-key-file": "/nowhere/key"},
            ["tls-certificate-file", "/nowhere/crt"],
        ),
    ],
)
def test_serve_bad_configuration_is_one_sentence(
    run: Run, unstarted: ServiceProcess, options: dict[str, object], words: list[str]
) -> None:
    unstarted.options |= options
    unstarted.write_config()
    code, _, err = run("serve", "--config", str(unstarted.config_file))
    assert code == 2
    lines = err.splitlines()
    assert len(lines) == 1
    for word in words:
        assert word in lines[0]


def test_serve_names_a_port_in_use(service: ServiceProcess, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    key_file = Path(str(service.options["ssh-private-key-file"]))
    address = f"127.0.0.1:{service.port}"
    second = ServiceProcess(folder, ["a@127.0.0.1"], key_file, listen=address)
    second.start(wait=False)
    assert second.process.wait(20) == 2
    assert f"127.0.0.1:{service.port} cannot be used: Address already in use" in second.log


def test_serve_refuses_secrets_that_others_can_read(unstarted: ServiceProcess) -> None:
    path = Path(str(unstarted.options["secrets-file"]))
    path.chmod(0o644)
    unstarted.start(wait=False)
    assert unstarted.process.wait(20) == 2
    assert f"chmod 0600 {path}" in unstarted.log


# -- Reloading --------------------------------------------------------------------------------


def test_sighup_under_load_drops_no_request(service: ServiceProcess, simulator: Simulator) -> None:
    uuids = [vm.uuid for vm in simulator.virtualbox.vms]
    done = threading.Event()

    def poll(uuid: str) -> list[str]:
        answers: list[str] = []
        while not done.is_set():
            try:
                answers.append(service.driver(uuid, sleep=at_once).query())
            except maas.PowerFailed as error:
                answers.append(str(error))
        return answers

    with futures.ThreadPoolExecutor(8) as threads:
        jobs = [threads.submit(poll, uuid) for uuid in uuids * 2]
        for number in range(5):
            time.sleep(0.5)
            service.options["state-max-age"] = 1.0 + number / 10
            service.write_config()
            service.signal(signal.SIGHUP)
            service.wait_for_log("reloaded: serving 1 hosts", number + 1)
        time.sleep(7.0)  # until the replaced fleets are closed
        done.set()
        answers = [answer for job in jobs for answer in job.result()]

    assert len(answers) > 2 * len(jobs)
    assert set(answers) == {"off"}
    assert service.log.count("reloaded: serving 1 hosts") == 5


def test_sighup_does_not_affect_an_action(tmp_path: Path) -> None:
    with (
        Simulator(vms=1, timings=Timings(start=1.5)) as simulator,
        ServiceProcess(tmp_path, [simulator.host_entry], simulator.key_file) as service,
        futures.ThreadPoolExecutor() as threads,
    ):
        vm = simulator.virtualbox.vm("node01")
        path, token = f"/vm/{vm.uuid}/on", service.secrets.vm_token(vm.uuid)
        first = threads.submit(service.request, "POST", path, token)
        simulator_saw(simulator, "startvm")
        service.signal(signal.SIGHUP)
        service.wait_for_log("reloaded")  # the new fleet serves
        second = threads.submit(service.request, "POST", path, token)
        assert first.result()[0] == second.result()[0] == 200
        assert simulator.count("startvm") == 1


def test_sighup_applies_hosts_tokens_and_log_settings(
    service: ServiceProcess, simulator: Simulator
) -> None:
    old_token = service.secrets.admin_token()
    with Simulator(vms=2, user="second", key_file=simulator.key_file) as second:
        service.options["hosts"] = [
            f"{simulator.host_entry} name=alpha",
            f"{second.host_entry} name=beta",
        ]
        service.options["log-format"] = "json"
        service.write_config()
        service.secrets = service.secrets.rotated(datetime.timedelta(hours=1))
        tokens.save(Path(str(service.options["secrets-file"])), service.secrets)
        service.signal(signal.SIGHUP)
        service.wait_for_log("reloaded: serving 2 hosts")

        names = [host["name"] for host in service.api("/api/v1/hosts")["hosts"]]
        assert names == ["alpha", "beta"]
        assert service.get("/api/v1/hosts", old_token)[0] == 200  # the grace period
        assert json.loads(service.log.splitlines()[-1])["message"] == "reloaded: serving 2 hosts"

        service.secrets = service.secrets.rotated(datetime.timedelta(0))
        tokens.save(Path(str(service.options["secrets-file"])), service.secrets)
        service.signal(signal.SIGHUP)
        service.wait_for_log("reloaded", times=2)
        assert service.get("/api/v1/hosts", old_token)[0] == 401
        assert service.get("/api/v1/hosts", service.secrets.admin_token())[0] == 200


def test_sighup_with_a_bad_file_changes_nothing(
    service: ServiceProcess, simulator: Simulator
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    service.config_file.write_text("hosts: [nobody@]\n")
    service.signal(signal.SIGHUP)
    service.wait_for_log("not reloaded, nothing was changed")
    assert "line 1: hosts: expected a host list: entry 1" in service.log
    assert service.driver(uuid).query() == "off"


# -- Starting and stopping --------------------------------------------------------------------


def test_sigterm_stops_an_idle_service(unstarted: ServiceProcess) -> None:
    began = time.monotonic()
    unstarted.start()
    started = time.monotonic()
    assert unstarted.stop() == 0
    # On a busy machine a start takes longer, and so may a stop.
    assert time.monotonic() - started < 2 * (started - began)


def test_sigterm_lets_an_action_end(tmp_path: Path) -> None:
    with (
        Simulator(vms=1, timings=Timings(start=2.0)) as simulator,
        ServiceProcess(tmp_path, [simulator.host_entry], simulator.key_file) as service,
        futures.ThreadPoolExecutor() as threads,
    ):
        vm = simulator.virtualbox.vm("node01")
        token = service.secrets.vm_token(vm.uuid)
        post = threads.submit(service.request, "POST", f"/vm/{vm.uuid}/on", token)
        simulator_saw(simulator, "startvm")
        assert service.stop() == 0
        assert post.result() == (200, '{"status": "running"}')


def test_sigterm_waits_for_no_dead_host_or_slow_client(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        port = silent.getsockname()[1]
        with Simulator() as simulator:
            service = ServiceProcess(tmp_path, [f"a@127.0.0.1:{port}"], simulator.key_file)
            service.start(wait=False)
            try:
                service.wait_for_log("serving")
                with socket.create_connection(("127.0.0.1", service.port)) as client:
                    client.sendall(b"GET /healthz HT")
                    assert service.stop() == 0
            finally:
                service.__exit__()


def test_systemd_receives_ready_reload_stop_and_watchdog(
    simulator: Simulator, tmp_path: Path
) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(path))
        systemd.settimeout(15)
        heard: list[str] = []

        def wait_for(word: str) -> str:
            while True:
                heard.append(systemd.recv(4096).decode())
                if word in heard[-1]:
                    return heard[-1]

        environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "3000000"}
        with ServiceProcess(
            tmp_path, [simulator.host_entry], simulator.key_file, environment=environment
        ) as service:
            assert f"serving 1 hosts at {service.uri('')}" in wait_for("READY=1")
            beats = [(wait_for("WATCHDOG=1"), time.monotonic())[1] for _ in range(4)]
            # Each gap is shorter than systemd allows.
            assert max(after - before for before, after in itertools.pairwise(beats)) < 3.0
            service.signal(signal.SIGHUP)
            assert "MONOTONIC_USEC=" in wait_for("RELOADING=1")
            wait_for("READY=1")
            service.stop()
            wait_for("STOPPING=1")


def test_sigkill_during_ten_starts_repeats_none(
    tmp_path: Path,
) -> None:
    with (
        Simulator(vms=10, timings=Timings(start=0.5)) as simulator,
        ServiceProcess(tmp_path, [simulator.host_entry], simulator.key_file) as service,
    ):
        vms = simulator.virtualbox.vms
        with futures.ThreadPoolExecutor(10) as threads:
            for vm in vms:
                threads.submit(
                    service.request, "POST", f"/vm/{vm.uuid}/on", service.secrets.vm_token(vm.uuid)
                )
            simulator_saw(simulator, "startvm")
            service.kill()
        service.start()
        with futures.ThreadPoolExecutor(10) as threads:
            drivers = [service.driver(vm.uuid, sleep=at_once) for vm in vms]
            list(threads.map(maas.Driver.power_on, drivers))
        assert {vm.state for vm in vms} == {VMState.RUNNING}
        assert {vm.starts for vm in vms} == {1}
        assert {simulator.virtualbox.processes(vm.uuid) for vm in vms} == {1}


def simulator_saw(simulator: Simulator, kind: str) -> None:
    """Wait until a command has reached the host."""
    while not simulator.count(kind):
        time.sleep(0.01)


# -- TLS --------------------------------------------------------------------------------------


def test_tls_serves_a_renewed_certificate(unstarted: ServiceProcess) -> None:
    first = unstarted.make_certificate()
    unstarted.start()
    assert f"https://127.0.0.1:{unstarted.port}" in unstarted.log
    uuid = unstarted.api("/api/v1/vms")["vms"][0]["uuid"]
    driver = unstarted.driver(uuid, sleep=at_once)
    driver.power_on()
    assert driver.query() == "on"

    assert unstarted.served_certificate() == first
    second = unstarted.make_certificate()
    unstarted.signal(signal.SIGHUP)
    unstarted.wait_for_log("reloaded")
    assert unstarted.served_certificate() == second != first


# -- The API ----------------------------------------------------------------------------------


def test_api_returns_vms_and_hosts(service: ServiceProcess, simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")
    service.driver(vm.uuid, sleep=at_once).power_on()
    answer = service.api("/api/v1/vms")
    assert answer["unreachable"] == {}
    assert answer["vms"][0] == {
        "host": "alpha",
        "zone": "lab",
        "name": "node01",
        "uuid": vm.uuid,
        "macs": ["08:00:27:00:00:01"],
        "state": "running",
        "power": "on",
    }
    assert service.api("/api/v1/hosts") == {
        "hosts": [
            {
                "name": "alpha",
                "account": simulator.host_entry,
                "zone": "lab",
                "up": True,
                "vms": 4,
                "claims": 0,
                "running": 1,
                "error": None,
                "code": None,
            }
        ]
    }
    simulator.close_port()
    time.sleep(2.1)  # until the state is too old
    (host,) = service.api("/api/v1/hosts")["hosts"]
    assert not host["up"]
    assert "alpha" in host["error"]
    assert list(service.api("/api/v1/vms")["unreachable"]) == ["alpha"]


def test_metrics_count_actions_queries_and_refusals(
    service: ServiceProcess, simulator: Simulator
) -> None:
    began = time.monotonic()
    uuid = simulator.virtualbox.vm("node01").uuid
    service.driver(uuid, sleep=at_once).power_on()
    simulator.virtualbox.remove_ipc_folder()  # VirtualBox no longer finds the process
    service.request("POST", f"/vm/{uuid}/on", service.secrets.vm_token(uuid))
    simulator.restart_sshd()
    time.sleep(2.1)  # until the state is too old

    expected = {
        'maas_virtualbox_host_up{host="alpha",zone="lab"}': 1,
        'maas_virtualbox_power_action_seconds_count{change="on"}': 2,
        'maas_virtualbox_power_actions_total{change="on",host="alpha",result="done"}': 1,
        "maas_virtualbox_power_actions_total"
        '{change="on",host="alpha",result="orphaned-process"}': 1,
        'maas_virtualbox_power_queries_total{result="on"}': 1,
        'maas_virtualbox_orphaned_process_refusals_total{host="alpha"}': 1,
        'maas_virtualbox_vms{host="alpha",state="poweroff"}': 3,
    }
    assert {line: service.metric(line) for line in expected} == expected
    assert service.metric('maas_virtualbox_ssh_connections_total{host="alpha"}') >= 2
    age = service.metric('maas_virtualbox_host_state_age_seconds{host="alpha"}')
    assert 0 <= age < time.monotonic() - began


def test_admin_token_is_required_except_for_health(
    service: ServiceProcess, simulator: Simulator
) -> None:
    uuid = simulator.virtualbox.vm("node01").uuid
    for path in ("/metrics", "/api/v1/vms", "/api/v1/hosts"):
        for token in ("", "x", service.secrets.vm_token(uuid), service.secrets.vm_token("")):
            assert service.get(path, token)[0] == 401
        assert service.get(path, service.secrets.admin_token())[0] == 200
    assert service.get("/healthz") == (200, '{"status":"ok"}')


# -- The commands -----------------------------------------------------------------------------


def test_parameters_command_prints_accepted_tokens(
    service: ServiceProcess, simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node02")
    command = f"{service.program} parameters node02 --config {service.config_file} --format json"
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=30, check=True)
    (printed,) = json.loads(done.stdout)
    assert printed["power_type"] == "webhook"
    assert printed["power_on_uri"] == service.uri(f"/vm/{vm.uuid}/on")
    assert printed["power_off_uri"] == service.uri(f"/vm/{vm.uuid}/off")
    assert printed["power_query_uri"] == service.uri(f"/vm/{vm.uuid}/query")
    assert printed["power_on_regex"] == r"status.*\:.*running"
    assert printed["power_verify_ssl"] == "n"
    assert printed["power_token"] == service.secrets.vm_token(vm.uuid)
    assert "MAAS cannot reach 127.0.0.1" in done.stderr


def test_rotate_command_replaces_the_tokens(service: ServiceProcess, simulator: Simulator) -> None:
    def run(*arguments: str) -> str:
        command = [str(service.program), *arguments, "--config", str(service.config_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
        return done.stdout.strip()

    old = run("admin-token")
    assert old == service.secrets.admin_token()
    assert "remain valid for 0 hours" in run("rotate-tokens", "--grace", "0")
    new = run("admin-token")
    assert new != old
    assert service.get("/api/v1/vms", old)[0] == 200  # not applied yet
    service.signal(signal.SIGHUP)
    service.wait_for_log("reloaded")
    assert service.get("/api/v1/vms", old)[0] == 401
    assert service.get("/api/v1/vms", new)[0] == 200
    assert Path(str(service.options["secrets-file"])).stat().st_mode & 0o777 == 0o600
    assert simulator.count() < 20
