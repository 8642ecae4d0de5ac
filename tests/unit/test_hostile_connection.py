# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What a hostile host may cost before any parser sees what it sent."""

from __future__ import annotations

import socket
import types

import paramiko
import pytest

from maas_virtualbox.transport import cpu_throttle, paramiko_transport


def test_a_packet_of_4_gb_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs, paramiko_transport.LimitedSocket(ours) as limited:
        theirs.send(b"x")

        assert limited.recv(32_768) == b"x"
        with pytest.raises(paramiko.SSHException, match="a packet of 4294967280 bytes"):
            limited.recv(0xFFFFFFF0)


def test_what_exceeds_the_window_breaks_the_connection() -> None:
    window = paramiko_transport.LimitedBuffer()
    window.feed(b"x" * 2**21)

    with pytest.raises(paramiko.SSHException, match="more than its window allows"):
        window.feed(b"x")
    assert len(window.read(2**22)) == 2**21
    window.feed(b"x")


class Clock:
    """Time as a busy thread sees it: all that passes is work or rest."""

    def __init__(self) -> None:
        self.worked = self.rested = 0.0

    def work(self, seconds: float) -> None:
        """Let processor time pass."""
        self.worked += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.rested += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that the budget goes by."""
    clock = Clock()
    times = types.SimpleNamespace(
        monotonic=lambda: clock.worked + clock.rested,
        thread_time=lambda: clock.worked,
        sleep=clock.sleep,
    )
    monkeypatch.setattr(cpu_throttle, "time", times)
    return clock


def test_a_thread_that_works_on_gets_a_tenth_of_a_processor(clock: Clock) -> None:
    limited = cpu_throttle.CPUThrottle()

    for _ in range(10_000):
        limited.pause()
        clock.work(0.001)

    assert 0.09 < clock.worked / (clock.worked + clock.rested) < 0.11


def test_a_little_work_needs_no_rest(clock: Clock) -> None:
    limited = cpu_throttle.CPUThrottle()

    for _ in range(1000):
        limited.pause()
        clock.work(0.002)
        clock.rested += 0.03

    assert clock.rested == pytest.approx(30)  # pyright: ignore[reportUnknownMemberType]
