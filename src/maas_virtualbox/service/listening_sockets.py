# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Open the listening sockets that the configuration names: one for TCP, and the UNIX socket.

systemd stores the sockets while it restarts the service (see `systemd`), so that no client is
refused: a client that connects between two processes is answered by the second one. There are two
reasons not to use a socket unit. A socket unit also listens for a service that is stopped or
broken, and MAAS, which has no read timeout, would wait for it with all its machines. And a change
of the configuration takes effect at once, wherever the previous process listened.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import socket
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from maas_virtualbox.config.config_file import Config, Listen

_BACKLOG = 2048


@dataclasses.dataclass(frozen=True, slots=True)
class ListeningSockets:
    """The sockets on which the service listens."""

    tcp: socket.socket
    unix: socket.socket | None


def open_sockets(config: Config, stored: Iterable[socket.socket]) -> ListeningSockets:
    """Listen where the configuration says, on the stored sockets if they are the right ones.

    Args:
        config: its `listen` and `socket_file` say where.
        stored: the sockets of the previous process. Those that are not needed are closed.

    Raises:
        ConfigError: an address or path cannot be used.
    """
    tcp: socket.socket | None = None
    unix: socket.socket | None = None
    for candidate in stored:
        name = candidate.getsockname()
        if name[:2] == (config.listen.address, config.listen.port):
            tcp = candidate
        elif _is_socket_of(config.socket_file, name):
            unix = candidate
        else:
            _close(candidate)
    return ListeningSockets(
        tcp or _listen(config.listen), unix or _listen_unix(config.socket_file)
    )


def _is_socket_of(path: Path | None, name: object) -> bool:
    return path is not None and name == str(path) and path.is_socket()


def _close(stored: socket.socket) -> None:
    # Another process may have the socket too. Shutting it down frees the port nevertheless.
    with contextlib.suppress(OSError):
        stored.shutdown(socket.SHUT_RDWR)
    stored.close()


def _listen(listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
    try:
        return socket.create_server(
            (listen.address, listen.port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=family is socket.AF_INET6 and listen.address == "::",
        )
    except OSError as error:
        raise errors.ConfigError(f"listen: {listen} cannot be used: {error.strerror}") from None


def _listen_unix(path: Path | None) -> socket.socket | None:
    """Listen on the UNIX socket. Replace the file of a process that has ended."""
    if path is None:
        return None
    listening = socket.socket(socket.AF_UNIX)
    try:
        _remove_unused(path)
        # The file is created with its permissions. A later chmod could change another file.
        umask = os.umask(0o117)
        try:
            listening.bind(str(path))
        finally:
            os.umask(umask)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise errors.ConfigError(
            f"socket-file: {path} cannot be used: {error.strerror or error}"
        ) from None
    return listening


def _remove_unused(path: Path) -> None:
    """Remove the file of a UNIX socket on which nobody listens."""
    with socket.socket(socket.AF_UNIX) as probe:
        if path.is_socket() and probe.connect_ex(str(path)) == errno.ECONNREFUSED:
            path.unlink()
