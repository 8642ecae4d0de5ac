# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Who is one sender, and how long the answers to its wrong tokens are delayed."""

from __future__ import annotations

import itertools

import pytest

from maas_virtualbox.service.wrong_tokens import BURST, LONGEST_DELAY_S, RATE, Senders, sender_of
from maas_virtualbox.simulator import maas


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
    ],
)
def test_sender_of(address: str, sender: str) -> None:
    assert sender_of(address) == sender


def test_two_ipv6_networks_are_two_senders() -> None:
    assert sender_of("2001:db8:1:2::1") != sender_of("2001:db8:1:3::1")


def test_a_rack_with_stale_tokens_only_is_not_delayed() -> None:
    """Five machines at a time, each 7 times in 35 seconds, for a day."""
    senders, delays = Senders(), set[float]()
    for start in range(0, 24 * 3600, 35):
        for pause in (0.0, *itertools.accumulate(maas.PAUSES_S[:-1])):
            delays |= {senders.refuse("rack", start + pause).delay for _ in range(5)}
    assert delays == {0.0}


def test_200_machines_switched_at_once_are_not_delayed() -> None:
    senders, delays = Senders(), set[float]()
    for pause in (0.0, *itertools.accumulate(maas.PAUSES_S[:-1])):
        delays |= {senders.refuse("rack", pause).delay for _ in range(200)}
    assert delays == {0.0}


def test_flood_is_slowed_down_to_the_rate() -> None:
    """One request after the other, each as soon as the one before is answered."""
    senders, now, count = Senders(), 0.0, 0
    while now < 600.0:
        now += 0.001 + senders.refuse("flood", now).delay
        count += 1
    assert BURST + 600 * RATE * 0.95 < count < BURST + 600 * RATE * 1.05


def test_delay_has_a_limit_and_passes() -> None:
    senders = Senders()
    longest = max(senders.refuse("flood", 0.0).delay for _ in range(10 * BURST))
    assert longest == pytest.approx(LONGEST_DELAY_S)
    assert senders.refuse("flood", 2 * LONGEST_DELAY_S).delay == 0.0


def test_flood_delays_no_other_sender() -> None:
    senders = Senders()
    for number in range(10 * BURST):
        senders.refuse("flood", number / 1000)
    assert senders.refuse("other", 10.0).delay == 0.0


def test_memory_is_bounded() -> None:
    senders = Senders()
    for number in range(5000):
        senders.refuse(f"{number}", number / 1000)
    assert len(senders) == 1000
    assert senders.refuse("4999", 5.0).delay == 0.0


def test_one_line_is_logged_for_each_sender() -> None:
    senders = Senders()
    logged = [senders.refuse("flood", number / 100).log for number in range(2000)]
    assert [count for count in logged if count] == [1, 1001]


def test_many_senders_share_ten_lines() -> None:
    senders = Senders()
    logged = [senders.refuse(f"{number}", number / 1000).log for number in range(5000)]
    assert sum(logged) == 10
