# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Deleting VMs of one host: those this library made, and what is left of one that was being made.

Never what it did not make: `ownership` knows what that is.
"""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.host import state
from maas_virtualbox.provisioning import ownership
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4
_CLEARING_S = 30.0

GATED = (
    "the key is bound to the gate, which does not let VMs be made or deleted: say another key with"
    " --key"
)


def delete(
    owner: VirtualBoxHost, uuid: str, *, power_off: bool = False, timeout: float | None = None
) -> None:
    """Delete a VM that this library made, with its disk. Needs a key that is not bound to the
    gate.

    Args:
        owner: the host.
        uuid: the VM.
        power_off: pull the plug of one that is on; otherwise that is an error.
        timeout: seconds for everything (default: the policy's `action_timeout`).

    Raises:
        UnknownVM: the host has no such VM.
        DeletionError: it was not made by this library, is on, or has disks outside its folder,
            which VirtualBox would delete too; nothing was done. Or it is not done in time.
        HostError: the host cannot be asked.
    """
    limit = owner.policy.action_timeout if timeout is None else timeout
    deletion = _Deletion(owner, uuid, Deadline.after(limit), power_off=power_off)
    trouble = ""
    for attempt_deadline in attempts(deletion.deadline):
        try:
            deletion.attempt(attempt_deadline)
        except errors.UnknownVM:
            if deletion.sent:
                return
            raise
        except errors.HostError as error:
            if not (deletion.seen and passes(error)):
                raise
            trouble = str(error)
        except errors.VBoxManageError as error:
            if deletion.sent and error.code == ErrorCode.NOT_FOUND:
                return
            if not (deletion.seen and passes(error)):
                reason = GATED if error.code == ErrorCode.RESTRICTED_KEY else str(error)
                raise deletion.refused(reason) from error
            trouble = str(error)
        else:
            return
    raise deletion.refused(trouble or "it is not done in time; try again", retry=True)


class _Deletion:
    """One VM on its way out."""

    def __init__(
        self, owner: VirtualBoxHost, uuid: str, deadline: Deadline, *, power_off: bool
    ) -> None:
        self.deadline = deadline
        self.seen = False
        """Whether the host has been in reach."""
        self.sent = False
        """Whether VirtualBox has been told, so that a VM that is not there is no surprise."""
        self._owner = owner
        self._uuid = uuid
        self._power_off = power_off
        self._name = uuid

    def attempt(self, deadline: Deadline) -> None:
        """Look, and delete the VM if it may be."""
        owner, uuid = self._owner, self._uuid
        owner.state.invalidate()
        vm = owner.vm(uuid, timeout=deadline.remaining)
        self.seen = True
        self._name = vm.name
        if not vm.settings.accessible:
            what = f"VirtualBox cannot read {vm.settings.settings_file}"
            raise self.refused(f"{what}, so whose it is cannot be told")
        if not ownership.is_made(owner.vboxmanage, vm.settings, timeout=deadline.remaining):
            raise self.refused(
                "it was not made by maas-virtualbox; who made it may delete it on the host:"
                f" VBoxManage unregistervm {uuid} --delete"
            )
        if vm.power is not Power.OFF and not self._power_off:
            raise self.refused("it is on; switch it off first, or say so (--power-off)")
        if foreign := _foreign_disks(owner, vm.settings, deadline):
            raise self.refused(
                f"disks that are not in its folder would be deleted too: {', '.join(foreign)};"
                " detach them on the host first: VBoxManage storageattach with --medium none"
                f" (VBoxManage showvminfo {uuid} says where they are), and delete the snapshots"
                " that hold them"
            )
        if vm.power is not Power.OFF:
            owner.power_off(uuid, mode="hard", timeout=self.deadline.remaining)
        self.sent = True
        _remove(owner, vm.settings, self.deadline)

    def refused(self, reason: str, *, retry: bool = False) -> errors.DeletionError:
        """The error for a VM that stays."""
        host = f"{self._owner.config}"
        text = f"{host}/{self._name}: not deleted: {reason.removeprefix(f'{host}: ')}"
        return errors.DeletionError(text, retry=retry)


def clear_abandoned(owner: VirtualBoxHost) -> Mapping[str, VMSettings]:
    """Remove half-made VMs whose process has ended; return the host's VMs, read anew.

    One that may still be under way, as its process is on another machine, is left and logged.
    """
    machines = owner.state.settings(Deadline.after(state.CALL_TIMEOUT_S), max_age=0.0)
    abandoned = [uuid for uuid, machine in machines.items() if _is_abandoned(owner, machine)]
    if not abandoned:
        return machines
    # The process has ended by now, but perhaps not before it had made the VM: look once more.
    machines = owner.state.settings(Deadline.after(state.CALL_TIMEOUT_S), max_age=0.0)
    for uuid in abandoned:
        if (machine := machines.get(uuid)) and ownership.unfinished(machine):
            log.info("%s: removing what is left of %s", owner.config, machine.name)
            try:
                clear(owner, machine)
            except errors.Error as error:
                log.warning(
                    "%s/%s: half made, and cannot be removed: %s",
                    owner.config,
                    machine.name,
                    error,
                )
    return owner.state.settings(Deadline.after(state.CALL_TIMEOUT_S), max_age=0.0)


def _is_abandoned(owner: VirtualBoxHost, machine: VMSettings) -> bool:
    half = ownership.unfinished(machine)
    if half is None or half.is_abandoned:
        return half is not None
    log.warning(
        "%s/%s: process %d on %s makes it, or made it and was interrupted: if that has ended,"
        " delete the VM: maas-virtualbox delete %s",
        owner.config,
        half.name,
        half.pid,
        half.machine,
        machine.uuid,
    )
    return False


def clear(owner: VirtualBoxHost, machine: VMSettings) -> None:
    """Remove a half-made VM, again while that fails in a way that passes.

    Raises:
        Error: it cannot be removed.
    """
    deadline = Deadline.after(_CLEARING_S)
    trouble: errors.VBoxManageError | errors.HostError | None = None
    for attempt_deadline in attempts(deadline):
        try:
            if foreign := _foreign_disks(owner, machine, attempt_deadline):
                raise errors.DeletionError(f"somebody has attached {', '.join(foreign)} to it")
            _remove(owner, machine, deadline)
        except (errors.VBoxManageError, errors.HostError) as error:
            if isinstance(error, errors.VBoxManageError) and error.code == ErrorCode.NOT_FOUND:
                return
            if not passes(error):
                raise
            trouble = error
        else:
            return
    assert trouble
    raise trouble


def attempts(deadline: Deadline) -> Iterator[Deadline]:
    """Yield the deadline of each attempt, with growing pauses, until the deadline of all."""
    pause = _FIRST_PAUSE_S
    while not deadline.is_past:
        yield deadline.within(state.CALL_TIMEOUT_S)
        time.sleep(min(pause, deadline.remaining))
        pause = min(_LONGEST_PAUSE_S, pause * 2)


def passes(error: errors.VBoxManageError | errors.HostError) -> bool:
    """Whether a call on a host that has answered before is worth another attempt.

    VirtualBox's service then comes back too: when its clients' connections break it may fail for a
    moment with a code that otherwise stands for a damaged VirtualBox.xml (measured).
    """
    service = isinstance(error, errors.VBoxManageError) and error.code == ErrorCode.SERVICE
    return error.retry or service


@contextlib.contextmanager
def turn(owner: VirtualBoxHost, deadline: Deadline) -> Generator[float]:
    """Wait until a VM of the host may be changed; gives the seconds the call may take."""
    if not owner.changing.acquire(timeout=deadline.remaining):
        raise errors.CommandTimeout(str(owner.config), "the host is busy with other VMs")
    try:
        yield max(0.1, deadline.within(state.CALL_TIMEOUT_S).remaining)
    finally:
        owner.changing.release()
        owner.state.invalidate()


def _foreign_disks(owner: VirtualBoxHost, machine: VMSettings, deadline: Deadline) -> list[str]:
    disks = owner.vboxmanage.list_hard_disks(timeout=deadline.remaining)
    return ownership.foreign_disks(machine, disks)


def _remove(owner: VirtualBoxHost, machine: VMSettings, deadline: Deadline) -> None:
    half = ownership.unfinished_name(machine)
    if half and machine.settings_file:
        # A disk that is not attached yet would stay; one that is, or is not there, is refused.
        disk = ownership.disk_file(machine.settings_file, half)
        try:
            with turn(owner, deadline) as seconds:
                owner.vboxmanage.closemedium(disk, timeout=seconds)
        except errors.VBoxManageError as error:
            if passes(error):
                raise
    lock = owner.lock_of(machine.uuid)
    if not lock.acquire(timeout=deadline.remaining):
        raise errors.CommandTimeout(str(owner.config), "another action on it is still under way")
    try:
        with turn(owner, deadline) as seconds:
            owner.vboxmanage.unregistervm(machine.uuid, timeout=seconds)
    finally:
        lock.release()
