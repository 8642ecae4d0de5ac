# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Processor time that one host may cost, so that a hostile one takes little from the others."""

from __future__ import annotations

import time

_SHARE = 0.1
"""Part of one processor that each thread of a host may spend in the long run."""
_BURST_S = 0.1
"""Seconds of processor time that may be spent at once: 1,000 settings files (measured)."""
_SLICE_S = 0.001
_LONGEST_REST_S = 0.1


class CPUThrottle:
    """Makes one thread pause while its work has cost more than its share.

    Without pauses a thread that works on in Python keeps the interpreter's lock for milliseconds
    each time another one wants it, and longer when the system takes the processor away from it
    meanwhile. Belongs to the thread that calls `pause`.
    """

    def __init__(self) -> None:
        self._credit = _BURST_S
        self._seen: tuple[float, float] | None = None

    def pause(self) -> None:
        """Pause if necessary, for 0.1 s at the most; to be called often."""
        now, used = time.monotonic(), time.thread_time()
        then, used_then = self._seen or (now, used)
        self._seen = now, used
        earned = (now - then) * _SHARE
        self._credit = min(_BURST_S, self._credit + earned) - (used - used_then)
        if self._credit < -_SLICE_S:
            time.sleep(min(_LONGEST_REST_S, -self._credit / _SHARE))
