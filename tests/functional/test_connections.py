# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Floods of connections: which clients are served, what is closed, and what SSH can use."""

from __future__ import annotations

import collections
import contextlib
import itertools
import resource
import socket
import statistics
import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.config import tokens
from maas_virtualbox.maas.power_parameters import PowerParameters
from maas_virtualbox.service import auth
from maas_virtualbox.simulator import Simulator, maas

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from pathlib import Path

DESCRIPTORS = 200
"""A small number, so that a flood is small: 96 TCP connections and 32 over the UNIX socket."""
FLOOD = 400
STRANGER, MAAS = "127.0.0.2", "127.0.0.3"

SILENCE = b""
PART_OF_A_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
PART_OF_A_TLS_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00"


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with two VMs."""
    with Simulator(vms=2) as simulator:
        yield simulator


@pytest.fixture
def unstarted(simulator: Simulator, tmp_path: Path) -> Generator[ServiceProcess]:
    """A service with few file descriptors, which the test starts."""
    service = ServiceProcess(
        tmp_path,
        [f"{simulator.host_entry} name=alpha"],
        simulator.key_file,
        descriptors=DESCRIPTORS,
        state_max_age=0.1,
        socket_file=str(tmp_path / "power.sock"),
    )
    yield service
    if service.started:
        service.__exit__()


@pytest.fixture
def service(unstarted: ServiceProcess) -> ServiceProcess:
    """A running service with few file descriptors."""
    unstarted.start()
    return unstarted


@pytest.fixture
def query(unstarted: ServiceProcess, simulator: Simulator) -> Callable[[], tuple[int, str]]:
    """Queries a VM with its token, over a new connection from a rack controller's address."""
    uuid = simulator.virtualbox.vm("node01").uuid
    token = unstarted.secrets.vm_token(uuid)
    return lambda: unstarted.request("GET", f"/vm/{uuid}/query", token, client=MAAS)


@contextlib.contextmanager
def flood(
    service: ServiceProcess, addresses: Iterable[str], content: bytes = SILENCE
) -> Generator[Iterator[int]]:
    """Open connections and keep them. Each step of the iterator opens ten and counts them."""
    sockets: collections.deque[socket.socket] = collections.deque()

    def connect() -> Iterator[int]:
        for number, address in enumerate(addresses, 1):
            client = socket.create_connection(
                ("127.0.0.1", service.port), timeout=30, source_address=(address, 0)
            )
            sockets.append(client)
            if len(sockets) > FLOOD:
                sockets.popleft().close()
            with contextlib.suppress(ConnectionError):
                client.sendall(content)
            if number % 10 == 0:
                yield number

    try:
        yield connect()
    finally:
        for client in sockets:
            client.close()


def ask_locally(service: ServiceProcess) -> bytes:
    """Query a VM over the UNIX socket. Return the first line of the response."""
    with local_connection(service) as client:
        client.sendall(b"GET /vm/node01/query HTTP/1.0\r\n\r\n")
        return client.recv(4096).partition(b"\r\n")[0]


def local_connection(service: ServiceProcess) -> socket.socket:
    """Connect to the UNIX socket."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(str(service.options["socket-file"]))
    return client


def closed(service: ServiceProcess, reason: str) -> float:
    """Return how many connections were closed for a reason."""
    return service.metric(f'maas_virtualbox_client_connections_closed_total{{reason="{reason}"}}')


def present_wrong_tokens(service: ServiceProcess, address: str, count: int) -> None:
    """Present wrong tokens over one connection, as fast as possible."""
    wrong = b"GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer wrong\r\n\r\n"
    last = wrong.replace(b"Host", b"Connection: close\r\nHost")
    answer = service.exchange(wrong * (count - 1) + last, client=address)
    assert answer.count(b"HTTP/1.1 401 ") == count


@pytest.mark.parametrize("address", [STRANGER, MAAS], ids=["another", "the same"])
@pytest.mark.parametrize("content", [SILENCE, PART_OF_A_REQUEST], ids=["silent", "partial"])
def test_flood_from_one_address_refuses_no_right_token(
    service: ServiceProcess, query: Callable[[], tuple[int, str]], content: bytes, address: str
) -> None:
    with flood(service, [address] * FLOOD, content) as flooding:
        answers = {query() for _ in flooding}

        assert answers == {(200, '{"status": "stopped"}')}
        assert closed(service, "address") > FLOOD / 2
        assert closed(service, "total") == 0  # the share of the address is the limit
    service.wait_for_log(f"most were from {address}")
    assert service.log.count("closed ") < 10


def test_flood_from_many_addresses_refuses_no_right_token(
    service: ServiceProcess, query: Callable[[], tuple[int, str]]
) -> None:
    strangers = [f"127.0.{each // 200 + 1}.{each % 200 + 1}" for each in range(FLOOD)]
    with flood(service, strangers) as flooding:
        answers = {query() for _ in flooding}

        assert answers == {(200, '{"status": "stopped"}')}
        assert closed(service, "total") > FLOOD / 2


@pytest.mark.parametrize("content", [SILENCE, PART_OF_A_TLS_HANDSHAKE], ids=["silent", "partial"])
def test_flood_of_stalled_tls_handshakes_refuses_no_right_token(
    unstarted: ServiceProcess, query: Callable[[], tuple[int, str]], content: bytes
) -> None:
    unstarted.make_certificate()
    unstarted.start()
    with flood(unstarted, [STRANGER] * FLOOD, content) as flooding:
        answers = {query() for _ in flooding}

        assert answers == {(200, '{"status": "stopped"}')}
        assert closed(unstarted, "address") > FLOOD / 2


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_idle_connection_is_closed_and_counted(unstarted: ServiceProcess, tls: bool) -> None:
    if tls:
        unstarted.make_certificate()
    unstarted.start()
    with flood(unstarted, [STRANGER] * 10) as flooding, local_connection(unstarted) as local:
        assert next(flooding) == 10
        gauge = 'maas_virtualbox_client_connections{socket="tcp",state="anonymous"}'
        # The connection that reads the metrics has presented its token.
        assert unstarted.metric(gauge) == 10
        assert local.recv(1) == b""
        while unstarted.metric(gauge):
            time.sleep(0.1)

        assert closed(unstarted, "idle") == 11
    unstarted.wait_for_log("(idle: 1")


def test_failed_tls_handshake_is_counted(unstarted: ServiceProcess) -> None:
    unstarted.make_certificate()
    unstarted.start()
    assert unstarted.exchange(b"GET /healthz HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.") is False
    assert closed(unstarted, "handshake") == 1


def test_client_that_reads_no_answer_is_closed(service: ServiceProcess) -> None:
    request = b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.bind((STRANGER, 0))
        client.connect(("127.0.0.1", service.port))
        client.settimeout(0.5)
        with contextlib.suppress(OSError):
            while True:
                client.sendall(request * 100)  # until the service reads no more
        while not closed(service, "idle"):
            time.sleep(0.1)


def test_unix_socket_answers_during_a_flood_over_tcp(service: ServiceProcess) -> None:
    with flood(service, [STRANGER] * FLOOD) as flooding:
        assert {ask_locally(service) for _ in flooding} == {b"HTTP/1.1 200 OK"}


def test_unix_socket_answers_during_a_flood_of_its_own(service: ServiceProcess) -> None:
    with contextlib.ExitStack() as clients:
        for _ in range(100):
            clients.enter_context(local_connection(service))
            assert ask_locally(service) == b"HTTP/1.1 200 OK"
        assert closed(service, "total") > 50


def test_stop_during_a_flood_is_clean(service: ServiceProcess) -> None:
    with flood(service, itertools.repeat(STRANGER)) as flooding:
        next(flooding)
        with futures.ThreadPoolExecutor() as threads:
            flooded = threads.submit(list[int], flooding)
            assert service.stop() == 0
        assert isinstance(flooded.exception(), OSError)
    assert "ERROR" not in service.log


def test_ssh_reconnects_during_a_flood(
    service: ServiceProcess, simulator: Simulator, query: Callable[[], tuple[int, str]]
) -> None:
    logins = 'maas_virtualbox_ssh_connections_total{host="alpha"}'
    strangers = [f"127.0.{each // 200 + 1}.{each % 200 + 1}" for each in range(FLOOD)]
    with flood(service, strangers) as flooding:
        for opened in flooding:
            if opened % 100 == 0:
                before = service.metric(logins)
                simulator.restart_sshd()
                while service.metric(logins) == before:  # reading the metrics polls the host
                    time.sleep(0.05)
                assert query() == (200, '{"status": "stopped"}')
    assert "Too many open files" not in service.log


def test_lack_of_descriptors_pauses_accepting(
    service: ServiceProcess, query: Callable[[], tuple[int, str]]
) -> None:
    """The service has computed its limits with more descriptors than it has now."""
    assert query()[0] == 200
    pid = service.process.pid
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (40, DESCRIPTORS))
    with flood(service, [f"127.0.1.{each}" for each in range(1, 81)]) as flooding:
        assert {query()[0] for _ in flooding} == {200}
        assert closed(service, "shortage") > 0
        lines = service.log.count("cannot accept connections")
        assert 0 < lines < 50  # it does not spin
    assert service.process.poll() is None


def test_wrong_tokens_delay_their_source_only(service: ServiceProcess) -> None:
    def delayed(address: str, count: int) -> float:
        before = service.metric("maas_virtualbox_failed_logins_delayed_total")
        present_wrong_tokens(service, address, count)
        return service.metric("maas_virtualbox_failed_logins_delayed_total") - before

    assert delayed("127.0.0.2", auth.BURST + 50) > 5
    assert delayed("127.0.0.3", 100) == 0
    assert service.log.count("login refused") < 10


def test_wrong_tokens_delay_no_right_token(
    service: ServiceProcess, query: Callable[[], tuple[int, str]]
) -> None:
    def timed(action: Callable[[], object]) -> float:
        began = time.monotonic()
        action()
        return time.monotonic() - began

    present_wrong_tokens(service, MAAS, auth.BURST)
    with futures.ThreadPoolExecutor(8) as threads:
        wrong = [
            threads.submit(timed, lambda: present_wrong_tokens(service, MAAS, 5)) for _ in range(8)
        ]
        right = [timed(query) for _ in range(20)]

    # 40 wrong tokens at 20 a second take two seconds. A right token is not delayed.
    assert statistics.median(right) < max(job.result() for job in wrong) / 2


def test_stale_tokens_of_a_rack_are_not_delayed(
    service: ServiceProcess, simulator: Simulator
) -> None:
    uuid = simulator.virtualbox.vm("node02").uuid
    token = tokens.Secrets.new().vm_token(uuid)
    parameters = PowerParameters.of(uuid, token, address="127.0.0.1", port=service.port, tls=False)
    pauses: list[float] = []
    driver = maas.Driver(parameters, sleep=pauses.append)
    for _ in range(20):
        with pytest.raises(maas.PowerFailed, match="401"):
            driver.query()
    assert pauses == [*maas.PAUSES_S] * 20
    assert service.metric("maas_virtualbox_failed_logins_total") == len(pauses)
    assert service.metric("maas_virtualbox_failed_logins_delayed_total") == 0
