# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How fast the power service answers MAAS's queries, compared with a constant response.

There are 1,000 VMs on ten simulated hosts, and 5 or 50 parallel queries, each over a new
connection. The hosts, the service and the client are separate processes on the same cores.
"""

from __future__ import annotations

import asyncio
import dataclasses
import multiprocessing
import tempfile
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from maas_virtualbox.config import host_list
from maas_virtualbox.service.dispatcher import Timings as DispatcherTimings
from maas_virtualbox.simulator import Action, Fault, Simulator, Timings, maas

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

_HOSTS, _VMS_PER_HOST = 10, 100
_QUERIES = 40_000
"""Enough for the state to become too old several times."""
_AT_ONCE = (5, 50)
# Compared with the same server and a constant response, in the same run.
_LEAST_PER_SECOND = 0.5
_MOST_P99 = 3.0
_MOST_P99_BESIDE_A_HANG = 6.0
_UNKNOWN_WITHIN = 1.2
"""Multiple of the time that the service waits for a host that hangs."""

Order = Literal["count", "hang", "end"]


@dataclasses.dataclass(frozen=True)
class Fleet:
    """The simulated hosts of another process."""

    entries: list[str]
    key_file: Path
    uuids: list[list[str]]
    """The UUIDs of each host's VMs."""


def simulate(pipe: Connection) -> None:
    """Run ten hosts: send their descriptions, then obey orders."""
    simulators: list[Simulator] = []
    for number in range(_HOSTS):
        simulator = Simulator(
            vms=_VMS_PER_HOST,
            user=f"vbox{number}",
            timings=Timings.real(),
            key_file=simulators[0].key_file if simulators else None,
        )
        simulators.append(simulator.__enter__())
    entries = [
        f"{each.host_entry} name={each.user} host-key={host_list.key_fingerprint(each.host_key)}"
        for each in simulators
    ]
    uuids = [[vm.uuid for vm in each.virtualbox.vms] for each in simulators]
    pipe.send(Fleet(entries, simulators[0].key_file, uuids))
    while (order := pipe.recv()) != "end":
        if order == "hang":
            simulators[-1].inject(Fault(Action.HANG, times=10_000))
        pipe.send(max(each.count() for each in simulators))
    for simulator in simulators:
        simulator.__exit__(None, None, None)


@dataclasses.dataclass(frozen=True)
class Poll:
    """The results of a number of queries."""

    seconds: float
    latencies: list[float]
    answers: set[bytes]

    @property
    def per_second(self) -> float:
        """Queries for each second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency, in seconds."""
        return sorted(self.latencies)[int(len(self.latencies) * 0.99)]


def poll(port: int, requests: list[bytes], at_once: int, count: int = _QUERIES) -> Poll:
    """Send queries as rack controllers do, each over a new connection."""
    latencies: list[float] = []
    answers: set[bytes] = set()

    async def client(numbers: range) -> None:
        for number in numbers:
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(requests[number % len(requests)])
            answer = await reader.read()
            latencies.append(time.perf_counter() - began)
            writer.close()
            answers.add(answer.partition(b"\r\n\r\n")[2])

    async def clients() -> None:
        await asyncio.gather(*(client(range(first, count, at_once)) for first in range(at_once)))

    began = time.perf_counter()
    asyncio.run(clients())
    return Poll(time.perf_counter() - began, latencies, answers)


def run() -> list[tuple[str, ...]]:
    """Measure. Return one row for each result, for `__main__`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=simulate, args=(theirs,), daemon=True)
    process.start()
    fleet: Fleet = ours.recv()
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            ServiceProcess(Path(folder), fleet.entries, fleet.key_file) as service,
        ):
            return _measure(service, fleet, ours)
    finally:
        ours.send("end")
        process.join(10)


def _measure(
    service: ServiceProcess, fleet: Fleet, simulators: Connection
) -> list[tuple[str, ...]]:
    def commands(order: Order = "count") -> int:
        simulators.send(order)
        return simulators.recv()

    def requests(uuids: list[str]) -> list[bytes]:
        return [
            maas.request(
                "GET",
                service.uri(f"/vm/{uuid}/query"),
                token=service.secrets.vm_token(uuid),
                system_id="abc123",
            )
            for uuid in uuids
        ]

    def row(what: str, ours: str, beside: str, mark: str, *, good: bool) -> tuple[str, ...]:
        return what, ours, beside, "", mark, "ok" if good else "failed"

    def p99(what: str, ours: Poll, beside: Poll, most: float) -> tuple[str, ...]:
        ratio = ours.p99 / beside.p99
        return (
            what,
            f"{ours.p99 * 1000:.1f} ms",
            f"a constant: {beside.p99 * 1000:.1f} ms",
            f"{ratio:.2f}",
            f"at most {most} x",
            "ok" if ratio <= most else "failed",
        )

    # In turns, so that all hosts are queried all the time.
    everything = requests([uuid for turn in zip(*fleet.uuids, strict=True) for uuid in turn])
    constant = [maas.request("GET", service.uri("/healthz"))]
    rows: list[tuple[str, ...]] = []
    for at_once in _AT_ONCE:
        poll(service.port, everything, at_once, 500)
        before, began = commands(), time.monotonic()
        queries = poll(service.port, everything, at_once)
        load = (commands() - before) / (time.monotonic() - began)
        beside = poll(service.port, constant, at_once, _QUERIES // 4)
        assert queries.answers == {b'{"status": "stopped"}'}
        ratio = queries.per_second / beside.per_second
        rows += [
            (
                f"queries of 1,000 VMs, {at_once} at a time",
                f"{queries.per_second:.0f}/s",
                f"a constant: {beside.per_second:.0f}/s",
                f"{ratio:.2f}",
                f"at least {_LEAST_PER_SECOND} x",
                "ok" if ratio >= _LEAST_PER_SECOND else "failed",
            ),
            p99("  99 of 100 within", queries, beside, _MOST_P99),
            row(
                "  SSH commands to the busiest host",
                f"{load:.2f}/s",
                "",
                "at most 1/s",
                good=load <= 1.0,
            ),
        ]

    commands("hang")
    time.sleep(2.5)  # until the state is too old
    healthy = [uuid for uuids in fleet.uuids[:-1] for uuid in uuids]
    with futures.ThreadPoolExecutor() as threads:
        asked = threads.submit(poll, service.port, requests(fleet.uuids[-1]), 5, 100)
        others = poll(service.port, requests(healthy), 50)
        hanging = asked.result()
    beside = poll(service.port, constant, 50, _QUERIES // 4)
    assert hanging.answers == {b'{"status": "unknown"}'}
    assert others.answers == {b'{"status": "stopped"}'}
    rows += [
        row(
            "one host hangs: its own answer, slowest",
            f"{max(hanging.latencies):.2f} s",
            "",
            f"at most {_UNKNOWN_WITHIN} x {DispatcherTimings().query:g} s",
            good=max(hanging.latencies) <= _UNKNOWN_WITHIN * DispatcherTimings().query,
        ),
        p99("one host hangs: others, 99 of 100 within", others, beside, _MOST_P99_BESIDE_A_HANG),
    ]
    return rows
