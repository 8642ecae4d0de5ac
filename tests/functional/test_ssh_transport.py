# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The SSH transport against a real OpenSSH server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

import paramiko
import pytest

import maas_virtualbox as mv
from maas_virtualbox import transport
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.transport import ssh, ssh_login
from maas_virtualbox.transport.host_keys import KnownHosts

from tests.conftest import unavailable
from tests.functional import sshd as real

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


TIMINGS = ssh.Timings(connect_timeout=3.0)


@pytest.fixture
def sshd(tmp_path: Path) -> Generator[real.SSHD]:
    """A real sshd."""
    if not real.program():
        unavailable("no sshd on this machine (package openssh-server)")
    with real.running(tmp_path) as sshd:
        yield sshd


@pytest.fixture
def link(sshd: real.SSHD) -> Generator[ssh.SSHTransport]:
    """A transport to the server."""
    link = connected(sshd)
    yield link
    link.close()


def connected(
    sshd: real.SSHD,
    options: str = "",
    *,
    key: str = "client",
    pins: KnownHosts | None = None,
    timings: ssh.Timings = TIMINGS,
) -> ssh.SSHTransport:
    """Return a transport with options. It has not connected yet."""
    (host,) = mv.parse_hosts(f"{sshd.host_entry} name=lab {options}")
    identity = ssh_login.load_identity(sshd.folder / key)
    return ssh.SSHTransport(host, pins or KnownHosts(), identity, timings=timings)


def test_output_and_exit_code_are_unchanged(link: ssh.SSHTransport) -> None:
    done = link.run(r"printf 'a\377\0b'; printf 'c\n' >&2; exit 7", deadline=Deadline.after(10))

    assert (done.stdout, done.stderr, done.exit_code) == (b"a\xff\0b", b"c\n", 7)


def test_megabytes_on_both_streams_do_not_deadlock(
    link: ssh.SSHTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ERROR_OUTPUT", 5_000_000)
    half = "head -c 4000000 /dev/zero"

    done = link.run(f"{half} >&2; {half}", deadline=Deadline.after(30), max_output=4_000_000)

    assert (len(done.stdout), len(done.stderr)) == (4_000_000, 4_000_000)


def test_endless_error_output_is_ended(link: ssh.SSHTransport) -> None:
    with pytest.raises(mv.OversizedOutput, match="over 1048576 bytes of errors"):
        link.run("yes >&2", deadline=Deadline.after(20))


def test_endless_command_ends_at_the_deadline(link: ssh.SSHTransport) -> None:
    began = time.monotonic()

    with pytest.raises(mv.CommandTimeout, match="lab: no answer"):
        link.run("sleep 30", deadline=Deadline.after(0.7))

    assert time.monotonic() - began < 30.0
    assert link.run("echo on", deadline=Deadline.after(10)).stdout == b"on\n"
    assert link.connections_made == 1


def test_endless_output_is_ended(link: ssh.SSHTransport) -> None:
    with pytest.raises(mv.OversizedOutput, match="over 1000000 bytes"):
        link.run("yes", deadline=Deadline.after(20), max_output=1_000_000)

    assert link.run("echo on", deadline=Deadline.after(10)).stdout == b"on\n"


def test_thirty_parallel_commands_share_one_connection(link: ssh.SSHTransport) -> None:
    with futures.ThreadPoolExecutor(30) as threads:
        asked = [
            threads.submit(link.run, f"sleep 0.05; echo {n}", deadline=Deadline.after(30))
            for n in range(30)
        ]
        answers = [one.result().stdout for one in asked]

    assert answers == [f"{n}\n".encode() for n in range(30)]
    assert link.connections_made == 1


def test_no_packet_waits_for_a_delayed_acknowledgement(
    link: ssh.SSHTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets: list[socket.socket] = []
    connect = socket.create_connection

    def remember(address: tuple[str, int], timeout: float) -> socket.socket:
        sock = connect(address, timeout)
        sockets.append(sock.dup())  # which shares its options
        return sock

    monkeypatch.setattr(socket, "create_connection", remember)
    link.run("true", deadline=Deadline.after(10))

    # A command takes 44 ms without this option and 3.5 ms with it (measured).
    with sockets[0]:
        assert sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_refused_key_is_reported_and_not_tried_again_at_once(sshd: real.SSHD) -> None:
    refused = connected(sshd, key="wrong_client")
    public = (sshd.folder / "wrong_client.pub").read_text().split()[1]

    for _ in range(5):
        with pytest.raises(mv.LoginRefused, match="authorized_keys") as caught:
            refused.run("true", deadline=Deadline.after(10))
        assert public in str(caught.value)

    assert sshd.logins() == 1


def test_login_is_tried_again_after_the_pause() -> None:
    timings = ssh.Timings(refused_pauses=(0.2, 0.2))
    with Simulator() as simulator:
        (host,) = mv.parse_hosts(simulator.host_entry)
        identity = ssh_login.load_identity(simulator.key_file)
        link = ssh.SSHTransport(host, KnownHosts(), identity, timings=timings)
        simulator.refuse_logins()
        with pytest.raises(mv.LoginRefused):
            link.run("true", deadline=Deadline.after(10))

        simulator.refuse_logins(refuse=False)
        time.sleep(0.3)

        link.run("true", deadline=Deadline.after(10))
        assert link.connections_made == 1
        link.close()


def test_slow_name_resolution_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answered = threading.Event(), threading.Event()

    def hang(*_arguments: object, **_options: object) -> list[object]:
        asked.set()
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    (host,) = mv.parse_hosts("ivan@nosuch.invalid")
    link = ssh.SSHTransport(host, KnownHosts())

    with pytest.raises(mv.HostUnreachable, match="does not answer within"):
        link.run("true", deadline=Deadline.after(0.3))

    assert asked.is_set()
    answered.set()


def test_closed_port_error_says_what_to_enable(sshd: real.SSHD) -> None:
    link = connected(sshd)
    sshd.stop()

    with pytest.raises(mv.HostUnreachable, match=r"refused; is its SSH server .* on\?"):
        link.run("true", deadline=Deadline.after(10))


def test_name_that_does_not_resolve_is_reported(sshd: real.SSHD) -> None:
    (host,) = mv.parse_hosts("ivan@nosuch.invalid")
    link = ssh.SSHTransport(host, KnownHosts(), ssh_login.load_identity(sshd.key_file))

    with pytest.raises(mv.HostUnreachable, match=r"the name nosuch\.invalid does not resolve"):
        link.run("true", deadline=Deadline.after(10))


@pytest.mark.parametrize("answer", [None, b""], ids=["silent", "closes"])
def test_port_without_ssh_is_an_unreachable_host(sshd: real.SSHD, answer: bytes | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        held: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                held.append(listener.accept()[0])
                if answer is not None:
                    held[0].close()

        threading.Thread(target=accept, daemon=True).start()
        (host,) = mv.parse_hosts(f"ivan@127.0.0.1:{listener.getsockname()[1]}")
        link = ssh.SSHTransport(
            host,
            KnownHosts(),
            ssh_login.load_identity(sshd.key_file),
            timings=ssh.Timings(connect_timeout=1.0),
        )
        began = time.monotonic()

        with pytest.raises(mv.HostUnreachable, match=r"SSH in time|closed the connection"):
            link.run("true", deadline=Deadline.after(10))

        assert time.monotonic() - began < 10.0
        for sock in held:
            sock.close()


def test_changed_host_key_is_refused_with_both_fingerprints(sshd: real.SSHD) -> None:
    pins = KnownHosts()
    connected(sshd, pins=pins).run("true", deadline=Deadline.after(10))
    sshd.stop()
    sshd.start("other_host")

    with pytest.raises(mv.HostKeyChanged) as caught:
        connected(sshd, pins=pins).run("touch /tmp/never", deadline=Deadline.after(10))

    assert caught.value.presented != caught.value.pinned[0]
    assert "Accepted publickey" not in sshd.log_file.read_text()


def test_host_key_of_the_host_list_is_checked(sshd: real.SSHD) -> None:
    right = (sshd.folder / "host.pub").read_text().split()[1]
    wrong = (sshd.folder / "other_host.pub").read_text().split()[1]

    assert (
        connected(sshd, f"host-key={right}").run("echo in", deadline=Deadline.after(10)).stdout
        == b"in\n"
    )
    with pytest.raises(mv.HostKeyChanged):
        connected(sshd, f"host-key={wrong}").run("true", deadline=Deadline.after(10))


def test_connection_that_broke_while_idle_is_replaced(
    sshd: real.SSHD, link: ssh.SSHTransport
) -> None:
    link.run("true", deadline=Deadline.after(10))
    sshd.break_connections()
    connection = link._connection  # pyright: ignore[reportPrivateUsage]
    while connection is not None and connection.is_alive():
        time.sleep(0.01)

    assert link.run("echo again", deadline=Deadline.after(10)).stdout == b"again\n"
    assert link.connections_made == 2


def test_connection_that_breaks_during_a_command_is_an_error(
    sshd: real.SSHD, link: ssh.SSHTransport, tmp_path: Path
) -> None:
    began = tmp_path / "began"

    def break_connections() -> None:
        while not began.exists():
            time.sleep(0.01)
        sshd.break_connections()

    threading.Thread(target=break_connections, daemon=True).start()

    with pytest.raises(mv.ConnectionLost, match="broke during a command"):
        link.run(f"touch '{began}'; sleep 60", deadline=Deadline.after(60))

    assert link.run("echo again", deadline=Deadline.after(10)).stdout == b"again\n"


def test_deadline_on_a_broken_connection_is_only_a_timeout(
    link: ssh.SSHTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(channel: paramiko.Channel) -> None:
        close(channel)
        raise EOFError  # as paramiko does when the peer has closed the socket

    close = paramiko.Channel.close
    monkeypatch.setattr(paramiko.Channel, "close", gone)

    with pytest.raises(mv.CommandTimeout):
        link.run("sleep 5", deadline=Deadline.after(0.5))


def test_connection_is_replaced_after_many_commands(sshd: real.SSHD) -> None:
    link = connected(sshd, timings=ssh.Timings(commands_per_connection=5))

    for number in range(12):
        assert (
            link.run(f"echo {number}", deadline=Deadline.after(10)).stdout
            == f"{number}\n".encode()
        )

    assert link.connections_made == 3


def test_command_ended_by_a_signal_exits_above_128(link: ssh.SSHTransport) -> None:
    assert link.run("kill -9 $$", deadline=Deadline.after(10)).exit_code >= 128


def test_run_after_close_raises_closed(link: ssh.SSHTransport) -> None:
    link.run("true", deadline=Deadline.after(10))
    link.close()

    with pytest.raises(mv.Closed, match="closed"):
        link.run("true", deadline=Deadline.after(10))


def test_load_identity_explains_an_unusable_file(tmp_path: Path) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("hello")

    with pytest.raises(mv.IdentityError, match="No such file"):
        ssh_login.load_identity(tmp_path / "nosuch")
    with pytest.raises(mv.IdentityError, match="not a private key"):
        ssh_login.load_identity(garbage)
