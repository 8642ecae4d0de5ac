# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm: Juju's events in, one wanted state of the machine out."""

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
from maas_virtualbox.juju.machine_lock import Claim
from virtualbox_host import accounts, actions, options, sshd, virtualbox

if TYPE_CHECKING:
    from maas_virtualbox.schemas import VMView

log = logging.getLogger(__name__)

RELATION = "virtualbox-hosts"

_PATHS = (sshd.KEYS.parent, sshd.CONFIG, accounts.TMPFILES)
"""What the charm writes besides its program, of which nothing may be somebody else's."""


class VirtualBoxHostCharm(ops.CharmBase):
    """Looks after VirtualBox and its VMs on one machine."""

    root = Path("/")
    """What stands for the machine's file system."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._unready: statuses.Unready | None = None
        self._vms: list[VMView] | None = None
        self._claim = Claim(self, self.root, virtualbox.NAME)
        self.switchers = VirtualBoxHostsProvider(self, RELATION)
        self.actions = actions.Actions(self)
        on = self.on
        for event in (on.install, on.upgrade_charm):
            framework.observe(event, self._on_install)
        for event in (on.config_changed, on.update_status, self.switchers.on.keys_changed):
            framework.observe(event, self.reconcile)
        framework.observe(on.remove, self._on_remove)
        framework.observe(on.collect_unit_status, self._on_collect_status)

    @property
    def number(self) -> int:
        """The unit's number, which is in the names of the VMs it makes."""
        return int(self.unit.name.rpartition("/")[2])

    def box(self) -> virtualbox.VirtualBox:
        """Return VirtualBox as the account has it. Raises `Unready` where it is not set up yet."""
        self._claim.check()
        chosen = self.chosen()
        account, program = accounts.find(chosen.user), virtualbox.find()
        if account is None or not program or not programs.is_installed(self.root, virtualbox.NAME):
            raise statuses.waiting("VirtualBox is not set up yet")
        return virtualbox.VirtualBox(self.root, account, program)

    def chosen(self) -> options.HostOptions:
        """Return the options. Raises `Unready` where one is wrong."""
        try:
            return options.parse(self.config)
        except ValueError as error:
            raise statuses.blocked(str(error)) from None

    def reconcile(self, _event: ops.EventBase | None = None) -> None:
        """Bring the machine into the state that options and relations ask for.

        Keys that are gone are revoked first, whatever else is wrong. No VM is ever deleted.
        """
        self._unready = None
        keys = self.switchers.keys()
        try:
            self._claim.ensure(_PATHS)
            sshd.revoke(self.root, keys)
            chosen = self.chosen()
            account = accounts.ensure(self.root, chosen.user)
            sshd.authorise(self.root, account, keys)
            box = virtualbox.VirtualBox(self.root, account, self._ensure_virtualbox(chosen))
            if not programs.is_installed(self.root, virtualbox.NAME):
                self._install_program()
            box.ensure_scripts()
            if keys:
                self._publish(chosen, box)
            self._vms = self._grow(chosen, box)
        except statuses.Unready as reason:
            self._unready = reason
        except errors.ConfigError as error:
            self._unready = statuses.blocked(str(error))

    def _ensure_virtualbox(self, chosen: options.HostOptions) -> str:
        program = virtualbox.find()
        if not program and chosen.install == "never":
            raise statuses.blocked(
                "there is no VBoxManage, and install=never: install VirtualBox, or"
                f" juju config {self.app.name} install=auto"
            )
        if not program:
            self.unit.status = ops.MaintenanceStatus("installing VirtualBox")
            virtualbox.install(chosen)
            program = virtualbox.find()
        if not program:
            raise statuses.blocked(f"the package {chosen.package} brought no VBoxManage")
        return program

    def _install_program(self) -> None:
        self.unit.status = ops.MaintenanceStatus("installing the charm's program")
        programs.install(
            self.root, self.charm_dir, virtualbox.NAME, compiled=["maas_virtualbox.cli.main"]
        )
        programs.remove_old(self.root, virtualbox.NAME)

    def _publish(self, chosen: options.HostOptions, box: virtualbox.VirtualBox) -> None:
        server = sshd.read_server(self.root, box.account)
        version = box.version()
        self.unit.set_workload_version(version)
        self.switchers.publish(
            AccountData(
                user=box.account.name,
                port=server.port,
                host_keys=tuple(SSHKey(key=key) for key in server.host_keys),
                zone=chosen.zone,
                virtualbox_version=version,
                vboxmanage=box.program,
                gate=True,
            )
        )

    def _grow(self, chosen: options.HostOptions, box: virtualbox.VirtualBox) -> list[VMView]:
        """Make the VMs that are missing; returns all there are."""
        vms = box.list_vms()
        missing = chosen.missing(self.number, [vm.name for vm in vms])
        if not missing:
            return vms
        self.unit.status = ops.MaintenanceStatus(f"making {statuses.count(len(missing), 'VM')}")
        if chosen.attachment == "hostonly":
            box.ensure_host_only_network(chosen.network)
        answer = box.create(chosen, missing)
        if answer.problem:
            raise statuses.blocked(" ".join(answer.problem.split()))
        return box.list_vms()

    def _on_install(self, event: ops.EventBase) -> None:
        with contextlib.suppress(statuses.Unready, errors.ConfigError):  # reconcile says why
            self._claim.ensure(_PATHS, is_upgrade=isinstance(event, ops.UpgradeCharmEvent))
            self._install_program()
        self.reconcile(event)

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        if self._claim.is_held():
            self._remove()
        self._unready = statuses.Unready(ops.MaintenanceStatus("removed; VirtualBox and VMs stay"))

    def _remove(self) -> None:
        sshd.remove(self.root)
        try:
            if problem := self.box().remove_scripts().problem:
                log.warning("the extension scripts stay: %s", problem)
        except statuses.Unready as reason:
            log.warning("the extension scripts stay: %s", reason)
        accounts.remove(self.root)
        programs.remove(self.root, virtualbox.NAME)
        self._claim.release()

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._unready is not None:
            event.add_status(self._unready.status)
        elif self._vms is not None:
            event.add_status(self._status(self.chosen(), self._vms))

    def _status(self, chosen: options.HostOptions, vms: list[VMView]) -> ops.StatusBase:
        if chosen.install == "auto" and not virtualbox.has_driver(self.root):
            return ops.BlockedStatus(
                "VirtualBox's kernel module is not loaded: sudo modprobe vboxdrv (with Secure Boot"
                " it has to be signed; in a container, the machine below has to load it)"
            )
        running = sum(vm.power == "on" for vm in vms)
        text = f"{statuses.count(len(vms), 'VM')} of {chosen.user}, {running} running"
        if surplus := chosen.surplus([vm.name for vm in vms]):
            text += f"; {len(surplus)} more than vm-count: see delete-vms"
        if not self.switchers.keys():
            text += "; nobody switches them: juju integrate"
        return ops.ActiveStatus(text)
