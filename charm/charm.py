#!/usr/bin/env python3
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm: it handles Juju's events and brings the machine into the desired state.

`configuration` collects the desired state: it uses `options`, `hosts`, `credentials`,
`certificates` and `network`. `workload` brings the machine into that state, and `enlistment`
brings MAAS up to date. `actions` are run by people. `statuses` and `observability` report.
"""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import ops

import actions
import certificates
import configuration
import credentials
import enlistment
import observability
import program
import statuses
import workload
from maas_virtualbox.juju.machine_lock import MachineLock
from maas_virtualbox.version import VERSION


class MAASVirtualBoxCharm(ops.CharmBase):
    """Runs the power service of one unit."""

    root = Path("/")
    """The folder that represents the machine's file system."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._not_ready: statuses.NotReady | None = None
        self._enlistment_error = ""
        self._is_config_complete = self._is_unchanged = False
        self._lock = MachineLock(self, self.root, workload.NAME)
        self.tracing = ops.tracing.Tracing(self, "charm-tracing")
        self.configuration = configuration.Configuration(self)
        self._program = program.Program(self.root, self._lock)
        self._enlistment = enlistment.Enlistment(
            self, self.root, self._program, self.configuration.address
        )
        self.actions = actions.Actions(
            self,
            configuration=self.configuration,
            enlistment=self._enlistment,
            program=self._program,
            reconcile=self._reconcile,
        )
        on = self.on
        framework.observe(on.install, self._on_install)
        framework.observe(on.upgrade_charm, self._on_install)
        framework.observe(on.config_changed, self._on_config_changed)
        for event in (
            on.leader_elected,
            on.start,
            on.update_status,
            on.secret_changed,
            on[credentials.PEERS].relation_changed,
            on[certificates.RELATION].relation_created,
            on[certificates.RELATION].relation_changed,
            on[certificates.RELATION].relation_broken,
            on[observability.RELATION].relation_created,
            on[observability.RELATION].relation_changed,
            self.configuration.hosts.changed,
        ):
            framework.observe(event, self._on_reconcile)
        framework.observe(on.secret_remove, self._on_secret_remove)
        framework.observe(on.stop, self._on_stop)
        framework.observe(on.remove, self._on_remove)
        framework.observe(on.collect_unit_status, self._on_collect_status)

    def _on_install(self, event: ops.EventBase) -> None:
        with contextlib.suppress(statuses.NotReady, workload.WorkloadError):
            # An error is reported by _reconcile, which meets it again.
            self._acquire_lock(is_upgrade=isinstance(event, ops.UpgradeCharmEvent))
            self._install()
        self._reconcile()

    def _on_config_changed(self, _event: ops.ConfigChangedEvent) -> None:
        # Juju also fires this without a change: after each refresh, reboot and agent restart.
        self._is_unchanged = self._is_reconciled()
        if not self._is_unchanged:
            self._reconcile()

    def _on_reconcile(self, _event: ops.EventBase) -> None:
        self._reconcile()

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        if event.secret.label == credentials.LABEL:
            event.remove_revision()

    def _on_stop(self, _event: ops.StopEvent) -> None:
        if self._lock.is_held():
            workload.stop(self.root)
        self._not_ready = statuses.NotReady(ops.MaintenanceStatus("stopped"))

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        if self._lock.is_held():
            workload.remove(self.root, self._lock.absent_before())
            self._lock.release()
        self._not_ready = statuses.NotReady(ops.MaintenanceStatus("removed"))

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._is_unchanged:
            return
        try:
            if self._not_ready is not None:
                raise self._not_ready
            self._lock.check()
            if not self._is_config_complete:
                self.configuration.service_config()
            self.configuration.hosts.check(self.configuration.options())
            event.add_status(statuses.of_hosts(workload.list_hosts(self.root)))
            if self._enlistment_error:
                event.add_status(ops.WaitingStatus(self._enlistment_error))
        except statuses.NotReady as error:
            event.add_status(error.status)
        except workload.WorkloadError as error:
            event.add_status(ops.BlockedStatus(str(error)))

    def _reconcile(self) -> None:
        """Bring the machine into the desired state, and record errors for the status.

        If an option, a secret or a relation is invalid or missing, nothing is changed, and a
        running service continues.
        """
        self._not_ready = None
        try:
            self._acquire_lock()
            if not workload.is_installed(self.root):
                self._install()
            self._apply()
        except statuses.NotReady as error:
            self._not_ready = error
        except workload.WorkloadError as error:
            self._not_ready = statuses.Blocked(str(error))
        if self._lock.is_held():
            failed = self._not_ready or self._enlistment_error
            inputs = "" if failed else self.configuration.config_inputs()
            workload.write_note(self.root, workload.RECONCILED, inputs)

    def _apply(self) -> None:
        self.configuration.publish_keys()
        options = self.configuration.options_with_related_hosts()
        if not options.hosts:
            workload.stop(self.root)
        service = self.configuration.service_config()
        self._is_config_complete = True
        self.unit.set_ports(options.listen_port)
        workload.configure(self.root, service)
        observability.publish(
            self,
            port=options.listen_port,
            tls=bool(service.tls_certificate),
            token=service.tokens.metrics_token(),
        )
        self._enlistment_error = self._enlistment.update(options, service)

    def _is_reconciled(self) -> bool:
        """Return whether the last reconcile had the same inputs and no error."""
        try:
            self._lock.check()
            inputs = self.configuration.config_inputs()
        except statuses.NotReady:
            return False
        return workload.is_noted(self.root, workload.RECONCILED, inputs)

    def _install(self) -> None:
        self.unit.status = ops.MaintenanceStatus("installing the power service")
        workload.install(self.root, self.charm_dir)
        self.unit.set_workload_version(VERSION)

    def _acquire_lock(self, *, is_upgrade: bool = False) -> None:
        self._lock.acquire(
            workload.PATHS, list_absent=workload.absent_accounts, is_upgrade=is_upgrade
        )


if __name__ == "__main__":
    # At level DEBUG, charmlibs log each call of Juju.
    logging.getLogger("charmlibs").setLevel(logging.INFO)
    ops.main(MAASVirtualBoxCharm)
