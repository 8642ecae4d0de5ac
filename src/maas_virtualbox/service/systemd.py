# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how we are: sd_notify(3), a datagram of text to the socket it names; and the
listening sockets it keeps for the next process, sd_listen_fds(3) and sd_pid_notify_with_fds(3).

Our own because the protocols are these lines, and the packages on PyPI that wrap them have had no
release for years or bring libsystemd with them.
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
_KEPT = "listening"
"""What systemd calls the sockets it keeps."""


def given_sockets() -> list[socket.socket]:
    """Take over the listening sockets that systemd has for this process; there may be none.

    It keeps them no longer: if this process ends before `keep`, whoever connects is refused at
    once. MAAS has no read timeout, and would wait for a service that does not start.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    _notify(f"FDSTOREREMOVE=1\nFDNAME={_KEPT}")
    numbers = range(_FIRST_FD, _FIRST_FD + int(count))
    given = [
        socket.socket(fileno=number)
        for number in numbers
        if stat.S_ISSOCK(os.fstat(number).st_mode)
    ]
    for each in given:
        each.set_inheritable(False)
    return given


def keep(sockets: Sequence[socket.socket]) -> bool:
    """Let systemd keep listening sockets over a restart, for `given_sockets` of the next process.

    Whoever connects while none of our processes runs waits for the next one. The unit's
    FileDescriptorStoreMax must have room for them. Returns whether there is a systemd to ask.
    """
    return _notify(f"FDSTORE=1\nFDNAME={_KEPT}", sockets)


def ready(status: str) -> None:
    """Say that the service serves."""
    _notify(f"READY=1\nSTATUS={status}")


def reloading() -> None:
    """Say that the configuration is being read anew; `ready` ends it."""
    _notify(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping() -> None:
    """Say that the service stops."""
    _notify("STOPPING=1")


def still_alive() -> None:
    """Keep the watchdog from restarting us."""
    _notify("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """Return after how many seconds of silence systemd restarts us; None: never."""
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
            socket.send_fds(notify, [message.encode()], [each.fileno() for each in sockets])
    except OSError:
        return False  # whoever started us is not listening any more; that is no reason to stop
    return True
