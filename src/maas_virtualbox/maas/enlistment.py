# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment: read MAAS, plan, apply the plan.

    with connection.connect(config, "enlist", Deadline.after(600)) as client:
        settings = enlistment.EnlistmentSettings(secrets, "10.0.0.2", 5307)
        inventory = enlistment.read(client)
        plan = enlistment.plan_fleet(fleet.reports(), inventory, settings)
        outcome = enlistment.apply(client, plan)
    print(enlistment.report(plan, outcome))

This module collects the names that callers need; see `plan`, `planner` and `apply`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.maas.apply import Outcome, Result, apply
from maas_virtualbox.maas.plan import (
    WRITING,
    Change,
    EnlistmentSettings,
    Kind,
    MAASInventory,
    Plan,
    list_few,
)
from maas_virtualbox.maas.planner import plan

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.client import MAAS

__all__ = [
    "WRITING",
    "Change",
    "EnlistmentSettings",
    "Kind",
    "MAASInventory",
    "Outcome",
    "Plan",
    "Result",
    "apply",
    "list_few",
    "plan",
    "plan_fleet",
    "read",
    "report",
]

_NO_IMAGE_LIST = (400, 403, 404, 405, 410)
"""The status codes of a MAAS that does not list its images, or not at this path."""


def plan_fleet(
    reports: Iterable[HostReport], inventory: MAASInventory, settings: EnlistmentSettings
) -> Plan:
    """Plan for a whole fleet. VMs of hosts that did not answer are not considered deleted.

    Args:
        reports: the reports of all hosts, from `Fleet.reports`.
        inventory: see `read`.
        settings: how to enlist, and which VMs.
    """
    reports = list(reports)
    unreachable = tuple(str(report.host) for report in reports if report.error is not None)
    vms = (vm for report in reports for vm in report.vms)
    planned = plan(vms, inventory, dataclasses.replace(settings, unreachable=unreachable))
    claims = (vm for report in reports for vm in report.claims)
    skipped = map(_skip_claim, filter(settings.is_selected, claims))
    return dataclasses.replace(planned, changes=(*planned.changes, *skipped))


def _skip_claim(vm: VM) -> Change:
    """Return a plan's line for a VM that belongs to another host.

    It does not have the VM's UUID, because another line may be about the VM on its own host.
    """
    text = f"VM {vm.uuid} belongs to another host, which is down or lists it too"
    hint = f"see `maas-virtualbox check`, or decide: maas-virtualbox trust-vm {vm.uuid}"
    return Change(Kind.SKIP, vm.host.name, vm.name, "", text, hint=hint)


def read(client: MAAS) -> MAASInventory:
    """Read what MAAS contains, with eight calls in total.

    Raises:
        MAASError: MAAS did not answer, or the API key does not belong to an administrator.
    """
    machines = client.machines()
    racks = tuple(client.racks())
    return MAASInventory(
        machines,
        client.zones(),
        client.tags(),
        (*client.other_nodes(), *(rack.node for rack in racks)),
        racks,
        _images(client),
    )


def _images(client: MAAS) -> frozenset[str] | None:
    """Return the architectures of MAAS's images; None if MAAS does not list them."""
    try:
        return client.image_architectures()
    except errors.MAASError as error:
        if error.status in _NO_IMAGE_LIST:
            return None
        raise


def report(plan: Plan, outcome: Outcome | None = None) -> dict[str, object]:
    """Return a plan and its outcome as plain values for JSON, without secrets.

    The `result` of a change is `done`, `failed`, `not commissioned` or `not tried`, or empty if
    nothing was to be written.
    """
    results = {result.change: result for result in outcome.results} if outcome else {}
    not_tried = set(outcome.not_tried) if outcome else set[Change]()
    return {
        "summary": plan.summary(),
        "messages": [str(message) for message in plan.messages],
        "zones": [dataclasses.asdict(zone) for zone in plan.zones],
        "changes": [
            _describe(change, results.get(change), is_not_tried=change in not_tried)
            for change in plan.changes
        ],
    }


def _describe(
    change: Change, result: Result | None, *, is_not_tried: bool
) -> dict[str, str | None]:
    values: dict[str, str | None] = {**change.to_dict(), "result": "", "error": None}
    if is_not_tried:
        values["result"] = "not tried"
    elif result is not None:
        values["result"] = _describe_result(result)
        values["machine"] = result.hostname or change.machine
        values["error"] = f"{result.name}: {result.error}" if result.error else None
    return values


def _describe_result(result: Result) -> str:
    if isinstance(result.error, errors.NotCommissioned):
        return "not commissioned"
    return "failed" if result.error else "done"
