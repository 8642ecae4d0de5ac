# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The share of a processor that one thread of a host may use."""

from __future__ import annotations

import types

import pytest

from maas_virtualbox.transport import cpu_throttle


class Clock:
    """The time of a busy thread, which either works or sleeps."""

    def __init__(self) -> None:
        self.worked = self.slept = 0.0

    def work(self, seconds: float) -> None:
        """Let processor time pass."""
        self.worked += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the throttle uses."""
    clock = Clock()
    times = types.SimpleNamespace(
        monotonic=lambda: clock.worked + clock.slept,
        thread_time=lambda: clock.worked,
        sleep=clock.sleep,
    )
    monkeypatch.setattr(cpu_throttle, "time", times)
    return clock


def test_busy_thread_gets_a_tenth_of_a_processor(clock: Clock) -> None:
    throttle = cpu_throttle.CPUThrottle()

    for _ in range(10_000):
        throttle.pause()
        clock.work(0.001)

    assert 0.09 < clock.worked / (clock.worked + clock.slept) < 0.11


def test_little_work_needs_no_pause(clock: Clock) -> None:
    throttle = cpu_throttle.CPUThrottle()

    for _ in range(1000):
        throttle.pause()
        clock.work(0.002)
        clock.slept += 0.03

    assert clock.slept == pytest.approx(30)  # pyright: ignore[reportUnknownMemberType]
