# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How a hostile host affects the VMs of another one: 50 queries a second, with and without it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import re
import tempfile
import time
from pathlib import Path

from maas_virtualbox.simulator import maas

from tests import hostile_host
from tests.service import ServiceProcess

_RATE = 50
_ATTACK_S = 10.0
_HOSTILE_RATE = 4
_TRIES = 3
_MOST_TIMES_AS_LONG = 2.0
TEMPLATES = Path(__file__).parents[2] / "templates"
STOP_S = 10.0


@dataclasses.dataclass
class Phase:
    """The results of the queries for the good host during a phase."""

    latencies: list[float] = dataclasses.field(default_factory=list[float])
    answers: set[bytes] = dataclasses.field(default_factory=set[bytes])
    processor_s: float = 0.0
    """The processor time of the service."""
    memory_kib: int = 0
    """The largest value at the end of a phase."""
    seconds: float = 0.0

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]

    def add(self, other: Phase) -> None:
        """Add the queries of another phase."""
        self.latencies += other.latencies
        self.answers |= other.answers
        self.processor_s += other.processor_s
        self.memory_kib = max(self.memory_kib, other.memory_kib)
        self.seconds += other.seconds


def memory_max_kib() -> int:
    """Return the MemoryMax of the systemd unit."""
    unit = (TEMPLATES / "maas-virtualbox.service.j2").read_text()
    found = re.search(r"^MemoryMax=(\d+)M$", unit, re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def most_memory_kib(service: ServiceProcess) -> int:
    """Return the peak resident memory of the service (Linux)."""
    status = Path(f"/proc/{service.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if "VmHWM" in line)


def processor_seconds(service: ServiceProcess) -> float:
    """Return the processor time that the service has used (Linux)."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def query(service: ServiceProcess, uuids: list[str], seconds: float) -> Phase:
    """Query VMs of the good host at a fixed rate, and VMs of the hostile host at the same time."""
    phase = Phase()
    good = [_request(service, "GET", uuid, "query") for uuid in uuids]
    hostile = hostile_host.HOSTILE.uuid
    bad = [_request(service, "GET", hostile, "query"), _request(service, "POST", hostile, "on")]

    async def ask(content: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            writer.write(content)
            return (await reader.read()).partition(b"\r\n\r\n")[2]
        finally:
            writer.close()

    async def measure(content: bytes) -> None:
        began = time.perf_counter()
        phase.answers.add(await ask(content))
        phase.latencies.append(time.perf_counter() - began)

    async def every(
        interval: float, contents: list[bytes], tasks: list[asyncio.Task[None]]
    ) -> None:
        began = time.monotonic()
        for number in range(int(seconds / interval)):
            await asyncio.sleep(max(0.0, began + number * interval - time.monotonic()))
            tasks.append(asyncio.create_task(measure(contents[number % len(contents)])))

    async def disturb() -> None:
        async def one(content: bytes) -> None:
            with contextlib.suppress(OSError):
                await ask(content)

        tasks = [asyncio.create_task(one(bad[1]))]
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            tasks.append(asyncio.create_task(one(bad[0])))
            await asyncio.sleep(1 / _HOSTILE_RATE)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def both() -> None:
        tasks: list[asyncio.Task[None]] = []
        disturbing = asyncio.create_task(disturb())
        await every(1 / _RATE, good, tasks)
        await asyncio.gather(*tasks)
        await disturbing

    began, spent = time.monotonic(), processor_seconds(service)
    asyncio.run(both())
    phase.seconds = time.monotonic() - began
    phase.processor_s = processor_seconds(service) - spent
    phase.memory_kib = most_memory_kib(service)
    return phase


def _request(service: ServiceProcess, method: str, uuid: str, verb: str) -> bytes:
    token = service.secrets.vm_token(uuid)
    uri = service.uri(f"/vm/{uuid}/{verb}")
    return maas.request("GET" if method == "GET" else "POST", uri, token=token)


def _compare(
    service: ServiceProcess, two: hostile_host.TwoHosts, attack: str
) -> tuple[Phase, Phase]:
    two.attack(hostile_host.QUIET)
    quiet = query(service, two.uuids, _ATTACK_S)
    two.attack(attack)
    return quiet, query(service, two.uuids, _ATTACK_S)


def _row(attack: str, quiet: Phase, attacked: Phase) -> tuple[str, ...]:
    ratio = attacked.p99 / quiet.p99
    right = attacked.answers | quiet.answers == {b'{"status": "stopped"}'}
    processor = f"processor {attacked.processor_s:.1f} s (quiet {quiet.processor_s:.1f} s)"
    return (
        f"hostile: {attack}, 99 of 100 within",
        f"{attacked.p99 * 1000:.1f} ms",
        f"quiet: {quiet.p99 * 1000:.1f} ms, {processor}",
        f"{ratio:.2f}",
        f"{_MOST_TIMES_AS_LONG:.0f} x",
        "ok" if right and ratio <= _MOST_TIMES_AS_LONG else "failed",
    )


def run() -> list[tuple[str, ...]]:
    """Measure. Return one row for each attack, for `__main__`."""
    rows: list[tuple[str, ...]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        hostile_host.TwoHosts() as two,
        ServiceProcess(Path(folder), two.entries, two.key_file) as service,
    ):
        query(service, two.uuids, 3.0)
        for name in hostile_host.ATTACKS:
            quiet, attacked = _compare(service, two, name)
            for _ in range(_TRIES - 1):
                if attacked.p99 / quiet.p99 <= _MOST_TIMES_AS_LONG:
                    break
                # Other programs may have used the machine.
                quiet, attacked = _compare(service, two, name)
            rows.append(_row(name, quiet, attacked))
        two.attack(list(hostile_host.ATTACKS)[-1])
        memory = most_memory_kib(service)
        limit = memory_max_kib()
        rows.append(
            (
                "hostile: memory of the service, at the most",
                f"{memory // 1024} MiB",
                "",
                f"{memory / limit:.2f}",
                f"{limit // 1024} MiB",
                "ok" if memory < limit else "failed",
            )
        )
        began = time.monotonic()
        service.stop(60)
        seconds = time.monotonic() - began
        good = "ok" if seconds < STOP_S else "failed"
        rows.append(("hostile: SIGTERM is obeyed", f"{seconds:.1f} s", "", "", "10 s", good))
    return rows
