# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VMs this project manages, and which hard disks would be deleted with a VM.

A managed VM has its own UUID in VirtualBox's extra data (`settings_xml.MANAGED_KEY`). A clone
inherits the extra data but has another UUID, so it is not managed (measured).

While a VM is being created, it has a temporary name that contains the creating process. The VM
gets its own name in the last step, so a VM with a temporary name is incomplete and contains no
user data.
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

# VMs on users' hosts have names of this form, so it must not change.
_TEMPORARY_NAME = re.compile(
    r"(?P<name>.+) \(being made by maas-virtualbox on (?P<machine>[\w.-]+)"
    r" process (?P<pid>\d{1,9})\)"
)
_MAX_MACHINE_NAME = 32

_in_creation: set[str] = set()
"""The UUIDs of the VMs that this process is creating."""
_lock = threading.Lock()


@dataclasses.dataclass(frozen=True, slots=True)
class IncompleteVM:
    """The information in the temporary name of an incomplete VM."""

    name: str
    """The name that the VM was to get."""
    machine: str
    """The machine of the process that was creating it."""
    pid: int
    """That process."""

    @property
    def is_abandoned(self) -> bool:
        """Whether the process that was creating the VM is known to have ended."""
        if self.machine != _machine_name():
            return False
        if self.pid == os.getpid():
            return True  # an earlier attempt of this process could not roll back
        if os.name != "posix":
            return False  # there is no signal 0 on Windows
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            pass
        return False


def begin_creation(uuid: str, name: str) -> str:
    """Record that this process is creating a VM; return the VM's temporary name."""
    with _lock:
        _in_creation.add(uuid)
    machine, pid = _machine_name(), os.getpid()
    return f"{name} (being made by maas-virtualbox on {machine} process {pid})"


def end_creation(uuid: str) -> None:
    """Record that this process is no longer creating a VM."""
    with _lock:
        _in_creation.discard(uuid)


def parse_incomplete(settings: VMSettings) -> IncompleteVM | None:
    """Parse the temporary name of a VM; None for other VMs, and for those that this process is
    creating."""
    found = _TEMPORARY_NAME.fullmatch(settings.name)
    with _lock:
        if found is None or settings.uuid in _in_creation:
            return None
    return IncompleteVM(found["name"], found["machine"], int(found["pid"]))


def intended_name(settings: VMSettings) -> str:
    """Return the name that an incomplete VM was to get; empty for other VMs."""
    found = _TEMPORARY_NAME.fullmatch(settings.name)
    return found["name"] if found else ""


def is_managed(vboxmanage: VBoxManage, settings: VMSettings, *, timeout: float) -> bool:
    """Return whether this project created a VM, completely or not. Asks VirtualBox, with one
    command."""
    if _TEMPORARY_NAME.fullmatch(settings.name):
        return True
    value = vboxmanage.getextradata(settings.uuid, settings_xml.MANAGED_KEY, timeout=timeout)
    return value == settings.uuid


def foreign_disks(settings: VMSettings, disks: Sequence[HardDisk]) -> list[str]:
    """Return the hard disks that would be deleted with a VM although they are not in its folder.

    Args:
        settings: the VM.
        disks: all hard disks that VirtualBox knows.

    Returns:
        Their paths on the host.
    """
    path = settings_xml.path_style(settings.settings_file)
    folder = path.normcase(settings_xml.beside(settings.settings_file, ""))
    return [
        disk.location
        for disk in _disks_deleted_with(settings.uuid, disks)
        if not (folder and path.normcase(path.normpath(disk.location)).startswith(folder))
    ]


def _disks_deleted_with(uuid: str, disks: Sequence[HardDisk]) -> list[HardDisk]:
    """Return the disks that `unregistervm --delete` deletes: each disk that is attached to the VM
    or to one of its snapshots, and each disk that these are based on (measured)."""
    by_uuid = {disk.uuid: disk for disk in disks}
    found: set[str] = set()
    pending = [disk for disk in disks if uuid in disk.users]
    while pending:
        disk = pending.pop()
        if disk.uuid not in found:
            found.add(disk.uuid)
            pending += [by_uuid[disk.parent]] if disk.parent in by_uuid else []
    return [disk for disk in disks if disk.uuid in found]


def disk_path(settings_file: str, name: str) -> str:
    """Return the path of a new VM's disk, given its settings file and its name."""
    return settings_xml.beside(settings_file, f"{name}.vdi")


def _machine_name() -> str:
    return re.sub(r"[^\w.-]", "-", platform.node())[:_MAX_MACHINE_NAME] or "unknown"
