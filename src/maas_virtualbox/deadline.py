# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The time by which a call must end."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclasses.dataclass(frozen=True, slots=True)
class Deadline:
    """The time by which a call must end, created where the call enters and passed down.

    No lower layer creates a later one: `within` only ever brings it forward. A value; safe to
    share between threads.
    """

    at: float
    """In seconds of the monotonic clock."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the deadline that is so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def is_past(self) -> bool:
        """Whether no time is left."""
        return time.monotonic() >= self.at

    @property
    def remaining(self) -> float:
        """Seconds left; never negative."""
        return max(0.0, self.at - time.monotonic())

    def within(self, seconds: float) -> Self:
        """Return this deadline, or the one that is so many seconds from now if that is sooner."""
        return type(self)(min(self.at, time.monotonic() + seconds))
