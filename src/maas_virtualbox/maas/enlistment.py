# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment: ask MAAS, plan, apply.

    with config.maas("enlist") as client:
        settings = enlistment.Settings(secrets, "10.0.0.2", 5307)
        plan = enlistment.plan_fleet(fleet.reports(), enlistment.read(client), settings)
        outcome = enlistment.apply(client, plan)
    print(enlistment.report(plan, outcome))

What a machine is given is written by one call, so it is there whole or not at all; its other
interfaces and its mark follow. What an interrupted run left out, the next one's plan has again.
"""

from __future__ import annotations

import dataclasses
import threading
from concurrent import futures
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.maas.client import MAX_PARALLEL
from maas_virtualbox.maas.planning import plan
from maas_virtualbox.maas.plans import WRITING, Change, Inventory, Kind, Plan, Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from maas_virtualbox.fleet import HostReport
    from maas_virtualbox.maas.client import MAAS
    from maas_virtualbox.maas.models import Zone

__all__ = [
    "WRITING",
    "Change",
    "Inventory",
    "Kind",
    "Outcome",
    "Plan",
    "Result",
    "Settings",
    "apply",
    "plan",
    "plan_fleet",
    "read",
    "report",
]

_ONE_MACHINES = (400, 404, 409)
"""What MAAS refuses of one machine; any other trouble is every machine's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of a change."""

    change: Change
    error: errors.MAASError | None
    """Why it failed; None: it is done."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    results: tuple[Result, ...]
    """Of the changes that were tried, in the plan's order."""
    not_tried: tuple[Change, ...]
    """Left for the next run, because of `trouble`."""
    trouble: errors.MAASError | None
    """What ended the run: MAAS is down, busy, or refuses the key."""

    @property
    def done(self) -> tuple[Change, ...]:
        """What was written."""
        return tuple(result.change for result in self.results if result.error is None)

    @property
    def failures(self) -> tuple[errors.MAASError, ...]:
        """One sentence for each machine that MAAS refused, and one for what ended the run."""
        refused = [
            result.error
            for result in self.results
            if result.error is not None and result.error.status in _ONE_MACHINES
        ]
        return (*refused, *([self.trouble] if self.trouble else []))


def plan_fleet(reports: Iterable[HostReport], known: Inventory, settings: Settings) -> Plan:
    """Plan for what all hosts of a fleet answered; a host that did not is not taken for empty.

    Args:
        reports: as `Fleet.reports` returns them, of all hosts.
        known: see `read`.
        settings: how, and whom.
    """
    reports = list(reports)
    down = tuple(str(report.host) for report in reports if report.error is not None)
    vms = (vm for report in reports for vm in report.vms)
    return plan(vms, known, dataclasses.replace(settings, unreachable=down))


def read(client: MAAS) -> Inventory:
    """Ask MAAS what it knows: four calls, however many machines it has.

    Raises:
        MAASError: it does not answer, or the key is no administrator's.
    """
    return Inventory(client.machines(), client.zones(), client.tags())


def apply(
    client: MAAS, plan: Plan, *, progress: Callable[[Result], object] | None = None
) -> Outcome:
    """Carry a plan out, 8 calls at a time at the most; safe to repeat with a new plan.

    A machine that MAAS refuses does not stop the others. Where MAAS itself is in trouble, or is
    interrupted (Ctrl-C), machines under way are finished and no other is begun.

    Args:
        client: which MAAS.
        plan: what to do.
        progress: called with each result as it comes, on any thread.
    """
    run = _Run(client)
    changes = plan.writing
    with futures.ThreadPoolExecutor(MAX_PARALLEL, "enlist") as threads:
        try:
            for zone in plan.zones:
                run.make_zone(zone)
            jobs = [threads.submit(run.carry_out, change, progress) for change in changes]
            tried = [job.result() for job in jobs]
        except BaseException:
            run.stopped.set()
            raise
    return Outcome(
        tuple(result for result in tried if result is not None),
        tuple(change for change, result in zip(changes, tried, strict=True) if result is None),
        run.trouble,
    )


def report(plan: Plan, outcome: Outcome | None = None) -> dict[str, object]:
    """Return a plan, and what became of it, as plain values for JSON; shows no secret.

    Each change has a `result`: done, failed or not tried; empty where nothing was to be written.
    """
    results: dict[Change, tuple[str, str | None]] = {}
    if outcome is not None:
        results = dict.fromkeys(outcome.not_tried, ("not tried", None))
        for each in outcome.results:
            error = str(each.error) if each.error else None
            results[each.change] = ("failed" if error else "done", error)
    changes: list[dict[str, str | None]] = []
    for change in plan.changes:
        result, error = results.get(change, ("", None))
        changes.append({**change.shown(), "result": result, "error": error})
    return {
        "summary": plan.summary(),
        "zones": [dataclasses.asdict(zone) for zone in plan.zones],
        "changes": changes,
    }


class _Run:
    """One application of a plan; shared between its threads."""

    def __init__(self, client: MAAS) -> None:
        self.stopped = threading.Event()
        self.trouble: errors.MAASError | None = None
        self._client = client
        self._lock = threading.Lock()
        self._zones: dict[str, errors.MAASError] = {}

    def make_zone(self, zone: Zone) -> None:
        """Make a zone; what is to be in one that MAAS refuses fails with MAAS's words."""
        if self.stopped.is_set():
            return
        try:
            self._client.create_zone(zone)
        except errors.MAASError as error:
            self._zones[zone.name] = error
            self._note(error)

    def carry_out(
        self, change: Change, progress: Callable[[Result], object] | None
    ) -> Result | None:
        """Do one machine; None where it was not begun."""
        if self.stopped.is_set():
            return None
        error: errors.MAASError | None = None
        try:
            self._write(change)
        except errors.MAASError as problem:
            self._note(problem)
            name = f"{change.host}/{change.vm}" if change.vm else change.machine
            error = errors.MAASError(
                f"{name}: {problem}", retry=problem.retry, status=problem.status
            )
        result = Result(change, error)
        if progress is not None:
            progress(result)
        return result

    def _note(self, error: errors.MAASError) -> None:
        if error.status in _ONE_MACHINES:
            return
        with self._lock:
            if self.trouble is None:
                self.trouble = error
            self.stopped.set()

    def _write(self, change: Change) -> None:
        client, writes = self._client, change.writes
        if writes.zone is not None and (refused := self._zones.get(writes.zone.name)):
            raise errors.MAASError(
                f"its zone {writes.zone.name} was not made: {refused}", status=refused.status
            )
        system_id = change.system_id
        if change.kind is Kind.CREATE:
            system_id = client.create_machine(writes.fields)
        elif writes.fields:
            client.update_machine(system_id, writes.fields)
        for interface, mac in writes.interfaces:
            if interface is None:
                client.add_interface(system_id, mac)
            else:
                client.update_interface(system_id, interface, mac)
        if writes.make_tag:
            client.create_tag(writes.tag, writes.comment)
        elif writes.write_comment:
            client.update_tag(writes.tag, writes.comment)
        if writes.put_tag:
            client.tag_machine(writes.tag, system_id)
        for tag in writes.take_off:
            client.tag_machine(tag, system_id, remove=True)
