# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One simulated VM: its settings and its state. `virtualbox` has the commands that change it."""

from __future__ import annotations

import dataclasses

from maas_virtualbox.virtualbox.states import VMState


@dataclasses.dataclass(slots=True)
class SimulatedVM:
    """One VM. Tests may set any field before or between calls."""

    uuid: str
    name: str
    macs: list[str]
    boot_order: tuple[str, ...] = ("net", "disk", "none", "none")
    firmware: str = "BIOS"
    attachment: str = "nat"
    """What its NICs are attached to, as `--nic1` expresses it."""
    network: str = ""
    """The interface or network they are attached to."""
    nic_type: str = "82540EM"
    cpus: int = 1
    memory: int = 64
    """MiB."""
    extra_data: dict[str, str] = dataclasses.field(default_factory=dict[str, str])
    ports: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict[str, dict[str, str]])
    """By storage controller and port (`0-0`), the path of the hard disk attached there."""
    state: VMState = VMState.POWEROFF
    accessible: bool = True
    start_error: str = ""
    """If set, a start fails with this message and the VM's log ends with it."""
    acpi_reaction: float | None = None
    """Seconds after the power button until the guest is off; None: it does not react."""
    pids: list[int] = dataclasses.field(default_factory=list[int])
    """The processes that run it; one of two is orphaned."""
    starts: int = 0
    last_start_resumed: bool = False
    log: str = ""
    locked: bool = False
    """Whether a call holds its lock."""
    most_locks: int = 0
    """The greatest number of lock-taking calls on it at one time."""
    wanted: int = 0

    @property
    def disks(self) -> list[str]:
        """The paths of the hard disks attached to it."""
        return [path for ports in self.ports.values() for path in ports.values()]
