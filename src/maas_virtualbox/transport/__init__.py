# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Run commands on a host: over SSH, or as child processes on this machine.

A transport takes one command line for the login shell of the host's account, and returns the exit
code and the output. Each command has a deadline and a size limit. What the commands mean belongs
to `virtualbox`. The modules:

- `ssh` keeps a connection to one host, on `ssh_connection` (the commands) and `ssh_login` (the
  login). `host_keys` decides which host keys are accepted.
- `local` runs child processes.
- `ssh_keys` creates and checks key pairs for programs that store keys themselves.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from maas_virtualbox.deadline import Deadline

MAX_PARALLEL = 8
"""Commands that run on one host at the same time. sshd allows 10 sessions (MaxSessions)."""

MAX_OUTPUT = 256 * 1024
"""Bytes of standard output that a command may print by default. Commands that change a VM print a
few lines; the usage message after a wrong call has 40 KiB (measured)."""

MAX_ERROR_OUTPUT = 1024 * 1024
"""Bytes of standard error that a command may print. Lists print 270 bytes for each VM that
VirtualBox cannot read."""


@dataclasses.dataclass(frozen=True, slots=True)
class CommandResult:
    """The result of a finished command."""

    exit_code: int
    """The exit code; 128 plus the signal's number if a signal ended the command."""

    stdout: bytes
    """Standard output, complete."""

    stderr: bytes
    """Standard error, complete."""

    seconds: float
    """Duration of the call to `Transport.run`."""


class Transport(Protocol):
    """Runs commands on one host. `Fleet` creates one for each host. Threads may share it."""

    def close(self) -> None:
        """Close all connections. A later `run` raises `Closed`."""
        ...

    def run(
        self, command: str, *, deadline: Deadline, max_output: int = MAX_OUTPUT
    ) -> CommandResult:
        """Run one command line and wait for its end.

        At most `MAX_PARALLEL` commands run at the same time. Further calls wait for a free slot.

        Args:
            command: a complete, already quoted command line without a newline.
            deadline: for everything: waiting for a slot, connecting, running and reading.
            max_output: bytes of standard output. A command that prints more is ended.

        Raises:
            HostUnreachable: no connection could be made. Retry later.
            LoginRefused: the host does not accept the key. Permanent.
            HostKeyChanged: the host presents another key than the pinned one. Permanent.
            KnownHostsBroken: the known_hosts file cannot be used. Permanent.
            ConnectionLost: the connection broke while the command ran, which may have taken
                effect. Read the state before a retry.
            CommandTimeout: the command did not end before the deadline, and may have taken
                effect. Read the state before a retry.
            OversizedOutput: the command printed more than `max_output` or `MAX_ERROR_OUTPUT`.
                Permanent.
            Closed: the transport was closed. Permanent.
        """
        ...
