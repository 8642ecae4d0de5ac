# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Output of the command line: tables for people, lines for scripts, JSON for programs.

All text from a host is escaped, so that a VM name can neither forge a line nor control the
terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from rich import box, console, progress, table, text

from maas_virtualbox.escape import printable, printable_json, printable_lines
from maas_virtualbox.maas.power_parameters import POWER_TYPE
from maas_virtualbox.schemas import VMView

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.host.checks import Finding
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.power_parameters import PowerParameters

    Tick = Callable[[], object]
    """Called whenever one more item is done."""

_LINE_EVERY_S = 30.0
_MINUTES_FROM_S = 90.0
_MAX_CLAIMS = 3

_COLOURS = {
    "on": "green",
    "off": "dim",
    "unknown": "yellow",
    "ok": "green",
    "warning": "yellow",
    "error": "red",
    "failed": "red",
    "create": "green",
    "adopt": "green",
    "update": "cyan",
    "skip": "yellow",
    "orphan": "yellow",
    "conflict": "red",
}


class Format(str, enum.Enum):
    """The values of `--format`."""

    TABLE = "table"
    JSON = "json"
    PLAIN = "plain"


def print_rows(
    columns: Sequence[str], values: Sequence[Sequence[Any]], as_format: Format, objects: object
) -> None:
    """Print rows on standard output.

    Args:
        columns: the headings.
        values: the cells of each row; the items of a tuple are separated by spaces.
        as_format: a table, plain (cells separated by tabs, without headings) or JSON.
        objects: what to print as JSON.
    """
    cells = [[_cell(value) for value in row] for row in values]
    if as_format is Format.JSON:
        print(printable_json(objects))
    elif as_format is Format.PLAIN:
        for row in cells:
            print("\t".join(row))
    else:
        _print_table(columns, cells)


def _print_table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Print a table: with lines and colours on a terminal, only aligned in a pipe."""
    out = console.Console(width=None if sys.stdout.isatty() else 10_000, highlight=False)
    grid = table.Table(box=box.SIMPLE_HEAD if out.is_terminal else None, pad_edge=False)
    for column in columns:
        grid.add_column(column, no_wrap=not out.is_terminal, overflow="fold")
    for row in cells:
        grid.add_row(*(text.Text(cell, style=_COLOURS.get(cell, "")) for cell in row))
    out.print(grid)


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(printable(part) for part in cast("tuple[object, ...]", value))
    return printable(value)


def print_error(message: object) -> None:
    """Print an error on standard error. Indents all lines but the first, such as a log's."""
    print(f"maas-virtualbox: {printable_lines(str(message))}", file=sys.stderr)


def print_claims(report: HostReport) -> None:
    """Print on standard error which VMs of other hosts a host lists, if any."""
    if report.claims:
        names = ", ".join(f"{vm.name} {{{vm.uuid}}}" for vm in report.claims[:_MAX_CLAIMS])
        more = len(report.claims) - _MAX_CLAIMS
        print_error(
            f"{report.host} lists VMs that belong to other hosts; they are omitted here: {names}"
            + (f" and {more} more" if more > 0 else "")
            + "; run `maas-virtualbox check`"
        )


def progress_bar() -> progress.Progress:
    """Return a progress bar on standard error. Invisible if that is not a terminal."""
    err = console.Console(stderr=True)
    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
        transient=True,
    )


@contextlib.contextmanager
def count_progress(
    what: str,
    total: int,
    as_format: Format = Format.TABLE,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Tick]:
    """Show progress on standard error: how much is done, and the estimated time for the rest.

    On a terminal, this is a bar. Elsewhere, it is a line every 30 s, and nothing if the output is
    JSON.

    Args:
        what: what is being done, such as `enlisting`.
        total: the largest number of calls of the returned tick.
        as_format: the format of the output.
        clock: returns seconds that never decrease.
    """
    with progress_bar() as shown:
        if shown.disable and as_format is Format.JSON:
            yield lambda: None
        elif shown.disable:
            yield _Lines(what, total, clock).tick
        else:
            task = shown.add_task(what, total=total)
            yield lambda: shown.advance(task)


class _Lines:
    """Progress as plain lines, at most one every `_LINE_EVERY_S`."""

    def __init__(self, what: str, total: int, clock: Callable[[], float]) -> None:
        self._what, self._total, self._clock = what, total, clock
        self._lock = threading.Lock()
        self._done = 0
        self._began = self._shown = clock()

    def tick(self) -> None:
        """Count one more item. May be called on any thread."""
        with self._lock:
            self._done += 1
            now = self._clock()
            if now - self._shown < _LINE_EVERY_S or self._done >= self._total:
                return
            self._shown = now
            left_s = (now - self._began) / self._done * (self._total - self._done)
            print_error(
                f"{self._what}: {self._done} of {self._total}, about {_rounded(left_s)} left"
            )


def _rounded(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > _MINUTES_FROM_S else f"{seconds:.0f} s"


def print_findings(found: Sequence[Finding], as_format: Format) -> None:
    """Print the findings of the checks."""
    print_rows(
        ("HOST", "VM", "CHECK", "LEVEL", "FINDING", "HINT"),
        [(f.host, f.vm, f.check, f.level, f.text, f.hint) for f in found],
        as_format,
        [dataclasses.asdict(finding) for finding in found],
    )


def print_parameters(
    described: Sequence[tuple[Mapping[str, Any], PowerParameters]], as_format: Format
) -> None:
    """Print the power parameters of VMs; after a table, also the MAAS commands that set them."""
    print_rows(
        ("VM", "PARAMETER", "VALUE"),
        [
            (vm["name"], name, value)
            for vm, parameters in described
            for name, value in dataclasses.asdict(parameters).items()
        ],
        as_format,
        [
            {key: vm[key] for key in ("host", "name", "uuid")}
            | {"power_type": POWER_TYPE}
            | dataclasses.asdict(parameters)
            for vm, parameters in described
        ],
    )
    if as_format is Format.TABLE:
        for vm, parameters in described:
            print(f"\n# {printable(vm['name'])}, with MAAS's own client:")
            print(parameters.maas_command())


def print_vms(found: Sequence[VM], as_format: Format) -> None:
    """Print VMs."""
    print_vm_views([VMView.of(vm).model_dump(mode="json") for vm in found], as_format)


def print_vm_views(found: Sequence[Mapping[str, Any]], as_format: Format) -> None:
    """Print VMs, given as the HTTP API returns them."""
    columns = ("host", "zone", "name", "power", "state", "uuid", "macs")
    print_rows(
        [column.upper() for column in columns],
        [
            [tuple(vm[column]) if column == "macs" else vm[column] for column in columns]
            for vm in found
        ],
        as_format,
        found,
    )
