# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Faults on request: what a host may do wrong between a command and its answer."""

from __future__ import annotations

import dataclasses
import enum


class Action(str, enum.Enum):
    """What goes wrong."""

    DELAY = "delay"
    """The command is carried out `seconds` late. 10.0 is VirtualBox's own stall."""
    LATE = "late"
    """The command is carried out at once and its answer comes `seconds` late: what it says of VMs
    may no longer be true."""
    DROP = "drop"
    """The connection breaks before the answer."""
    HANG = "hang"
    """No answer ever comes."""
    FAIL = "fail"
    """The command is not carried out; `stderr` and `exit_code` are the answer."""
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
    """How many commands it hits before it is over."""
    seconds: float = 0.0
    """For DELAY and LATE."""
    exit_code: int = 1
    """For FAIL."""
    stderr: str = ""
    """For FAIL; `texts` has VirtualBox's words."""
