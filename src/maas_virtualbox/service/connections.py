# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What uvicorn does not limit: how large a request's head may be, and how long it may take."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

from uvicorn.protocols.http import httptools_impl

_MAX_HEAD_BYTES = 32 * 1024
_REQUEST_S = 10.0
"""A request has to arrive within this time; MAAS's are one packet."""
_LAST_REQUEST_S = 0.5
"""The same for who connected just before the service stopped."""


class LimitedProtocol(httptools_impl.HttpToolsProtocol):
    """HTTP/1.1 of clients that may be hostile: a slow or endless request ends its connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._is_last = False
        self._deadline: asyncio.TimerHandle | None = None
        self._unanswered: collections.deque[httptools_impl.RequestResponseCycle]
        self._unanswered = collections.deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_REQUEST_S, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._forget_answers()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEAD_BYTES:
            self._hang_up()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        if self._deadline is None:
            self._deadline = self.loop.call_later(_REQUEST_S, self._hang_up)
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
        self._disarm()
        super().on_message_complete()

    def shutdown(self) -> None:
        if not self._in_head:
            super().shutdown()
            return
        # Its request is on its way, and nobody else will answer it.
        self._is_last = True
        self._disarm()
        self._deadline = self.loop.call_later(_LAST_REQUEST_S, self._hang_up)

    def send_400_response(self, msg: str) -> None:
        self._forget_answers()
        super().send_400_response(msg)

    def _hang_up(self) -> None:
        self._forget_answers()
        self.transport.abort()

    def _forget_answers(self) -> None:
        """Let all answers under way go nowhere. uvicorn forgets those before the last of pipelined
        requests, and uvloop takes writing to a closed connection for an error."""
        for cycle in self._unanswered:
            cycle.disconnected = True

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
