# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A simulated VirtualBox host: a real SSH server with a simulated VBoxManage.

For this project's tests and for yours::

    from maas_virtualbox import Fleet, parse_hosts
    from maas_virtualbox.simulator import Simulator

    with Simulator(vms=10) as simulator:
        with Fleet(parse_hosts(simulator.host_entry), identity=simulator.key_file) as fleet:
            fleet.power_on("node01")
        assert simulator.virtualbox.vm("node01").starts == 1

What happened
    `Simulator.commands` lists every command that reached the host, `SimulatedVirtualBox.calls`
    every call of VBoxManage. A `SimulatedVM` has the state of a VM.

Faults
    `Simulator.virtualbox` crashes and kills VMs and VBoxSVC, and orphans the processes of VMs.
    `Simulator.inject` makes commands slow, hang, fail or break off. `restart_sshd`, `close_port`,
    `change_host_key` and `refuse_logins` are about SSH.

It accepts the commands that this library sends to Linux hosts, answers with the recorded texts of
VirtualBox 7.2.22, and fails on any other command. It starts no process and writes no file except
the client's key, in a temporary folder of its own.
"""

from __future__ import annotations

import dataclasses
import pathlib
import subprocess
import tempfile
import threading
import time
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import programs, server
from maas_virtualbox.simulator.faults import Action, Fault
from maas_virtualbox.simulator.texts import Answer
from maas_virtualbox.simulator.virtualbox import SimulatedVirtualBox, Timings
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.transport import ssh_keys, ssh_login

if TYPE_CHECKING:
    import types
    from collections.abc import Callable

    from typing_extensions import Self

__all__ = [
    "Action",
    "Command",
    "Fault",
    "SimulatedVM",
    "SimulatedVirtualBox",
    "Simulator",
    "Timings",
]

_HANG_POLL_S = 0.05
_FLOOD_BYTES = 80 * 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """A command that reached the host."""

    kind: str
    """See `programs.Request`."""
    vm: str
    """The UUID of the VM it was about, or empty."""
    began: float
    """When it arrived, in seconds of the monotonic clock."""


class Simulator:
    """One simulated host. A context manager; may be shared between threads."""

    def __init__(
        self,
        *,
        vms: int = 0,
        port: int = 0,
        user: str = "vbox",
        timings: Timings | None = None,
        key_file: pathlib.Path | None = None,
    ) -> None:
        """Create the host; it listens while the `with` statement runs.

        Args:
            vms: how many VMs to create, named node01, node02, …
            port: TCP port on 127.0.0.1; 0: any free one.
            user: the account's name.
            timings: how long things take.
            key_file: the private key that logs in, such as another simulator's. None: a new one.
        """
        self.user = user
        self.virtualbox = SimulatedVirtualBox(f"/home/{user}", timings or Timings())
        self.commands: list[Command] = []
        """Every command so far."""
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._folder = tempfile.TemporaryDirectory(prefix="maas-virtualbox-simulator-")
        self.key_file = key_file or pathlib.Path(self._folder.name, "id_ed25519")
        """The private key that logs in."""
        if key_file is None:
            self.key_file.touch(mode=0o600)
            self.key_file.write_text(ssh_keys.new_private_key())
        self._key = ssh_login.load_identity(self.key_file)
        self._port = port
        self._server: server.SSHServer | None = None
        width = max(2, len(str(vms)))
        for number in range(1, vms + 1):
            self.virtualbox.add_vm(f"node{number:0{width}}")

    def __enter__(self) -> Self:
        self._server = server.SSHServer(self.user, self._key, self._execute, self._port)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self._ssh.close()
        self._folder.cleanup()

    @property
    def host_entry(self) -> str:
        """The host as a host list has it."""
        return f"{self.user}@127.0.0.1:{self._ssh.port}"

    @property
    def host_key(self) -> str:
        """The public host key, `ssh-ed25519 AAAA…`."""
        return f"{self._ssh.host_key.get_name()} {self._ssh.host_key.get_base64()}"

    def authorise(self, public_key: str) -> None:
        """Accept another key too, given as a line of authorized_keys without options."""
        self._ssh.authorised.add(public_key.split()[1])

    def change_host_key(self) -> None:
        """Present another host key from the next connection on."""
        self._ssh.change_host_key()

    def close_port(self) -> None:
        """Break all connections and refuse new ones, until `restart_sshd`."""
        self._ssh.close()

    def count(self, kind: str = "") -> int:
        """How many commands of a kind (or at all) have reached the host."""
        return sum(1 for command in self.commands if not kind or command.kind == kind)

    def inject(self, fault: Fault) -> None:
        """Let the next commands that match meet a fault."""
        with self._lock:
            self._faults.append(fault)

    def refuse_logins(self, *, refuse: bool = True) -> None:
        """Accept no key, or accept the right one again."""
        self._ssh.logins_refused = refuse

    def restart_sshd(self) -> None:
        """Break all connections and listen again."""
        self._ssh.close()
        self._ssh.reopen()

    def vboxmanage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run VBoxManage on the host, without SSH and faults."""
        answer = self.virtualbox.call(arguments)
        return subprocess.CompletedProcess(
            arguments, answer.exit_code, answer.stdout, answer.stderr
        )

    @property
    def _ssh(self) -> server.SSHServer:
        if self._server is None:
            raise RuntimeError("the simulator is not running: use it in a with statement")
        return self._server

    def _take_fault(self, kind: str) -> Fault | None:
        with self._lock:
            for number, fault in enumerate(self._faults):
                if fault.on in ("", kind):
                    if fault.times > 1:
                        self._faults[number] = dataclasses.replace(fault, times=fault.times - 1)
                    else:
                        del self._faults[number]
                    return fault
        return None

    def _execute(self, line: str, gone: Callable[[], bool]) -> tuple[bytes, bytes, int]:
        request = programs.parse(line)
        self.commands.append(Command(request.kind, request.vm, time.monotonic()))
        fault = self._take_fault(request.kind)
        action = fault.action if fault else None
        if fault and action is Action.DELAY:
            time.sleep(fault.seconds)
        elif action is Action.DROP:
            raise server.DroppedError
        elif action is Action.FLOOD:
            return b"x" * _FLOOD_BYTES, b"", 0
        while action is Action.HANG and not gone():
            time.sleep(_HANG_POLL_S)
        failure = None
        if fault and action is Action.FAIL:
            failure = Answer("", fault.stderr, fault.exit_code)
        answer = programs.answer(request, self.virtualbox, self.user, failure)
        if fault and action is Action.LATE:
            time.sleep(fault.seconds)
        stdout = answer.stdout.encode("utf-8", "replace")
        if action is Action.TRUNCATE:
            return stdout[: len(stdout) // 2], b"", 0
        return stdout, answer.stderr.encode("utf-8", "replace"), answer.exit_code
