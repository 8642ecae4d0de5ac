# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Why a unit cannot do its work now, in sentences that fit the column of `juju status`."""

from __future__ import annotations

import ops


class Unready(Exception):
    """The unit cannot do its work now; nothing was changed. Its status says why."""

    def __init__(self, status: ops.StatusBase) -> None:
        super().__init__(status.message)
        self.status = status


def blocked(sentence: str) -> Unready:
    """Return what a person has to mend."""
    return Unready(ops.BlockedStatus(sentence))


def waiting(sentence: str) -> Unready:
    """Return what time will bring."""
    return Unready(ops.WaitingStatus(sentence))


def count(number: int, thing: str) -> str:
    """Return `1 VM` or `3 VMs`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
