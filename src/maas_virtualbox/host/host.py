# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One host and its VMs: queries, which `state` answers, and actions, which `power` executes.

How VBoxManage is called is defined in `vboxmanage`, which host a VM is on in `fleet`, how VMs are
created and deleted in `provisioning`.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Literal

from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host.exact_states import ExactStates
from maas_virtualbox.host.power import PowerControl
from maas_virtualbox.host.state import CALL_TIMEOUT_S, StateCache
from maas_virtualbox.host.vm import VM
from maas_virtualbox.virtualbox import vboxmanage
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.host.state import HostState
    from maas_virtualbox.transport import Transport
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)


class VirtualBoxHost:
    """One account on one host and its VMs. Created by `Fleet`; may be shared between threads.

    Concurrency: see `PowerControl` and `StateCache`.
    """

    def __init__(
        self, host: HostConfig, transport: Transport, policy: PowerPolicy | None = None
    ) -> None:
        self.config = host
        self.policy = policy or PowerPolicy()
        self.vboxmanage = vboxmanage.VBoxManage(host, transport)
        self.state = StateCache(host, self.vboxmanage, self.policy.state_max_age)
        self.power = PowerControl(host, self.vboxmanage, self.state, self.policy)
        self.exact_states = ExactStates(self.state, self.power)
        self.transport = transport

    def __repr__(self) -> str:
        return f"<VirtualBoxHost {self.config}: {self.config.account}>"

    def close(self) -> None:
        """Close the connection. Calls in progress fail."""
        self.transport.close()
        self.state.close()

    # -- Queries ------------------------------------------------------------------------------

    def vm(self, uuid: str, *, exact: bool = False, timeout: float | None = None) -> VM:
        """Return one VM as it is now. Takes and raises what `vms` does, and raises `UnknownVM` if
        the host has no such VM."""
        deadline = _deadline(timeout)
        since = self.state.stale_before(uuid)
        state = self.state.poll(deadline, exact=exact, since=since)
        if exact:
            state = self.exact_states.settle(state, deadline, uuid)
        return self.vm_of(state, uuid)

    def vms(
        self,
        *,
        exact: bool = False,
        max_age: float | None = None,
        timeout: float | None = None,
    ) -> list[VM]:
        """Return all VMs as they are now, in VirtualBox's order.

        Args:
            exact: whether starting, paused and crashed VMs must be distinguished; costs the host
                40 ms for each running VM, and up to 2 s where VMs are starting or have crashed.
            max_age: the greatest acceptable age of the state in seconds (default: that of
                `PowerPolicy`).
            timeout: seconds for everything (default: `state.CALL_TIMEOUT_S`).

        Raises:
            HostError, VBoxManageError: as `StateCache.poll` does.
        """
        deadline = _deadline(timeout)
        state = self.state.poll(deadline, exact=exact, max_age=max_age)
        if exact:
            state = self.exact_states.settle(state, deadline)
        return self.vms_of(state)

    def vm_of(self, state: HostState, uuid: str) -> VM:
        """Return one VM as a state shows it. Raises `UnknownVM` if the host has no such VM."""
        return self._vm(state, state.settings_of(uuid))

    def vms_of(self, state: HostState) -> list[VM]:
        """Return all VMs as a state shows them."""
        return [self._vm(state, settings) for settings in state.settings.values()]

    def _vm(self, state: HostState, settings: VMSettings) -> VM:
        uuid = settings.uuid
        if (vm_state := state.running.get(uuid)) is not None:
            return VM(self.config, settings, vm_state, vm_state.power)
        if (pid := state.processes.get(uuid)) is None:
            return VM(self.config, settings, settings.off_state, settings.off_state.power)
        # While the process lives the VM is on, whatever VirtualBox calls it: it holds its disks.
        return VM(self.config, settings, self.exact_states.of(uuid, pid), Power.ON)

    # -- Actions ------------------------------------------------------------------------------

    @property
    def changing(self) -> threading.BoundedSemaphore:
        """Held by each call that takes a VM's lock."""
        return self.power.changing

    @property
    def orphaned_process_refusals(self) -> int:
        """How often a start was refused because an orphaned process runs the VM."""
        return self.power.orphaned_process_refusals

    def lock_of(self, uuid: str) -> threading.Lock:
        """Return the lock that an action on a VM holds."""
        return self.power.lock_of(uuid)

    def power_off(
        self,
        uuid: str,
        *,
        mode: Literal["hard", "acpi"] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Switch a VM off; see `PowerControl.power_off`."""
        self.power.power_off(uuid, mode=mode, timeout=timeout)

    def power_on(self, uuid: str, *, timeout: float | None = None) -> None:
        """Switch a VM on; see `PowerControl.power_on`."""
        self.power.power_on(uuid, timeout=timeout)

    def reset(self, uuid: str, *, timeout: float | None = None) -> None:
        """Press the reset button of a VM that is on; see `PowerControl.reset`."""
        self.power.reset(uuid, timeout=timeout)


def _deadline(timeout: float | None) -> Deadline:
    return Deadline.after(CALL_TIMEOUT_S if timeout is None else timeout)
