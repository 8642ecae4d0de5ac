# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Who counts as one sender of requests, and how long it waits for the answer to a wrong token.

Tokens have 256 bits, so nobody guesses one however fast he may try. The delay protects the
processor: a client that keeps sending wrong tokens would otherwise slow down all others. It must
not slow down MAAS, which repeats a request with a stale token 7 times within 35 seconds, for five
machines at a time on each rack, and for each machine that a person switches. So every sender may
have `BURST` wrong tokens answered at once and `RATE` a second after that: 200 machines with stale
tokens that are switched at the same time are never delayed. The answers beyond that are delayed
until the rate is kept, by `LONGEST_DELAY_S` at most. Each sender has an allowance of its own.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import ipaddress

BURST = 1000
"""Wrong tokens of a sender that are answered at once."""
RATE = 20.0
"""Wrong tokens a second that a sender may add to them."""
LONGEST_DELAY_S = 1.0

_MAX_SENDERS = 1000
_LOG_PAUSE_S = 10.0
_LOG_LINES = 10
"""Log lines of all senders together within this pause."""


@functools.lru_cache(maxsize=_MAX_SENDERS)
def sender_of(address: str) -> str:
    """Return what counts as one sender: an IPv4 address, or the /64 network of an IPv6 address.

    One machine can use all addresses of such a network.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))


@dataclasses.dataclass(slots=True)
class _Sender:
    """The wrong tokens of one sender."""

    due: float = float("-inf")
    """When all of its wrong tokens would have arrived at `RATE`; in the past if it is slower."""
    refused: int = 0
    """Wrong tokens since the last log line about it."""
    logged: float = float("-inf")


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """What to do about a wrong token."""

    delay: float
    """Seconds to wait before the answer."""
    log: int
    """How many wrong tokens of the sender to log, this one included; 0: log nothing."""


class Senders:
    """The senders of wrong tokens, as many as fit in a bounded memory.

    The one that has been silent the longest is forgotten first: it gets a new allowance, which
    takes nothing from anybody.
    """

    def __init__(self) -> None:
        self._senders: collections.OrderedDict[str, _Sender] = collections.OrderedDict()
        self._log_since, self._log_lines = float("-inf"), 0

    def __len__(self) -> int:
        """Return how many senders are remembered."""
        return len(self._senders)

    def refuse(self, sender: str, now: float) -> Refusal:
        """Count a wrong token of a sender. Return what to do about it.

        Args:
            sender: as `sender_of` has it.
            now: seconds of a monotonic clock.
        """
        entry = self._senders.setdefault(sender, _Sender())
        self._senders.move_to_end(sender)
        if len(self._senders) > _MAX_SENDERS:
            self._senders.popitem(last=False)
        due = max(entry.due, now - BURST / RATE) + 1 / RATE
        entry.due = min(due, now + LONGEST_DELAY_S)
        entry.refused += 1
        log = 0
        if now - entry.logged > _LOG_PAUSE_S and self._may_log(now):
            log, entry.refused, entry.logged = entry.refused, 0, now
        return Refusal(max(0.0, entry.due - now), log)

    def _may_log(self, now: float) -> bool:
        if now - self._log_since > _LOG_PAUSE_S:
            self._log_since, self._log_lines = now, 0
        self._log_lines += 1
        return self._log_lines <= _LOG_LINES
