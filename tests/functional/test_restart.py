# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A restart by systemd: the listening sockets outlive the process, and no client is refused."""

from __future__ import annotations

import socket
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.simulator import Action, Fault, Simulator

from tests.service import Pulse, ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Generator

    from typing_extensions import Self


class Systemd:
    """The part of systemd that a restart needs: it stores the sockets that it receives."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind(str(self.path))
        self._notified.settimeout(15)
        self.kept: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._drop()
        self._notified.close()

    def hear(self, word: str) -> None:
        """Process notifications until the service sends a given one."""
        message = ""
        while word not in message:
            content, numbers, _, _ = socket.recv_fds(self._notified, 4096, 4)
            message = content.decode()
            if "FDSTOREREMOVE=1" in message:
                self._drop()
            elif "FDSTORE=1" in message:
                self.kept = [socket.socket(fileno=number) for number in numbers]

    def restart(self, service: ServiceProcess) -> None:
        """End the process, within ten seconds, and start another one."""
        assert service.stop(timeout=10) == 0
        self.hear("STOPPING=1")
        service.start(wait=False, sockets=self.kept)

    def _drop(self) -> None:
        while self.kept:
            self.kept.pop().close()


@pytest.fixture
def systemd(tmp_path: Path) -> Generator[Systemd]:
    """The systemd that starts the service."""
    with Systemd(tmp_path) as systemd:
        yield systemd


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with two VMs."""
    with Simulator(vms=2) as simulator:
        yield simulator


@pytest.fixture
def service(systemd: Systemd, simulator: Simulator, tmp_path: Path) -> Generator[ServiceProcess]:
    """A service that systemd has started, with a UNIX socket. Its second host hangs."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        service = ServiceProcess(
            tmp_path,
            [simulator.host_entry, f"a@127.0.0.1:{silent.getsockname()[1]}"],
            simulator.key_file,
            environment={"NOTIFY_SOCKET": str(systemd.path)},
            socket_file=str(tmp_path / "power.sock"),
        )
        service.start(wait=False)
        systemd.hear("READY=1")
        yield service
        service.__exit__()


def ask_locally(service: ServiceProcess) -> bytes:
    """Request the health over the UNIX socket. Return the first line of the response."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(service.options["socket-file"]))
        client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return client.recv(4096).splitlines()[0]


def test_restart_during_a_hanging_action_misses_no_query(
    systemd: Systemd, simulator: Simulator, service: ServiceProcess
) -> None:
    hanging, other = simulator.virtualbox.vms
    simulator.inject(Fault(Action.HANG, on="startvm", times=100))

    def power_on(uuid: str) -> tuple[int, str]:
        return service.request("POST", f"/vm/{uuid}/on", service.secrets.vm_token(uuid))

    def query() -> int:
        return service.get(f"/vm/{other.uuid}/query", service.secrets.vm_token(other.uuid))[0]

    def restart() -> float:
        systemd.restart(service)
        began = time.monotonic()
        systemd.hear("READY=1")
        return time.monotonic() - began

    assert query() == 200
    with futures.ThreadPoolExecutor() as threads, Pulse(query) as pulse:
        asked = threads.submit(power_on, hanging.uuid)
        while not simulator.count("startvm"):
            time.sleep(0.01)
        restarted = threads.submit(restart)
        service.wait_for_log("1 power actions are in progress")
        code, body = power_on(other.uuid)
        assert (code, "not started: the service stops; retry" in body) == (503, True)
        code, body = asked.result()
        assert (code, "in progress, but the service stops; retry" in body) == (503, True)
        assert (
            ask_locally(service) == b"HTTP/1.1 200 OK"
        )  # at about the time when the process is replaced
        start_s = restarted.result()
        assert query() == 200

    assert pulse.failures == []
    assert pulse.answers > 10
    assert pulse.longest_gap < 2 * start_s
    assert ask_locally(service) == b"HTTP/1.1 200 OK"


def test_request_sent_during_a_stop_is_answered(
    systemd: Systemd,
    service: ServiceProcess,
) -> None:
    with socket.create_connection(("127.0.0.1", service.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert service.get("/healthz")[0] == 200  # so the previous connection is accepted too
        service.process.terminate()
        systemd.hear("STOPPING=1")
        client.sendall(b"Host: a\r\n\r\n")
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize("address", ["0.0.0.0:{same}", "127.0.0.1:{other}"])
def test_restarted_service_listens_where_configured(
    systemd: Systemd, service: ServiceProcess, address: str
) -> None:
    old, new = service.port, free_port()
    service.options["listen"] = address.format(same=old, other=new)
    service.options["socket-file"] = f"{service.options['socket-file']}.new"
    systemd.restart(service)
    service.wait_for_log("serving", times=2)  # while systemd still has the old sockets
    systemd.hear("READY=1")

    service.port = old if "same" in address else new
    assert service.get("/healthz")[0] == 200
    assert ask_locally(service) == b"HTTP/1.1 200 OK"
    assert len(systemd.kept) == 2
    if service.port != old:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", old), timeout=5)


def test_service_that_does_not_start_refuses_connections(
    systemd: Systemd, service: ServiceProcess
) -> None:
    service.options["hosts"] = []
    systemd.restart(service)
    systemd.hear("FDSTOREREMOVE=1")
    assert service.process.wait(20) == 2
    assert "expected at least one" in service.log

    with pytest.raises(ConnectionRefusedError):
        service.get("/healthz")
