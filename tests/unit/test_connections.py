# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which connection is closed for which, and what a source is."""

from __future__ import annotations

import dataclasses

import hypothesis
import pytest
from hypothesis import strategies

from maas_virtualbox.service.connections import Admission, source_of

LIMIT = 80
SHARE = LIMIT // 4
SHARE_OF_KNOWN = LIMIT // 2


@dataclasses.dataclass(eq=False)
class Connection:
    """A connection without a socket."""

    source: str | None
    is_answering: bool = False

    def is_idle(self) -> bool:
        return not self.is_answering


def add(admission: Admission[Connection], source: str | None, count: int = 1) -> list[Connection]:
    """Add connections of a source."""
    added = [Connection(source) for _ in range(count)]
    for connection in added:
        admission.add(connection)
    return added


def add_authenticated(
    admission: Admission[Connection], source: str | None, count: int = 1
) -> list[Connection]:
    """Add connections whose request, with a right token, is being answered."""
    added: list[Connection] = []
    for _ in range(count):
        (connection,) = add(admission, source)
        admission.authenticate(connection)
        connection.is_answering = True
        added.append(connection)
    return added


def test_all_stay_open_below_the_limit() -> None:
    admission = Admission[Connection](LIMIT)
    added = [connection for number in range(LIMIT) for connection in add(admission, f"{number}")]
    assert admission.connections() == added


def test_source_beyond_its_share_loses_its_oldest() -> None:
    admission = Admission[Connection](LIMIT)
    (other,) = add(admission, "other")
    flood = add(admission, "flood", SHARE)
    new = Connection("flood")

    assert admission.add(new) == [(flood[0], "address")]
    assert admission.connections() == [other, *flood[1:], new]


def test_oldest_anonymous_is_closed_at_the_limit() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack", 5)
    (oldest,) = add(admission, "0")
    for number in range(1, LIMIT - 5):
        add(admission, str(number))
    new = Connection("rack")

    assert admission.count() == LIMIT
    assert admission.add(new) == [(oldest, "total")]
    assert admission.count() == LIMIT


def test_known_source_is_closed_after_unknown_ones() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack")
    (of_rack,) = add(admission, "rack")
    strangers = [add(admission, str(number))[0] for number in range(LIMIT - 2)]

    removed = [admission.add(Connection(f"more {number}")) for number in range(LIMIT - 2)]

    assert removed == [[(stranger, "total")] for stranger in strangers]
    assert of_rack in admission.connections()


def test_known_source_has_a_larger_share() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack")
    of_rack = add(admission, "rack", SHARE_OF_KNOWN - 1)
    assert admission.count_anonymous() == SHARE_OF_KNOWN - 1
    assert admission.add(Connection("rack")) == [(of_rack[0], "address")]


def test_source_is_forgotten_after_an_hour() -> None:
    now = 0.0
    admission = Admission[Connection](LIMIT, lambda: now)
    for connection in add_authenticated(admission, "rack"):
        admission.remove(connection)
    now = 3601.0
    of_rack = add(admission, "rack", SHARE)
    assert admission.add(Connection("rack")) == [(of_rack[0], "address")]


def test_idle_connection_with_a_right_token_is_closed_last() -> None:
    admission = Admission[Connection](LIMIT)
    first = add_authenticated(admission, "1", SHARE_OF_KNOWN)
    add_authenticated(admission, "2", SHARE_OF_KNOWN)
    assert admission.is_full()

    first[3].is_answering = False

    assert not admission.is_full()
    assert admission.add(Connection("3")) == [(first[3], "total")]


def test_connections_being_answered_are_not_closed() -> None:
    admission = Admission[Connection](LIMIT)
    answering = add_authenticated(admission, None, LIMIT)
    assert admission.is_full()
    admission.remove(answering[0])
    assert not admission.is_full()


def test_source_with_right_tokens_cannot_use_all() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "stolen token", SHARE_OF_KNOWN)
    new = Connection("stolen token")

    assert admission.add(new) == [(new, "address")]
    assert admission.add(Connection("rack")) == []


def test_unix_socket_has_no_shares() -> None:
    admission = Admission[Connection](LIMIT)
    assert add(admission, None, LIMIT) == admission.connections()


def test_lower_limit_applies_to_the_next_connection() -> None:
    admission = Admission[Connection](LIMIT)
    for number in range(LIMIT):
        add(admission, str(number))
    admission.limit = 10
    add(admission, "next")
    assert admission.count() == 10


SOURCES = strategies.sampled_from([None, "a", "b", "c"])
STEPS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["add", "authenticate", "answer", "remove"]),
        SOURCES,
        strategies.integers(0, 30),
    ),
    max_size=120,
)


@hypothesis.given(limit=strategies.integers(1, 20), steps=STEPS)
def test_whatever_happens_news_get_in(
    limit: int, steps: list[tuple[str, str | None, int]]
) -> None:
    admission = Admission[Connection](limit)
    for step, source, number in steps:
        there = admission.connections()
        if step == "add" and not admission.is_full():
            new = Connection(source)
            removed = admission.add(new)
            assert not any(closed.is_answering for closed, _ in removed)
            if (new, "address") in removed:
                of_source = [one for one in there if one.source == source]
                assert all(one.is_answering for one in of_source)
                assert len(of_source) >= min(limit // 2, 4)
            else:
                assert new in admission.connections()
        elif there:
            connection = there[number % len(there)]
            if step == "remove":
                assert admission.remove(connection)
                assert not admission.remove(connection)
            elif step == "authenticate":
                admission.authenticate(connection)
                connection.is_answering = True
            elif step == "answer":
                connection.is_answering = False
        assert admission.count() == len(admission.connections()) <= limit


@pytest.mark.parametrize(
    ("address", "source"),
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
def test_source_of_an_address(address: str, source: str) -> None:
    assert source_of(address) == source


def test_source_of_two_ipv6_networks_differs() -> None:
    assert source_of("2001:db8:1:2::1") != source_of("2001:db8:1:3::1")
