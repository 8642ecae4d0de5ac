# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Where units run: on their own machine (tests/charm/machine.py), or in a folder of this one."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Completed = subprocess.CompletedProcess[str]


class Place(Protocol):
    """What Juju's agent needs from a machine."""

    address: str
    """The IP address that network-get returns."""

    def path(self, path: str) -> Path:
        """Return the path on this machine of a file with an absolute path on that machine."""
        ...

    def inner(self, path: str) -> str:
        """Return the path of that file for the processes of that machine."""
        ...

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = 60.0,
    ) -> Completed:
        """Run a program on that machine, as root, with only this environment.

        Raises:
            subprocess.TimeoutExpired: It took longer than `timeout` seconds and was killed.
        """
        ...


def run_group(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | Path | None = None,
    input: str | None = None,  # noqa: A002
    timeout: float,
) -> Completed:
    """Like `subprocess.run`, but a timeout also ends the processes that the program started."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv,
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL if input is None else pipe,
        stdout=pipe,
        stderr=pipe,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(input, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Completed(argv, process.returncode, output, errors)


class Here:
    """A folder of this machine, for charms that change nothing outside it."""

    address = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, path: str) -> Path:
        return self._folder / path.lstrip("/")

    def inner(self, path: str) -> str:
        return str(self.path(path))

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = 60.0,
    ) -> Completed:
        return run_group(argv, env=env, cwd=cwd, input=input, timeout=timeout)
