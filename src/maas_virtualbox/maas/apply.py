# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Carries out an enlistment plan.

One call writes a machine and its power parameters. Its other interfaces, its tag and the start of
its commissioning follow. If a run is interrupted, the next run's plan contains the rest.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from concurrent import futures
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.maas import messages
from maas_virtualbox.maas.plan import Kind, list_few
from maas_virtualbox.maas.session import MAX_PARALLEL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.maas.client import MAAS
    from maas_virtualbox.maas.messages import Message
    from maas_virtualbox.maas.models import Zone
    from maas_virtualbox.maas.plan import Change, Plan, TagWrites
    from maas_virtualbox.maas.session import Fields

_T = TypeVar("_T")

_CONFLICT = 409
_ONE_MACHINE = (400, 404, _CONFLICT)
"""The status codes with which MAAS rejects one machine. Other errors concern MAAS as a whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """The result of one change."""

    change: Change
    error: errors.MAASError | None
    """Why the change failed; None if it succeeded."""
    hostname: str = ""
    """The machine's hostname in MAAS. It differs from the plan if another node got the planned
    one first. Empty if MAAS chose the hostname."""

    @property
    def name(self) -> str:
        """The VM, or the machine if it has no VM, for messages."""
        change = self.change
        return f"{change.host}/{change.vm}" if change.vm else change.machine


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a plan."""

    results: tuple[Result, ...]
    """The results of the changes that were started, in the plan's order."""
    not_tried: tuple[Change, ...]
    """The changes that were not started, because of `error` or because the run was interrupted."""
    error: errors.MAASError | None
    """What ended the run: MAAS is down or busy, rejects the API key, or the time is over."""
    interrupted: bool = False
    """Whether `stop` ended the run."""

    @property
    def done(self) -> tuple[Change, ...]:
        """The changes that succeeded."""
        return tuple(result.change for result in self.results if result.error is None)

    @property
    def failures(self) -> tuple[errors.MAASError, ...]:
        """One error for each reason why MAAS rejected machines, with the names of the machines,
        and the error that ended the run."""
        rejected: dict[str, list[Result]] = collections.defaultdict(list)
        for result in self.results:
            if result.error is not None and _concerns_one_machine(result.error):
                rejected[str(result.error)].append(result)
        failures = [_summarise(reason, results) for reason, results in rejected.items()]
        return (*failures, *([self.error] if self.error else []))


def apply(
    client: MAAS,
    plan: Plan,
    *,
    progress: Callable[[Result], object] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Carry out a plan, with 8 parallel calls at most. May be repeated with a new plan.

    If MAAS rejects one machine, the others are still written. If MAAS fails as a whole, if the
    client's deadline passes, or if `stop` is set, the machines in progress are finished and no
    other is started.

    Args:
        client: the MAAS.
        plan: what to write.
        progress: called with each result, on any thread.
        stop: set it to interrupt the run, for example in a signal handler.
    """
    run = _Run(client, plan, progress, stop or threading.Event())
    changes = plan.writing
    with futures.ThreadPoolExecutor(MAX_PARALLEL, "enlist") as threads:
        try:
            for zone in plan.zones:
                run.create_zone(zone)
            for job in [threads.submit(run.carry_out, change) for change in changes]:
                job.result()
        except BaseException:
            run.cancelled.set()
            raise
    return run.outcome(changes)


def _concerns_one_machine(error: errors.MAASError) -> bool:
    return error.status in _ONE_MACHINE or isinstance(error, errors.NotCommissioned)


def _summarise(reason: str, results: Sequence[Result]) -> errors.MAASError:
    names = list_few(result.name for result in results)
    error = results[0].error
    return errors.MAASError(
        f"{names}: {reason}" if len(results) == 1 else f"{len(results)} VMs ({names}): {reason}",
        retry=any(result.error is not None and result.error.retry for result in results),
        status=error.status if error else 0,
    )


class _Run:
    """One run of a plan. Its threads share it."""

    def __init__(
        self,
        client: MAAS,
        plan: Plan,
        progress: Callable[[Result], object] | None,
        stop: threading.Event,
    ) -> None:
        self.stop = stop
        """Set by the caller, to interrupt the run."""
        self.cancelled = threading.Event()
        """Set after an error that concerns MAAS as a whole."""
        self.results: dict[Change, Result] = {}
        self.error: errors.MAASError | None = None
        self._client = client
        self._progress = progress
        self._has_no_images = messages.NO_IMAGES in plan.messages
        self._lock = threading.Lock()
        self._zone_errors: dict[str, errors.MAASError] = {}
        self._architecture_errors: dict[str, errors.MAASError] = {}
        """By the architecture that MAAS rejected, so that it is not tried again for each VM."""

    @property
    def is_over(self) -> bool:
        """Whether to start nothing more."""
        return self.stop.is_set() or self.cancelled.is_set()

    def create_zone(self, zone: Zone) -> None:
        """Create a zone. If MAAS rejects it, the machines for this zone fail later."""
        if self.is_over:
            return
        try:
            self._client.create_zone(zone)
        except errors.MAASError as error:
            self._zone_errors[zone.name] = error
            self._handle(error)

    def carry_out(self, change: Change) -> None:
        """Write one machine and keep the result. Does nothing if the run is over."""
        if self.is_over:
            return
        hostnames = _Hostnames(change)
        failure: errors.MAASError | None = None
        try:
            self._write(change, hostnames)
        except errors.MAASError as error:
            self._handle(error)
            failure = self._explain(error, change)
        result = Result(change, failure, hostnames.current)
        self.results[change] = result
        if self._progress is not None:
            self._progress(result)

    def outcome(self, changes: Sequence[Change]) -> Outcome:
        """Return the outcome of the run."""
        results = self.results
        return Outcome(
            tuple(results[change] for change in changes if change in results),
            tuple(change for change in changes if change not in results),
            self.error,
            self.stop.is_set(),
        )

    # -- Errors -------------------------------------------------------------------------------

    def _handle(self, error: errors.MAASError) -> None:
        """Cancel the run if an error concerns MAAS as a whole."""
        if _concerns_one_machine(error):
            return
        with self._lock:
            self.error = self.error or error
            self.cancelled.set()

    def _explain(self, error: errors.MAASError, change: Change) -> errors.MAASError:
        """Replace an error by one with a hint, if there is one. All machines get the same text."""
        if isinstance(error, errors.NotCommissioned):
            return errors.NotCommissioned(str(messages.NOT_COMMISSIONED), retry=True, status=503)
        message = self._message(error, change.writes.architecture)
        if message is None:
            return error
        return errors.MAASError(str(message), status=error.status, fields=error.fields)

    def _message(self, error: errors.MAASError, architecture: str) -> Message | None:
        if "architecture" in error.fields:
            no_image = messages.NO_IMAGE.of(architecture=architecture)
            return messages.NO_IMAGES if self._has_no_images else no_image
        if error.status == _CONFLICT:
            reason = error.reason
            return messages.CONFLICT_REASON.of(reason=reason) if reason else messages.CONFLICT
        return None

    # -- Writes -------------------------------------------------------------------------------

    def _write(self, change: Change, hostnames: _Hostnames) -> None:
        """Write one machine, in the order of `plan.Writes`."""
        writes = change.writes
        if writes.zone is not None and (error := self._zone_errors.get(writes.zone.name)):
            text = f"its zone {writes.zone.name} was not created: {error}"
            raise errors.MAASError(text, status=error.status)
        system_id = self._write_fields(change, hostnames)
        for interface, mac in writes.interfaces:
            if interface is None:
                self._client.add_interface(system_id, mac)
            else:
                self._client.update_interface(system_id, interface, mac)
        if writes.tag is not None:
            self._write_tag(writes.tag, system_id)
        if writes.commission:
            self._client.commission(system_id)

    def _write_fields(self, change: Change, hostnames: _Hostnames) -> str:
        """Create or update a machine. Return its system ID."""
        if change.kind is Kind.CREATE:
            return self._create(change.writes.architecture, hostnames)
        system_id = change.system_id
        if change.writes.fields:
            hostnames.write(lambda fields: self._client.update_machine(system_id, fields))
        return system_id

    def _create(self, architecture: str, hostnames: _Hostnames) -> str:
        if error := self._architecture_errors.get(architecture):
            raise error
        try:
            return hostnames.write(self._client.create_machine)
        except errors.MAASError as error:
            if "architecture" in error.fields:
                self._architecture_errors[architecture] = error
            raise

    def _write_tag(self, tag: TagWrites, system_id: str) -> None:
        client = self._client
        if tag.create:
            client.create_tag(tag.name, tag.comment)
        elif tag.update_comment:
            client.update_tag(tag.name, tag.comment)
        if tag.add:
            client.tag_machine(tag.name, system_id)
        for other in tag.remove:
            client.tag_machine(other, system_id, remove=True)


class _Hostnames:
    """The possible hostnames of one machine, best first.

    Another node may get a hostname after the plan was made. The machine's other fields are more
    important than its hostname: if no hostname is free, MAAS keeps or chooses one.
    """

    def __init__(self, change: Change) -> None:
        self.current = change.machine
        self._fields = change.writes.fields
        self._others = change.writes.other_hostnames

    def write(self, send: Callable[[Fields], _T]) -> _T:
        """Send the fields with the first hostname that MAAS accepts."""
        fields = self._fields
        without = tuple(field for field in fields if field[0] != "hostname")
        for hostname in (*self._others, ""):
            try:
                return send(fields)
            except errors.MAASError as error:
                if error.fields != frozenset({"hostname"}):
                    raise
            self.current = hostname
            fields = (*without, ("hostname", hostname)) if hostname else without
        return send(fields)
