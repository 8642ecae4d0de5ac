# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""No traceback reaches the standard error of a caller if a peer breaks the SSH protocol."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.transport import ssh_keys

from tests.service import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

BANNER = b"SSH-2.0-OpenSSH_9.9\r\n"


def close_at_once(_peer: socket.socket) -> None:
    pass


def close_after_the_banner(peer: socket.socket) -> None:
    peer.sendall(BANNER)


def reset(peer: socket.socket) -> None:
    peer.sendall(BANNER)
    peer.recv(64)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer_with_http(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)


def send_garbage(peer: socket.socket) -> None:
    peer.sendall(BANNER + os.urandom(4096))


def send_a_huge_packet(peer: socket.socket) -> None:
    peer.sendall(BANNER + b"\x7f\xff\xff\xff" + bytes(4096))


def send_a_wrong_message(peer: socket.socket) -> None:
    # A key exchange whose lists are longer than the packet.
    payload = b"\x14" + bytes(16) + b"\x00\xff\xff\xff" + b"x" * 30
    padding = 8 - (len(payload) + 5) % 8 + 8
    packet = struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
    peer.sendall(BANNER + packet)


def send_invalid_utf8(peer: socket.socket) -> None:
    peer.sendall(b"SSH-2.0-\xff\xfe\x80\r\n" + bytes(64))


def offer_old_algorithms(peer: socket.socket) -> None:
    lists = [b"diffie-hellman-group1-sha1", b"ssh-dss", *[b"3des-cbc"] * 2, *[b"hmac-md5"] * 2]
    lists += [b"none"] * 2 + [b""] * 2
    payload = b"\x14" + bytes(16) + b"".join(struct.pack(">I", len(n)) + n for n in lists)
    payload += bytes(5)
    padding = 8 - (len(payload) + 5) % 8 + 8
    packet = struct.pack(">IB", len(payload) + padding + 1, padding) + payload + bytes(padding)
    peer.sendall(BANNER + packet)


PEERS = (
    close_at_once,
    close_after_the_banner,
    reset,
    answer_with_http,
    send_garbage,
    send_a_huge_packet,
    send_a_wrong_message,
    send_invalid_utf8,
    offer_old_algorithms,
)


@contextlib.contextmanager
def listening(behave: Callable[[socket.socket], None]) -> Generator[int]:
    """Answer every connection in one way. Yields the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer, contextlib.suppress(OSError):
                behave(peer)
                peer.settimeout(2)
                while behave is not reset and behave is not close_at_once and peer.recv(4096):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture(scope="module")
def hosts() -> Generator[str]:
    """A host list with one peer for each behaviour."""
    with contextlib.ExitStack() as stack:
        ports = [(peer, stack.enter_context(listening(peer))) for peer in PEERS]
        yield ",".join(f"u@127.0.0.1:{port} name={peer.__name__}" for peer, port in ports)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key."""
    path = tmp_path_factory.mktemp("key") / "id_ed25519"
    path.write_text(ssh_keys.new_private_key())
    return path


def stderr_of(*command: object, exit_code: int = 0) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == exit_code, done.stderr
    return done.stderr


LIBRARY = """
import logging, sys
import maas_virtualbox as mv
if sys.argv[3] == "configured":
    logging.basicConfig(level=logging.DEBUG)
with mv.Fleet(mv.parse_hosts(sys.argv[1]), identity=sys.argv[2]) as fleet:
    reports = fleet.reports()
    assert len(reports) == int(sys.argv[4]), reports
    assert all(report.error for report in reports), reports
"""


@pytest.mark.parametrize("logging", ["configured", "untouched"])
def test_library_prints_no_traceback(hosts: str, key_file: Path, logging: str) -> None:
    printed = stderr_of(sys.executable, "-c", LIBRARY, hosts, key_file, logging, len(PEERS))

    assert "Traceback" not in printed
    assert "paramiko" not in printed
    assert logging == "configured" or printed == ""


def test_list_prints_one_sentence_for_each_host(
    hosts: str, key_file: Path, tmp_path: Path
) -> None:
    printed = stderr_of(
        PROGRAM, "--hosts", hosts, "--key", key_file, "--known-hosts", tmp_path / "pins", "list",
        exit_code=3,
    )  # fmt: skip

    assert "Traceback" not in printed
    assert len(printed.splitlines()) == len(PEERS)


@pytest.mark.parametrize("peer", PEERS)
def test_fence_agent_prints_one_line(
    peer: Callable[[socket.socket], None], key_file: Path, tmp_path: Path
) -> None:
    with listening(peer) as port:
        printed = stderr_of(
            PROGRAM.with_name("fence_maas_virtualbox"), "-a", "127.0.0.1", "-u", port, "-l", "u",
            "-k", key_file, "-n", "vm", "-o", "status", "--known-hosts", tmp_path / "pins",
            exit_code=1,
        )  # fmt: skip

    assert len(printed.splitlines()) == 1


def test_nagios_plugin_prints_no_traceback(hosts: str, key_file: Path, tmp_path: Path) -> None:
    plugin = PROGRAM.with_name("check_maas_virtualbox")
    options = ("--hosts", hosts, "--key", key_file, "--known-hosts", tmp_path / "pins")

    assert stderr_of(plugin, *options, exit_code=2) == ""


SIMULATOR = """
import contextlib, socket, sys
from maas_virtualbox.simulator import Simulator
with Simulator(vms=1) as simulator:
    port = int(simulator.host_entry.split()[0].rpartition(":")[2])
    for text in (b"", b"GET / HTTP/1.1\\r\\n\\r\\n", b"SSH-2.0-x\\r\\n" + bytes(range(256)) * 8):
        with socket.create_connection(("127.0.0.1", port)) as client, contextlib.suppress(OSError):
            client.sendall(text)
            client.shutdown(socket.SHUT_WR)
            while client.recv(4096):
                pass
"""


def test_simulator_prints_no_traceback() -> None:
    assert stderr_of(sys.executable, "-c", SIMULATOR) == ""
