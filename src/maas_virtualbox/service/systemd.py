# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Telling systemd how we are: sd_notify(3), a datagram of text to the socket it names.

Our own because the protocol is these lines, and the packages on PyPI that wrap it have had no
release for years or bring libsystemd with them.
"""

from __future__ import annotations

import os
import socket
import time


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


def _notify(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.connect(address)
            notify.sendall(message.encode())
    except OSError:
        return  # whoever started us is not listening any more; that is no reason to stop
