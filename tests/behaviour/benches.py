# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The things the behaviour suite runs against, behind one face.

A bench is a host with ten VMs, node01 to node10, and ways to do to it what the world does: crash a
VM, kill VBoxSVC, restart sshd. What a test asserts never depends on which bench it has.
"""

from __future__ import annotations

import contextlib
import shlex
from typing import TYPE_CHECKING, Protocol

from maas_virtualbox import Fleet, PowerPolicy, parse_hosts
from maas_virtualbox.host import scripts
from maas_virtualbox.host.power import PowerTimings
from maas_virtualbox.simulator import Simulator, Timings
from maas_virtualbox.transport import ssh_keys, ssh_login

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Generator
    from pathlib import Path

    from tests.virtualbox.lab.lab import Lab

NAMES = tuple(f"node{number:02}" for number in range(1, 11))


class Bench(Protocol):
    """A host with ten VMs."""

    key_file: Path
    timings: PowerTimings
    """How long actions wait for what."""

    @property
    def host_entry(self) -> str: ...

    def commands_run(self) -> int:
        """How many commands have reached the host over SSH."""
        ...

    def files_in_home(self) -> set[str]:
        """Names of the files in the account's home."""
        ...

    def kill_service(self) -> None:
        """Kill VBoxSVC; its VMs die with it."""
        ...

    def kill_vm(self, uuid: str) -> None:
        """Kill the process of a VM."""
        ...

    def lose_sight(self) -> None:
        """Remove VBoxSVC's IPC folder and VBoxSVC while VMs run on."""
        ...

    def processes(self, uuid: str) -> int:
        """How many processes run a VM."""
        ...

    def restart_sshd(self) -> None:
        """Break all connections and listen again."""
        ...

    def resumed(self, uuid: str) -> bool:
        """Whether a VM's last start resumed a saved state."""
        ...

    def vboxmanage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run VBoxManage on the host, without SSH; exit codes are not checked."""
        ...

    def vm_processes(self) -> dict[str, set[int]]:
        """By UUID, the processes that run each VM; VMs without one are left out."""
        ...


@contextlib.contextmanager
def fleet_of(bench: Bench, policy: PowerPolicy | None = None) -> Generator[Fleet]:
    """A fleet of the bench's one host, with pins in memory."""
    with Fleet(
        parse_hosts(f"{bench.host_entry} name=bench zone=lab"),
        identity=bench.key_file,
        policy=policy,
    ) as fleet:
        fleet.hosts[0].power.timings = bench.timings
        yield fleet


class RealBench:
    """An account of the lab: VirtualBox 7.2 behind OpenSSH."""

    def __init__(self, lab: Lab, account: str = "vbox10") -> None:
        self.lab = lab
        self.account = account
        self.key_file = lab.key_file
        self.timings = PowerTimings()

    @property
    def host_entry(self) -> str:
        return self.lab.host_entry(self.account)

    def commands_run(self) -> int:
        return self.lab.commands_run(self.account)

    def files_in_home(self) -> set[str]:
        return {path.name for path in self.lab.home(self.account).iterdir()}

    def kill_service(self) -> None:
        self.lab.kill(self.lab.pids(self.account, "VBoxSVC"))

    def kill_vm(self, uuid: str) -> None:
        self.lab.kill(self.lab.pids(self.account, f"startvm {uuid}"))

    def lose_sight(self) -> None:
        self.lab.run(self.account, f"rm -rf {shlex.quote(f'/tmp/.vbox-{self.account}-ipc')}")

    def processes(self, uuid: str) -> int:
        return len(self.vm_processes().get(uuid, ()))

    def restart_sshd(self) -> None:
        self.lab.restart_sshd()

    def resumed(self, uuid: str) -> bool:
        info = self.vboxmanage("showvminfo", uuid, "--machinereadable").stdout
        folder = next(line for line in info.splitlines() if line.startswith("LogFldr="))
        log = self.lab.path(folder.partition("=")[2].strip('"') + "/VBox.log")
        return "to 'LOADING'" in log.read_text(errors="replace")

    def vboxmanage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.lab.vboxmanage(self.account, *arguments, check=False)

    def vm_processes(self) -> dict[str, set[int]]:
        return self.lab.vm_processes(self.account)


class GatedBench(RealBench):
    """The same, with a restricted key."""

    def __init__(self, lab: Lab, account: str, folder: Path) -> None:
        super().__init__(lab, account)
        key_file = folder / "gated_ed25519"
        key_file.touch(mode=0o600)
        key_file.write_text(ssh_keys.new_private_key())
        with fleet_of(self) as fleet:
            owner = fleet.hosts[0]
            scripts.install(owner)
            key = ssh_login.load_identity(key_file)
            lab.authorize(scripts.authorized_key(owner, key, gate=True))
        self.key_file = key_file


class SimulatedBench:
    """A simulator with the lab's VMs."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.key_file = simulator.key_file
        self.timings = PowerTimings(linger=2.0)  # no call to it stalls as a real one may
        self._host_entry = simulator.host_entry

    @property
    def host_entry(self) -> str:
        return self._host_entry

    def commands_run(self) -> int:
        return len(self.simulator.commands)

    def files_in_home(self) -> set[str]:
        return set()  # it starts no process and writes no file

    def kill_service(self) -> None:
        self.simulator.virtualbox.kill_vboxsvc()

    def kill_vm(self, uuid: str) -> None:
        self.simulator.virtualbox.kill_vm(uuid)

    def lose_sight(self) -> None:
        self.simulator.virtualbox.remove_ipc_folder()

    def processes(self, uuid: str) -> int:
        return self.simulator.virtualbox.processes(uuid)

    def restart_sshd(self) -> None:
        self.simulator.restart_sshd()

    def resumed(self, uuid: str) -> bool:
        return self.simulator.virtualbox.vm(uuid).last_start_resumed

    def vboxmanage(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.simulator.vboxmanage(*arguments)

    def vm_processes(self) -> dict[str, set[int]]:
        return {vm.uuid: set(vm.pids) for vm in self.simulator.virtualbox.vms if vm.pids}


@contextlib.contextmanager
def simulated() -> Generator[SimulatedBench]:
    """A simulated host with ten VMs and a start that takes long enough to be seen."""
    with Simulator(vms=10, timings=Timings(start=0.15)) as simulator:
        yield SimulatedBench(simulator)
