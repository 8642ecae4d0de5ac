# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VMs are ours, and which of their disks: what may be deleted, and what never.

A VM this library made bears its own UUID in VirtualBox's extra data (`settings.MARK`): a clone
inherits the extra data but has another UUID, so it is its maker's (measured). While it is being
made it has a name that says by which process, and gets its own name last of all: a VM of that name
is half made and holds nothing anybody could miss.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import re
import threading
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.virtualbox.parsers import HardDisk
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.vboxmanage import VBoxManage

_UNFINISHED = re.compile(
    r"(?P<name>.+) \(being made by maas-virtualbox on (?P<machine>[\w.-]+)"
    r" process (?P<pid>\d{1,9})\)"
)
_LONGEST_MACHINE = 32

_being_made: set[str] = set()
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class Unfinished:
    """What the name of a half-made VM says."""

    name: str
    """The name it was to get."""
    machine: str
    """The machine that makes or made it."""
    pid: int
    """The process there."""

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that made it is known to have ended."""
        if self.machine != _this_machine():
            return False
        if self.pid == os.getpid():
            return True  # not one of `being_made`: an earlier attempt could not clean up
        if os.name != "posix":
            return False  # there, signal 0 is no question
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def begin(uuid: str, name: str) -> str:
    """Remember that this process makes a VM from now on; return its name until it is made."""
    with _lock:
        _being_made.add(uuid)
    machine, pid = _this_machine(), os.getpid()
    return f"{name} (being made by maas-virtualbox on {machine} process {pid})"


def end(uuid: str) -> None:
    """Forget about a VM that is made, or cleaned up as far as it could be."""
    with _lock:
        _being_made.discard(uuid)


def unfinished(machine: VMSettings) -> Unfinished | None:
    """Return what a half-made VM's name says; None for others and for those being made here."""
    found = _UNFINISHED.fullmatch(machine.name)
    with _lock:
        if found is None or machine.uuid in _being_made:
            return None
    return Unfinished(found["name"], found["machine"], int(found["pid"]))


def unfinished_name(machine: VMSettings) -> str:
    """Return the name a half-made VM was to get; empty for all others."""
    found = _UNFINISHED.fullmatch(machine.name)
    return found["name"] if found else ""


def is_made(vboxmanage: VBoxManage, machine: VMSettings, *, timeout: float) -> bool:
    """Whether this library made a VM, or half made it. Asks VirtualBox, one command."""
    if _UNFINISHED.fullmatch(machine.name):
        return True
    return (
        vboxmanage.getextradata(machine.uuid, settings_xml.MANAGED_KEY, timeout=timeout)
        == machine.uuid
    )


def foreign_disks(machine: VMSettings, disks: Sequence[HardDisk]) -> list[str]:
    """Return the hard disks that would be deleted with a VM although they are not in its folder.

    `unregistervm --delete` deletes every hard disk attached to the VM or to a snapshot of it and
    every disk these are based on, wherever they are (measured).

    Args:
        machine: the VM.
        disks: all hard disks VirtualBox knows.

    Returns:
        Their paths.
    """
    by_uuid = {disk.uuid: disk for disk in disks}
    reached: dict[str, HardDisk] = {}
    pending = [disk for disk in disks if machine.uuid in disk.users]
    while pending:
        disk = pending.pop()
        if disk.uuid not in reached:
            reached[disk.uuid] = disk
            if parent := by_uuid.get(disk.parent):
                pending.append(parent)
    path = settings_xml.path_style(machine.settings_file)
    folder = path.normcase(settings_xml.beside(machine.settings_file, ""))
    return [
        disk.location
        for disk in disks
        if disk.uuid in reached
        and not (folder and path.normcase(path.normpath(disk.location)).startswith(folder))
    ]


def disk_file(settings_file: str, name: str) -> str:
    """Return where the disk of a VM goes, given the VM's settings file and its own name."""
    return settings_xml.beside(settings_file, f"{name}.vdi")


def _this_machine() -> str:
    return re.sub(r"[^\w.-]", "-", platform.node())[:_LONGEST_MACHINE] or "unknown"
