# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A real OpenSSH server on loopback, for the account that runs the tests. Not a test itself."""

from __future__ import annotations

import contextlib
import getpass
import os
import pathlib
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

from tests.service import free_port

if TYPE_CHECKING:
    from collections.abc import Generator

_START_TIMEOUT_S = 60.0


def program() -> str | None:
    """The path of sshd, if this machine has one."""
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")


class SSHD:
    """One sshd; made by `running`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.key_file = folder / "client"
        self.log_file = folder / "sshd.log"
        for name in ("client", "host", "other_host", "wrong_client"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name],
                check=True,
                timeout=30,
            )
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host_entry(self) -> str:
        """The host as a host list has it."""
        return f"{getpass.getuser()}@127.0.0.1:{self.port}"

    def start(self, host_key: str = "host") -> None:
        """Start listening; returns when it does."""
        if os.getuid() == 0:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder / host_key}\n"
            f"AuthorizedKeysFile {self.folder / 'client.pub'}\nPidFile none\nUsePAM no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nLogLevel VERBOSE\nPrintMotd no\n"
        )
        sshd = program()
        assert sshd
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", config], stdin=subprocess.DEVNULL, stderr=log
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while b"Server listening" not in self.log_file.read_bytes():
            assert time.monotonic() < deadline, self.log_file.read_text()
            time.sleep(0.02)

    def break_connections(self) -> None:
        """End the processes that serve connections; the listener goes on."""
        assert self._process
        for pid in _descendants(self._process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def logins(self) -> int:
        """How many logins were tried, good or not."""
        text = self.log_file.read_text()
        return text.count("Connection from ")

    def stop(self) -> None:
        """End it and its connections."""
        if self._process is not None:
            self.break_connections()
            self._process.terminate()
            self._process.wait(timeout=_START_TIMEOUT_S)
            self._process = None
            self.log_file.write_bytes(b"")


def _descendants(pid: int) -> list[int]:
    """The sshd processes below one; those that end meanwhile are passed over."""
    found: list[int] = []
    try:
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            name = pathlib.Path(f"/proc/{child}/comm").read_text()
            if name.startswith("sshd"):
                found += [child, *_descendants(child)]
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Generator[SSHD]:
    """A running sshd with its keys in a folder."""
    sshd = SSHD(folder)
    sshd.start()
    try:
        yield sshd
    finally:
        sshd.stop()
