# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Run commands over one authenticated SSH connection.

paramiko waits without limit in `exec_command` and while it reads. Here, each command has a
deadline (a timer closes its channel) and a size limit. When to connect, and when to replace a
connection, belongs to `ssh`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import TYPE_CHECKING

import paramiko

from maas_virtualbox import errors, transport
from maas_virtualbox.transport import paramiko_transport, ssh_login

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.deadline import Deadline

_READ_SIZE = 256 * 1024
_STDERR_INTERVAL_S = 0.25
"""How often standard error is read while standard output is silent: both share one window."""

_MAX_SESSIONS_INTERVAL_S = 0.05
"""How often a session is requested again that sshd has refused."""


class DeadConnection(Exception):
    """The connection cannot be used. The command was not sent, so it may use another one."""


class Connection:
    """One authenticated connection to a host.

    `ssh.SSHTransport` creates it. Threads share it: each command has its own channel, and at most
    `MAX_PARALLEL` channels are open. `_lock` guards the counters and is never held during a wait.
    """

    def __init__(
        self, host: str, authenticated: paramiko.Transport, *, liveness_timeout: float
    ) -> None:
        """Take over an authenticated transport.

        Args:
            host: the name of the host, for messages.
            authenticated: what `ssh_login.log_in` returned.
            liveness_timeout: seconds within which a live host opens a channel.
        """
        self._host = host
        self._paramiko = authenticated
        self._liveness_timeout = liveness_timeout
        self._slots = threading.BoundedSemaphore(transport.MAX_PARALLEL)
        self._lock = threading.Lock()
        self._running = 0
        self._retired = False
        self.commands = 0
        """How many commands have used the connection."""

    def close(self) -> None:
        """Close the connection. Running commands fail with `ConnectionLost`."""
        self._paramiko.close()

    def is_alive(self) -> bool:
        """Return whether the connection accepts commands, as far as is known without a request."""
        return not self._retired and self._paramiko.is_active()

    def retire(self) -> None:
        """Accept no further commands. Close the connection when the last command has ended."""
        with self._lock:
            self._retired = True
            is_idle = self._running == 0
        if is_idle:
            self.close()

    def run(
        self, command: str, began: float, deadline: Deadline, max_output: int
    ) -> transport.CommandResult:
        """Run one command.

        Args:
            command: a complete command line.
            began: when the call began, in seconds of the monotonic clock, for the result and for
                messages.
            deadline: for waiting, running and reading.
            max_output: bytes of standard output.

        Raises:
            DeadConnection: the command was not sent.
            HostError: as `Transport.run`.
        """
        with self._in_use(), self._free_slot(began, deadline):
            channel = self._open_channel(deadline)
            try:
                return self._execute(channel, command, began, deadline, max_output)
            finally:
                _close(channel)

    @contextlib.contextmanager
    def _in_use(self) -> Generator[None]:
        """Count a command. The last one closes a retired connection."""
        with self._lock:
            if self._retired:
                raise DeadConnection("it is being closed")
            self.commands += 1
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                is_last = self._retired and self._running == 0
            if is_last:
                self.close()

    @contextlib.contextmanager
    def _free_slot(self, began: float, deadline: Deadline) -> Generator[None]:
        if not self._slots.acquire(timeout=deadline.remaining):
            raise self._timed_out(began, "waiting for a free channel")
        try:
            yield
        finally:
            self._slots.release()

    def _open_channel(self, deadline: Deadline) -> paramiko.Channel:
        """Open a channel. Its round trip shows whether the connection is alive."""
        while True:
            timeout = max(
                _MAX_SESSIONS_INTERVAL_S, deadline.within(self._liveness_timeout).remaining
            )
            try:
                channel = self._paramiko.open_session(
                    window_size=paramiko_transport.WINDOW, timeout=timeout
                )
            except paramiko.ChannelException as error:
                # Too many sessions: sshd still ends an earlier one.
                if deadline.remaining < 2 * _MAX_SESSIONS_INTERVAL_S:
                    raise errors.HostUnreachable(
                        self._host, f"sshd opens no more sessions: {error}; see its MaxSessions"
                    ) from error
                time.sleep(_MAX_SESSIONS_INTERVAL_S)
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise DeadConnection(ssh_login.reason_of(error)) from error
            else:
                channel.in_buffer = paramiko_transport.LimitedBuffer()
                channel.in_stderr_buffer = paramiko_transport.LimitedBuffer()
                return channel

    def _execute(
        self,
        channel: paramiko.Channel,
        command: str,
        began: float,
        deadline: Deadline,
        max_output: int,
    ) -> transport.CommandResult:
        is_late = threading.Event()
        try:
            with _closed_at(deadline, channel, is_late):
                channel.exec_command(command)
                with contextlib.suppress(OSError):
                    channel.shutdown_write()  # a quick command may have closed the channel already
                stdout, stderr = self._read(channel, max_output)
                channel.status_event.wait()
                exit_code = channel.recv_exit_status()
        except (paramiko.SSHException, OSError, EOFError) as error:
            if is_late.is_set():
                raise self._timed_out(began, "a command") from None
            raise self._broken(ssh_login.reason_of(error)) from error
        if is_late.is_set():
            raise self._timed_out(began, "a command")
        if exit_code < 0:
            # There is no exit status. Either a signal ended the command (a shell would report
            # 128 + n itself), or the connection broke.
            if not self._paramiko.is_active():
                raise self._broken("closed by the host")
            exit_code = 128 + signal.SIGKILL
        return transport.CommandResult(exit_code, stdout, stderr, time.monotonic() - began)

    def _read(self, channel: paramiko.Channel, max_output: int) -> tuple[bytes, bytes]:
        stdout, stderr = bytearray(), bytearray()
        chunk: bytes | None = None
        channel.settimeout(_STDERR_INTERVAL_S)
        while chunk != b"":
            try:
                chunk = channel.recv(_READ_SIZE)
            except TimeoutError:
                chunk = None
            stdout += chunk or b""
            self._check_size(stdout, max_output, "bytes")
            while channel.recv_stderr_ready():
                stderr += channel.recv_stderr(_READ_SIZE)
                self._check_size(stderr, transport.MAX_ERROR_OUTPUT, "bytes of errors")
        channel.settimeout(None)
        while chunk := channel.recv_stderr(_READ_SIZE):
            stderr += chunk
            self._check_size(stderr, transport.MAX_ERROR_OUTPUT, "bytes of errors")
        return bytes(stdout), bytes(stderr)

    def _check_size(self, output: bytearray, limit: int, unit: str) -> None:
        if len(output) > limit:
            raise errors.OversizedOutput(
                self._host, f"a command printed over {limit} {unit}; it was ended"
            )

    def _broken(self, reason: str) -> errors.ConnectionLost:
        text = f"the connection broke during a command: {reason}"
        return errors.ConnectionLost(self._host, text)

    def _timed_out(self, began: float, what: str) -> errors.CommandTimeout:
        seconds = time.monotonic() - began
        return errors.CommandTimeout(self._host, f"no answer from {what} within {seconds:.1f} s")


@contextlib.contextmanager
def _closed_at(
    deadline: Deadline, channel: paramiko.Channel, is_late: threading.Event
) -> Generator[None]:
    """Close a channel at a deadline, which ends all waiting on it, and set `is_late`."""

    def give_up() -> None:
        is_late.set()
        _close(channel)

    timer = threading.Timer(deadline.remaining, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _close(channel: paramiko.Channel) -> None:
    """Close a channel, and notify the host, which may be gone."""
    with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
        channel.close()
