#!/usr/bin/env python3
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm: Juju's events in, one wanted state of the machine out.

`options` checks what people configured, `hosts` adds those of related units, `credentials` and
`certificates` fetch what is secret, `network` picks the address, `wanted` puts it all together,
`workload` brings the machine into that state, `enlistment` tells MAAS, `actions` are for people,
`statuses` and `observability` report.
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
import hosts
import network
import observability
import options
import statuses
import workload
from maas_virtualbox.juju import programs
from maas_virtualbox.juju.machine_lock import Claim
from maas_virtualbox.version import VERSION


class MAASVirtualBoxCharm(ops.CharmBase):
    """Runs the power service of one unit."""

    root = Path("/")
    """What stands for the machine's file system."""

    def __init__(self, framework: ops.Framework) -> None:
        super().__init__(framework)
        self._unready: statuses.Unready | None = None
        self._collected = self._unchanged = False
        self._unknown_to_maas = ""
        self._claim = Claim(self, self.root, workload.NAME)
        self.tracing = ops.tracing.Tracing(self, "charm-tracing")
        self.certificates = certificates.Certificates(self, self.address)
        self.shared = credentials.Shared(self)
        self.hosts = hosts.Hosts(self, self.shared)
        self.actions = actions.Actions(self)
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
            self.hosts.changed,
        ):
            framework.observe(event, self.reconcile)
        framework.observe(on.secret_remove, self._on_secret_remove)
        framework.observe(on.stop, self._on_stop)
        framework.observe(on.remove, self._on_remove)
        framework.observe(on.collect_unit_status, self._on_collect_status)

    def address(self) -> str:
        """Return the literal IP address that MAAS reaches this unit by. Raises `Unready`."""
        # Of the options this one alone: a wrong one elsewhere takes no certificate away.
        return network.address(self.model, str(self.config["listen-subnet"]))

    def publish_keys(self) -> None:
        """Tell related hosts whom to let in. Raises `Unready`."""
        self.hosts.publish_keys(self.chosen().ssh_private_key)

    def reconcile(self, _event: ops.EventBase | None = None) -> None:
        """Bring the machine into the state that options, secrets and relations ask for.

        Nothing is changed while one of them is wrong or missing; a service that runs goes on.
        """
        self._unready = None
        try:
            self._claim_machine()
            if not workload.is_installed(self.root):
                self._install()
            self.publish_keys()
            chosen = self.hosts.merge(self.chosen())
            if not chosen.hosts:
                workload.stop(self.root)
            service = configuration.collect(self)
            self._collected = True
            self.unit.set_ports(chosen.listen_port)
            workload.configure(self.root, service)
            observability.publish(
                self,
                port=chosen.listen_port,
                tls=bool(service.tls_certificate),
                token=service.tokens.metrics_token(),
            )
            self._unknown_to_maas = enlistment.keep_up(self, chosen, service)
        except statuses.Unready as reason:
            self._unready = reason
        except workload.WorkloadError as error:
            self._unready = statuses.blocked(str(error))
        if self._claim.is_held():
            well = not (self._unready or self._unknown_to_maas)
            workload.note(self.root, workload.SETTLED, self._inputs() if well else "")

    def run(self, *arguments: str, key: str = "", timeout: float | None = None) -> programs.Answer:
        """Run the program `maas-virtualbox` on this unit's service; see `workload.run`."""
        try:
            self._claim.check()
        except statuses.Unready as reason:
            return programs.Answer("", str(reason))
        return workload.run(self.root, *arguments, key=key, timeout=timeout)

    def chosen(self) -> options.CharmOptions:
        """Return the options. Raises `Unready` where one is wrong."""
        try:
            return options.parse(self.config)
        except ValueError as error:
            raise statuses.blocked(str(error)) from None

    def _inputs(self) -> str:
        """Return all that a config-changed can bring, as one text."""
        return repr((sorted(self.config.items()), self.address()))

    def _install(self) -> None:
        self.unit.status = ops.MaintenanceStatus("installing the power service")
        workload.install(self.root, self.charm_dir)
        self.unit.set_workload_version(VERSION)

    def _claim_machine(self, *, is_upgrade: bool = False) -> None:
        self._claim.ensure(workload.PATHS, absent=workload.absent_accounts, is_upgrade=is_upgrade)

    def _on_install(self, event: ops.EventBase) -> None:
        with contextlib.suppress(statuses.Unready, workload.WorkloadError):  # reconcile says why
            self._claim_machine(is_upgrade=isinstance(event, ops.UpgradeCharmEvent))
            self._install()
        self.reconcile(event)

    def _on_config_changed(self, event: ops.ConfigChangedEvent) -> None:
        # Juju fires it without a change too: after each refresh, reboot and restart of its agent.
        try:
            self._claim.check()
            self._unchanged = workload.is_noted(self.root, workload.SETTLED, self._inputs())
        except statuses.Unready:
            self._unchanged = False
        if not self._unchanged:
            self.reconcile(event)

    def _on_secret_remove(self, event: ops.SecretRemoveEvent) -> None:
        if event.secret.label == credentials.LABEL:
            event.remove_revision()

    def _on_stop(self, _event: ops.StopEvent) -> None:
        if self._claim.is_held():
            workload.stop(self.root)
        self._unready = statuses.Unready(ops.MaintenanceStatus("stopped"))

    def _on_remove(self, _event: ops.RemoveEvent) -> None:
        if self._claim.is_held():
            workload.remove(self.root, self._claim.made())
            self._claim.release()
        self._unready = statuses.Unready(ops.MaintenanceStatus("removed"))

    def _on_collect_status(self, event: ops.CollectStatusEvent) -> None:
        if self._unchanged:
            return
        try:
            if self._unready is not None:
                raise self._unready
            self._claim.check()
            if not self._collected:
                configuration.collect(self)
            self.hosts.check(self.chosen())
            event.add_status(statuses.of_hosts(workload.hosts(self.root)))
            if self._unknown_to_maas:
                event.add_status(ops.WaitingStatus(self._unknown_to_maas))
        except statuses.Unready as reason:
            event.add_status(reason.status)
        except workload.WorkloadError as error:
            event.add_status(ops.BlockedStatus(str(error)))


if __name__ == "__main__":
    # What charmlibs write at this level is a call of Juju a line.
    logging.getLogger("charmlibs").setLevel(logging.INFO)
    ops.main(MAASVirtualBoxCharm)
