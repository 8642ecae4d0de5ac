# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What on and off mean, as people decide it. How it is done is the business of `host.power`."""

from __future__ import annotations

import dataclasses
from typing import Literal

OffMode = Literal["hard", "acpi"]
SavedStatePolicy = Literal["discard", "resume"]


@dataclasses.dataclass(frozen=True, slots=True)
class PowerPolicy:
    """What on and off mean, and how long they may take."""

    off_mode: OffMode = "hard"
    """hard: power off at once. acpi: press the power button first, and power off after
    `off_timeout`."""

    off_timeout: float = 10.0
    """Seconds that a guest has to react to the power button. MAAS expects the VM to be off within
    30 seconds."""

    saved_state: SavedStatePolicy = "discard"
    """discard: a saved VM boots from the network, as a physical machine would. resume: it
    continues where it was saved."""

    state_max_age: float = 2.0
    """Seconds for which one poll of a host answers every query."""

    action_timeout: float = 25.0
    """Seconds for a whole power on, power off or reset, including all its retries."""
