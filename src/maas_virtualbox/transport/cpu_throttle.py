# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Limit the processor time of one host, so that a hostile host cannot slow down the others."""

from __future__ import annotations

import time

_SHARE = 0.1
"""Part of one processor that each thread of a host may use in the long run."""

_BURST_S = 0.1
"""Seconds of processor time that may be used at once: enough for 1,000 settings files (measured).
"""

_MIN_DEBT_S = 0.001
"""Seconds of processor time beyond the share that cause no pause yet."""

_MAX_PAUSE_S = 0.1


class CPUThrottle:
    """Pauses a thread that uses more than its share of processor time.

    A thread that runs Python code without a pause holds the interpreter lock for milliseconds
    whenever another thread wants it, and longer if the system preempts it meanwhile. An object
    belongs to the one thread that calls `pause`.
    """

    def __init__(self) -> None:
        self._credit = _BURST_S
        self._last: tuple[float, float] | None = None

    def pause(self) -> None:
        """Sleep if the thread has exceeded its share, for at most 0.1 s. To be called often."""
        now, used = time.monotonic(), time.thread_time()
        last_now, last_used = self._last or (now, used)
        self._last = now, used
        earned = (now - last_now) * _SHARE
        self._credit = min(_BURST_S, self._credit + earned) - (used - last_used)
        if self._credit < -_MIN_DEBT_S:
            time.sleep(min(_MAX_PAUSE_S, -self._credit / _SHARE))
