# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Queries of the running power service, over its UNIX socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from typing import TYPE_CHECKING

from maas_virtualbox.schemas import HostView
from workload._errors import WorkloadError
from workload._files import NAME, SOCKET

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 15.0


def list_hosts(root: Path) -> list[HostView]:
    """Return the hosts of the service, which polls each host unless its state is fresh.

    Raises:
        WorkloadError: The service does not answer.
    """
    try:
        with contextlib.closing(_LocalConnection(root / SOCKET)) as connection:
            connection.request("GET", "/api/v1/hosts")
            answer = json.loads(connection.getresponse().read())
        return [HostView.model_validate(host) for host in answer["hosts"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        raise WorkloadError(
            f"the power service does not answer: see `sudo journalctl -u {NAME}` on this unit"
        ) from None


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over the service's UNIX socket, which needs no token."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
