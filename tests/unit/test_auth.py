# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How long the answers to the wrong tokens of a source are delayed, and what is logged."""

from __future__ import annotations

import itertools

import pytest

from maas_virtualbox.service.auth import BURST, MAX_DELAY_S, RATE, WrongTokens
from maas_virtualbox.simulator import maas


def test_rack_with_stale_tokens_is_not_delayed() -> None:
    """Five machines at a time, each 7 times in 35 seconds, for a day."""
    wrong_tokens, delays = WrongTokens(), set[float]()
    for start in range(0, 24 * 3600, 35):
        for pause in (0.0, *itertools.accumulate(maas.PAUSES_S[:-1])):
            delays |= {wrong_tokens.add("rack", start + pause).delay for _ in range(5)}
    assert delays == {0.0}


def test_200_machines_powered_at_once_are_not_delayed() -> None:
    wrong_tokens, delays = WrongTokens(), set[float]()
    for pause in (0.0, *itertools.accumulate(maas.PAUSES_S[:-1])):
        delays |= {wrong_tokens.add("rack", pause).delay for _ in range(200)}
    assert delays == {0.0}


def test_flood_is_slowed_down_to_the_rate() -> None:
    """A client sends each request as soon as the previous one is answered."""
    wrong_tokens, now, count = WrongTokens(), 0.0, 0
    while now < 600.0:
        now += 0.001 + wrong_tokens.add("flood", now).delay
        count += 1
    assert BURST + 600 * RATE * 0.95 < count < BURST + 600 * RATE * 1.05


def test_delay_is_bounded_and_ends() -> None:
    wrong_tokens = WrongTokens()
    longest = max(wrong_tokens.add("flood", 0.0).delay for _ in range(10 * BURST))
    assert longest == pytest.approx(MAX_DELAY_S)
    assert wrong_tokens.add("flood", 2 * MAX_DELAY_S).delay == 0.0


def test_flood_delays_no_other_source() -> None:
    wrong_tokens = WrongTokens()
    for number in range(10 * BURST):
        wrong_tokens.add("flood", number / 1000)
    assert wrong_tokens.add("other", 10.0).delay == 0.0


def test_memory_is_bounded() -> None:
    wrong_tokens = WrongTokens()
    for number in range(5000):
        wrong_tokens.add(f"{number}", number / 1000)
    assert len(wrong_tokens) == 1000
    assert wrong_tokens.add("4999", 5.0).delay == 0.0


def test_one_line_is_logged_for_each_source() -> None:
    wrong_tokens = WrongTokens()
    logged = [wrong_tokens.add("flood", number / 100).log_count for number in range(2000)]
    assert [count for count in logged if count] == [1, 1001]


def test_many_sources_share_ten_log_lines() -> None:
    wrong_tokens = WrongTokens()
    logged = [wrong_tokens.add(f"{number}", number / 1000).log_count for number in range(5000)]
    assert sum(logged) == 10
