# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The machine of a unit: its options, and VirtualBox as they configure it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_virtualbox.juju import programs, statuses
from virtualbox_host import accounts, options, virtualbox

if TYPE_CHECKING:
    from pathlib import Path

    import ops

    from maas_virtualbox.juju.machine_lock import MachineLock


class Machine:
    """The machine of a unit. The charm creates one for each event."""

    def __init__(
        self, charm: ops.CharmBase, root: Path, lock: MachineLock, timings: virtualbox.Timings
    ) -> None:
        self._charm = charm
        self._root = root
        self._lock = lock
        self._timings = timings

    def options(self) -> options.HostOptions:
        """Return the options. Raises `Blocked` if one is invalid."""
        try:
            return options.parse(self._charm.config)
        except ValueError as error:
            raise statuses.Blocked(str(error)) from None

    def virtualbox(self) -> virtualbox.VirtualBox:
        """Return VirtualBox of the account that owns the VMs.

        Raises:
            NotReady: It is not set up yet, or another unit owns this machine.
        """
        self._lock.check()
        account, program = accounts.find(self.options().user), virtualbox.find()
        is_installed = programs.is_installed(self._root, virtualbox.NAME)
        if account is None or not program or not is_installed:
            raise statuses.Waiting("VirtualBox is not set up yet")
        return virtualbox.VirtualBox(self._root, account, program, self._timings)
