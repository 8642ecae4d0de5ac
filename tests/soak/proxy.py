# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy in front of a host's sshd, which does to connections what bad networks do."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from typing_extensions import Self

_CHUNK = 65536
_DRIP_S = 0.01


class Proxy:
    """Listens on a free port of 127.0.0.1 and forwards to another. A context manager.

    Its methods may be called from any thread and return when the fault is in place.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._refusing = False
        self.port = 0
        """The port it listens on."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def corrupt(self) -> None:
        """Change one byte of the next answer on every connection."""
        self._mark("corrupted")

    def cut(self) -> None:
        """Close every connection."""
        self._run(self._cut())

    def drip(self) -> None:
        """Forward answers byte by byte, until `restore`."""
        self._mark("dripping")

    def refuse(self) -> None:
        """Close every connection and each new one at once, until `restore`."""
        self._refusing = True
        self._run(self._cut())

    def restore(self) -> None:
        """Forward as it should be: new connections, and those that were stalled or dripped."""
        self._refusing = False
        self._run(self._restore())

    def stall(self) -> None:
        """Forward nothing on the connections there are, until `restore`."""
        self._mark("stalled")

    def truncate(self) -> None:
        """Forward half of the next answer on every connection, then close it."""
        self._mark("truncated")

    def _run(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(30)

    def _mark(self, fault: str) -> None:
        async def mark() -> None:
            for connection in self._connections:
                connection.fault = fault
                connection.free.clear()

        self._run(mark())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _cut(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    async def _restore(self) -> None:
        for connection in self._connections:
            connection.fault = ""
            connection.free.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.transport.abort()
            return
        try:
            target = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection((reader, writer), target)
        self._connections.add(connection)
        try:
            await connection.forward()
        finally:
            self._connections.discard(connection)
            connection.abort()


_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    """One connection through the proxy."""

    def __init__(self, client: _Stream, server: _Stream) -> None:
        self.fault = ""
        """What goes wrong with the next answer: one of the names above."""
        self.free = asyncio.Event()
        """Set while it neither stalls nor drips."""
        self._client = client
        self._server = server

    def abort(self) -> None:
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def forward(self) -> None:
        """Forward both ways until one side closes."""
        up = asyncio.create_task(self._requests())
        down = asyncio.create_task(self._answers())
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)

    async def _requests(self) -> None:
        reader, writer = self._client[0], self._server[1]
        while chunk := await reader.read(_CHUNK):
            if self.fault == "stalled":
                await self.free.wait()
            writer.write(chunk)
            await writer.drain()

    async def _answers(self) -> None:
        reader, writer = self._server[0], self._client[1]
        while chunk := await reader.read(_CHUNK):
            if self.fault == "stalled":
                await self.free.wait()
            elif self.fault == "corrupted":
                self.fault = ""
                middle = len(chunk) // 2
                chunk = chunk[:middle] + bytes([chunk[middle] ^ 1]) + chunk[middle + 1 :]
            elif self.fault == "truncated":
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            elif self.fault == "dripping":
                await self._drip(chunk, writer)
                continue
            writer.write(chunk)
            await writer.drain()

    async def _drip(self, chunk: bytes, writer: asyncio.StreamWriter) -> None:
        for number in range(len(chunk)):
            if self.fault != "dripping":
                writer.write(chunk[number:])
                break
            writer.write(chunk[number : number + 1])
            with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
                await asyncio.wait_for(self.free.wait(), _DRIP_S)
        await writer.drain()
