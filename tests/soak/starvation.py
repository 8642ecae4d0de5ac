# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS switches many VMs of one host without a pause while another VM of it is queried."""

from __future__ import annotations

import collections
import dataclasses
import statistics
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import maas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.service import ServiceProcess


@dataclasses.dataclass
class Report:
    """What became of it."""

    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter[str])
    """Queries of the VM that nobody switches, by answer."""
    cycles: int = 0
    """How often a VM went on and off."""
    given_up: list[str] = dataclasses.field(default_factory=list[str])
    """Actions MAAS gave up, and why."""
    switched: collections.Counter[str] = dataclasses.field(
        default_factory=collections.Counter[str]
    )
    """What MAAS's own queries of the switched VMs were answered."""
    seconds: list[float] = dataclasses.field(default_factory=list[float])
    """How long each query of the idle VM took."""

    @property
    def is_good(self) -> bool:
        """Whether no query was answered with unknown and MAAS gave no action up."""
        return not (self.given_up or self.answers["unknown"] or self.switched["unknown"]) and bool(
            self.cycles and self.answers
        )

    def __str__(self) -> str:
        ordered = sorted(self.seconds) or [0.0]
        return (
            f"{self.cycles} cycles, {len(self.given_up)} actions given up; idle VM:"
            f" {dict(self.answers)}, median {statistics.median(ordered) * 1000:.0f} ms, p99"
            f" {ordered[int(len(ordered) * 0.99)] * 1000:.0f} ms; switched VMs:"
            f" {dict(self.switched)}" + "".join(f"\n  {text}" for text in self.given_up[:10])
        )


def run(service: ServiceProcess, switched: Sequence[str], idle: str, seconds: float) -> Report:
    """Switch VMs for some seconds with MAAS's own pauses and retries; query another meanwhile.

    Args:
        service: the power service.
        switched: UUIDs of VMs that are off.
        idle: UUID of a VM that stays as it is.
        seconds: how long; each VM then ends its cycle.
    """
    report = Report()
    until = time.monotonic() + seconds
    over = threading.Event()
    lock = threading.Lock()

    def cycle(uuid: str) -> None:
        driver = service.driver(uuid)
        while time.monotonic() < until:
            try:
                driver.power_on()
                driver.power_off()
            except maas.PowerFailed as error:
                with lock:
                    report.given_up.append(f"{uuid}: {error}")
            else:
                with lock:
                    report.cycles += 1
        bodies = (each.body for each in driver.exchanges if each.method == "GET")
        with lock:
            report.switched.update(_state(body) for body in bodies)

    def query() -> None:
        driver = service.driver(idle)
        while not over.wait(0.05):
            began = time.monotonic()
            report.answers[driver.query()] += 1
            report.seconds.append(time.monotonic() - began)

    with futures.ThreadPoolExecutor(len(switched) + 1) as threads:
        querying = threads.submit(query)
        jobs = [threads.submit(cycle, uuid) for uuid in switched]
        try:
            for job in jobs:
                job.result()
        finally:
            over.set()
        querying.result()
    return report


def _state(body: str) -> str:
    return next((word for word in ("running", "stopped", "unknown") if word in body), "error")
