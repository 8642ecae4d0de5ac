# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command-line program on this unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import statuses
import workload
from maas_virtualbox.juju import programs

if TYPE_CHECKING:
    from pathlib import Path

    from maas_virtualbox.juju.machine_lock import MachineLock


class Program:
    """Runs the program `maas-virtualbox` with the configuration of this unit's service."""

    def __init__(self, root: Path, lock: MachineLock) -> None:
        self._root = root
        self._lock = lock

    def run(self, *arguments: str, key: str = "", timeout: float | None = None) -> programs.Result:
        """Run the program, unless another unit owns this machine; see `workload.run`."""
        try:
            self._lock.check()
        except statuses.NotReady as error:
            return programs.Result("", str(error))
        return workload.run(self._root, *arguments, key=key, timeout=timeout)
