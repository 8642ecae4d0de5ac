# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Commands on this machine, as child processes of the account that runs this program."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from typing import IO

from maas_virtualbox import errors, transport

_CHUNK = 64 * 1024


class LocalTransport:
    """Runs commands with `/bin/sh -c`, each in a process group of its own.

    May be shared between threads.
    """

    def __init__(self, name: str = "local") -> None:
        self._name = name
        self._slots = threading.BoundedSemaphore(transport.MAX_PARALLEL)
        self._closed = False

    def close(self) -> None:
        """Refuse further commands; those that run are left to their deadlines."""
        self._closed = True

    def run(
        self, command: str, *, timeout: float, max_output: int = transport.MAX_OUTPUT
    ) -> transport.CommandResult:
        """Run one command line; see `Transport.run`."""
        began = time.monotonic()
        deadline = began + timeout
        if self._closed:
            raise errors.Closed(self._name, "this transport is closed")
        if not self._slots.acquire(timeout=timeout):
            raise errors.CommandTimeout(self._name, f"no free slot within {timeout:.0f} s")
        try:
            with subprocess.Popen(
                ["/bin/sh", "-c", command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            ) as process:
                try:
                    stdout, stderr = self._communicate(process, deadline, timeout, max_output)
                    code = process.wait(max(0.0, deadline - time.monotonic()))
                except BaseException as error:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    if isinstance(error, subprocess.TimeoutExpired):
                        raise self._timed_out(timeout) from None
                    raise
        except OSError as error:
            raise errors.HostUnreachable(self._name, f"cannot run /bin/sh: {error}") from error
        finally:
            self._slots.release()
        code = 128 - code if code < 0 else code
        return transport.CommandResult(code, stdout, stderr, time.monotonic() - began)

    def _communicate(
        self, process: subprocess.Popen[bytes], deadline: float, timeout: float, max_output: int
    ) -> tuple[bytes, bytes]:
        # subprocess's communicate() has a deadline but no size limit.
        assert process.stdout
        assert process.stderr
        limits: dict[IO[bytes], int] = {
            process.stdout: max_output,
            process.stderr: transport.MAX_ERROR_OUTPUT,
        }
        taken: dict[IO[bytes], bytearray] = {pipe: bytearray() for pipe in limits}
        with selectors.DefaultSelector() as selector:
            for pipe in limits:
                selector.register(pipe, selectors.EVENT_READ, data=pipe)
            while selector.get_map():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    raise self._timed_out(timeout)
                for key, _ in selector.select(remaining):
                    pipe: IO[bytes] = key.data
                    chunk = os.read(pipe.fileno(), _CHUNK)
                    taken[pipe] += chunk
                    if not chunk:
                        selector.unregister(pipe)
                    elif len(taken[pipe]) > limits[pipe]:
                        what = "bytes of errors" if pipe is process.stderr else "bytes"
                        raise errors.OversizedOutput(
                            self._name, f"a command printed over {limits[pipe]} {what}"
                        )
        return bytes(taken[process.stdout]), bytes(taken[process.stderr])

    def _timed_out(self, timeout: float) -> errors.CommandTimeout:
        return errors.CommandTimeout(
            self._name, f"no answer from a command within {timeout:.1f} s; it was ended"
        )
