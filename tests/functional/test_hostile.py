# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Broken and hostile clients, and the state of the service after them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import Simulator

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_REQUESTS = 10_000
_AT_ONCE = 50
_SLOW_CLIENTS = 200
_GROWTH_KIB = 12 * 1024


def hostile_requests(chance: random.Random, uuid: str, token: str) -> list[Callable[[], bytes]]:
    """Functions that return malformed and hostile requests, and some right ones."""
    authorization = f"Authorization: Bearer {token}".encode()

    def text(length: int) -> bytes:
        return chance.randbytes(length).replace(b"\r", b"x").replace(b"\n", b"y")

    def head(line: bytes, *headers: bytes) -> bytes:
        return b"\r\n".join([line, b"Host: x", *headers, b"", b""])

    query = f"GET /vm/{uuid}/query HTTP/1.1".encode()
    on = f"POST /vm/{uuid}/off HTTP/1.1".encode()
    return [
        lambda: chance.randbytes(chance.randint(1, 500)),
        lambda: head(query, authorization, b"Connection: close"),
        lambda: head(query, authorization) * 20,
        lambda: head(query, b"X: " + b"a" * chance.choice([8_000, 100_000, 1_000_000])),
        lambda: head(query, *(b"H%d: x" % number for number in range(3000))),
        lambda: head(b"GET /" + b"a" * chance.choice([10_000, 300_000]) + b" HTTP/1.1"),
        lambda: head(b"GET /vm/" + text(30) + b"/query HTTP/1.1", authorization),
        lambda: head(b"GET /vm/%ff%fe%00%0d%0a/query HTTP/1.1", authorization),
        lambda: head(b"GET /vm/%%%/query?" + text(9) + b" HTTP/1.1", authorization),
        lambda: head(query, b"Authorization: Bearer " + text(40)),
        lambda: head(query, b"Authorization: Basic " + text(40)),
        lambda: head(on, b"Content-Length: -1"),
        lambda: head(on, b"Content-Length: 5", b"Content-Length: 6") + b"hello!",
        lambda: head(on, b"Content-Length: 1000000", authorization) + b"x" * 100_000,
        lambda: head(on, b"Transfer-Encoding: chunked", authorization) + b"ffffffffff\r\nx",
        lambda: head(on, b"Transfer-Encoding: chunked", b"Content-Length: 3") + b"0\r\n\r\n",
        lambda: head(on, b"Expect: 100-continue", b"Content-Length: 3", authorization),
        lambda: head(b"BREW /vm/x/on HTTP/1.1"),
        lambda: head(b"GET / HTTP/9.9"),
        lambda: head(query, b"Connection: Upgrade", b"Upgrade: websocket", authorization),
        lambda: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        lambda: b"\x16\x03\x01" + chance.randbytes(200),
        lambda: head(query, authorization)[: chance.randint(1, 80)],
        lambda: b"GET /healthz\r\n",
        lambda: head(b"GET http://elsewhere/metrics HTTP/1.1", authorization),
    ]


async def send(port: int, content: bytes) -> None:
    """Send something, read a part of the response, and disconnect."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(content)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(4096), 0.05)
        finally:
            writer.close()


async def send_all(port: int, makers: list[Callable[[], bytes]], count: int) -> None:
    """Send many requests of all types, some in parallel."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await send(port, makers[number % len(makers)]())

    await asyncio.gather(*(client() for _ in range(_AT_ONCE)))


async def trickle(port: int) -> float:
    """Send one byte of a request each second. Return the seconds until the service disconnects."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"y" * 60:
            writer.write(bytes([byte]))
            await writer.drain()
            with contextlib.suppress(asyncio.TimeoutError):
                if await asyncio.wait_for(reader.read(1), 1.0) == b"":
                    break
        writer.close()
    return time.monotonic() - began


def test_ten_thousand_hostile_requests_use_no_more_memory(
    tmp_path: Path,
) -> None:
    with (
        Simulator(vms=4) as simulator,
        ServiceProcess(tmp_path, [simulator.host_entry], simulator.key_file) as service,
    ):
        vm = simulator.virtualbox.vm("node01")
        token = service.secrets.vm_token(vm.uuid)
        makers = hostile_requests(random.Random(2015), vm.uuid, token)

        async def attack() -> tuple[list[float], int]:
            await send_all(
                service.port, makers, _REQUESTS // 5
            )  # until buffers have their final size
            before = service.memory_kib()
            slow = [asyncio.create_task(trickle(service.port)) for _ in range(_SLOW_CLIENTS)]
            await send_all(service.port, makers, _REQUESTS)
            return [await task for task in slow], before

        seconds, before = asyncio.run(attack())

        assert max(seconds) < 50  # the limit is ten seconds; the whole request would take 98
        assert service.driver(vm.uuid).query() == "off"
        assert service.memory_kib() - before < _GROWTH_KIB
        assert "Traceback" not in service.log
        assert len(service.log) < 100_000
        assert service.stop() == 0
