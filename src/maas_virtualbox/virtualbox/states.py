# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VirtualBox's machine states and what each means for power."""

from __future__ import annotations

import enum


class Power(str, enum.Enum):
    """Whether a VM would be on if it were a physical machine."""

    ON = "on"
    OFF = "off"
    UNKNOWN = "unknown"

    def __str__(self) -> str:
        return self.value


class VMState(str, enum.Enum):
    """The 23 machine states, as `VBoxManage showvminfo --machinereadable` names them.

    `INACCESSIBLE` is this project's: VirtualBox cannot read the VM's settings file.
    """

    POWEROFF = "poweroff"
    SAVED = "saved"
    TELEPORTED = "teleported"
    ABORTED = "aborted"
    ABORTED_SAVED = "aborted-saved"
    RUNNING = "running"
    PAUSED = "paused"
    GURU_MEDITATION = "gurumeditation"
    TELEPORTING = "teleporting"
    LIVE_SNAPSHOTTING = "livesnapshotting"
    STARTING = "starting"
    STOPPING = "stopping"
    SAVING = "saving"
    RESTORING = "restoring"
    TELEPORTING_PAUSED_VM = "teleportingpausedvm"
    TELEPORTING_IN = "teleportingin"
    DELETING_SNAPSHOT_ONLINE = "deletingsnapshotlive"
    DELETING_SNAPSHOT_PAUSED = "deletingsnapshotlivepaused"
    ONLINE_SNAPSHOTTING = "onlinesnapshotting"
    RESTORING_SNAPSHOT = "restoringsnapshot"
    DELETING_SNAPSHOT = "deletingsnapshot"
    SETTING_UP = "settingup"
    SNAPSHOTTING = "snapshotting"
    INACCESSIBLE = "inaccessible"

    def __str__(self) -> str:
        return self.value

    @property
    def power(self) -> Power:
        """What the state means for power. A crashed VM (gurumeditation) still holds its disks, so
        it is on; a VM that is saving or stopping is on until that is done."""
        if self is VMState.INACCESSIBLE:
            return Power.UNKNOWN
        return Power.OFF if self in _OFF else Power.ON

    @property
    def is_transient(self) -> bool:
        """Whether another state follows by itself, soon."""
        return self in _TRANSIENT


_OFF = frozenset(
    {
        VMState.POWEROFF,
        VMState.SAVED,
        VMState.TELEPORTED,
        VMState.ABORTED,
        VMState.ABORTED_SAVED,
        VMState.RESTORING_SNAPSHOT,
        VMState.DELETING_SNAPSHOT,
        VMState.SETTING_UP,
        VMState.SNAPSHOTTING,
    }
)

_TRANSIENT = frozenset(
    {
        VMState.STARTING,
        VMState.STOPPING,
        VMState.SAVING,
        VMState.RESTORING,
        VMState.TELEPORTING,
        VMState.TELEPORTING_IN,
        VMState.LIVE_SNAPSHOTTING,
        VMState.ONLINE_SNAPSHOTTING,
        VMState.RESTORING_SNAPSHOT,
        VMState.SETTING_UP,
        VMState.SNAPSHOTTING,
        VMState.DELETING_SNAPSHOT,
    }
)
