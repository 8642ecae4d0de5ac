# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Notify systemd of the service's state, and let it store the listening sockets over a restart.

The protocols are sd_notify(3), sd_listen_fds(3) and sd_pid_notify_with_fds(3). They need only the
lines below. The packages on PyPI that wrap them have had no release for years, or need libsystemd.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIRST_FD = 3
_STORED_NAME = "listening"
"""The name of the stored sockets in systemd."""


def take_stored_sockets() -> list[socket.socket]:
    """Take over the listening sockets that systemd has stored for this process, if any.

    systemd no longer stores them afterwards. If this process ends before it calls
    `store_sockets`, clients are refused at once. Otherwise MAAS, which has no read timeout, would
    wait for a service that does not start.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    _notify(f"FDSTOREREMOVE=1\nFDNAME={_STORED_NAME}")
    numbers = range(_FIRST_FD, _FIRST_FD + int(count))
    stored = [
        socket.socket(fileno=number)
        for number in numbers
        if stat.S_ISSOCK(os.fstat(number).st_mode)
    ]
    for listening in stored:
        listening.set_inheritable(False)
    return stored


def store_sockets(sockets: Sequence[socket.socket]) -> bool:
    """Let systemd store listening sockets for `take_stored_sockets` of the next process.

    Clients that connect while the service does not run wait for the next process. The unit's
    FileDescriptorStoreMax must be large enough. Return whether systemd was notified.
    """
    return _notify(f"FDSTORE=1\nFDNAME={_STORED_NAME}", sockets)


def notify_ready(status: str) -> None:
    """Notify systemd that the service is ready, or that a reload has ended."""
    _notify(f"READY=1\nSTATUS={status}")


def notify_reloading() -> None:
    """Notify systemd that a reload has begun. `notify_ready` ends it."""
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def notify_stopping() -> None:
    """Notify systemd that the service stops."""
    _notify("STOPPING=1")


def notify_alive() -> None:
    """Notify systemd's watchdog that the service works."""
    _notify("WATCHDOG=1")


def watchdog_timeout() -> float | None:
    """Return the seconds without a notification after which systemd restarts the service.

    None: there is no watchdog.
    """
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or not int(usec) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _notify(message: str, sockets: Sequence[socket.socket] = ()) -> bool:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.connect(address)
            socket.send_fds(notify, [message.encode()], [stored.fileno() for stored in sockets])
    except OSError:
        return False  # nobody receives notifications any more, which is not a reason to stop
    return True
