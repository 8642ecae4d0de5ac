# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated host that stops answering at a chosen point and keeps its connections open."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

from maas_virtualbox.simulator import Simulator, server
from maas_virtualbox.transport import ssh

if TYPE_CHECKING:
    from collections.abc import Generator

    import paramiko

CONNECT, BANNER, LOGIN, CHANNEL, COMMAND, HALF_AN_ANSWER = POINTS = (
    "connect",
    "banner",
    "login",
    "channel",
    "command",
    "half an answer",
)
"""Where the host hangs: before the TCP connection is accepted, before the SSH banner, before the
login is accepted, before the channel is opened, before the command is answered, and in the middle
of the answer."""

LIBRARY_TIMEOUT_S = ssh.Timings().connect_timeout
"""The shortest timeout of the library itself. A call that ends sooner obeyed its caller's."""


@contextlib.contextmanager
def hanging_host(point: str, vms: int = 1) -> Generator[tuple[Simulator, str]]:
    """Start a host that hangs at a point. Return its simulator and its entry for a host list."""
    with Simulator(vms=vms) as simulator, contextlib.ExitStack() as cleanup:
        if point in (CONNECT, BANNER):
            port = cleanup.enter_context(_silent_port(is_connectable=point == BANNER))
            yield simulator, f"{simulator.user}@127.0.0.1:{port}"
            return
        end = threading.Event()
        cleanup.enter_context(_hang(point, end))
        cleanup.callback(end.set)
        yield simulator, simulator.host_entry


@contextlib.contextmanager
def _silent_port(*, is_connectable: bool) -> Generator[int]:
    """Listen and never accept; with a full backlog, the kernel does not accept either."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(128 if is_connectable else 0)
        for _ in range(0 if is_connectable else 2):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def _hang(point: str, end: threading.Event) -> contextlib.AbstractContextManager[object]:
    """Replace a method of the simulator's SSH server by one that waits for the end."""
    owner, name = {
        LOGIN: (server.SSHServer, "accepts"),
        CHANNEL: (server._Session, "check_channel_request"),  # pyright: ignore[reportPrivateUsage]
        COMMAND: (server.SSHServer, "serve"),
        HALF_AN_ANSWER: (server.SSHServer, "serve"),
    }[point]
    original = getattr(owner, name)

    def hang_first(*arguments: Any) -> Any:
        end.wait()
        return original(*arguments)

    def send_half(
        ssh: server.SSHServer, session: object, channel: paramiko.Channel, command: str
    ) -> None:
        del session
        stdout, _, _ = ssh._execute(command, lambda: channel.closed)  # pyright: ignore[reportPrivateUsage]
        with contextlib.suppress(OSError):
            channel.sendall(stdout[: len(stdout) // 2])
        end.wait()

    return mock.patch.object(owner, name, send_half if point == HALF_AN_ANSWER else hang_first)
