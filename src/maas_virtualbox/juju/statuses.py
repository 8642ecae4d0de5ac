# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Why a unit cannot do its work now, in sentences that fit the column of `juju status`."""

from __future__ import annotations

import ops


class NotReady(Exception):
    """The unit cannot do its work now. `status` says why."""

    def __init__(self, status: ops.StatusBase) -> None:
        super().__init__(status.message)
        self.status = status


class Blocked(NotReady):
    """A person must act first."""

    def __init__(self, message: str) -> None:
        """Use a message that says what to do."""
        super().__init__(ops.BlockedStatus(message))


class Waiting(NotReady):
    """The condition resolves with time."""

    def __init__(self, message: str) -> None:
        """Use a message that says what the unit waits for."""
        super().__init__(ops.WaitingStatus(message))


def count(number: int, noun: str) -> str:
    """Return `1 VM` or `3 VMs`, for a status."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
