# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which connections make room for which."""

from __future__ import annotations

import dataclasses

import hypothesis
from hypothesis import strategies

from maas_virtualbox.service.admission import Admission

LIMIT = 80
SHARE = LIMIT // 4
SHARE_OF_KNOWN = LIMIT // 2


@dataclasses.dataclass(eq=False)
class Connection:
    """A connection of a test."""

    sender: str | None
    is_answering: bool = False

    def is_idle(self) -> bool:
        return not self.is_answering


def add(admission: Admission[Connection], sender: str | None, count: int = 1) -> list[Connection]:
    """Add connections of a sender."""
    added = [Connection(sender) for _ in range(count)]
    for connection in added:
        admission.add(connection)
    return added


def add_authenticated(
    admission: Admission[Connection], sender: str | None, count: int = 1
) -> list[Connection]:
    """Add connections whose request, with a right token, is being answered."""
    added: list[Connection] = []
    for _ in range(count):
        (connection,) = add(admission, sender)
        admission.authenticate(connection)
        connection.is_answering = True
        added.append(connection)
    return added


def test_all_stay_while_there_is_room() -> None:
    admission = Admission[Connection](LIMIT)
    added = [connection for each in range(LIMIT) for connection in add(admission, f"{each}")]
    assert admission.connections() == added


def test_sender_beyond_its_share_loses_its_oldest() -> None:
    admission = Admission[Connection](LIMIT)
    (other,) = add(admission, "other")
    flood = add(admission, "flood", SHARE)
    newcomer = Connection("flood")

    assert admission.add(newcomer) == [(flood[0], "address")]
    assert admission.connections() == [other, *flood[1:], newcomer]


def test_oldest_anonymous_makes_room_when_all_is_full() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack", 5)
    (oldest,) = add(admission, "0")
    for number in range(1, LIMIT - 5):
        add(admission, str(number))
    newcomer = Connection("rack")

    assert admission.count() == LIMIT
    assert admission.add(newcomer) == [(oldest, "total")]
    assert admission.count() == LIMIT


def test_known_sender_makes_room_after_unknown_ones() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack")
    (of_rack,) = add(admission, "rack")
    strangers = [add(admission, str(number))[0] for number in range(LIMIT - 2)]

    removed = [admission.add(Connection(f"more {number}")) for number in range(LIMIT - 2)]

    assert removed == [[(stranger, "total")] for stranger in strangers]
    assert of_rack in admission.connections()


def test_known_sender_has_a_larger_share() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "rack")
    of_rack = add(admission, "rack", SHARE_OF_KNOWN - 1)
    assert admission.count_anonymous() == SHARE_OF_KNOWN - 1
    assert admission.add(Connection("rack")) == [(of_rack[0], "address")]


def test_sender_is_forgotten_after_an_hour() -> None:
    now = 0.0
    admission = Admission[Connection](LIMIT, lambda: now)
    for connection in add_authenticated(admission, "rack"):
        admission.remove(connection)
    now = 3601.0
    of_rack = add(admission, "rack", SHARE)
    assert admission.add(Connection("rack")) == [(of_rack[0], "address")]


def test_idle_one_with_a_right_token_makes_room_last() -> None:
    admission = Admission[Connection](LIMIT)
    first = add_authenticated(admission, "1", SHARE_OF_KNOWN)
    add_authenticated(admission, "2", SHARE_OF_KNOWN)
    assert admission.is_full()

    first[3].is_answering = False

    assert not admission.is_full()
    assert admission.add(Connection("3")) == [(first[3], "total")]


def test_nothing_is_closed_while_all_are_being_answered() -> None:
    admission = Admission[Connection](LIMIT)
    answering = add_authenticated(admission, None, LIMIT)
    assert admission.is_full()
    admission.remove(answering[0])
    assert not admission.is_full()


def test_one_sender_with_right_tokens_cannot_fill_it() -> None:
    admission = Admission[Connection](LIMIT)
    add_authenticated(admission, "stolen token", SHARE_OF_KNOWN)
    newcomer = Connection("stolen token")

    assert admission.add(newcomer) == [(newcomer, "address")]
    assert admission.add(Connection("rack")) == []


def test_unix_socket_has_no_share_per_sender() -> None:
    admission = Admission[Connection](LIMIT)
    assert add(admission, None, LIMIT) == admission.connections()


def test_lower_limit_applies_to_the_next_connection() -> None:
    admission = Admission[Connection](LIMIT)
    for number in range(LIMIT):
        add(admission, str(number))
    admission.limit = 10
    add(admission, "next")
    assert admission.count() == 10


SENDERS = strategies.sampled_from([None, "a", "b", "c"])
STEPS = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["add", "authenticate", "answer", "remove"]),
        SENDERS,
        strategies.integers(0, 30),
    ),
    max_size=120,
)


@hypothesis.given(limit=strategies.integers(1, 20), steps=STEPS)
def test_whatever_happens_newcomers_get_in(
    limit: int, steps: list[tuple[str, str | None, int]]
) -> None:
    admission = Admission[Connection](limit)
    for step, sender, number in steps:
        there = admission.connections()
        if step == "add" and not admission.is_full():
            newcomer = Connection(sender)
            removed = admission.add(newcomer)
            assert not any(each.is_answering for each, _ in removed)
            if (newcomer, "address") in removed:
                of_sender = [each for each in there if each.sender == sender]
                assert all(each.is_answering for each in of_sender)
                assert len(of_sender) >= min(limit // 2, 4)
            else:
                assert newcomer in admission.connections()
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
