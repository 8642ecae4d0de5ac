# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment: ask MAAS, plan, apply.

    with config.maas("enlist") as client:
        settings = enlistment.Settings(secrets, "10.0.0.2", 5307)
        plan = enlistment.plan_fleet(fleet.reports(), enlistment.read(client), settings)
        outcome = enlistment.apply(client, plan)
    print(enlistment.report(plan, outcome))

A machine and its power parameters are written by one call; its other interfaces, its mark and the
start of its commissioning follow. What an interrupted run left out, the next one's plan has again.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from concurrent import futures
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.maas import messages
from maas_virtualbox.maas.client import MAX_PARALLEL
from maas_virtualbox.maas.plan import WRITING, Change, Inventory, Kind, Plan, Settings, some
from maas_virtualbox.maas.planner import plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from maas_virtualbox.fleet.fleet import HostReport
    from maas_virtualbox.host.host import VM
    from maas_virtualbox.maas.client import MAAS, Fields
    from maas_virtualbox.maas.models import Zone
    from maas_virtualbox.maas.plan import Writes

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
    "some",
]

_T = TypeVar("_T")

_CONFLICT = 409
_ONE_MACHINES = (400, 404, _CONFLICT)
"""What MAAS refuses of one machine; any other error is about MAAS itself."""

_NOT_THERE = (400, 403, 404, 405, 410)
"""What a MAAS may answer that lists no images, or not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What became of a change."""

    change: Change
    error: errors.MAASError | None
    """Why it failed; None: it is done."""
    hostname: str = ""
    """What the machine is called in MAAS: another than planned where that name was taken
    meanwhile; empty where MAAS chose it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a plan."""

    results: tuple[Result, ...]
    """Of the changes that were tried, in the plan's order."""
    not_tried: tuple[Change, ...]
    """Left for the next run, because of `trouble` or because of `stop`."""
    trouble: errors.MAASError | None
    """What ended the run: MAAS is down, busy, or refuses the key."""
    interrupted: bool = False
    """Whether a person or the system ended it."""

    @property
    def done(self) -> tuple[Change, ...]:
        """What was written."""
        return tuple(result.change for result in self.results if result.error is None)

    @property
    def failures(self) -> tuple[errors.MAASError, ...]:
        """One sentence for each reason why MAAS refused machines, with the machines; and one for
        what ended the run."""
        refused: dict[str, list[Result]] = collections.defaultdict(list)
        for result in self.results:
            if result.error is not None and _is_one_machines(result.error):
                refused[str(result.error)].append(result)
        return (
            *(_summed_up(reason, results) for reason, results in refused.items()),
            *([self.trouble] if self.trouble else []),
        )


def _is_one_machines(error: errors.MAASError) -> bool:
    """Whether an error is about one machine, and not about MAAS."""
    return error.status in _ONE_MACHINES or isinstance(error, errors.NotCommissioned)


def _summed_up(reason: str, results: Sequence[Result]) -> errors.MAASError:
    shown = some(_name(result.change) for result in results)
    error = results[0].error
    return errors.MAASError(
        f"{shown}: {reason}" if len(results) == 1 else f"{len(results)} VMs ({shown}): {reason}",
        retry=any(result.error is not None and result.error.retry for result in results),
        status=error.status if error else 0,
    )


def _name(change: Change) -> str:
    return f"{change.host}/{change.vm}" if change.vm else change.machine


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
    planned = plan(vms, known, dataclasses.replace(settings, unreachable=down))
    claims = (vm for report in reports for vm in report.claims if settings.selects(vm))
    return dataclasses.replace(planned, changes=(*planned.changes, *map(_claim, claims)))


def _claim(vm: VM) -> Change:
    """Return the line of a plan about a VM that belongs to another host. It does not bear the VM's
    UUID: what becomes of the VM on its own host is another line's."""
    text = f"VM {vm.uuid} belongs to another host, which is down or lists it too"
    hint = f"see `maas-virtualbox check`, or decide: maas-virtualbox trust-vm {vm.uuid}"
    return Change(Kind.SKIP, vm.host.name, vm.name, "", text, hint=hint)


def read(client: MAAS) -> Inventory:
    """Ask MAAS what it knows: eight calls, however many machines it has.

    Raises:
        MAASError: it does not answer, or the key is no administrator's.
    """
    machines = client.machines()
    racks = tuple(client.racks())
    return Inventory(
        machines,
        client.zones(),
        client.tags(),
        (*client.other_nodes(), *(rack.node for rack in racks)),
        racks,
        _images(client),
    )


def _images(client: MAAS) -> frozenset[str] | None:
    """Return the architectures of MAAS's images; None where it does not list them."""
    try:
        return client.image_architectures()
    except errors.MAASError as error:
        if error.status in _NOT_THERE:
            return None
        raise


def apply(
    client: MAAS,
    plan: Plan,
    *,
    progress: Callable[[Result], object] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Carry a plan out, 8 calls at a time at the most; safe to repeat with a new plan.

    A machine that MAAS refuses does not stop the others. Where MAAS itself fails, and once `stop`
    is set, machines under way are finished and no other is begun.

    Args:
        client: which MAAS.
        plan: what to do.
        progress: called with each result as it comes, on any thread.
        stop: to be set by a signal's handler, for example.
    """
    run = _Run(client, plan, stop or threading.Event())
    changes = plan.writing
    with futures.ThreadPoolExecutor(MAX_PARALLEL, "enlist") as threads:
        try:
            for zone in plan.zones:
                run.make_zone(zone)
            jobs = [threads.submit(run.carry_out, change, progress) for change in changes]
            for job in jobs:
                job.result()
        except BaseException:
            run.stopped.set()
            raise
    return Outcome(
        tuple(run.results[change] for change in changes if change in run.results),
        tuple(change for change in changes if change not in run.results),
        run.trouble,
        run.stop.is_set(),
    )


def report(plan: Plan, outcome: Outcome | None = None) -> dict[str, object]:
    """Return a plan, and what became of it, as plain values for JSON; shows no secret.

    Each change has a `result`: done, failed, not commissioned or not tried; empty where nothing
    was to be written.
    """
    results: dict[Change, Result] = {}
    not_tried: set[Change] = set()
    if outcome is not None:
        results = {result.change: result for result in outcome.results}
        not_tried = set(outcome.not_tried)
    changes: list[dict[str, str | None]] = []
    for change in plan.changes:
        shown: dict[str, str | None] = {**change.shown(), "result": "", "error": None}
        if change in not_tried:
            shown["result"] = "not tried"
        if result := results.get(change):
            shown |= {"result": _result(result), "machine": result.hostname or change.machine}
            shown["error"] = f"{_name(change)}: {result.error}" if result.error else None
        changes.append(shown)
    return {
        "summary": plan.summary(),
        "messages": [str(message) for message in plan.messages],
        "zones": [dataclasses.asdict(zone) for zone in plan.zones],
        "changes": changes,
    }


def _result(result: Result) -> str:
    if isinstance(result.error, errors.NotCommissioned):
        return "not commissioned"
    return "failed" if result.error else "done"


class _Run:
    """One application of a plan; shared between its threads."""

    def __init__(self, client: MAAS, plan: Plan, stop: threading.Event) -> None:
        self.stop = stop
        self.stopped = threading.Event()
        self.results: dict[Change, Result] = {}
        """Of what was begun."""
        self.trouble: errors.MAASError | None = None
        self._client = client
        self._has_no_images = messages.NO_IMAGES in plan.messages
        self._lock = threading.Lock()
        self._zones: dict[str, errors.MAASError] = {}
        self._architectures: dict[str, errors.MAASError] = {}
        """Those that MAAS refused; it is not asked again for each VM."""

    def make_zone(self, zone: Zone) -> None:
        """Make a zone; what is to be in one that MAAS refuses fails with MAAS's words."""
        if self.stop.is_set() or self.stopped.is_set():
            return
        try:
            self._client.create_zone(zone)
        except errors.MAASError as error:
            self._zones[zone.name] = error
            self._note(error)

    def carry_out(self, change: Change, progress: Callable[[Result], object] | None) -> None:
        """Do one machine, and keep the result; nothing once the run is stopped."""
        if self.stop.is_set() or self.stopped.is_set():
            return
        names = _Names(change)
        error: errors.MAASError | None = None
        try:
            self._write(change, names)
        except errors.MAASError as problem:
            self._note(problem)
            error = self._explained(problem, change)
        result = Result(change, error, names.current)
        self.results[change] = result
        if progress is not None:
            progress(result)

    def _explained(self, error: errors.MAASError, change: Change) -> errors.MAASError:
        """Return what to do about an error, where that is known: one text for all machines."""
        if isinstance(error, errors.NotCommissioned):
            return errors.NotCommissioned(str(messages.NOT_COMMISSIONED), retry=True, status=503)
        if "architecture" in error.fields and self._has_no_images:
            message = messages.NO_IMAGES
        elif "architecture" in error.fields:
            message = messages.NO_IMAGE.of(architecture=change.writes.architecture)
        elif error.status == _CONFLICT and error.reason:
            message = messages.CONFLICT_REASON.of(reason=error.reason)
        elif error.status == _CONFLICT:
            message = messages.CONFLICT
        else:
            return error
        return errors.MAASError(str(message), status=error.status, fields=error.fields)

    def _note(self, error: errors.MAASError) -> None:
        if _is_one_machines(error):
            return
        with self._lock:
            if self.trouble is None:
                self.trouble = error
            self.stopped.set()

    def _write(self, change: Change, names: _Names) -> None:
        client, writes = self._client, change.writes
        if writes.zone is not None and (refused := self._zones.get(writes.zone.name)):
            raise errors.MAASError(
                f"its zone {writes.zone.name} was not made: {refused}", status=refused.status
            )
        system_id = change.system_id
        if change.kind is Kind.CREATE:
            system_id = self._create(change, names)
        elif writes.fields:
            names.try_each(lambda fields: client.update_machine(system_id, fields))
        for interface, mac in writes.interfaces:
            if interface is None:
                client.add_interface(system_id, mac)
            else:
                client.update_interface(system_id, interface, mac)
        self._mark(writes, system_id)
        if writes.commission:
            client.commission(system_id)

    def _mark(self, writes: Writes, system_id: str) -> None:
        client = self._client
        if writes.make_tag:
            client.create_tag(writes.tag, writes.comment)
        elif writes.write_comment:
            client.update_tag(writes.tag, writes.comment)
        if writes.put_tag:
            client.tag_machine(writes.tag, system_id)
        for tag in writes.take_off:
            client.tag_machine(tag, system_id, remove=True)

    def _create(self, change: Change, names: _Names) -> str:
        architecture = change.writes.architecture
        if refused := self._architectures.get(architecture):
            raise refused
        try:
            return names.try_each(self._client.create_machine)
        except errors.MAASError as error:
            if "architecture" in error.fields:
                self._architectures[architecture] = error
            raise


class _Names:
    """The hostnames for one machine: if one is taken meanwhile, by a node of any kind, the next.

    The rest of the fields matters more than the name: without a free one, MAAS keeps or chooses
    the machine's name.
    """

    def __init__(self, change: Change) -> None:
        self.current = change.machine
        self._fields = change.writes.fields
        self._others = change.writes.other_hostnames

    def try_each(self, write: Callable[[Fields], _T]) -> _T:
        """Write the fields with the first hostname that MAAS accepts."""
        fields = self._fields
        without = tuple(field for field in fields if field[0] != "hostname")
        for name in (*self._others, ""):
            try:
                return write(fields)
            except errors.MAASError as error:
                if error.fields != frozenset({"hostname"}):
                    raise
            self.current = name
            fields = (*without, ("hostname", name)) if name else without
        return write(fields)
