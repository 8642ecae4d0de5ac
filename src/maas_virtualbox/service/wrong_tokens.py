# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Limit the rate at which the wrong tokens of one source are answered and logged.

Nobody can guess a token of 256 bits at any rate. The limit protects the processor: a client that
keeps sending wrong tokens would otherwise slow down all others. It must not slow down MAAS, which
repeats a request with a stale token 7 times within 35 seconds: for five machines at a time on each
rack controller, and for each machine that a person powers on or off. Therefore `BURST` wrong
tokens of a source are answered at once, and `RATE` a second after that. 200 machines with stale
tokens that are powered on at the same time are never delayed. Answers beyond the rate are delayed
by `MAX_DELAY_S` at most. Each source has its own allowance. `connections` defines what a source
is.
"""

from __future__ import annotations

import collections
import dataclasses

BURST = 1000
"""Wrong tokens of a source that are answered at once."""

RATE = 20.0
"""Further wrong tokens of a source that are answered in a second."""

MAX_DELAY_S = 1.0
"""The longest delay of an answer, in seconds."""

_MAX_SOURCES = 1000
"""Sources that are remembered."""

_LOG_INTERVAL_S = 10.0
"""The shortest time between two log lines about one source."""

_MAX_LOG_LINES = 10
"""Log lines about all sources together in one interval."""


@dataclasses.dataclass(slots=True)
class _Source:
    """The wrong tokens of one source."""

    due: float = float("-inf")
    """When all its wrong tokens would have arrived at `RATE`. In the past if it is slower."""

    refused: int = 0
    """Wrong tokens since the last log line about the source."""

    logged: float = float("-inf")
    """When the last log line was written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """How to answer a wrong token."""

    delay: float
    """Seconds to wait before the answer."""

    log_count: int
    """How many wrong tokens of the source to log, including this one. 0: log nothing."""


class WrongTokens:
    """Counts the wrong tokens of each source, in a bounded amount of memory.

    `auth.Authenticator` creates it. It belongs to one event loop. The source that was silent for
    the longest time is forgotten first. It then has a new allowance, which harms nobody.
    """

    def __init__(self) -> None:
        self._sources: collections.OrderedDict[str, _Source] = collections.OrderedDict()
        self._interval_began, self._log_lines = float("-inf"), 0

    def __len__(self) -> int:
        """Return how many sources are remembered."""
        return len(self._sources)

    def add(self, source: str, now: float) -> Refusal:
        """Count a wrong token. Return how to answer it.

        Args:
            source: as `connections.source_of` returns it.
            now: the time, in seconds of a monotonic clock.
        """
        entry = self._sources.setdefault(source, _Source())
        self._sources.move_to_end(source)
        if len(self._sources) > _MAX_SOURCES:
            self._sources.popitem(last=False)
        due = max(entry.due, now - BURST / RATE) + 1 / RATE
        entry.due = min(due, now + MAX_DELAY_S)
        entry.refused += 1
        log_count = 0
        if now - entry.logged > _LOG_INTERVAL_S and self._may_log(now):
            log_count, entry.refused, entry.logged = entry.refused, 0, now
        return Refusal(max(0.0, entry.due - now), log_count)

    def _may_log(self, now: float) -> bool:
        if now - self._interval_began > _LOG_INTERVAL_S:
            self._interval_began, self._log_lines = now, 0
        self._log_lines += 1
        return self._log_lines <= _MAX_LOG_LINES
