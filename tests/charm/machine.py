# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A temporary machine with a real systemd. Its root is an overlay over the root of this machine.

    with Machine(tmp_path) as machine:
        machine.run(["systemctl", "start", "maas-virtualbox.service"])
        machine.path("/etc/maas-virtualbox").exists()
        machine.changes()  # files that differ from those after the boot

It needs root and systemd-nspawn. It has its own mounts (an overlay over this machine's root file
system, without /run and /tmp), processes, users and host name. It shares the network of this
machine: a server on 127.0.0.1 is the same inside and outside. Its processes are in a PID namespace
that ends with the test, even if the test is killed. Its mounts end with its processes.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.charm import files
from tests.charm.juju.places import Completed, run_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_BOOT_TIMEOUT_S = 120.0
_POLL_S = 0.02
_NOT_STARTED = (
    "network-online.target",
    "ssh.socket",
    "systemd-journal-flush.service",
    "timers.target",
)
"""Units that this machine may have enabled, and that tests do not need."""
_CGROUPS = tuple(Path("/sys/fs/cgroup", name) for name in ("systemd", "unified", ""))
_CGROUP = "maas-virtualbox-"
_numbers = itertools.count()

# The shell is the first process of the namespace and stays the parent of systemd-nspawn, which
# writes below /run and into its own cgroup. The script creates both.
_BOOT = """
set -eu
for cgroup in $CGROUPS; do mkdir "$cgroup" && echo 0 > "$cgroup/cgroup.procs"; done
mount -t tmpfs tmpfs "$FOLDER"
cd "$FOLDER"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t tmpfs tmpfs /run
for unit in $NOT_STARTED; do ln -sf /dev/null "root/etc/systemd/system/$unit"; done
exec systemd-nspawn --quiet --boot --register=no --keep-unit --directory root --machine machine \\
  --link-journal no --resolv-conf off --timezone off --console pipe systemd.unit=basic.target
"""


class MachineError(Exception):
    """The machine does not start. The message says why."""


def unsupported() -> str | None:
    """Return why this machine cannot run another machine; None if it can."""
    if os.geteuid() != 0:
        return "a machine with its own systemd needs root"
    for program, package in (("systemd-nspawn", "systemd-container"), ("dbus-daemon", "dbus")):
        if shutil.which(program) is None:
            return f"{program} is missing: apt-get install {package}"
    probe = ("unshare", "--mount", "--pid", "--fork", "true")
    if subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode:
        return "this root user may not create namespaces"
    return None


class Machine:
    """A machine. A context manager, which boots and ends it.

    Args:
        folder: The folder in which its mount point is created.
        address: The IP address that Juju reports for it.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.address = address
        self._folder = folder / f"machine-{next(_numbers)}"
        self.cgroups = [
            root / f"{_CGROUP}{os.getpid()}-{secrets.token_hex(4)}"
            for root in _CGROUPS
            if (root / "cgroup.procs").exists()
        ]
        """The cgroups of its processes."""
        self._layer = self._root = Path()
        self._at_boot: dict[str, str] = {}

    def __enter__(self) -> Self:
        _remove_stale_cgroups()
        self._folder.mkdir(parents=True)
        self._console = (self._folder.with_suffix(".log")).open("w+b")
        self._process = subprocess.Popen(
            # It ends with this process, and the whole namespace ends with it.
            (
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *("sh", "-c", _BOOT),
            ),
            env={
                "PATH": PATH,
                "FOLDER": str(self._folder),
                "CGROUPS": " ".join(map(str, self.cgroups)),
                "NOT_STARTED": " ".join(_NOT_STARTED),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._console,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_for_boot()
        except BaseException:
            self.__exit__()
            raise
        self._at_boot = files.describe_all(self._layer, self._root)
        return self

    def __exit__(self, *_: object) -> None:
        # If its first process ends, the kernel ends all other processes of the namespace.
        for pid in _children(self._process.pid) or [self._process.pid]:
            os.kill(pid, signal.SIGKILL)
        self._process.wait(timeout=_BOOT_TIMEOUT_S)
        self._console.close()
        for cgroup in self.cgroups:
            _remove_cgroup(cgroup)

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + _BOOT_TIMEOUT_S
        state = ""
        while state != "running":
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._console.seek(0)
                console = self._console.read().decode(errors="replace")
                raise MachineError(f"the machine does not boot ({state}): {console}")
            time.sleep(_POLL_S)
            for pid in _children(self._process.pid):
                for first in _children(pid):
                    self._layer = Path(f"/proc/{pid}/root{self._folder}/upper")
                    self._root = Path(f"/proc/{first}/root")
                    self._enter = ("/usr/bin/nsenter", "--target", str(first), "--all")
                    state = self.run(["systemctl", "is-system-running"]).stdout.strip()
        self.run(["systemctl", "start", "systemd-user-sessions.service"])

    # --- The protocol Place

    def inner(self, path: str) -> str:
        """Return the path unchanged."""
        return path

    def path(self, path: str) -> Path:
        """Return the path on this machine of an absolute path in the machine.

        An absolute symbolic link in the path points outside the machine.
        """
        return self._root / path.lstrip("/")

    def run(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: str | None = None,  # noqa: A002
        timeout: float = 60.0,
    ) -> Completed:
        """Run a program in the machine as root.

        Args:
            argv: The program and its arguments.
            env: Its complete environment. Default: only PATH.
            cwd: Its working directory. Default: "/".
            input: Its standard input. Default: nothing.
            timeout: Seconds, after which it is killed with all processes that it has started.
        """
        at = ("/usr/bin/env", "--chdir", cwd) if cwd else ()
        command = (*self._enter, *at, *argv)
        return run_group(command, env=env or {"PATH": PATH}, input=input, timeout=timeout)

    def changes(self) -> dict[str, str]:
        """Compare its files with those after the boot.

        Content, type, mode and owner are compared, but not times or `files.NOT_COMPARED`.

        Returns:
            A description of each file that differs, by path; empty for a deleted file.
        """
        return files.changes(self._at_boot, files.describe_all(self._layer, self._root))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _remove_stale_cgroups() -> None:
    """Remove cgroups of killed tests, which have no processes."""
    for root in _CGROUPS:
        for cgroup in root.glob(f"{_CGROUP}*"):
            if not Path("/proc", cgroup.name.split("-")[2]).exists():
                # A cgroup in use belongs to a process of another PID namespace.
                with contextlib.suppress(OSError):
                    _remove_cgroup(cgroup)


def _remove_cgroup(cgroup: Path) -> None:
    """Remove a cgroup and all cgroups below it, which have no processes."""
    for folder, folders, _ in os.walk(cgroup, topdown=False):
        for name in folders:
            with contextlib.suppress(FileNotFoundError):
                Path(folder, name).rmdir()
    with contextlib.suppress(FileNotFoundError):
        cgroup.rmdir()
