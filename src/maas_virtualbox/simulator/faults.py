# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Faults that tests inject: what may go wrong between a command and its answer."""

from __future__ import annotations

import dataclasses
import enum


class Action(str, enum.Enum):
    """What goes wrong."""

    DELAY = "delay"
    """The command is executed `seconds` late. 10.0 is how long VirtualBox itself stalls."""
    LATE = "late"
    """The command is executed at once, and its answer comes `seconds` late: what it says about VMs
    may no longer be true."""
    DROP = "drop"
    """The connection breaks before the answer."""
    HANG = "hang"
    """The command is not executed and has no answer."""
    FAIL = "fail"
    """The command is not executed; `stderr` and `exit_code` are the answer. In a guarded start or
    power-off, they are the answer of VBoxManage."""
    FLOOD = "flood"
    """Output without end."""
    TRUNCATE = "truncate"
    """The answer stops in the middle, with exit code 0."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault and which commands it hits."""

    action: Action
    on: str = ""
    """The kind of request it hits (`poll`, `startvm`, `poweroff`, …); empty: any."""
    times: int = 1
    """How many commands it hits."""
    seconds: float = 0.0
    """For DELAY and LATE."""
    exit_code: int = 1
    """For FAIL."""
    stderr: str = ""
    """For FAIL; `texts` has VirtualBox's messages."""
