# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Ways to run a command on a host: over SSH, or as a child process on this machine.

A transport knows nothing of VirtualBox. It takes one command line, as the account's login shell
would read it, and gives back exit code and bytes, within a deadline and a size limit.
"""

from __future__ import annotations

import dataclasses
from typing import Protocol

MAX_PARALLEL = 8
"""Commands at once on one host. sshd allows 10 sessions a connection (MaxSessions)."""

MAX_OUTPUT = 256 * 1024
"""Most bytes of stdout of a command whose sender does not say another limit: what changes a VM
prints a few lines, a wrong call 40 KiB of usage (measured)."""

MAX_ERROR_OUTPUT = 1024 * 1024
"""Most bytes of any command's stderr. Lists print 270 for each VM that VirtualBox cannot read."""


@dataclasses.dataclass(frozen=True, slots=True)
class CommandResult:
    """What a finished command left behind."""

    exit_code: int
    """The exit code; 128 plus the signal's number when a signal ended it."""

    stdout: bytes
    """All of standard output."""

    stderr: bytes
    """All of standard error."""

    seconds: float
    """How long the command took, its sending included."""


class Transport(Protocol):
    """A way to run commands on one host. Implementations may be shared between threads."""

    def close(self) -> None:
        """Give up connections and end what still runs; a later `run` raises `HostError`."""
        ...

    def run(self, command: str, *, timeout: float, max_output: int = MAX_OUTPUT) -> CommandResult:
        """Run one command line and wait for its end.

        At most `MAX_PARALLEL` run at once; more wait for their turn within their own deadline.

        Args:
            command: a complete, already quoted command line without a newline.
            timeout: seconds for everything: waiting, connecting, running, reading.
            max_output: most bytes of standard output. Reading ends there, and the command with it.

        Raises:
            HostUnreachable: no connection could be made. Retry later.
            LoginRefused: the key is not accepted. Permanent.
            HostKeyChanged: another host key than the pinned one. Permanent.
            ConnectionLost: the connection broke while the command ran; re-read before a retry.
            CommandTimeout: no complete answer in time; re-read before a retry.
            OversizedOutput: more output than `max_output` or `MAX_ERROR_OUTPUT`. Permanent.
        """
        ...
