# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Accepts the connections of clients, counts them, and closes those there is no room for.

asyncio and uvloop have servers of their own. This takes their place because they show a
connection only after its TLS handshake, accept without a limit, and meet a lack of file
descriptors by refusing whoever waits (uvloop) or by accepting nobody for a second (asyncio).
uvicorn's `limit_concurrency` answers 503 to everybody, MAAS included.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox.service.admission import Admission
from maas_virtualbox.service.auth import LOCAL
from maas_virtualbox.service.http_protocol import LimitedProtocol
from maas_virtualbox.service.wrong_tokens import sender_of

if TYPE_CHECKING:
    import socket
    import ssl

    import uvicorn

    from maas_virtualbox.service.metrics import CloseReason, Metrics

log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN = 16
"""Then the event loop reads: a request that has arrived must be seen before its connection may
have to make room."""
_SWEEP_S = 1.0
_SHORTAGE_PAUSE_S = 0.5
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_CLOSED_IN_SHORTAGE = 16
_LOG_PAUSE_S = 10.0
_MAX_LOGGED_SENDERS = 1000


class Listener:
    """One listening socket and its connections. Belongs to one event loop."""

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
        """Begin to accept.

        Args:
            server: uvicorn's, which answers the requests.
            listening: the socket; `close` closes it.
            limit: how many connections there may be.
            metrics: where they are counted.
            is_local: whether it is the UNIX socket, whose clients need no token.
            tls: for HTTPS.
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
        self._closed_of: collections.Counter[str] = collections.Counter()
        self._logged = self._shortage_logged = float("-inf")
        self._is_accepting = False
        self._is_closed = False
        self._paused_until = float("-inf")
        listening.settimeout(0)
        socket_name = "unix" if is_local else "tcp"
        metrics.watch_connections(socket_name, "anonymous", self._admission.count_anonymous)
        metrics.watch_connections(
            socket_name, "authenticated", self._admission.count_authenticated
        )
        self.resize(limit)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)
        self._accept_again()

    def resize(self, limit: int) -> None:
        """Set how many connections there may be; takes effect with the next one."""
        self._admission.limit = limit
        self._metrics.connection_limit.labels("unix" if self._is_local else "tcp").set(limit)

    def close(self) -> None:
        """Stop accepting. Connections that are open stay, without limits."""
        self._is_closed = True
        self._timer.cancel()
        self._stop_accepting()
        self._listening.close()

    # -- Accepting ----------------------------------------------------------------------------

    def _accept_again(self) -> None:
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
        for _ in range(_ACCEPTS_PER_TURN):
            if self._admission.is_full():
                self._stop_accepting()  # until `_forget`
                return
            try:
                accepted, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as error:
                self._pause(error)
                return
            accepted.settimeout(0)
            sender = None if self._is_local else sender_of(address[0])
            self._admit(accepted, sender)

    def _pause(self, error: OSError) -> None:
        """Accept nobody for a moment. Clients wait in the kernel's queue."""
        self._stop_accepting()
        self._paused_until = time.monotonic() + _SHORTAGE_PAUSE_S
        self._loop.call_later(_SHORTAGE_PAUSE_S, self._accept_again)
        if error.errno in _SHORTAGES:
            for _ in range(_CLOSED_IN_SHORTAGE):
                if (loser := self._admission.first_to_close()) is not None:
                    self._end(loser, "shortage")
        if time.monotonic() - self._shortage_logged >= _LOG_PAUSE_S:
            self._shortage_logged = time.monotonic()
            log.warning("no connection can be accepted at the moment: %s", error.strerror)

    def _admit(self, accepted: socket.socket, sender: str | None) -> None:
        connection = LimitedProtocol(
            self._server,
            accepted,
            sender,
            {LOCAL: True} if self._is_local else {},
            on_authenticated=self._admission.authenticate,
            on_lost=self._forget,
        )
        for removed, reason in self._admission.add(connection):
            if removed is connection:
                accepted.close()
                self._count(connection, reason)
                return
            self._end(removed, reason)
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
            self._accept_again()
        else:
            if self._is_closed:
                connection.shutdown()  # uvicorn has called it for all others already

    # -- Closing ------------------------------------------------------------------------------

    def _forget(self, connection: LimitedProtocol) -> None:
        self._admission.remove(connection)
        self._accept_again()

    def _end(self, connection: LimitedProtocol, reason: CloseReason) -> None:
        self._admission.remove(connection)
        self._count(connection, reason)
        connection.hang_up()

    def _sweep(self) -> None:
        """Close the connections whose clients keep the service waiting."""
        for connection in self._admission.connections():
            if connection.is_overdue():
                self._end(connection, "idle")
        self._report()
        self._accept_again()
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def _count(self, connection: LimitedProtocol, reason: CloseReason) -> None:
        self._metrics.closed_connections.labels(reason).inc()
        self._closed[reason] += 1
        sender = connection.sender or "the UNIX socket"
        if sender in self._closed_of or len(self._closed_of) < _MAX_LOGGED_SENDERS:
            self._closed_of[sender] += 1

    def _report(self) -> None:
        """Log what has been closed: one line, however many connections and senders there are."""
        if not self._closed or time.monotonic() - self._logged < _LOG_PAUSE_S:
            return
        self._logged = time.monotonic()
        log.warning(
            "closed %d connections of clients (%s); most are of %s (%d)",
            self._closed.total(),
            ", ".join(f"{reason}: {count}" for reason, count in sorted(self._closed.items())),
            *self._closed_of.most_common(1)[0],
        )
        self._closed.clear()
        self._closed_of.clear()
