# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One host and its VMs: queries, and actions that `power` executes.

Polling is `state`'s business, how VBoxManage is called `vboxmanage`'s, which host a VM is on
`fleet`'s, how VMs are created and deleted `provisioning`'s.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING, Literal

from maas_virtualbox import errors
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host.power import SETTLE_S, PowerControl
from maas_virtualbox.host.state import CALL_TIMEOUT_S, StateCache
from maas_virtualbox.virtualbox import vboxmanage
from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.host.state import HostState
    from maas_virtualbox.transport import Transport
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_CLOSER_LOOK_AGE_S = 30.0
_LONGEST_PAUSE_S = 0.4


@dataclasses.dataclass(frozen=True, slots=True)
class VM:
    """One VM as last seen. A picture, not a handle: it never changes."""

    host: HostConfig
    """The host it is on."""

    settings: VMSettings
    """What its settings file says."""

    state: VMState
    """VirtualBox's word for its state. `running` also stands for paused and its like unless exact
    states were asked for."""

    power: Power
    """Whether it is on, off, or cannot be told."""

    @property
    def uuid(self) -> str:
        """Lower case, without braces."""
        return self.settings.uuid

    @property
    def name(self) -> str:
        """Its name; `<inaccessible>`, as VirtualBox says, when it cannot be read."""
        return self.settings.name if self.settings.accessible else "<inaccessible>"

    @property
    def macs(self) -> tuple[str, ...]:
        """Its NICs' MAC addresses."""
        return self.settings.macs

    def __str__(self) -> str:
        return f"{self.host}/{self.name} {{{self.uuid}}}"


class VirtualBoxHost:
    """One account on one host and its VMs. Made by `Fleet`; may be shared between threads.

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
        self.transport = transport
        self._lock = threading.Lock()
        self._closer_looks: dict[tuple[str, int], tuple[float, VMState]] = {}

    def close(self) -> None:
        """Close the connection. Actions under way fail."""
        self.transport.close()
        self.state.close()

    # -- Looking ------------------------------------------------------------------------------

    def vm(self, uuid: str, *, exact: bool = False, timeout: float | None = None) -> VM:
        """Return one VM as it is now; see `vms`. Raises `UnknownVM` if the host has none such."""
        deadline = _deadline(timeout)
        since = self.state.stale_before(uuid)
        state = self.state.poll(deadline, exact=exact, since=since)
        if exact:
            state = self._settled(state, deadline, only=uuid)
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
            exact: also tell starting, paused and crashed VMs apart; costs the host 40 ms a running
                VM, and up to 2 s where VMs are starting or have crashed.
            max_age: oldest acceptable state in seconds (default: that of `PowerPolicy`).
            timeout: seconds for everything (default: `state.CALL_TIMEOUT_S`).

        Raises:
            HostError, VBoxManageError: as `StateCache.poll` does.
        """
        deadline = _deadline(timeout)
        state = self.state.poll(deadline, exact=exact, max_age=max_age)
        if exact:
            state = self._settled(state, deadline)
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
        with self._lock:
            _, vm_state = self._closer_looks.get((uuid, pid), (0.0, VMState.STARTING))
        return VM(self.config, settings, vm_state, Power.ON)

    def _settled(self, picture: HostState, deadline: Deadline, only: str = "") -> HostState:
        """Find the exact states of VMs that a process runs but VirtualBox does not list as
        running, and return the poll that shows them. Almost all of these are starting or ending:
        they are all given the same moment, and only what stays is asked for, one by one.

        Args:
            picture: which VMs run.
            deadline: what is not known by then stays as it is.
            only: the UUID of the one VM that matters; empty: all do.
        """
        settled = deadline.within(SETTLE_S)
        while self._unexplained(picture, only) and not settled.is_past:
            time.sleep(min(_LONGEST_PAUSE_S, settled.remaining))
            try:
                picture = self.state.poll(deadline, max_age=0.0, exact=True)
            except errors.HostError as error:
                log.info("%s; exact states are not known", error)
                return picture
        for uuid, pid in self._unexplained(picture, only):
            self._look_closer(uuid, pid, deadline)
        return picture

    def _unexplained(self, picture: HostState, only: str) -> list[tuple[str, int]]:
        """VMs whose process nothing explains: no action of ours, no recent closer look."""
        return [
            (uuid, pid)
            for uuid, pid in picture.processes.items()
            if uuid not in picture.running
            and only in ("", uuid)
            and not self.lock_of(uuid).locked()
            and not self._is_known(uuid, pid)
        ]

    def _is_known(self, uuid: str, pid: int) -> bool:
        with self._lock:
            asked, _ = self._closer_looks.get((uuid, pid), (float("-inf"), None))
        return time.monotonic() - asked < _CLOSER_LOOK_AGE_S

    def _look_closer(self, uuid: str, pid: int, deadline: Deadline) -> None:
        """Ask VirtualBox for the state of a VM that a process runs, and remember it.

        This takes the VM's lock, so it is done seldom for one process, and never while an action
        of ours is under way. What cannot be asked for in time stays as it is known.
        """
        lock = self.lock_of(uuid)
        if not lock.acquire(blocking=False):
            return
        try:
            limit = deadline.within(CALL_TIMEOUT_S).remaining
            state = self.vboxmanage.showvminfo(uuid, timeout=limit).state
        except (errors.HostError, errors.VBoxManageError) as error:
            log.info("%s: the exact state of VM %s is not known: %s", self.config, uuid, error)
            return
        finally:
            lock.release()
        with self._lock:
            self._closer_looks[uuid, pid] = time.monotonic(), state

    # -- Acting -------------------------------------------------------------------------------

    @property
    def changing(self) -> threading.BoundedSemaphore:
        """Held by each call that takes a VM's lock."""
        return self.power.changing

    @property
    def second_copies_refused(self) -> int:
        """How often starting a second copy of a running VM was refused."""
        return self.power.second_copies_refused

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
