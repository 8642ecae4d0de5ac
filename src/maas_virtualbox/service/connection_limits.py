# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How many file descriptors clients may use, so that SSH, the log and files always find one.

A process that has used up its descriptors cannot connect to a host. The limit (RLIMIT_NOFILE) is
LimitNOFILE in the systemd unit.
"""

from __future__ import annotations

import logging
import resource
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.config.host_list import HostConfig

log = logging.getLogger(__name__)

_MOST = 1000
"""Connections of clients that the service can use: more than MAAS ever opens. With TLS each takes
about 0.1 MB of memory."""
_LEAST = 16
_ENOUGH = 100
_OWN = 64
"""The event loop, listening sockets, log, state files, name lookups, and what is accepted while
another connection is being closed."""
_PER_SSH_HOST = 8
"""The kept connection, one that is being replaced, one in the making and an agent's; twice while
a reload replaces the hosts."""
_PER_LOCAL_HOST = 128
"""Pipes of its parallel commands, twice while a reload replaces the hosts."""
_LOCAL_SHARE = 4
"""One of so many connections is for the UNIX socket."""


def limits_for_clients(hosts: Iterable[HostConfig]) -> tuple[int, int]:
    """Return how many connections there may be over TCP and over the UNIX socket.

    Args:
        hosts: all hosts of the service, for which descriptors are reserved.
    """
    hosts = tuple(hosts)
    reserved = _OWN + sum(_PER_LOCAL_HOST if host.is_local else _PER_SSH_HOST for host in hosts)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = _MOST if soft == resource.RLIM_INFINITY else soft - reserved
    total = max(_LEAST, min(_MOST, free))
    if free < _ENOUGH:
        log.warning(
            "%d file descriptors are few for %d hosts: there may be %d connections of clients;"
            " set LimitNOFILE=%d or more in the systemd unit (ulimit -n)",
            soft,
            len(hosts),
            total,
            reserved + _MOST,
        )
    local = total // _LOCAL_SHARE
    return total - local, local
