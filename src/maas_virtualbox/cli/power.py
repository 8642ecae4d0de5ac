# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that look at VMs and switch them."""

from __future__ import annotations

import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import (
    EXIT_FAILED,
    HostOption,
    Options,
    Panel,
    TimeoutOption,
    VMsArgument,
    ZoneOption,
    app,
    leave,
    resolve,
)
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.host import checks
from maas_virtualbox.maas import power_template

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.host.host import VM


@app.command("list", rich_help_panel=Panel.VMS)
def list_(ctx: typer.Context, host: HostOption = "", zone: ZoneOption = "") -> None:
    """List all VMs of all hosts."""
    options: Options = ctx.obj
    with options.fleet() as fleet:
        reports = fleet.reports(host=host, zone=zone, exact=True)
    output.print_vms([vm for report in reports for vm in report.vms], options.format)
    for report in reports:
        output.print_claims(report)
    leave([report.error for report in reports if report.error])


@app.command(rich_help_panel=Panel.VMS)
def status(
    ctx: typer.Context, vms: VMsArgument, host: HostOption = "", zone: ZoneOption = ""
) -> None:
    """Tell whether VMs are on or off."""
    options: Options = ctx.obj
    with options.fleet() as fleet:
        found, failures = resolve(fleet, vms, host, zone)
        exact: list[VM] = []
        for vm in found:
            try:
                exact.append(fleet.host_of(vm).vm(vm.uuid, exact=True))
            except errors.Error as error:
                failures.append(error)
    output.print_vms(exact, options.format)
    leave(failures)


@app.command(rich_help_panel=Panel.VMS)
def on(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Switch VMs on, all at once; returns when they run."""
    _act(ctx.obj, "on", Fleet.power_on, vms, host, zone, timeout)


@app.command(rich_help_panel=Panel.VMS)
def off(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
    acpi: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--acpi", help="Press the power button first, then pull the plug.")
    ] = False,
) -> None:
    """Switch VMs off, all at once; returns when no process runs them."""
    policy = {"off_mode": "acpi"} if acpi else {}
    _act(ctx.obj, "off", Fleet.power_off, vms, host, zone, timeout, **policy)


@app.command(rich_help_panel=Panel.VMS)
def reset(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Press the reset button of VMs that are on."""
    _act(ctx.obj, "reset", Fleet.reset, vms, host, zone, timeout)


@app.command(rich_help_panel=Panel.HOSTS)
def check(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="HOST", help="Names; default: all hosts.")
    ] = None,
) -> None:
    """Look for what is wrong with hosts and VMs, and say what to type about it."""
    options: Options = ctx.obj
    with options.fleet() as fleet, output.progress_bar() as bar:
        wanted = [owner for name in names or [""] for owner in fleet.scope(host=name)]
        task = bar.add_task("checking", total=len(wanted))
        findings: list[checks.Finding] = []
        with futures.ThreadPoolExecutor(max_workers=max(1, len(wanted))) as threads:
            for found in threads.map(checks.examine, wanted):
                findings += found
                bar.advance(task)
        findings += checks.judge_claims(fleet.claims(wanted))
    output.print_findings(findings, options.format)
    if warning := power_template.upgrade_warning(Path("/")):
        output.print_error(warning)
    if checks.worst(findings) is checks.Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


def _act(
    options: Options,
    verb: str,
    action: Callable[..., None],
    selectors: Sequence[str],
    host: str,
    zone: str,
    timeout: float,
    **policy: str,
) -> None:
    with options.fleet(**policy) as fleet:
        found, failures = resolve(fleet, selectors, host, zone)
        results = act_on_all(fleet, verb, action, found, timeout)
    failures += [error for _, error, _ in results if error]
    show_results(results, verb, options.format)
    leave(failures)


Result = tuple["VM", "errors.Error | None", float]


def show_results(results: Sequence[Result], done: str, as_format: output.Format) -> None:
    """Print what became of each VM; `done` is the word for success."""
    output.print_rows(
        ("HOST", "NAME", "RESULT", "SECONDS"),
        [
            (vm.host.name, vm.name, "failed" if error else done, f"{seconds:.2f}")
            for vm, error, seconds in results
        ],
        as_format,
        [
            {
                "host": vm.host.name,
                "name": vm.name,
                "uuid": vm.uuid,
                "result": "failed" if error else done,
                "error": str(error) if error else None,
                "seconds": round(seconds, 3),
            }
            for vm, error, seconds in results
        ],
    )


def act_on_all(
    fleet: Fleet, verb: str, action: Callable[..., None], found: Sequence[VM], timeout: float
) -> list[Result]:
    """Do one thing to many VMs at once, with a progress display; errors are results too."""

    def one(vm: VM) -> Result:
        began = time.monotonic()
        error = None
        try:
            action(fleet, vm, timeout=timeout)
        except errors.Error as problem:
            error = problem
        return vm, error, time.monotonic() - began

    results: dict[int, Result] = {}
    with output.progress_bar() as bar, futures.ThreadPoolExecutor(max_workers=64) as threads:
        task = bar.add_task(verb, total=len(found))
        jobs = {threads.submit(one, vm): number for number, vm in enumerate(found)}
        for job in futures.as_completed(jobs):
            results[jobs[job]] = job.result()
            bar.advance(task)
    return [results[number] for number in sorted(results)]
