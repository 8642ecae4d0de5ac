# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that show VMs and power them on and off."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import (
    HostOption,
    Options,
    Panel,
    TimeoutOption,
    VMsArgument,
    ZoneOption,
    app,
    exit_if_failed,
    find_vms,
)
from maas_virtualbox.deadline import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from maas_virtualbox.fleet.fleet import Fleet, VMResult
    from maas_virtualbox.host.host import VM

    class Action(Protocol):
        """An action of a fleet on many VMs, such as `Fleet.power_on_vms`."""

        def __call__(
            self,
            vms: Sequence[VM | str],
            *,
            progress: Callable[[VMResult], None] | None,
            timeout: float | None,
        ) -> list[VMResult]: ...


@app.command("list", rich_help_panel=Panel.VMS)
def list_(ctx: typer.Context, host: HostOption = "", zone: ZoneOption = "") -> None:
    """List all VMs of all hosts."""
    options: Options = ctx.obj
    with options.fleet() as fleet, output.progress_bar() as bar:
        bar.add_task("polling hosts", total=None)
        reports = fleet.reports(host=host, zone=zone, exact=True)
    output.print_vms([vm for report in reports for vm in report.vms], options.format)
    for report in reports:
        output.print_claims(report)
    exit_if_failed([report.error for report in reports if report.error])


@app.command(rich_help_panel=Panel.VMS)
def status(
    ctx: typer.Context, vms: VMsArgument, host: HostOption = "", zone: ZoneOption = ""
) -> None:
    """Show whether VMs are on or off."""
    options: Options = ctx.obj
    with options.fleet() as fleet:
        found, failures = find_vms(fleet, vms, host=host, zone=zone, exact=True)
    output.print_vms(found, options.format)
    exit_if_failed(failures)


@app.command(rich_help_panel=Panel.VMS)
def on(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Power on VMs in parallel. Returns when they run."""
    _act_on_found(ctx.obj, vms, host, zone, timeout, "on", lambda fleet: fleet.power_on_vms)


@app.command(rich_help_panel=Panel.VMS)
def off(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
    acpi: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--acpi", help="Press the power button before powering off hard.")
    ] = False,
) -> None:
    """Power off VMs in parallel. Returns when no process runs them."""

    def power_off(fleet: Fleet) -> Action:
        return functools.partial(fleet.power_off_vms, mode="acpi" if acpi else None)

    _act_on_found(ctx.obj, vms, host, zone, timeout, "off", power_off)


@app.command(rich_help_panel=Panel.VMS)
def reset(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Press the reset button of VMs that are on."""
    _act_on_found(ctx.obj, vms, host, zone, timeout, "reset", lambda fleet: fleet.reset_vms)


def _act_on_found(
    options: Options,
    selectors: Sequence[str],
    host: str,
    zone: str,
    timeout: float,
    verb: str,
    action: Callable[[Fleet], Action],
) -> None:
    """Find the VMs, act on them in parallel, and print the results."""
    deadline = Deadline.after(timeout)
    with options.fleet(deadline) as fleet:
        # A host that hangs must not use up the time of the VMs on other hosts.
        vms, failures = find_vms(
            fleet, selectors, host=host, zone=zone, deadline=deadline.within(timeout / 2)
        )
        results = act_on_vms(vms, verb, action(fleet), timeout=deadline.remaining)
    print_results(vms, results, verb, options.format)
    exit_if_failed([*failures, *(result.error for result in results if result.error)])


def act_on_vms(vms: Sequence[VM], verb: str, action: Action, *, timeout: float) -> list[VMResult]:
    """Act on VMs in parallel, with a progress bar."""
    with output.progress_bar() as bar:
        task = bar.add_task(verb, total=len(vms))
        return action(vms, progress=lambda _: bar.advance(task), timeout=timeout)


def print_results(
    vms: Sequence[VM], results: Sequence[VMResult], done: str, as_format: output.Format
) -> None:
    """Print the result for each VM; `done` is the word for success."""
    objects = [
        {
            "host": vm.host.name,
            "name": vm.name,
            "uuid": vm.uuid,
            "result": "failed" if result.error else done,
            "error": str(result.error) if result.error else None,
            "seconds": round(result.seconds, 3),
        }
        for vm, result in zip(vms, results, strict=True)
    ]
    output.print_rows(
        ("HOST", "NAME", "RESULT", "SECONDS"),
        [(row["host"], row["name"], row["result"], f"{row['seconds']:.2f}") for row in objects],
        as_format,
        objects,
    )
