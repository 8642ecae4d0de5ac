# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The exact states of VMs that a process runs, but that VirtualBox does not list as running.

Almost all of these VMs are starting or stopping. A few have crashed (gurumeditation), and stay so.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.host.state import CALL_TIMEOUT_S, NEVER
from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.host.power import PowerControl
    from maas_virtualbox.host.state import HostState, StateCache

log = logging.getLogger(__name__)

_SETTLE_S = 1.5
"""How long to wait for VMs that are starting or stopping: a start takes 0.4 s, the end of a
process 0.1 s (measured)."""

_PAUSE_S = 0.4
"""Between polls while waiting."""

_KNOWN_FOR_S = 30.0
"""VirtualBox is asked about one process at most this often: the question takes the VM's lock."""

_MAX_QUESTIONS = 6
"""How many VMs VirtualBox is asked about at once."""


class ExactStates:
    """Finds and remembers the exact states of one host's VMs. Created by `VirtualBoxHost`; shared
    between threads.

    Concurrency. `_lock` guards the memory and is never held while anything waits. A question
    about a VM holds the lock that an action on it holds, and is not asked while there is one.
    """

    def __init__(self, cache: StateCache, power: PowerControl) -> None:
        self._cache = cache
        self._power = power
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int, float, VMState]] = {}
        """By UUID: the process, the monotonic time of the answer, and the answer."""

    def of(self, uuid: str, pid: int) -> VMState:
        """Return the last known state of a VM that a process runs, but that is not listed."""
        with self._lock:
            known_pid, _, state = self._known.get(uuid, (0, NEVER, VMState.STARTING))
        return state if known_pid == pid else VMState.STARTING

    def settle(self, state: HostState, deadline: Deadline, uuid: str = "") -> HostState:
        """Wait for VMs that are starting or stopping, and return the state that then holds.

        All VMs get the same time to settle. VirtualBox is asked about those that remain, about
        several at once. What is not known by the deadline stays unknown; that is no error.

        Args:
            state: an exact state of the host.
            deadline: when to stop.
            uuid: the only VM that matters (default: all VMs matter).
        """
        settled = deadline.within(_SETTLE_S)
        while self._unsettled(state, uuid) and not settled.is_past:
            time.sleep(min(_PAUSE_S, settled.remaining))
            try:
                state = self._cache.poll(deadline, max_age=0.0, exact=True)
            except errors.HostError as error:
                log.info("%s; exact states are not known", error)
                return state
        if remaining := self._unsettled(state, uuid):
            with futures.ThreadPoolExecutor(_MAX_QUESTIONS, "exact states") as threads:
                for vm, pid in remaining:
                    threads.submit(self._ask, state, vm, pid, deadline)
        return state

    def _unsettled(self, state: HostState, only: str) -> list[tuple[str, int]]:
        """Return the VMs that a process runs without being listed, and their processes, except
        where an action is in progress or the answer is known."""
        return [
            (uuid, pid)
            for uuid, pid in state.processes.items()
            if uuid not in state.running
            and only in ("", uuid)
            and not self._power.lock_of(uuid).locked()
            and not self._is_known(uuid, pid)
        ]

    def _is_known(self, uuid: str, pid: int) -> bool:
        with self._lock:
            known_pid, asked, _ = self._known.get(uuid, (0, NEVER, VMState.STARTING))
        return known_pid == pid and time.monotonic() - asked < _KNOWN_FOR_S

    def _ask(self, state: HostState, uuid: str, pid: int, deadline: Deadline) -> None:
        """Ask VirtualBox for the state of a VM, unless an action on it began meanwhile, and
        remember the answer."""
        lock = self._power.lock_of(uuid)
        if not lock.acquire(blocking=False):
            return
        try:
            answer = self._showvminfo(state, uuid, deadline.within(CALL_TIMEOUT_S))
        except (errors.HostError, errors.VBoxManageError) as error:
            log.info("%s: the exact state of VM %s is not known: %s", state.host, uuid, error)
            return
        finally:
            lock.release()
        with self._lock:
            self._known[uuid] = pid, time.monotonic(), answer

    def _showvminfo(self, state: HostState, uuid: str, deadline: Deadline) -> VMState:
        power = self._power
        if not power.changing.acquire(timeout=deadline.remaining):
            raise errors.CommandTimeout(str(state.host), "the host is busy with other VMs")
        try:
            return power.vboxmanage.showvminfo(uuid, timeout=deadline.remaining).state
        finally:
            power.changing.release()
