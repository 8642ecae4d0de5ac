# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which client connections stay open when there is not room for all of them.

A connection is anonymous until a request on it has presented a right token. The rule is that a
new connection is let in and an older one makes room, because only the new one may be from MAAS:
everybody else had the time to send a request. Three properties follow:

- A client with a right token is always served, whoever else holds connections and how many:
  anonymous connections are closed first, the oldest first, and those of addresses that have
  presented a right token in the last hour are closed after all others.
- One sender cannot fill the service: it has a share, and beyond that its own connections are
  closed.
- A connection whose request is being answered is never closed for another one if its token was
  right. If there are no others, nothing is accepted until one ends, and clients wait in the
  kernel's queue.

Everything here is bookkeeping without sockets; `listener` applies it.
"""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Reason = Literal["address", "total"]
"""Why a connection is closed: its sender has more than its share, or all senders together."""

_SMALLEST_SHARE = 4
_KNOWN_FOR_S = 3600.0
"""MAAS polls each machine every 5 minutes, so a rack in use stays known."""
_MAX_KNOWN = 1000


class Connection(Protocol):
    """A client's connection."""

    @property
    def sender(self) -> str | None:
        """Who counts as one sender, see `senders.sender_of`; None: has no share, as on the UNIX
        socket."""
        ...

    def is_idle(self) -> bool:
        """Return whether no request is being answered."""
        ...


AnyConnection = TypeVar("AnyConnection", bound=Connection)


class Admission(Generic[AnyConnection]):
    """The open connections of one listening socket. Belongs to one event loop."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        """How many connections there may be. May be replaced at any time."""
        self._clock = clock
        # Dictionaries without values, because they keep the order of arrival.
        self._unknown: dict[AnyConnection, None] = {}
        self._known: dict[AnyConnection, None] = {}
        self._authenticated: dict[AnyConnection, None] = {}
        self._by_sender: dict[str, dict[AnyConnection, None]] = {}
        self._known_senders: collections.OrderedDict[str, float] = collections.OrderedDict()

    def add(self, newcomer: AnyConnection) -> list[tuple[AnyConnection, Reason]]:
        """Add a connection. Return those that have been removed for it, to be closed.

        The newcomer itself is among them if its sender has used up its share with requests that
        are being answered.
        """
        removed: list[tuple[AnyConnection, Reason]] = []
        sender = newcomer.sender
        is_known = sender is not None and self._is_known(sender)
        if sender is not None:
            others = self._by_sender.get(sender, {})
            if len(others) >= max(_SMALLEST_SHARE, self.limit // (2 if is_known else 4)):
                loser = self._first_of(others)
                if loser is None:
                    return [(newcomer, "address")]
                removed.append((loser, "address"))
                self.remove(loser)
        while self.count() >= self.limit and (loser := self.first_to_close()) is not None:
            removed.append((loser, "total"))
            self.remove(loser)
        (self._known if is_known else self._unknown)[newcomer] = None
        if sender is not None:
            self._by_sender.setdefault(sender, {})[newcomer] = None
        return removed

    def authenticate(self, connection: AnyConnection) -> None:
        """Note that a connection has presented a right token, and that its sender is known."""
        if connection in self._unknown or connection in self._known:
            self._unknown.pop(connection, None)
            self._known.pop(connection, None)
            self._authenticated[connection] = None
        if (sender := connection.sender) is not None:
            self._known_senders[sender] = self._clock()
            self._known_senders.move_to_end(sender)
            if len(self._known_senders) > _MAX_KNOWN:
                self._known_senders.popitem(last=False)

    def remove(self, connection: AnyConnection) -> bool:
        """Forget a connection that is closed. Return whether it was there."""
        for group in (self._unknown, self._known, self._authenticated):
            if connection in group:
                del group[connection]
                break
        else:
            return False
        if (sender := connection.sender) is not None:
            del self._by_sender[sender][connection]
            if not self._by_sender[sender]:
                del self._by_sender[sender]
        return True

    def first_to_close(self) -> AnyConnection | None:
        """Return the connection that makes room next. None: all are being answered."""
        anonymous = next(iter(self._unknown), None) or next(iter(self._known), None)
        return anonymous or next((each for each in self._authenticated if each.is_idle()), None)

    def is_full(self) -> bool:
        """Return whether there is no room for a newcomer and none can be made."""
        return self.count() >= self.limit and self.first_to_close() is None

    def count(self) -> int:
        """Return how many connections are open."""
        return self.count_anonymous() + self.count_authenticated()

    def count_anonymous(self) -> int:
        """Return how many connections have presented no right token."""
        return len(self._unknown) + len(self._known)

    def count_authenticated(self) -> int:
        """Return how many connections have presented a right token."""
        return len(self._authenticated)

    def connections(self) -> list[AnyConnection]:
        """Return all connections, as a copy."""
        return [*self._unknown, *self._known, *self._authenticated]

    def _is_known(self, sender: str) -> bool:
        since = self._known_senders.get(sender)
        return since is not None and self._clock() - since < _KNOWN_FOR_S

    def _first_of(self, connections: Iterable[AnyConnection]) -> AnyConnection | None:
        """Return the one of a sender's connections that makes room for its next."""
        anonymous = (each for each in connections if each not in self._authenticated)
        idle = (each for each in connections if each.is_idle())
        return next(anonymous, None) or next(idle, None)
