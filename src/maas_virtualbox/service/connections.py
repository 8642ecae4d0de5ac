# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which client connections the service accepts, how many, and which it closes for others.

The number follows from the file descriptors. A process that has used all of them cannot connect to
a host, open a file or write its log, so some are reserved for these, and clients get the rest. The
limit of the process (RLIMIT_NOFILE) is LimitNOFILE in the systemd unit.

A connection is anonymous until a request on it has presented a right token. A new connection is
always accepted and an older one is closed for it, because only the new one may be from MAAS: all
others have had the time to send a request. The order has three properties:

- A client with a right token is always served, whoever else has connections and how many.
  Anonymous connections are closed first, the oldest first. Those of sources that have presented a
  right token in the last hour are closed after all other anonymous ones.
- One source cannot use up all connections. Each source has a share, and a connection beyond the
  share closes one of the same source.
- A connection whose token was right and whose request is being answered is never closed for
  another one. If all connections are of this type, none is accepted until one ends, and clients
  wait in the kernel's queue.

A **source** is a client address, or an IPv6 network; see `source_of`. This module uses no sockets;
`listener` accepts and closes the connections.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import ipaddress
import logging
import resource
import time
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from maas_virtualbox.config.host_list import HostConfig

log = logging.getLogger(__name__)

Reason = Literal["address", "total"]
"""Why a connection is closed: its source has used up its share, or there are too many in total."""

_MIN_SHARE = 4
"""Connections that each source may have, however low the limit is."""

_KNOWN_FOR_S = 3600.0
"""Seconds for which a source is known after a right token. MAAS polls each machine every 5
minutes, so a rack controller remains known."""

_MAX_SOURCES = 1000
"""Sources that are remembered."""


@functools.lru_cache(maxsize=_MAX_SOURCES)
def source_of(address: str) -> str:
    """Return the source of a connection: its IPv4 address, or the /64 network of its IPv6 address.

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


class Connection(Protocol):
    """The connection of a client."""

    @property
    def source(self) -> str | None:
        """The `source_of` the client's address. None: no share applies, as on the UNIX socket."""
        ...

    def is_idle(self) -> bool:
        """Return whether no request is being answered."""
        ...


AnyConnection = TypeVar("AnyConnection", bound=Connection)


class Admission(Generic[AnyConnection]):
    """The open connections of one listening socket.

    `listener.Listener` creates it. It belongs to one event loop.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        """How many connections may be open. May be changed at any time."""
        self._clock = clock
        # Dictionaries without values, because they keep the order of arrival.
        self._unknown: dict[AnyConnection, None] = {}
        self._known: dict[AnyConnection, None] = {}
        self._authenticated: dict[AnyConnection, None] = {}
        self._by_source: dict[str, dict[AnyConnection, None]] = {}
        self._known_sources: collections.OrderedDict[str, float] = collections.OrderedDict()

    def add(self, new: AnyConnection) -> list[tuple[AnyConnection, Reason]]:
        """Add a connection. Return the connections that were removed for it, to be closed.

        The new connection itself is among them if its source has used up its share with requests
        that are being answered.
        """
        is_known = self._is_known(new.source)
        removed: list[tuple[AnyConnection, Reason]] = []
        if self._has_used_up_share(new.source, is_known=is_known):
            closable = self._first_of(self._by_source[new.source or ""])
            if closable is None:
                return [(new, "address")]
            removed.append((closable, "address"))
            self.remove(closable)
        while self.count() >= self.limit and (closable := self.first_to_close()) is not None:
            removed.append((closable, "total"))
            self.remove(closable)
        (self._known if is_known else self._unknown)[new] = None
        if new.source is not None:
            self._by_source.setdefault(new.source, {})[new] = None
        return removed

    def authenticate(self, connection: AnyConnection) -> None:
        """Record that a connection has presented a right token, and that its source is known."""
        if connection in self._unknown or connection in self._known:
            self._unknown.pop(connection, None)
            self._known.pop(connection, None)
            self._authenticated[connection] = None
        if connection.source is not None:
            self._known_sources[connection.source] = self._clock()
            self._known_sources.move_to_end(connection.source)
            if len(self._known_sources) > _MAX_SOURCES:
                self._known_sources.popitem(last=False)

    def remove(self, connection: AnyConnection) -> bool:
        """Forget a connection that is closed. Return whether it was known."""
        groups = (self._unknown, self._known, self._authenticated)
        group = next((group for group in groups if connection in group), None)
        if group is None:
            return False
        del group[connection]
        if connection.source is not None:
            of_source = self._by_source[connection.source]
            del of_source[connection]
            if not of_source:
                del self._by_source[connection.source]
        return True

    def first_to_close(self) -> AnyConnection | None:
        """Return the connection to close for the next one. None: all are being answered."""
        anonymous = next(iter(self._unknown), None) or next(iter(self._known), None)
        return anonymous or _first_idle(self._authenticated)

    def is_full(self) -> bool:
        """Return whether the limit is reached and no connection can be closed for a new one."""
        return self.count() >= self.limit and self.first_to_close() is None

    def count(self) -> int:
        """Return how many connections are open."""
        return self.count_anonymous() + self.count_authenticated()

    def count_anonymous(self) -> int:
        """Return how many open connections have not presented a right token."""
        return len(self._unknown) + len(self._known)

    def count_authenticated(self) -> int:
        """Return how many open connections have presented a right token."""
        return len(self._authenticated)

    def connections(self) -> list[AnyConnection]:
        """Return all open connections."""
        return [*self._unknown, *self._known, *self._authenticated]

    def _is_known(self, source: str | None) -> bool:
        since = self._known_sources.get(source) if source is not None else None
        return since is not None and self._clock() - since < _KNOWN_FOR_S

    def _has_used_up_share(self, source: str | None, *, is_known: bool) -> bool:
        share = max(_MIN_SHARE, self.limit // (2 if is_known else 4))
        return source is not None and len(self._by_source.get(source, ())) >= share

    def _first_of(self, connections: Iterable[AnyConnection]) -> AnyConnection | None:
        """Return the connection of a source to close for its next one."""
        anonymous = (
            connection for connection in connections if connection not in self._authenticated
        )
        return next(anonymous, None) or _first_idle(connections)


def _first_idle(connections: Iterable[AnyConnection]) -> AnyConnection | None:
    return next((connection for connection in connections if connection.is_idle()), None)


# -- How many ---------------------------------------------------------------------------------

_MAX_CONNECTIONS = 1000
"""More connections than MAAS ever opens. With TLS, each one uses about 0.1 MB of memory."""

_MIN_CONNECTIONS = 16

_ENOUGH_CONNECTIONS = 100
"""With fewer connections, a warning is logged."""

_RESERVED_FOR_SERVICE = 64
"""For the event loop, the listening sockets, the log, files, name resolution, and connections that
are accepted while others are being closed."""

_RESERVED_PER_SSH_HOST = 8
"""The open connection, one that is being replaced, a new one and one to ssh-agent. Twice, because
a reload replaces the hosts."""

_RESERVED_PER_LOCAL_HOST = 128
"""The pipes of its parallel commands. Twice, because a reload replaces the hosts."""

_UNIX_SOCKET_PART = 4
"""One connection in so many is for the UNIX socket."""


@dataclasses.dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How many client connections may be open."""

    tcp: int
    unix: int


def compute_limits(hosts: Iterable[HostConfig]) -> ConnectionLimits:
    """Return the limits for a list of hosts, and log a warning if they are low."""
    hosts = tuple(hosts)
    reserved = _RESERVED_FOR_SERVICE + sum(
        _RESERVED_PER_LOCAL_HOST if host.is_local else _RESERVED_PER_SSH_HOST for host in hosts
    )
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_unlimited = descriptors == resource.RLIM_INFINITY
    available = _MAX_CONNECTIONS if is_unlimited else descriptors - reserved
    total = max(_MIN_CONNECTIONS, min(_MAX_CONNECTIONS, available))
    if available < _ENOUGH_CONNECTIONS:
        log.warning(
            "%d file descriptors are too few for %d hosts: only %d client connections allowed;"
            " set LimitNOFILE=%d or more in the systemd unit (ulimit -n)",
            descriptors,
            len(hosts),
            total,
            reserved + _MAX_CONNECTIONS,
        )
    unix = total // _UNIX_SOCKET_PART
    return ConnectionLimits(total - unix, unix)
