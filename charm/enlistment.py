# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment of the VMs in MAAS: by the action, and automatically by the leader."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import credentials
import statuses
import workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import ops

    from maas_virtualbox.juju import programs
    from options import CharmOptions
    from program import Program

ACTION_TIMEOUT_S = 1800.0
"""MAAS may take half an hour for a thousand machines. A hook has less time; the next hook
continues."""
_HOOK_TIMEOUT_S = 120.0
_REPORT_TIME_S = 10.0
"""How long before its timeout the program stops writing, to report what it wrote."""

ONLY = {"off": ("--only=update",), "adopt": ("--only=adopt", "--only=update"), "all": ()}
"""The changes that each value of auto-enlist allows. A managed machine always gets a changed
address or token. Otherwise MAAS could no longer control its VM."""

_ADDRESS = "address"
"""The key of a unit's peer data with the address at which MAAS reaches the unit."""


class Enlistment:
    """Enlists the VMs in MAAS."""

    def __init__(
        self, charm: ops.CharmBase, root: Path, program: Program, address: Callable[[], str]
    ) -> None:
        """Prepare.

        Args:
            charm: The charm.
            root: The folder that represents `/`.
            program: Runs `maas-virtualbox`.
            address: Returns the address at which MAAS reaches this unit. It may raise `NotReady`.
        """
        self._charm = charm
        self._root = root
        self._program = program
        self._address = address

    def update(self, chosen: CharmOptions, service: workload.ServiceConfig) -> str:
        """Bring MAAS up to date, if this unit is the leader and MAAS is configured.

        Returns:
            The reason why MAAS is not up to date, for `juju status`; empty on success.

        Raises:
            NotReady: `auto-enlist` is on, but MAAS is not configured. The status has the command.
        """
        _check(chosen, self._charm.app.name)
        self._publish_address()
        is_leader = self._charm.unit.is_leader()
        if not (is_leader and chosen.maas_url and service.maas_api_key):
            return ""
        inputs = self._power_parameter_inputs(chosen, service)
        if chosen.auto_enlist == "off" and workload.is_noted(
            self._root, workload.ENLISTED, inputs
        ):
            return ""
        result = self.run(*self.other_address_options(), *ONLY[chosen.auto_enlist])
        workload.write_note(self._root, workload.ENLISTED, "" if result.error else inputs)
        if not result.error:
            return ""
        reason = format_summary(result) or result.error.splitlines()[-1]
        return f"not all VMs are enlisted in MAAS ({reason}): see enlist dry-run=true"

    def run(self, *options: str, timeout: float = _HOOK_TIMEOUT_S) -> programs.Result:
        """Enlist the VMs, or plan it. The output is the JSON of `enlistment.report`.

        The program stops writing shortly before it would be killed, and reports what it wrote.
        """
        time_limit = f"--timeout={timeout - _REPORT_TIME_S:.0f}"
        fixed = ("maas", "enlist", "--format=json", time_limit, f"--address={self._address()}")
        return self._program.run(*fixed, *options, timeout=timeout)

    def other_address_options(self) -> list[str]:
        """Return the options that exclude machines which MAAS controls through other units."""
        peers = self._charm.model.get_relation(credentials.PEERS)
        data = [peers.data[unit].get(_ADDRESS, "") for unit in peers.units] if peers else []
        return [f"--other-address={address}" for address in sorted(set(data) - {""})]

    def _publish_address(self) -> None:
        peers = self._charm.model.get_relation(credentials.PEERS)
        if peers is not None:
            peers.data[self._charm.unit][_ADDRESS] = self._address()

    def _power_parameter_inputs(
        self, chosen: CharmOptions, service: workload.ServiceConfig
    ) -> str:
        """Return everything that changes the power parameters of machines, as one text."""
        tls, tokens = bool(service.tls_certificate), service.tokens.to_yaml()
        return repr((chosen.maas_url, self._address(), chosen.listen_port, tls, tokens))


def format_summary(result: programs.Result) -> str:
    """Return for example `2 create, 1 conflict`; empty if there is no plan."""
    return json.loads(result.output)["summary"] if result.output else ""


def format_changes(result: programs.Result) -> str:
    """Return the messages about MAAS, and a line for each change.

    Messages that are also in the result's error are omitted.
    """
    report: dict[str, list[Any]] = json.loads(result.output) if result.output else {}
    messages = (text for text in report.get("messages", ()) if text not in result.error)
    return "\n".join([*messages, *map(_format_change, report.get("changes", ()))])


def _format_change(change: Mapping[str, Any]) -> str:
    parts = (
        f"{change['kind']}:",
        f"{change['host']}/{change['vm']}" if change["vm"] else change["machine"],
        change["text"],
        change["hint"],
        f"({change['result']})" if change["result"] else "",
    )
    return " ".join(part for part in parts if part)


def _check(chosen: CharmOptions, app: str) -> None:
    if chosen.auto_enlist == "off":
        return
    examples = {"maas-url": "http://ADDRESS:5240/MAAS", "maas-api-key": "secret:…"}
    values = {"maas-url": chosen.maas_url, "maas-api-key": chosen.maas_api_key}
    missing = [name for name, value in values.items() if not value]
    if missing:
        command = " ".join(f"{name}={examples[name]}" for name in missing)
        raise statuses.Blocked(
            f"auto-enlist: expected {' and '.join(missing)} to be set: juju config {app} {command}"
        )
