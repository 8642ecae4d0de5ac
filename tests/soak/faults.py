# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS switches VMs on and off while everything that can fail between it and them fails."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import http.client
import logging
import random
import signal
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Literal

from maas_virtualbox.simulator import maas

from tests.soak.truth import Answer, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.behaviour.benches import Bench
    from tests.service import ServiceProcess
    from tests.soak.proxy import Proxy

log = logging.getLogger(__name__)

SETTLE_S = 60.0
"""Within this time of the last fault, each VM is as MAAS last requested."""

_FAULT_S = 2.0
"""How long a fault that does not end by itself lasts."""
_PAUSE_S = 1.0
_HURRY = 0.2
"""MAAS's pauses are made shorter, so that there is more to do for the service."""

Power = Literal["on", "off"]

_POWERS: dict[str, Power] = {
    '{"status": "running"}': "on",
    '{"status": "stopped"}': "off",
}
_OPERATIONS = (
    ("startvm", "--type", "headless"),
    ("controlvm", "poweroff"),
    ("controlvm", "pause"),
    ("controlvm", "savestate"),
    ("controlvm", "reset"),
)


@dataclasses.dataclass
class Report:
    """What became of it."""

    cycles: int = 0
    """How often a VM went on and off, as MAAS saw it."""
    given_up: int = 0
    """Actions that MAAS gave up."""
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter[str])
    """By kind."""
    answers: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter[str])
    """Queries by answer; `none` where the service was not there."""
    duplicates: list[str] = dataclasses.field(default_factory=list[str])
    """VMs that two processes ran."""
    wrong: list[str] = dataclasses.field(default_factory=list[str])
    """Answers that were never true."""
    unsettled: list[str] = dataclasses.field(default_factory=list[str])
    """VMs that were not as MAAS last requested `SETTLE_S` after the last fault."""
    settled_s: float = 0.0
    """When all were."""
    seconds: float = 0.0

    @property
    def is_good(self) -> bool:
        """Whether nothing was wrong."""
        return not (self.duplicates or self.wrong or self.unsettled)

    def __str__(self) -> str:
        return (
            f"{self.cycles} cycles in {self.seconds:.0f} s, {self.given_up} actions given up;"
            f" {sum(self.faults.values())} faults {dict(self.faults)};"
            f" queries {dict(self.answers)}; {len(self.duplicates)} duplicate processes,"
            f" {len(self.wrong)} wrong answers, {len(self.unsettled)} VMs not as requested;"
            f" all as requested {self.settled_s:.1f} s after the last fault"
            + "".join(
                f"\n  {text}" for text in [*self.duplicates, *self.wrong, *self.unsettled][:20]
            )
        )


def _hurry(seconds: float) -> None:
    time.sleep(seconds * _HURRY)


class Soak:
    """One run."""

    def __init__(
        self, bench: Bench, proxy: Proxy, service: ServiceProcess, uuids: Sequence[str], seed: int
    ) -> None:
        """Prepare.

        Args:
            bench: the host.
            proxy: what the service reaches the host through.
            service: the power service.
            uuids: its VMs, all off.
            seed: of the order of faults.
        """
        self.report = Report()
        self._bench = bench
        self._service = service
        self._uuids = uuids
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._faults_over = threading.Event()
        self._answers: collections.deque[Answer] = collections.deque()
        max_age = float(str(service.options.get("state-max-age", 2.0)))
        # A second more: samples and the service's clock are apart on a busy machine.
        self._truth = Truth(bench.vm_processes, max_age + 1.0)
        self._faults: dict[str, Callable[[], None]] = {
            "VBoxSVC killed": bench.kill_service,
            "VM killed": lambda: bench.kill_vm(self._one()),
            "sshd restarted": bench.restart_sshd,
            "service killed": self._kill_service,
            "connection cut": proxy.cut,
            "connection stalled": self._for_a_while(proxy.stall, proxy.restore),
            "connection corrupted": proxy.corrupt,
            "connection truncated": proxy.truncate,
            "connection dripping": self._for_a_while(proxy.drip, proxy.restore),
            "connection refused": self._for_a_while(proxy.refuse, proxy.restore),
            "SIGHUP": lambda: service.signal(signal.SIGHUP),
            "manual operation": self._operate,
        }

    def run(self, cycles: int) -> Report:
        """Switch VMs so many times, with faults all the time, and see that all ends well."""
        began = time.monotonic()
        with self._truth, futures.ThreadPoolExecutor(len(self._uuids) + 3) as threads:
            beside = [threads.submit(self._query), threads.submit(self._judge)]
            failing = threads.submit(self._fail)
            try:
                jobs = [threads.submit(self._cycle, uuid, cycles) for uuid in self._uuids]
                for job in jobs:
                    job.result()
                self._settle(threads, failing)
            finally:
                self._faults_over.set()
                self._over.set()
            for job in beside:
                job.result()
        self.report.duplicates = self._truth.duplicates
        self.report.seconds = time.monotonic() - began
        return self.report

    # -- MAAS ---------------------------------------------------------------------------------

    def _cycle(self, uuid: str, cycles: int) -> None:
        while self.report.cycles < cycles:
            if self._change(uuid, "on") and self._change(uuid, "off"):
                with self._lock:
                    self.report.cycles += 1

    def _change(self, uuid: str, power: Power) -> bool:
        driver = self._service.driver(uuid, sleep=_hurry)
        if power == "on":
            self._truth.start_requested(uuid)
        try:
            driver.power_on() if power == "on" else driver.power_off()
        except maas.PowerFailed as error:
            log.info("%s: %s", uuid, error)
            with self._lock:
                self.report.given_up += 1
            time.sleep(_PAUSE_S)
            return False
        return True

    def _settle(self, threads: futures.ThreadPoolExecutor, failing: futures.Future[None]) -> None:
        """Request a state of each VM, let each fault happen once more, and wait."""
        wanted: dict[str, Power] = {
            uuid: "on" if number % 2 else "off" for number, uuid in enumerate(self._uuids)
        }
        self._faults_over.set()
        failing.result()
        jobs = {threads.submit(self._change, uuid, power) for uuid, power in wanted.items()}
        for name in self._faults:
            self._inject(name)
        last = time.monotonic()
        while time.monotonic() - last < SETTLE_S:
            futures.wait(jobs)
            running = self._bench.vm_processes()
            left: dict[str, Power] = {
                uuid: power
                for uuid, power in wanted.items()
                if (uuid in running) != (power == "on")
            }
            if not left:
                self.report.settled_s = time.monotonic() - last
                return
            # As MAAS's user does who sees it in the list of machines.
            jobs = {threads.submit(self._change, uuid, power) for uuid, power in left.items()}
        self.report.unsettled = [
            f"{uuid} is not {power}"
            for uuid, power in wanted.items()
            if self._truth.is_on(uuid) != (power == "on")
        ]

    # -- Queries ------------------------------------------------------------------------------

    def _query(self) -> None:
        chosen = random.Random(0)
        while not self._over.wait(0.02):
            self._ask(chosen.choice(self._uuids))

    def _ask(self, uuid: str) -> None:
        asked = time.monotonic()
        token = self._service.secrets.vm_token(uuid)
        try:
            code, body = self._service.request("GET", f"/vm/{uuid}/query", token)
        except (OSError, http.client.HTTPException):
            self.report.answers["none"] += 1
            time.sleep(0.1)
            return
        power = _POWERS.get(body)
        self.report.answers[power or f"{code} {body}"] += 1
        if power is not None:
            self._answers.append(Answer(uuid, power, asked, time.monotonic()))

    def _judge(self) -> None:
        """Hold answers to the truth, some time after they were given."""
        while self._answers or not self._over.wait(0.2):
            while self._answers and time.monotonic() - self._answers[0].answered > 1.0:
                answer = self._answers.popleft()
                if self._truth.disproves(answer):
                    self.report.wrong.append(str(answer))
            time.sleep(0.1)

    # -- Faults -------------------------------------------------------------------------------

    def _fail(self) -> None:
        while True:
            names = list(self._faults)
            self._random.shuffle(names)
            for name in names:
                if self._faults_over.wait(_PAUSE_S):
                    return
                self._inject(name)

    def _inject(self, name: str) -> None:
        log.info("fault: %s", name)
        with self._lock:
            self.report.faults[name] += 1
        self._faults[name]()

    def _one(self) -> str:
        return self._random.choice(self._uuids)

    def _for_a_while(
        self, begin: Callable[[], None], end: Callable[[], None]
    ) -> Callable[[], None]:
        def fault() -> None:
            begin()
            time.sleep(_FAULT_S)
            end()

        return fault

    def _kill_service(self) -> None:
        self._service.kill()
        time.sleep(0.2)
        self._service.start(wait=False)

    def _operate(self) -> None:
        verb, *rest = self._random.choice(_OPERATIONS)
        uuid = self._one()
        self._truth.start_requested(uuid)
        with contextlib.suppress(Exception):
            # It may well fail: the VM is in another state, or VBoxSVC was just killed.
            self._bench.vboxmanage(verb, uuid, *rest)
