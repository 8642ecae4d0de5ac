# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Deletion of VMs of one host: managed VMs, and incomplete VMs. All other VMs are refused."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.provisioning import ownership, retries
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)


def delete(
    host: VirtualBoxHost, uuid: str, *, power_off: bool = False, timeout: float | None = None
) -> None:
    """Delete a managed VM and its disk. A restricted key cannot delete VMs.

    Args:
        host: the host.
        uuid: the VM.
        power_off: power off a VM that is on; otherwise that is an error.
        timeout: seconds for the whole call (default: the policy's `action_timeout`).

    Raises:
        UnknownVM: the host has no such VM.
        DeletionError: the VM is not managed, is on, or has disks outside its folder, which
            VirtualBox would delete too; nothing was changed. Or the timeout has passed.
        HostError: the host cannot be asked.
    """
    deadline = Deadline.after(host.policy.action_timeout if timeout is None else timeout)
    name = uuid
    try:
        host.state.invalidate()
        name = host.vm(uuid, timeout=deadline.remaining).name
        retries.retry(deadline, _Deletion(host, uuid, deadline, power_off=power_off).run)
    except retries.RetriesExhausted as error:
        raise _deletion_error(host, name, str(error), retry=True) from error
    except errors.VBoxManageError as error:
        reason = retries.RESTRICTED_KEY if retries.is_restricted_key(error) else str(error)
        raise _deletion_error(host, name, reason) from error


class _Deletion:
    """The deletion of one VM."""

    def __init__(
        self, host: VirtualBoxHost, uuid: str, deadline: Deadline, *, power_off: bool
    ) -> None:
        self._host = host
        self._uuid = uuid
        self._deadline = deadline
        self._power_off = power_off
        self._requested = False
        """Whether VirtualBox may have deleted the VM already."""

    def run(self, deadline: Deadline) -> None:
        """Delete the VM. Call it again after a transient error.

        Args:
            deadline: when reading the VM must end.
        """
        try:
            vm = self._host.vm(self._uuid, timeout=deadline.remaining)
            self._check(vm, deadline)
            if vm.power is not Power.OFF:
                self._host.power_off(self._uuid, mode="hard", timeout=self._deadline.remaining)
            self._requested = True
            _remove(self._host, vm.settings, self._deadline)
        except errors.UnknownVM:
            if not self._requested:
                raise
        except errors.VBoxManageError as error:
            if not (self._requested and error.code == ErrorCode.NOT_FOUND):
                raise

    def _check(self, vm: VM, deadline: Deadline) -> None:
        """Raise `DeletionError` for a VM that must not be deleted."""
        reason = ""
        if not vm.settings.accessible:
            reason = (
                f"VirtualBox cannot read {vm.settings.settings_file}, so whether maas-virtualbox"
                " created the VM is unknown: restore the file, or delete the VM on the host"
            )
        elif not ownership.is_managed(
            self._host.vboxmanage, vm.settings, timeout=deadline.remaining
        ):
            reason = (
                "maas-virtualbox did not create it: delete it on the host with VBoxManage"
                f" unregistervm {vm.uuid} --delete"
            )
        elif vm.power is not Power.OFF and not self._power_off:
            reason = "it is on: power it off first, or use --power-off"
        elif foreign := _read_foreign_disks(self._host, vm.settings, deadline):
            reason = (
                f"disks outside its folder would be deleted too: {', '.join(foreign)}: detach them"
                " on the host with VBoxManage storageattach and --medium none (VBoxManage"
                f" showvminfo {vm.uuid} shows where they are), and delete the snapshots that use"
                " them"
            )
        if reason:
            raise _deletion_error(self._host, vm.name, reason)


def _deletion_error(
    host: VirtualBoxHost, name: str, reason: str, *, retry: bool = False
) -> errors.DeletionError:
    reason = reason.removeprefix(f"{host.config}: ")
    return errors.DeletionError(f"{host.config}/{name}: not deleted: {reason}", retry=retry)


def remove_abandoned(host: VirtualBoxHost, deadline: Deadline) -> Mapping[str, VMSettings]:
    """Remove incomplete VMs whose process has ended.

    An incomplete VM of a process on another machine may still be in progress; it is logged and
    skipped.

    Returns:
        The VMs of the host afterwards, by UUID.

    Raises:
        VBoxManageError, HostError: the VMs of the host cannot be listed.
    """
    vms = host.state.settings(deadline, max_age=0.0)
    abandoned = _find_abandoned(host, vms)
    if not abandoned:
        return vms
    # The process has ended by now, but it may have completed the VM in the meantime: read again.
    vms = host.state.settings(deadline, max_age=0.0)
    for uuid in abandoned:
        if (settings := vms.get(uuid)) and ownership.parse_incomplete(settings):
            log.info("%s: removing the incomplete VM %s", host.config, settings.name)
            try:
                remove_incomplete(host, settings, deadline)
            except (errors.Error, retries.RetriesExhausted) as error:
                log.warning(
                    "%s/%s: the incomplete VM cannot be removed: %s",
                    host.config,
                    settings.name,
                    error,
                )
    return host.state.settings(deadline, max_age=0.0)


def _find_abandoned(host: VirtualBoxHost, vms: Mapping[str, VMSettings]) -> list[str]:
    """Return the UUIDs of abandoned VMs, and log the incomplete VMs of other machines."""
    abandoned: list[str] = []
    for uuid, settings in vms.items():
        incomplete = ownership.parse_incomplete(settings)
        if incomplete is None:
            continue
        if incomplete.is_abandoned:
            abandoned.append(uuid)
        else:
            log.warning(
                "%s/%s: the VM is incomplete: if process %d on %s has ended, delete the VM:"
                " maas-virtualbox delete %s",
                host.config,
                incomplete.name,
                incomplete.pid,
                incomplete.machine,
                uuid,
            )
    return abandoned


def remove_incomplete(host: VirtualBoxHost, settings: VMSettings, deadline: Deadline) -> None:
    """Remove an incomplete VM.

    Raises:
        Error: it cannot be removed.
        RetriesExhausted: it cannot be removed before the deadline.
    """

    def remove(attempt_deadline: Deadline) -> None:
        if foreign := _read_foreign_disks(host, settings, attempt_deadline):
            raise errors.DeletionError(f"other disks are attached to it: {', '.join(foreign)}")
        _remove(host, settings, deadline)

    try:
        retries.retry(deadline, remove)
    except errors.VBoxManageError as error:
        if error.code != ErrorCode.NOT_FOUND:
            raise


def _read_foreign_disks(
    host: VirtualBoxHost, settings: VMSettings, deadline: Deadline
) -> list[str]:
    disks = host.vboxmanage.list_hard_disks(timeout=deadline.remaining)
    return ownership.foreign_disks(settings, disks)


def _remove(host: VirtualBoxHost, settings: VMSettings, deadline: Deadline) -> None:
    name = ownership.intended_name(settings)
    if name and settings.settings_file:
        _delete_unattached_disk(host, ownership.disk_path(settings.settings_file, name), deadline)
    lock = host.lock_of(settings.uuid)
    if not lock.acquire(timeout=deadline.remaining):
        raise errors.CommandTimeout(str(host.config), "another action on the VM is in progress")
    try:
        with retries.change_slot(host, deadline) as timeout:
            host.vboxmanage.unregistervm(settings.uuid, timeout=timeout)
    finally:
        lock.release()


def _delete_unattached_disk(host: VirtualBoxHost, path: str, deadline: Deadline) -> None:
    """Delete the disk of an incomplete VM to which it is not attached yet. VirtualBox refuses this
    for a disk that is attached or does not exist."""
    try:
        with retries.change_slot(host, deadline) as timeout:
            host.vboxmanage.closemedium(path, timeout=timeout)
    except errors.VBoxManageError as error:
        if retries.is_transient(error):
            raise
