# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""paramiko's transports, with this package's log channel and with limits for a hostile peer.

paramiko logs every broken connection with a traceback. Python prints it to standard error if the
program has not configured logging. Our own error says the same in one sentence, so these
transports log to a logger whose lines nobody sees unless a program asks for them:

    logging.getLogger("maas_virtualbox.paramiko").addHandler(logging.StreamHandler())

paramiko also reads packets of up to 4 GiB, stores what a peer sends beyond the window that it was
given, and uses as much processor time for a peer as the peer likes. `LimitedSocket` and
`LimitedBuffer` set limits. The client uses all of this; the simulator's server needs only the log
channel.
"""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import paramiko
from paramiko import buffered_pipe

from maas_virtualbox.transport import cpu_throttle

if TYPE_CHECKING:
    _BufferedPipe = buffered_pipe.BufferedPipe[bytes]
else:
    _BufferedPipe = buffered_pipe.BufferedPipe

LOG_CHANNEL = "maas_virtualbox.paramiko"
"""The name of the logger of all transports. Only a program adds handlers to it."""

MAX_PACKET = 256 * 1024
"""Bytes of the largest SSH packet. paramiko asks for 32 KiB; OpenSSH accepts at most this size."""

WINDOW = 2 * 1024 * 1024
"""Bytes that a host may send on a channel before the client has read them."""

_log = logging.getLogger(LOG_CHANNEL)
_log.propagate = False
_log.addHandler(logging.NullHandler())


def new_transport(sock: socket.socket) -> paramiko.Transport:
    """Return a transport over a connected socket. Its thread does not keep the program running.

    Raises:
        SSHException, OSError: the socket cannot be used.
    """
    transport = paramiko.Transport(sock)
    transport.daemon = True
    transport.set_log_channel(LOG_CHANNEL)
    return transport


class LimitedSocket(socket.socket):
    """A connection's socket that limits packet sizes and processor time.

    paramiko reads on one thread, and asks for as many bytes as the peer has announced.
    """

    def __init__(self, connected: socket.socket) -> None:
        """Take over a connected socket, which must not be used any more."""
        super().__init__(fileno=connected.detach())
        self._throttle = cpu_throttle.CPUThrottle()

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive, unless the peer has announced a packet that is too large."""
        if bufsize > MAX_PACKET:
            raise paramiko.SSHException(f"the host announces a packet of {bufsize} bytes")
        self._throttle.pause()
        return super().recv(bufsize, flags)


class LimitedBuffer(_BufferedPipe):
    """The bytes that were received on a channel and not read yet: at most `WINDOW`."""

    def feed(self, data: bytes) -> None:
        """Add received bytes. More than the window ends the connection."""
        if len(self) + len(data) > WINDOW:
            raise paramiko.SSHException("the host sent more than its window allows")
        super().feed(data)
