# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Open the listening sockets, accept client connections, and close those beyond the limit.

`Listener` replaces the servers of asyncio and uvloop, which report a connection only after its TLS
handshake and accept without a limit. Without free file descriptors, uvloop refuses waiting clients
and asyncio accepts no connection for a second. uvicorn's `limit_concurrency` answers 503 to all
clients, including MAAS. Which connections are closed belongs to `connections`.

systemd stores the sockets while it restarts the service (see `systemd`), so that no client is
refused: a client that connects between two processes is answered by the second one. There are two
reasons not to use a socket unit. A socket unit also listens for a service that is stopped or
broken, and MAAS, which has no read timeout, would wait for it with all its machines. And a change
of the configuration takes effect at once, wherever the previous process listened.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import errno
import logging
import os
import socket
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.service.auth import LOCAL
from maas_virtualbox.service.connections import Admission, source_of
from maas_virtualbox.service.http_protocol import LimitedProtocol

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from pathlib import Path

    import uvicorn

    from maas_virtualbox.config.config_file import Config, Listen
    from maas_virtualbox.service.metrics import CloseReason, Metrics

log = logging.getLogger(__name__)

_MAX_ACCEPTS = 16
"""Connections that are accepted before the event loop reads from the others again. A request that
has arrived must be read before its connection can be closed for a new one."""

_OVERDUE_INTERVAL_S = 1.0
"""How often connections are closed whose clients have exceeded a time limit."""

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""The errors of `accept` that pass when connections are closed."""

_SHORTAGE_PAUSE_S = 0.5
"""Seconds for which no connection is accepted after such an error."""

_CLOSED_IN_SHORTAGE = 16
"""Connections that are closed after such an error."""

_LOG_INTERVAL_S = 10.0
"""The shortest time between two log lines of one type."""

_MAX_LOGGED_SOURCES = 1000
"""Sources that are counted for one log line."""

_BACKLOG = 2048
"""Connections that may wait in the kernel's queue of a socket."""


class Listener:
    """One listening socket and its connections.

    `process` creates one for TCP and one for the UNIX socket. It belongs to one event loop.
    """

    def __init__(
        self,
        server: uvicorn.Server,
        listening: socket.socket,
        limit: int,
        metrics: Metrics,
        *,
        is_local: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Start to accept connections.

        Args:
            server: the server whose application answers the requests.
            listening: the listening socket. `close` closes it.
            limit: how many connections may be open.
            metrics: counts the connections.
            is_local: whether this is the UNIX socket, whose clients need no token.
            tls: the context for HTTPS. None: plain HTTP.
        """
        self._server = server
        self._listening = listening
        self._metrics = metrics
        self._is_local = is_local
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._admission = Admission[LimitedProtocol](limit)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed: collections.Counter[CloseReason] = collections.Counter()
        self._closed_by_source: collections.Counter[str] = collections.Counter()
        self._closed_logged = self._shortage_logged = float("-inf")
        self._is_accepting = False
        self._is_closed = False
        self._paused_until = float("-inf")
        listening.settimeout(0)
        self._name = "unix" if is_local else "tcp"
        metrics.watch_connections(self._name, "anonymous", self._admission.count_anonymous)
        metrics.watch_connections(self._name, "authenticated", self._admission.count_authenticated)
        self.set_limit(limit)
        self._timer = self._loop.call_later(_OVERDUE_INTERVAL_S, self._close_overdue)
        self._start_accepting()

    def set_limit(self, limit: int) -> None:
        """Set how many connections may be open, from the next connection on."""
        self._admission.limit = limit
        self._metrics.connection_limit.labels(self._name).set(limit)

    def close(self) -> None:
        """Stop accepting. Open connections stay open, without limits."""
        self._is_closed = True
        self._timer.cancel()
        self._stop_accepting()
        self._listening.close()

    # -- Accepting ----------------------------------------------------------------------------

    def _start_accepting(self) -> None:
        if self._is_accepting or self._is_closed:
            return
        if time.monotonic() >= self._paused_until:
            self._is_accepting = True
            self._loop.add_reader(self._listening.fileno(), self._accept_some)

    def _stop_accepting(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._listening.fileno())

    def _accept_some(self) -> None:
        for _ in range(_MAX_ACCEPTS):
            if self._admission.is_full():
                self._stop_accepting()  # until `_forget` is called
                return
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._pause_after(error)
                return
            accepted.settimeout(0)
            self._add(accepted, None if self._is_local else source_of(address[0]))

    def _pause_after(self, error: OSError) -> None:
        """Accept no connection for a moment. Clients wait in the kernel's queue."""
        self._stop_accepting()
        self._paused_until = time.monotonic() + _SHORTAGE_PAUSE_S
        self._loop.call_later(_SHORTAGE_PAUSE_S, self._start_accepting)
        if error.errno in _SHORTAGES:
            for _ in range(_CLOSED_IN_SHORTAGE):
                if (connection := self._admission.first_to_close()) is not None:
                    self._close(connection, "shortage")
        if time.monotonic() - self._shortage_logged >= _LOG_INTERVAL_S:
            self._shortage_logged = time.monotonic()
            log.warning("cannot accept connections at the moment: %s", error.strerror)

    def _add(self, accepted: socket.socket, source: str | None) -> None:
        connection = LimitedProtocol(
            self._server,
            accepted,
            source,
            {LOCAL: True} if self._is_local else {},
            on_authenticated=self._admission.authenticate,
            on_lost=self._forget,
        )
        for removed, reason in self._admission.add(connection):
            if removed is connection:
                accepted.close()
                self._count(connection, reason)
                return
            self._close(removed, reason)
        task = self._loop.create_task(self._connect(connection, accepted))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, connection: LimitedProtocol, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=self._tls)
        except OSError:
            accepted.close()
            if self._admission.remove(connection):
                self._count(connection, "handshake")
            self._start_accepting()
        else:
            if self._is_closed:
                connection.shutdown()  # uvicorn has already called it for all others

    # -- Closing ------------------------------------------------------------------------------

    def _forget(self, connection: LimitedProtocol) -> None:
        self._admission.remove(connection)
        self._start_accepting()

    def _close(self, connection: LimitedProtocol, reason: CloseReason) -> None:
        self._admission.remove(connection)
        self._count(connection, reason)
        connection.hang_up()

    def _close_overdue(self) -> None:
        """Close the connections whose clients have exceeded a time limit."""
        for connection in self._admission.connections():
            if connection.is_overdue():
                self._close(connection, "idle")
        self._log_closed()
        self._start_accepting()
        self._timer = self._loop.call_later(_OVERDUE_INTERVAL_S, self._close_overdue)

    def _count(self, connection: LimitedProtocol, reason: CloseReason) -> None:
        self._metrics.closed_connections.labels(reason).inc()
        self._closed[reason] += 1
        source = connection.source or "the UNIX socket"
        if source in self._closed_by_source or len(self._closed_by_source) < _MAX_LOGGED_SOURCES:
            self._closed_by_source[source] += 1

    def _log_closed(self) -> None:
        """Log which connections were closed, in one line for all of them."""
        if not self._closed or time.monotonic() - self._closed_logged < _LOG_INTERVAL_S:
            return
        self._closed_logged = time.monotonic()
        log.warning(
            "closed %d client connections (%s); most were from %s (%d)",
            self._closed.total(),
            ", ".join(f"{reason}: {count}" for reason, count in sorted(self._closed.items())),
            *self._closed_by_source.most_common(1)[0],
        )
        self._closed.clear()
        self._closed_by_source.clear()


# -- Listening sockets --------------------------------------------------------------------------


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
            _abandon(candidate)
    return ListeningSockets(
        tcp or _listen(config.listen), unix or _listen_unix(config.socket_file)
    )


def _is_socket_of(path: Path | None, name: object) -> bool:
    return path is not None and name == str(path) and path.is_socket()


def _abandon(stored: socket.socket) -> None:
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
