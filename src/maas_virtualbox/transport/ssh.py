# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Commands on another machine: one kept SSH connection a host, on paramiko.

What paramiko leaves to its user is done here (measured, docs of the decisions in the README):

- TCP_NODELAY, without which every command waits 40 ms for a delayed acknowledgement;
- deadlines: paramiko waits for ever in `exec_command`, so a watchdog closes the channel;
- liveness: its keepalive never checks an answer. Here the round trip that opens a command's
  channel is the check: no answer means a dead connection, found before anything was sent, so the
  command goes over a new connection, once;
- recycling: paramiko keeps a record of every channel for ever;
- limits for a hostile host: paramiko reads packets of up to 4 GiB, keeps what a host sends beyond
  the window it was given, and spends as much processor time on a host as the host likes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko import buffered_pipe, pkey, ssh_exception

from maas_virtualbox import errors, transport
from maas_virtualbox.transport import cpu_throttle, paramiko_transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from maas_virtualbox.config import host_list
    from maas_virtualbox.transport import host_keys

    _Pipe = buffered_pipe.BufferedPipe[bytes]
else:
    _Pipe = buffered_pipe.BufferedPipe

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 8.0
"""Longest time for TCP, key exchange and login together."""

_LIVENESS_TIMEOUT_S = 4.0
_COMMANDS_PER_CONNECTION = 2000
_READ_SIZE = 256 * 1024
_STDERR_POLL_S = 0.25

_MAX_PACKET = 256 * 1024
"""Bytes of the largest SSH packet; paramiko asks for 32 KiB, OpenSSH takes no larger ones than
this."""
_WINDOW = 2 * 1024 * 1024
"""Bytes a host may send on a channel before they are read."""

_MAX_WORDS = 300
"""Characters shown of what a host says."""

# (first pause, longest pause) in seconds after a failed attempt; each failure doubles it. OpenSSH
# 9.8 and newer drops even the right key for a while after some refused logins, hence the length.
_UNREACHABLE_PAUSES_S = (0.5, 8.0)
_REFUSED_PAUSES_S = (5.0, 60.0)

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


def load_identity(path: Path | str) -> paramiko.PKey:
    """Read a private key (OpenSSH or PEM format, without a passphrase).

    Raises:
        IdentityError: the file is missing, unreadable, encrypted or not a private key.
    """
    try:
        return paramiko.PKey.from_path(Path(path).expanduser())
    except OSError as error:
        reason = error.strerror or str(error)
    except (TypeError, paramiko.PasswordRequiredException):
        reason = "it is protected by a passphrase; load it in ssh-agent or use one without"
    except (ValueError, paramiko.SSHException, pkey.UnknownKeyType):
        reason = "it is not a private key this client can read (ed25519, ecdsa or rsa)"
    raise errors.IdentityError(f"the private key {path} cannot be used: {reason}")


def presented_key(
    host: host_list.HostConfig, known_hosts: host_keys.KnownHosts, *, timeout: float
) -> paramiko.PKey:
    """Return the key a host presents now, of a pinned sort if it has one; trusts it with nothing.

    Raises:
        HostUnreachable: it does not answer within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    session = _open_session(host, deadline)
    try:
        return _negotiate(session, host, known_hosts.algorithms(host), deadline)
    finally:
        session.close()


class SSHTransport:
    """Runs commands on one host over one kept connection.

    May be shared between threads. Concurrency: `_connecting` is held while a connection is made,
    so that a host sees one login however many commands wait for it; the others then find the
    connection, or the error of the attempt they waited for. `_lock` guards the fields and is
    never held while anything waits.
    """

    def __init__(
        self,
        host: host_list.HostConfig,
        known_hosts: host_keys.KnownHosts,
        identity: paramiko.PKey | None = None,
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Prepare; the first `run` connects.

        Args:
            host: where to log in and as whom.
            known_hosts: decides about host keys.
            identity: the private key. None: ssh-agent's keys, then the usual files in `~/.ssh`.
            connect_timeout: longest time for one attempt to connect, in seconds.
        """
        self._host = host
        self._known_hosts = known_hosts
        self._identity = identity
        self._connect_timeout = connect_timeout
        self._connecting = threading.Lock()
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._failures = 0
        self._last_error: errors.HostError | None = None
        self._next_attempt = 0.0
        self._closed = False
        self.connections_made = 0
        """How many logins have succeeded; all but the first are reconnects."""

    def close(self) -> None:
        """Close the connection; a later `run` raises `HostUnreachable`."""
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def run(
        self, command: str, *, timeout: float, max_output: int = transport.MAX_OUTPUT
    ) -> transport.CommandResult:
        """Run one command line; see `Transport.run`."""
        began = time.monotonic()
        deadline = began + timeout
        for last_try in (False, True):
            connection = self._connect(deadline)
            try:
                return connection.run(command, began, deadline, max_output)
            except _DeadConnection as error:
                self._drop(connection)
                if last_try:
                    raise errors.HostUnreachable(
                        str(self._host), f"two connections in a row died: {error}"
                    ) from error
                log.info("%s: the connection is dead (%s); connecting again", self._host, error)
            except errors.ConnectionLost:
                self._drop(connection)
                raise
            except errors.OversizedOutput as error:
                # What still comes over this connection costs time. The error is kept for a while,
                # but not by its traceback the channel with all that was read.
                self._drop(connection)
                raise error.with_traceback(None) from None
            finally:
                if connection.is_worn():
                    self._drop(connection)
        raise AssertionError("unreachable")

    def _drop(self, connection: _Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.retire()

    def _connect(self, deadline: float) -> _Connection:
        """Return the kept connection, or make it."""
        if (connection := self._usable()) is not None:
            return connection
        if not self._connecting.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise errors.HostUnreachable(str(self._host), "another attempt to connect still waits")
        try:
            if (connection := self._usable()) is not None:
                return connection
            pause = self._next_attempt - time.monotonic()
            if self._last_error is not None and pause > 0:
                raise self._last_error
            limit = min(deadline, time.monotonic() + self._connect_timeout)
            try:
                connection = _Connection(
                    self._host, self._known_hosts, self._identity, deadline=limit
                )
            except errors.HostError as error:
                self._back_off(error)
                raise
            with self._lock:
                self._failures, self._last_error = 0, None
                if not self._closed:
                    self.connections_made += 1
                    self._connection = connection
                    return connection
            connection.close()
            raise errors.Closed(str(self._host), "this transport is closed")
        finally:
            self._connecting.release()

    def _usable(self) -> _Connection | None:
        with self._lock:
            if self._closed:
                raise errors.Closed(str(self._host), "this transport is closed")
            if self._connection is not None and not self._connection.is_alive():
                self._connection = None
            return self._connection

    def _back_off(self, error: errors.HostError) -> None:
        first, longest = _UNREACHABLE_PAUSES_S if error.retry else _REFUSED_PAUSES_S
        with self._lock:
            pause = min(longest, first * 2.0 ** min(self._failures, 16))
            self._failures += 1
            self._last_error = error
            self._next_attempt = time.monotonic() + pause
        log.info("%s; next attempt in %.0f s at the earliest", error, pause)


class _DeadConnection(Exception):
    """The connection is of no use and the command was not sent: safe to use another one."""


class _Connection:
    """One authenticated SSH connection and the commands that run over it."""

    def __init__(
        self,
        host: host_list.HostConfig,
        known_hosts: host_keys.KnownHosts,
        identity: paramiko.PKey | None,
        *,
        deadline: float,
    ) -> None:
        self._host = str(host)
        self._slots = threading.BoundedSemaphore(transport.MAX_PARALLEL)
        self._lock = threading.Lock()
        self._commands = 0
        self._running = 0
        self._retired = False
        self._paramiko = _log_in(host, known_hosts, identity, deadline)

    def close(self) -> None:
        # paramiko's close() joins its thread; a peer that is gone must not hold us up.
        self._paramiko.close()

    def is_alive(self) -> bool:
        return not self._retired and self._paramiko.is_active()

    def is_worn(self) -> bool:
        return self._commands >= _COMMANDS_PER_CONNECTION

    def retire(self) -> None:
        """Take no new commands; close when the last one has ended."""
        with self._lock:
            self._retired = True
            idle = self._running == 0
        if idle:
            self.close()

    def run(
        self, command: str, began: float, deadline: float, max_output: int
    ) -> transport.CommandResult:
        with self._lock:
            if self._retired:
                raise _DeadConnection("it is being closed")
            self._commands += 1
            self._running += 1
        try:
            if not self._slots.acquire(timeout=max(0.0, deadline - time.monotonic())):
                raise self._timed_out(began, "waiting for a free channel")
            try:
                channel = self._open_channel(deadline)
                try:
                    return self._execute(channel, command, began, deadline, max_output)
                finally:
                    _close(channel)
            finally:
                self._slots.release()
        finally:
            with self._lock:
                self._running -= 1
                last = self._retired and self._running == 0
            if last:
                self.close()

    def _open_channel(self, deadline: float) -> paramiko.Channel:
        while True:
            limit = min(_LIVENESS_TIMEOUT_S, deadline - time.monotonic())
            try:
                channel = self._paramiko.open_session(
                    window_size=_WINDOW, timeout=max(0.05, limit)
                )
            except paramiko.ChannelException as error:
                # Too many sessions: an earlier one is still being taken down. It passes.
                if time.monotonic() + 0.1 > deadline:
                    raise errors.HostUnreachable(
                        self._host, f"sshd opens no more sessions: {error}; see its MaxSessions"
                    ) from error
                time.sleep(0.05)
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise _DeadConnection(_words(error)) from error
            else:
                channel.in_buffer, channel.in_stderr_buffer = _Window(), _Window()
                return channel

    def _execute(
        self,
        channel: paramiko.Channel,
        command: str,
        began: float,
        deadline: float,
        max_output: int,
    ) -> transport.CommandResult:
        late = threading.Event()

        def give_up() -> None:
            late.set()
            _close(channel)

        watchdog = threading.Timer(max(0.0, deadline - time.monotonic()), give_up)
        watchdog.daemon = True
        watchdog.start()
        try:
            channel.exec_command(command)
            with contextlib.suppress(OSError):
                channel.shutdown_write()  # a quick command may have closed the channel already
            stdout, stderr = self._read(channel, max_output)
            channel.status_event.wait()
            code = channel.recv_exit_status()
        except (paramiko.SSHException, OSError, EOFError) as error:
            if late.is_set():
                raise self._timed_out(began, "a command") from None
            raise errors.ConnectionLost(
                self._host, f"the connection broke during a command: {_words(error)}"
            ) from error
        finally:
            watchdog.cancel()
        if late.is_set():
            raise self._timed_out(began, "a command")
        if code < 0:
            # No exit status: a signal ended the command (a shell then reports 128 + n itself),
            # or the connection went away.
            if not self._paramiko.is_active():
                raise errors.ConnectionLost(
                    self._host, "the connection broke during a command: closed by the host"
                )
            code = 128 + signal.SIGKILL
        return transport.CommandResult(code, stdout, stderr, time.monotonic() - began)

    def _read(self, channel: paramiko.Channel, max_output: int) -> tuple[bytes, bytes]:
        stdout, stderr = bytearray(), bytearray()
        chunk: bytes | None = None
        channel.settimeout(_STDERR_POLL_S)
        while chunk != b"":
            try:
                chunk = channel.recv(_READ_SIZE)
            except TimeoutError:
                chunk = None  # stderr shares the window with stdout: it must be emptied meanwhile
            stdout += chunk or b""
            self._limit(stdout, max_output, "bytes")
            while channel.recv_stderr_ready():
                stderr += channel.recv_stderr(_READ_SIZE)
                self._limit(stderr, transport.MAX_ERROR_OUTPUT, "bytes of errors")
        channel.settimeout(None)
        while chunk := channel.recv_stderr(_READ_SIZE):
            stderr += chunk
            self._limit(stderr, transport.MAX_ERROR_OUTPUT, "bytes of errors")
        return bytes(stdout), bytes(stderr)

    def _limit(self, output: bytearray, limit: int, what: str) -> None:
        if len(output) > limit:
            text = f"a command printed over {limit} {what}; it was cut off"
            raise errors.OversizedOutput(self._host, text)

    def _timed_out(self, began: float, what: str) -> errors.CommandTimeout:
        seconds = time.monotonic() - began
        return errors.CommandTimeout(self._host, f"no answer from {what} within {seconds:.1f} s")


class _Window(_Pipe):
    """What was received on a channel and not read yet; a host that sends more than it may loses
    its connection."""

    def feed(self, data: bytes) -> None:
        if len(self) + len(data) > _WINDOW:
            raise paramiko.SSHException("the host sends more than it was allowed to")
        super().feed(data)


class _Socket(socket.socket):
    """A connection's socket for paramiko, which limits what the other side may cost.

    paramiko reads on one thread, in pieces as large as the packets that the host announces.
    """

    def __init__(self, connected: socket.socket) -> None:
        super().__init__(fileno=connected.detach())
        self._throttle = cpu_throttle.CPUThrottle()

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if bufsize > _MAX_PACKET:
            raise paramiko.SSHException(f"the host announces a packet of {bufsize} bytes")
        self._throttle.pause()
        return super().recv(bufsize, flags)


def _close(channel: paramiko.Channel) -> None:
    """Close a channel: wakes all that waits on it, then tells the peer, which may be gone."""
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        channel.close()


def _log_in(
    host: host_list.HostConfig,
    known_hosts: host_keys.KnownHosts,
    identity: paramiko.PKey | None,
    deadline: float,
) -> paramiko.Transport:
    """Connect, check the host key, authenticate. Whatever fails, no socket is left behind."""
    session = _open_session(host, deadline)
    try:
        key = _negotiate(session, host, known_hosts.algorithms(host), deadline)
        known_hosts.check(host, key)
        _authenticate(session, host, identity, deadline)
    except BaseException:
        session.close()
        raise
    return session


def _open_session(host: host_list.HostConfig, deadline: float) -> paramiko.Transport:
    name = str(host)
    seconds = max(0.1, deadline - time.monotonic())
    try:
        sock = socket.create_connection((host.address, host.port), timeout=seconds)
    except TimeoutError:
        raise errors.HostUnreachable(
            name, f"{host.account} gives no answer within {seconds:.0f} s; is it on and awake?"
        ) from None
    except socket.gaierror as error:
        raise errors.HostUnreachable(
            name, f"the name {host.address} does not resolve: {error.strerror}"
        ) from error
    except OSError as error:
        raise errors.HostUnreachable(
            name,
            f"cannot connect to {host.account}: {error.strerror or error}; is its SSH server"
            " (macOS: Remote Login) on?",
        ) from error
    _tune(sock)
    return paramiko_transport.new_transport(_Socket(sock))


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Names that not every system has: a silent peer is noticed by the kernel in about 30 s even
    # while nobody asks.
    for option, value in (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _negotiate(
    session: paramiko.Transport,
    host: host_list.HostConfig,
    algorithms: tuple[str, ...],
    deadline: float,
) -> paramiko.PKey:
    """Agree on encryption; returns the key the host presented."""
    name = str(host)
    session.get_security_options().key_types = algorithms
    done = threading.Event()
    session.start_client(event=done)
    if not done.wait(max(0.1, deadline - time.monotonic())):
        raise errors.HostUnreachable(
            name, f"{host.account} accepted the connection but does not speak SSH in time"
        )
    if not session.is_active():
        error = session.get_exception()
        if isinstance(error, ssh_exception.IncompatiblePeer):
            raise errors.HostUnreachable(
                name, f"{error}; its SSH server is too old (OpenSSH 7.2 or newer is needed)"
            )
        raise errors.HostUnreachable(
            name,
            f"{host.account} closed the connection before the login: {_words(error)}; after"
            " refused logins sshd does this to an address for a minute (PerSourcePenalties)",
        )
    return session.get_remote_server_key()


def _authenticate(
    session: paramiko.Transport,
    host: host_list.HostConfig,
    identity: paramiko.PKey | None,
    deadline: float,
) -> None:
    keys = list(_own_keys() if identity is None else [identity])
    for key in keys:
        done = threading.Event()
        session.auth_publickey(host.user, key, event=done)
        if not done.wait(max(0.1, deadline - time.monotonic())):
            raise errors.HostUnreachable(str(host), f"{host.account} does not answer the login")
        if session.is_authenticated():
            return
        if not session.is_active():
            break
    if keys:
        what = f"add this key to ~/.ssh/authorized_keys there: {_public_line(keys)}"
    else:
        what = "no private key was given and neither ssh-agent nor ~/.ssh has one"
    raise errors.LoginRefused(str(host), f"login refused for user {host.user}: {what}")


def _own_keys() -> Iterator[paramiko.PKey]:
    with contextlib.suppress(paramiko.SSHException, OSError):
        yield from paramiko.Agent().get_keys()
    for name in _DEFAULT_KEYS:
        path = Path("~/.ssh", name).expanduser()
        if path.exists():
            with contextlib.suppress(errors.IdentityError):
                yield load_identity(path)


def _public_line(keys: Sequence[paramiko.PKey]) -> str:
    return f"{keys[0].get_name()} {keys[0].get_base64()}" + (
        f" (or one of {len(keys) - 1} others that were tried)" if len(keys) > 1 else ""
    )


def _words(error: BaseException | None) -> str:
    text = str(error) or type(error).__name__ if error else "no reason given"
    return text[:_MAX_WORDS]
