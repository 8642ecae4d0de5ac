# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm: it handles Juju's events and brings the machine into the desired state."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import ops

from maas_virtualbox import errors
from maas_virtualbox.juju import (
    AccountData,
    SSHKey,
    VirtualBoxHostsProvider,
    programs,
    statuses,
)
from maas_virtualbox.juju.machine_lock import MachineLock
from virtualbox_host import accounts, actions, machine, options, sshd, virtualbox

if TYPE_CHECKING:
    from maas_virtualbox.schemas import VMView

log = logging.getLogger(__name__)

RELATION = "virtualbox-hosts"

_PATHS = (sshd.KEYS.parent, sshd.CONFIG, accounts.TMPFILES)
"""What the charm writes, apart from its program. It must not exist before the charm."""


class VirtualBoxHostCharm(ops.CharmBase):
    """Manages VirtualBox and its VMs on one machine."""

    root = Path("/")
    """The folder that represents the machine's file system."""
    timings = virtualbox.Timings()

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._not_ready: statuses.NotReady | None = None
        self._vms: list[VMView] | None = None
        self._lock = MachineLock(self, self.root, virtualbox.NAME)
        self._machine = machine.Machine(self, self.root, self._lock, self.timings)
        self._provider = VirtualBoxHostsProvider(self, RELATION)
        self.actions = actions.Actions(self, machine=self._machine, reconcile=self._reconcile)
        on = self.on
        for event in (on.install, on.upgrade_charm):
            framework.observe(event, self._on_install)
        for event in (on.config_changed, on.update_status, self._provider.on.keys_changed):
            framework.observe(event, self._on_reconcile)
        framework.observe(on.remove, self._on_remove)
        framework.observe(on.collect_unit_status, self._on_collect_status)

    @property
    def _number(self) -> int:
        """The unit's number, which is in the names of the VMs that it creates."""
        return int(self.unit.name.rpartition("/")[2])

    def _on_install(self, event: ops.EventBase) -> None:
        with contextlib.suppress(statuses.NotReady, errors.ConfigError):
            # An error is reported by _reconcile, which meets it again.
            self._lock.acquire(_PATHS, is_upgrade=isinstance(event, ops.UpgradeCharmEvent))
            self._install_program()
        self._reconcile()

    def _on_reconcile(self, _event: ops.EventBase) -> None:
        self._reconcile()

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        if self._lock.is_held():
            self._remove()
        status = ops.MaintenanceStatus("removed; VirtualBox and VMs stay")
        self._not_ready = statuses.NotReady(status)

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._not_ready is not None:
            event.add_status(self._not_ready.status)
        elif self._vms is not None:
            event.add_status(self._status(self._machine.options(), self._vms))

    def _reconcile(self) -> None:
        """Bring the machine into the desired state, and record errors for the status.

        Keys of removed relations are revoked first, even if something else is invalid. VMs are
        never deleted.
        """
        self._not_ready = None
        keys = self._provider.keys()
        try:
            self._lock.acquire(_PATHS)
            sshd.revoke(self.root, keys)
            chosen = self._machine.options()
            account = accounts.ensure(self.root, chosen.user)
            sshd.authorise(self.root, account, keys)
            program = self._ensure_virtualbox(chosen)
            vbox = virtualbox.VirtualBox(self.root, account, program, self.timings)
            if not programs.is_installed(self.root, virtualbox.NAME):
                self._install_program()
            vbox.ensure_scripts()
            if keys:
                self._publish(chosen, vbox)
            self._vms = self._ensure_vms(chosen, vbox)
        except statuses.NotReady as error:
            self._not_ready = error
        except errors.ConfigError as error:
            self._not_ready = statuses.Blocked(str(error))

    def _ensure_virtualbox(self, chosen: options.HostOptions) -> str:
        """Install VirtualBox if it is missing. Return the path of VBoxManage."""
        program = virtualbox.find()
        if not program and chosen.install == "never":
            raise statuses.Blocked(
                "VBoxManage not found, and install=never: install VirtualBox, or"
                f" juju config {self.app.name} install=auto"
            )
        if not program:
            self.unit.status = ops.MaintenanceStatus("installing VirtualBox")
            virtualbox.install(chosen)
            program = virtualbox.find()
        if not program:
            raise statuses.Blocked(f"the package {chosen.package} does not contain VBoxManage")
        return program

    def _ensure_vms(
        self, chosen: options.HostOptions, vbox: virtualbox.VirtualBox
    ) -> list[VMView]:
        """Create missing VMs. Return all VMs."""
        vms = vbox.list_vms()
        missing = chosen.missing_names(self._number, [vm.name for vm in vms])
        if not missing:
            return vms
        vm_count = statuses.count(len(missing), "VM")
        self.unit.status = ops.MaintenanceStatus(f"creating {vm_count}")
        vbox.ensure_network(chosen)
        result = vbox.create(chosen, missing)
        if result.error:
            raise statuses.Blocked(" ".join(result.error.split()))
        return vbox.list_vms()

    def _install_program(self) -> None:
        self.unit.status = ops.MaintenanceStatus("installing the charm's program")
        programs.install(
            self.root, self.charm_dir, virtualbox.NAME, compiled=["maas_virtualbox.cli.main"]
        )
        programs.remove_old(self.root, virtualbox.NAME)

    def _publish(self, chosen: options.HostOptions, vbox: virtualbox.VirtualBox) -> None:
        """Publish the account to the related units."""
        server = sshd.read_server(self.root, vbox.account)
        version = vbox.version()
        self.unit.set_workload_version(version)
        self._provider.publish(
            AccountData(
                user=vbox.account.name,
                port=server.port,
                host_keys=tuple(SSHKey(key=key) for key in server.host_keys),
                zone=chosen.zone,
                virtualbox_version=version,
                vboxmanage=vbox.program,
                gate=True,
            )
        )

    def _remove(self) -> None:
        sshd.remove(self.root)
        try:
            error = self._machine.virtualbox().remove_scripts().error
        except statuses.NotReady as reason:
            error = str(reason)
        if error:
            log.warning("cannot remove the extension scripts: %s", error)
        accounts.remove(self.root)
        programs.remove(self.root, virtualbox.NAME)
        self._lock.release()

    def _status(self, chosen: options.HostOptions, vms: list[VMView]) -> ops.StatusBase:
        if chosen.install == "auto" and not virtualbox.has_driver(self.root):
            return ops.BlockedStatus(
                "VirtualBox's kernel module is not loaded: sudo modprobe vboxdrv (with Secure"
                " Boot, sign it first; in a container, load it on the container's host)"
            )
        running = sum(vm.power == "on" for vm in vms)
        text = f"{statuses.count(len(vms), 'VM')} of {chosen.user}, {running} running"
        if surplus := chosen.surplus_names([vm.name for vm in vms]):
            text += f"; {len(surplus)} more than vm-count: see delete-vms"
        if not self._provider.keys():
            text += "; not related to maas-virtualbox: juju integrate"
        return ops.ActiveStatus(text)
