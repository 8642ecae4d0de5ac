# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Run commands on this machine, as child processes of the account that runs this program."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import selectors
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors, transport

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.deadline import Deadline

_READ_SIZE = 64 * 1024


class LocalTransport:
    """Runs commands with `/bin/sh -c`, each in its own process group.

    `Fleet` creates one for the host `local`. Threads may share it.
    """

    def __init__(self, name: str = "local") -> None:
        self._name = name
        self._slots = threading.BoundedSemaphore(transport.MAX_PARALLEL)
        self._closed = False

    def __repr__(self) -> str:
        return f"<LocalTransport {self._name}{': closed' if self._closed else ''}>"

    def close(self) -> None:
        """Refuse further commands. Running commands continue until they end or time out."""
        self._closed = True

    def run(
        self, command: str, *, deadline: Deadline, max_output: int = transport.MAX_OUTPUT
    ) -> transport.CommandResult:
        """Run one command line; see `Transport.run`."""
        began = time.monotonic()
        if self._closed:
            raise errors.Closed(self._name, "this transport is closed")
        if not self._slots.acquire(timeout=deadline.remaining):
            seconds = time.monotonic() - began
            raise errors.CommandTimeout(self._name, f"no free slot within {seconds:.1f} s")
        try:
            with _started(command) as process:
                stdout, stderr = self._read(process, deadline, max_output)
                exit_code = process.wait(deadline.remaining)
        except (TimeoutError, subprocess.TimeoutExpired):
            seconds = time.monotonic() - began
            raise errors.CommandTimeout(
                self._name, f"no answer from a command within {seconds:.1f} s; it was ended"
            ) from None
        except OSError as error:
            raise errors.HostUnreachable(self._name, f"cannot run /bin/sh: {error}") from error
        finally:
            self._slots.release()
        exit_code = 128 - exit_code if exit_code < 0 else exit_code
        return transport.CommandResult(exit_code, stdout, stderr, time.monotonic() - began)

    def _read(
        self, process: subprocess.Popen[bytes], deadline: Deadline, max_output: int
    ) -> tuple[bytes, bytes]:
        """Read both streams to their ends; `communicate` of `subprocess` has no size limit."""
        assert process.stdout
        assert process.stderr
        stdout = _Stream(max_output, "bytes")
        stderr = _Stream(transport.MAX_ERROR_OUTPUT, "bytes of errors")
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ, data=stdout)
            selector.register(process.stderr, selectors.EVENT_READ, data=stderr)
            while selector.get_map():
                if deadline.is_past:
                    raise TimeoutError
                for key, _ in selector.select(deadline.remaining):
                    chunk = os.read(key.fd, _READ_SIZE)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    self._append(key.data, chunk)
        return bytes(stdout.content), bytes(stderr.content)

    def _append(self, stream: _Stream, chunk: bytes) -> None:
        stream.content += chunk
        if len(stream.content) > stream.limit:
            raise errors.OversizedOutput(
                self._name, f"a command printed over {stream.limit} {stream.unit}; it was ended"
            )


@dataclasses.dataclass
class _Stream:
    """An output stream of a command, and what was read from it."""

    limit: int
    unit: str
    content: bytearray = dataclasses.field(default_factory=bytearray)


@contextlib.contextmanager
def _started(command: str) -> Generator[subprocess.Popen[bytes]]:
    """Start a command. If the block raises, kill the command's whole process group."""
    with subprocess.Popen(
        ["/bin/sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            yield process
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
