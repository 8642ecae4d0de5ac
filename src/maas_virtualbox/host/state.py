# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Looking at a host: one command answers all who ask, and the registry of VMs with their NICs.

Nothing here changes a VM. What a picture means for a power action is `host`'s business.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.vboxmanage import HostState, VBoxManage

log = logging.getLogger(__name__)

CALL_TIMEOUT_S = 18.0
"""Deadline of one VBoxManage call. 0.3 % of calls stall for 10.0 s and are right all the same
(measured), so it lies above that."""

_HEDGE_S = 1.5
"""An observation that takes longer than this has probably stalled: another one is sent."""

_MAX_FLIGHTS = 3
_INVENTORY_AGE_S = 300.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Flight:
    """An observation under way."""

    began: float
    exact: bool
    future: futures.Future[HostState]


class StateCache:
    """All that is known of one host's VMs. Made by `VirtualBoxHost`; shared between threads.

    Concurrency. `_lock` guards the fields and is held for moments only. One observation under way
    is shared by all who need one; when it seems to have stalled another is sent, and the first to
    answer answers all. Observations run on threads of this object, so that whoever asks can stop
    waiting. An observation also wakes VBoxSVC up, alone, as a burst of parallel calls must not.
    """

    def __init__(self, host: HostConfig, vboxmanage: VBoxManage, state_max_age: float) -> None:
        self._host = host
        self._vboxmanage = vboxmanage
        self._max_age = state_max_age
        self._lock = threading.Lock()
        self._pictures: dict[bool, HostState] = {}
        self._flights: list[_Flight] = []
        self._changed: dict[str, float] = {}
        self._inventory: dict[str, VMSettings] = {}
        self._inventory_read = float("-inf")
        self._inventory_lock = threading.Lock()
        self._threads = futures.ThreadPoolExecutor(_MAX_FLIGHTS, f"observe {host}")

    def close(self) -> None:
        """Take no more pictures; those who wait get an error."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def inventory(
        self, *, max_age: float = _INVENTORY_AGE_S, deadline: Deadline | None = None
    ) -> dict[str, VMSettings]:
        """Return all VMs with their NICs, by UUID; read anew when older than `max_age` seconds.

        One command on the host, which serves as an observation too.

        Args:
            max_age: oldest acceptable inventory in seconds.
            deadline: when to stop waiting (default: in `CALL_TIMEOUT_S`).

        Raises:
            HostError, VBoxManageError: as `poll` does.
        """
        asked = time.monotonic()
        if asked - self._inventory_read <= max_age:
            return self._inventory
        deadline = deadline or Deadline.after(CALL_TIMEOUT_S)
        if not self._inventory_lock.acquire(timeout=deadline.remaining):
            raise errors.CommandTimeout(str(self._host), "its VMs are not listed in time")
        try:
            if self._inventory_read < asked - max_age:
                self._read_inventory(deadline)
            return self._inventory
        finally:
            self._inventory_lock.release()

    @property
    def inventory_began(self) -> float:
        """The monotonic time at which reading the inventory that is `remembered` began."""
        return self._inventory_read

    def _read_inventory(self, deadline: Deadline) -> None:
        picture = self._retried_once(
            lambda: self._vboxmanage.poll(settings_read="all", timeout=deadline.remaining)
        )
        machines = self._registered(picture)
        if machines is None:
            log.info("%s: settings files not found; asking for the long list", self._host)
            listed = self._vboxmanage.list_long_vms(timeout=deadline.remaining)
            machines = {uuid: vm.settings for uuid, vm in listed.items()}
        with self._lock:
            self._inventory = machines
            self._inventory_read = picture.began
            self._publish(picture)

    def machine(
        self, picture: HostState, uuid: str, *, deadline: Deadline | None = None
    ) -> VMSettings:
        """Return one VM of a picture. Raises `UnknownVM` if the host has none such, and what
        `inventory` raises."""
        machine = self.machines(picture, deadline=deadline).get(uuid)
        if machine is None:
            raise errors.UnknownVM(
                f"{self._host}: no VM with UUID {uuid} for the account {self._host.account}"
            )
        return machine

    def machines(
        self, picture: HostState, *, deadline: Deadline | None = None
    ) -> dict[str, VMSettings]:
        """Return all VMs with their NICs, by UUID, and with the off state the picture shows.

        Reads the inventory again when the picture shows that VMs came, went or were renamed.

        Args:
            picture: which VMs run.
            deadline: when to stop waiting (default: in `CALL_TIMEOUT_S`).

        Raises:
            HostError, VBoxManageError: the inventory had to be read and could not be.
        """
        heads = self._registered(picture)
        known = self.inventory(deadline=deadline)
        if heads is None:
            if not all(uuid in known for uuid in picture.running):
                known = self.inventory(max_age=0.0, deadline=deadline)
            return known
        # What cannot be read has no name to compare; it is read again when the inventory ages.
        renamed = any(
            known[uuid].accessible and known[uuid].name != head.name
            for uuid, head in heads.items()
            if uuid in known
        )
        if renamed or heads.keys() != known.keys():
            # Not more than once for one picture.
            known = self.inventory(
                max_age=max(0.0, time.monotonic() - picture.began), deadline=deadline
            )
        return {
            uuid: dataclasses.replace(known[uuid], off_state=head.off_state)
            if uuid in known and known[uuid].accessible
            else known.get(uuid, head)
            for uuid, head in heads.items()
        }

    def stale_before(self, vm: str = "") -> float:
        """Return the monotonic time of our last change of a VM, given its UUID: no state that was
        polled before answers for that VM. Without a UUID: of our last change of any VM."""
        with self._lock:
            if vm:
                return max(self._changed.get(vm, 0.0), self._changed.get("", 0.0))
            return max(self._changed.values(), default=0.0)

    def invalidate(self, vm: str = "") -> float:
        """Invalidate the state of a VM, or of all, because it is being changed; return now."""
        with self._lock:
            now = self._changed[vm] = time.monotonic()
            return now

    def poll(
        self,
        *,
        max_age: float | None = None,
        exact: bool = False,
        since: float | None = None,
        deadline: Deadline | None = None,
    ) -> HostState:
        """Return a picture of all VMs, from memory if one is fresh enough.

        However many threads ask, the host sees one command, and none while a picture is fresh.

        Args:
            max_age: oldest acceptable picture in seconds (default: that of `PowerPolicy`).
            exact: tell running and paused VMs apart; costs the host 40 ms a running VM.
            since: monotonic time before which no acceptable picture was taken (default: the last
                change of any VM of ours).
            deadline: when to stop waiting (default: in `CALL_TIMEOUT_S`).

        Raises:
            HostError: in any of its forms; the power of the host's VMs is then unknown.
            VBoxManageError: VirtualBox answered with an error, again when asked again.
        """
        asked = time.monotonic()
        deadline = deadline or Deadline.after(CALL_TIMEOUT_S)
        oldest = asked - (self._max_age if max_age is None else max_age)
        # Once, before the loop: where VMs are changed faster than a poll takes, there is always a
        # later change, and nobody would ever be answered.
        needed = self.stale_before() if since is None else since
        # A poll under way is joined, but not one that stalls: its answer may be as old as itself.
        joinable = max(needed, min(oldest, asked - self._max_age))
        while True:
            with self._lock:
                for kind in {exact, True}:
                    picture = self._pictures.get(kind)
                    if picture is not None and picture.began >= max(needed, oldest):
                        return picture
                now = time.monotonic()
                joined = [
                    flight
                    for flight in self._flights
                    if flight.began >= joinable and (flight.exact or not exact)
                ]
                stalled = all(now - flight.began > _HEDGE_S for flight in joined)
                if stalled and len(self._flights) < _MAX_FLIGHTS:
                    joined.append(self._send_observation(exact=exact))
                waited_for = joined or list(self._flights)
            patience = min(deadline.at - now, max(0.05, waited_for[-1].began + _HEDGE_S - now))
            done, pending = futures.wait(
                [flight.future for flight in waited_for],
                timeout=max(0.0, patience),
                return_when=futures.FIRST_COMPLETED,
            )
            oldest = min([oldest, *(flight.began for flight in joined)])
            for future in done if joined and not pending else ():
                if (error := future.exception()) is not None:
                    raise error
            if not done and deadline.is_past:
                raise errors.CommandTimeout(
                    str(self._host), "VirtualBox does not say in time which VMs run"
                )

    def remembered(self) -> dict[str, VMSettings]:
        """Return the inventory as it was last read, however old; asks nobody."""
        return self._inventory

    def _send_observation(self, *, exact: bool) -> _Flight:
        """Start an observation on a thread of ours; `_lock` is held."""
        began = time.monotonic()
        try:
            future = self._threads.submit(self._take, began, exact=exact)
        except RuntimeError:
            raise errors.Closed(str(self._host), "this host was closed") from None
        flight = _Flight(began, exact, future)
        self._flights.append(flight)
        return flight

    def _take(self, began: float, *, exact: bool) -> HostState:
        picture: HostState | None = None
        try:
            picture = self._retried_once(
                lambda: self._vboxmanage.poll(long=exact, timeout=CALL_TIMEOUT_S)
            )
            return picture
        finally:
            with self._lock:
                self._flights = [flight for flight in self._flights if flight.began != began]
                if picture is not None:
                    self._publish(picture)

    def _publish(self, picture: HostState) -> None:
        """Keep a picture if it is newer than the one at hand; `_lock` is held."""
        for kind in {False, picture.long}:
            known = self._pictures.get(kind)
            if known is None or known.began < picture.began:
                self._pictures[kind] = picture

    def _retried_once(self, look: Callable[[], HostState]) -> HostState:
        """Look again after a failure that passes: a service that races, a connection that broke,
        an answer cut off. Looking changes nothing, so it may be done twice."""
        try:
            return look()
        except errors.CommandTimeout:
            raise
        except (errors.ConnectionLost, errors.BadOutput, errors.VBoxManageError) as error:
            if not error.retry:
                raise
            log.info("%s; asking once more", error)
            return look()

    def _registered(self, picture: HostState) -> dict[str, VMSettings] | None:
        """The VMs the settings files name, unless VirtualBox evidently uses other files."""
        machines = picture.machines
        if machines is None or any(uuid not in machines for uuid in picture.running):
            return None
        return dict(machines)
