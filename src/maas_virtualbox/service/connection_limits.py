# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Compute how many client connections the service may have, from its file descriptors.

A process that has used all its file descriptors cannot connect to a host, open a file or write
its log. So descriptors are reserved for these, and clients get the rest. The limit of the process
(RLIMIT_NOFILE) is LimitNOFILE in the systemd unit. Which connections are closed when the limit is
reached belongs to `admission`.
"""

from __future__ import annotations

import dataclasses
import logging
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.config.host_list import HostConfig

log = logging.getLogger(__name__)

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
