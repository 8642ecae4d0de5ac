# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""paramiko's transports, made alike for the client and for the simulator's server.

paramiko logs every broken connection with its traceback, which Python prints to standard error
where a program has not configured logging. The connection's error says the same in a sentence.
Therefore our transports log to a channel that nobody sees unless a program asks for it:

    logging.getLogger(paramiko_transport.LOG_CHANNEL).addHandler(logging.StreamHandler())
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import paramiko

if TYPE_CHECKING:
    import socket

LOG_CHANNEL = "maas_virtualbox.paramiko"
"""The name of the logger of all our transports; it has a handler only where a program adds one."""

_log = logging.getLogger(LOG_CHANNEL)
_log.propagate = False
_log.addHandler(logging.NullHandler())


def new_transport(sock: socket.socket) -> paramiko.Transport:
    """Return a transport over a connected socket, on a thread that keeps no program from ending.

    Raises:
        SSHException, OSError: the socket is of no use.
    """
    transport = paramiko.Transport(sock)
    transport.daemon = True
    transport.set_log_channel(LOG_CHANNEL)
    return transport
