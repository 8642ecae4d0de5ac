# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Run commands on another machine, over one SSH connection for each host that is kept open.

This module decides when to connect, when to try again and when to replace a connection. The login
is in `ssh_login` and the commands are in `ssh_connection`. What paramiko leaves to its users
(measured; see the decisions in the documentation):

- TCP_NODELAY: without it, every command waits 40 ms for a delayed acknowledgement.
- Deadlines: paramiko waits without limit for a command's answer.
- Liveness: paramiko's keepalive does not check for an answer. Here, the round trip that opens a
  command's channel is the check. If there is no answer, the connection is dead and nothing was
  sent, so the command runs over a new connection. This happens at most once for each command.
- Replacement: paramiko stores a record of every channel as long as the connection exists.
- Limits for a hostile host: see `paramiko_transport`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors, transport
from maas_virtualbox.transport import ssh_connection, ssh_login

if TYPE_CHECKING:
    import paramiko

    from maas_virtualbox.config import host_list
    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.transport import host_keys

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """How long an `SSHTransport` waits, and when it replaces a connection."""

    connect_timeout: float = 8.0
    """Seconds for one attempt to connect: TCP, key exchange and login together."""

    liveness_timeout: float = 4.0
    """Seconds within which a live host opens a channel."""

    unreachable_pauses: tuple[float, float] = (0.5, 8.0)
    """First and longest pause, in seconds, after a failure that may pass. Each failure doubles
    the pause."""

    refused_pauses: tuple[float, float] = (5.0, 60.0)
    """The same after a permanent failure. They are long because OpenSSH 9.8 and newer drops even
    the right key for a while after some refused logins."""

    commands_per_connection: int = 2000
    """How many commands use a connection before it is replaced."""


class SSHTransport:
    """Runs commands on one host over one connection that is kept open.

    `Fleet` creates one for each host. Threads may share it. `_connecting` is held during an
    attempt to connect, so that a host sees one login however many commands wait for it. The
    waiting commands then use the connection, or raise the error of the attempt. `_lock` guards
    the fields and is never held during a wait.
    """

    def __init__(
        self,
        host: host_list.HostConfig,
        known_hosts: host_keys.KnownHosts,
        identity: paramiko.PKey | None = None,
        *,
        timings: Timings | None = None,
    ) -> None:
        """Prepare for a host. The first `run` connects.

        Args:
            host: the host and the account.
            known_hosts: decides which host keys are accepted.
            identity: the private key. None: the keys of ssh-agent, then those in `~/.ssh`.
            timings: for tests.
        """
        self._host = host
        self._known_hosts = known_hosts
        self._identity = identity
        self._timings = timings or Timings()
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._connection: ssh_connection.Connection | None = None
        self._failures = 0
        self._last_error: errors.HostError | None = None
        self._next_attempt = 0.0
        self._closed = False
        self.connections_made = 0
        """How many logins have succeeded. All but the first are reconnects."""

    def __repr__(self) -> str:
        state = "closed" if self._closed else "connected" if self._connection else "not connected"
        return f"<SSHTransport {self._host.account}: {state}>"

    def close(self) -> None:
        """Close the connection. A later `run` raises `Closed`."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(
        self, command: str, *, deadline: Deadline, max_output: int = transport.MAX_OUTPUT
    ) -> transport.CommandResult:
        """Run one command line; see `Transport.run`."""
        began = time.monotonic()
        try:
            return self._run(command, began, deadline, max_output)
        except ssh_connection.DeadConnection as error:
            log.info("%s: the connection is dead (%s); connecting again", self._host, error)
        try:
            return self._run(command, began, deadline, max_output)
        except ssh_connection.DeadConnection as error:
            raise errors.HostUnreachable(
                str(self._host), f"two connections in a row were lost: {error}"
            ) from error

    def _run(
        self, command: str, began: float, deadline: Deadline, max_output: int
    ) -> transport.CommandResult:
        """Run a command over the open connection or a new one. Raises `DeadConnection`."""
        connection = self._connect(deadline)
        try:
            return connection.run(command, began, deadline, max_output)
        except (ssh_connection.DeadConnection, errors.ConnectionLost):
            self._drop(connection)
            raise
        except errors.OversizedOutput as error:
            # The host still sends over this connection. The error is stored for a while, and its
            # traceback would also store the channel with everything that was read.
            self._drop(connection)
            raise error.with_traceback(None) from None
        finally:
            if connection.commands >= self._timings.commands_per_connection:
                self._drop(connection)

    def _drop(self, connection: ssh_connection.Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.retire()

    def _connect(self, deadline: Deadline) -> ssh_connection.Connection:
        """Return the open connection, or a new one."""
        if (connection := self._usable_connection()) is not None:
            return connection
        if not self._connecting.acquire(timeout=deadline.remaining):
            raise errors.HostUnreachable(
                str(self._host), "another attempt to connect is still in progress"
            )
        try:
            if (connection := self._usable_connection()) is not None:
                return connection
            if self._last_error is not None and time.monotonic() < self._next_attempt:
                raise self._last_error
            return self._log_in(deadline)
        finally:
            self._connecting.release()

    def _usable_connection(self) -> ssh_connection.Connection | None:
        with self._lock:
            if self._closed:
                raise errors.Closed(str(self._host), "this transport is closed")
            if self._connection is not None and not self._connection.is_alive():
                self._connection = None
            return self._connection

    def _log_in(self, deadline: Deadline) -> ssh_connection.Connection:
        try:
            authenticated = ssh_login.log_in(
                self._host,
                self._known_hosts,
                self._identity,
                deadline.within(self._timings.connect_timeout),
            )
        except errors.HostError as error:
            self._back_off(error)
            raise
        connection = ssh_connection.Connection(
            str(self._host), authenticated, liveness_timeout=self._timings.liveness_timeout
        )
        with self._lock:
            self._failures, self._last_error = 0, None
            if not self._closed:
                self.connections_made += 1
                self._connection = connection
                return connection
        connection.close()
        raise errors.Closed(str(self._host), "this transport is closed")

    def _back_off(self, error: errors.HostError) -> None:
        timings = self._timings
        first, longest = timings.unreachable_pauses if error.retry else timings.refused_pauses
        with self._lock:
            pause = min(longest, first * 2.0 ** min(self._failures, 16))
            self._failures += 1
            self._last_error = error
            self._next_attempt = time.monotonic() + pause
        log.info("%s; next attempt in %.0f s at the earliest", error, pause)
