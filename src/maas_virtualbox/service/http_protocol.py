# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 with limits that uvicorn does not have.

The limits are the size of a request's head, and the time that a client has to send a request and
to read the response. `connections` decides which connections are closed when there are too many.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http import httptools_impl

from maas_virtualbox.service.auth import ON_AUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Callable

    import uvicorn
    from typing_extensions import Self

_MAX_HEAD_BYTES = 32 * 1024
"""Bytes of the request line and the headers."""

_CLIENT_TIMEOUT_S = 10.0
"""Seconds that a client has for each of these: the TLS handshake and the first request together,
each further request, reading a response. MAAS's requests fit in one packet."""

_LAST_REQUEST_TIMEOUT_S = 0.5
"""Seconds to send a request for a client that connected just before the service stopped."""


class LimitedProtocol(httptools_impl.HttpToolsProtocol):
    """One connection of a client that may be hostile.

    `listener.Listener` creates it when it has accepted the connection, before the TLS handshake.
    It belongs to the event loop.
    """

    def __init__(
        self,
        server: uvicorn.Server,
        accepted: socket.socket,
        source: str | None,
        app_state: dict[str, Any],
        *,
        on_authenticated: Callable[[Self], None],
        on_lost: Callable[[Self], None],
    ) -> None:
        """Prepare for a connection.

        Args:
            server: the server whose application answers the requests.
            accepted: the socket of the connection.
            source: the `connections.source_of` the client. None: the client uses the UNIX socket.
            app_state: the `state` of requests.
            on_authenticated: called when a request has presented a right token.
            on_lost: called when the connection is closed, unless the TLS handshake failed.
        """
        app_state[ON_AUTHENTICATED] = lambda: on_authenticated(self)
        super().__init__(server.config, server.server_state, app_state)
        self.source = source
        self._accepted = accepted
        self._on_lost = on_lost
        self._is_connected = False
        self._waiting_since = time.monotonic()
        self._is_receiving = True
        self._head_bytes = 0
        self._in_head = True
        self._is_last = False
        self._last_request: asyncio.TimerHandle | None = None
        self._unanswered: collections.deque[httptools_impl.RequestResponseCycle]
        self._unanswered = collections.deque()

    def is_idle(self) -> bool:
        """Return whether no request is being answered."""
        return all(cycle.response_complete for cycle in self._unanswered)

    def is_overdue(self) -> bool:
        """Return whether the client has exceeded a time limit."""
        is_waiting = (
            self._is_receiving
            or self.is_idle()
            or self.flow.write_paused
            or self.transport.is_closing()
        )
        return is_waiting and time.monotonic() - self._waiting_since > _CLIENT_TIMEOUT_S

    def hang_up(self) -> None:
        """Close the connection at once. Data that has not been sent is lost."""
        self._discard_responses()
        if self._is_connected:
            self.transport.abort()
        else:
            # The TLS handshake owns the transport. It sees this as a disconnected client.
            with contextlib.suppress(OSError):
                self._accepted.shutdown(socket.SHUT_RDWR)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._is_connected = True
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._last_request is not None:
            self._last_request.cancel()
        self._discard_responses()
        super().connection_lost(exc)
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self.hang_up()

    def pause_writing(self) -> None:
        self._waiting_since = time.monotonic()
        super().pause_writing()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if not self._is_receiving:
            self._is_receiving, self._waiting_since = True, time.monotonic()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False
        self._unanswered.append(self.cycle)
        while self._unanswered and self._unanswered[0].response_complete:
            self._unanswered.popleft()

    def on_message_complete(self) -> None:
        self._is_receiving = False
        if self._last_request is not None:
            self._last_request.cancel()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        if not self._is_receiving:
            self._waiting_since = time.monotonic()
        super().on_response_complete()

    def shutdown(self) -> None:
        if not self._in_head:
            super().shutdown()
            return
        # The client may just be sending its request.
        self._is_last = True
        self._last_request = self.loop.call_later(_LAST_REQUEST_TIMEOUT_S, self.hang_up)

    def send_400_response(self, msg: str) -> None:
        self._discard_responses()
        super().send_400_response(msg)

    def _discard_responses(self) -> None:
        """Mark the client of all pending requests as disconnected.

        uvicorn does this only for the last one of pipelined requests, and uvloop reports writing
        to a closed connection as an error.
        """
        for cycle in self._unanswered:
            cycle.disconnected = True
