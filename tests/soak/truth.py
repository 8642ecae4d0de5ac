# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What really ran when, from the host's own process list, and what the service answered."""

from __future__ import annotations

import bisect
import dataclasses
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from typing_extensions import Self

_PAUSE_S = 0.05


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the service said of a VM's power."""

    uuid: str
    power: Literal["on", "off"]
    asked: float
    """Monotonic time at which the question was sent."""
    answered: float


class Truth:
    """Samples the processes of a host's VMs on a thread of its own. A context manager."""

    def __init__(self, read: Callable[[], dict[str, set[int]]], max_age: float) -> None:
        """Prepare.

        Args:
            read: returns the processes by the UUID of the VM they run.
            max_age: for how many seconds the service may answer from one poll.
        """
        self._read = read
        self._max_age = max_age
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._times: list[float] = []
        self._samples: list[dict[str, set[int]]] = []
        self._starts: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        self.duplicates: list[str] = []
        """VMs that two processes ran, as two samples in a row saw them."""

    def __enter__(self) -> Self:
        self.add(self._read())
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def start_requested(self, uuid: str) -> None:
        """Note that somebody starts a VM now: it may run more shortly than samples can see."""
        with self._lock:
            self._starts.setdefault(uuid, []).append(time.monotonic())

    def is_on(self, uuid: str) -> bool:
        """Whether a process runs a VM now."""
        return bool(self._read().get(uuid))

    def disproves(self, answer: Answer) -> bool:
        """Whether an answer was never true from the oldest poll it may come from to its end.

        Call it after the time of the next sample.
        """
        since = answer.asked - self._max_age
        with self._lock:
            first = max(0, bisect.bisect_right(self._times, since) - 1)
            last = bisect.bisect_left(self._times, answer.answered)
            seen = [sample.get(answer.uuid, set()) for sample in self._samples[first : last + 1]]
            started = any(
                since - 1.0 < start <= answer.answered
                for start in self._starts.get(answer.uuid, ())
            )
        if answer.power == "off":
            # One and the same process throughout: it was never off, not even for a moment.
            return bool(seen) and any(all(pid in pids for pids in seen) for pid in seen[0])
        return bool(seen) and not any(seen) and not started

    def _run(self) -> None:
        while not self._over.wait(_PAUSE_S):
            self.add(self._read())

    def add(self, sample: dict[str, set[int]]) -> None:
        """Note what runs now."""
        with self._lock:
            before = self._samples[-1] if self._samples else {}
            for uuid, pids in sample.items():
                both = pids & before.get(uuid, set())
                if len(both) > 1:
                    self.duplicates.append(f"{uuid}: {sorted(both)}")
            self._times.append(time.monotonic())
            self._samples.append(sample)
