# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Machines in MAAS for our VMs, kept right by the leader without being asked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import credentials
import statuses
import workload
from maas_virtualbox.juju import programs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from charm import MAASVirtualBoxCharm
    from options import CharmOptions

ACTION_TIMEOUT_S = 1800.0
"""MAAS may take half an hour for a thousand machines. A hook has less time; the next continues."""

ONLY = {"off": ("--only=update",), "adopt": ("--only=adopt", "--only=update"), "all": ()}
"""What each value of auto-enlist lets happen. A machine that is ours follows our address and
tokens in any case, or MAAS could switch its VM no more."""

_ADDRESS = "address"
"""Of a unit's peer data: where MAAS reaches it."""


def keep_up(charm: MAASVirtualBoxCharm, chosen: CharmOptions, wanted: workload.Wanted) -> str:
    """Tell MAAS what changed, as the leader, if there is a MAAS to tell.

    Returns:
        What MAAS does not know, for `juju status`; empty if all is well.

    Raises:
        Unready: `auto-enlist` is on, and no MAAS is named; the status has the command to type.
    """
    _check(chosen, charm.app.name)
    _publish_address(charm)
    if not (charm.unit.is_leader() and chosen.maas_url and wanted.maas_api_key):
        return ""
    root, address = charm.root, charm.address()
    tls = bool(wanted.tls_certificate)
    told = repr((chosen.maas_url, address, chosen.listen_port, tls, wanted.tokens.dump()))
    if chosen.auto_enlist == "off" and workload.is_noted(root, workload.TOLD, told):
        return ""
    answer = run(charm, address, *other_addresses(charm), *ONLY[chosen.auto_enlist])
    workload.note(root, workload.TOLD, "" if answer.problem else told)
    if not answer.problem:
        return ""
    reason = summary(answer) or answer.problem.splitlines()[-1]
    return f"MAAS does not know all VMs as they are ({reason}): see enlist dry-run=true"


def run(
    charm: MAASVirtualBoxCharm, address: str, *options: str, timeout: float | None = None
) -> programs.Answer:
    """Enlist, or plan it; the output is `enlistment.report`'s JSON."""
    fixed = ("maas", "enlist", "--format=json", f"--address={address}")
    return charm.run(*fixed, *options, timeout=timeout)


def other_addresses(charm: MAASVirtualBoxCharm) -> list[str]:
    """Return the options that leave to the other units the machines that MAAS switches there."""
    peers = charm.model.get_relation(credentials.PEERS)
    data = [peers.data[unit].get(_ADDRESS, "") for unit in peers.units] if peers else []
    return [f"--other-address={address}" for address in sorted(set(data) - {""})]


def _publish_address(charm: MAASVirtualBoxCharm) -> None:
    peers = charm.model.get_relation(credentials.PEERS)
    if peers is not None:
        peers.data[charm.unit][_ADDRESS] = charm.address()


def summary(answer: programs.Answer) -> str:
    """Return such as `2 create, 1 conflict`; empty where there is no plan."""
    return json.loads(answer.output)["summary"] if answer.output else ""


def lines(answer: programs.Answer) -> str:
    """Return a line for each change, for people, below what MAAS as a whole lacks; what the
    answer's problem says is not repeated."""
    found: dict[str, list[Any]] = json.loads(answer.output) if answer.output else {}
    messages = (text for text in found.get("messages", ()) if text not in answer.problem)
    return "\n".join([*messages, *map(_line, found.get("changes", ()))])


def _line(change: Mapping[str, Any]) -> str:
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
    given = {"maas-url": chosen.maas_url, "maas-api-key": chosen.maas_api_key}
    missing = [name for name, value in given.items() if not value]
    if missing:
        command = " ".join(f"{name}={examples[name]}" for name in missing)
        raise statuses.blocked(
            f"auto-enlist: expected {' and '.join(missing)} beside it: juju config {app} {command}"
        )
