# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands for VMs: they show them, power them on and off, create and delete them."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maas_virtualbox import errors
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
from maas_virtualbox.provisioning.spec import Attachment, NICModel, VMSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from maas_virtualbox.fleet.fleet import Fleet, VMResult
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.provisioning.create import Creation

    class Action(Protocol):
        """An action of a fleet on many VMs, such as `Fleet.power_on_vms`."""

        def __call__(
            self,
            vms: Sequence[VM | str],
            *,
            progress: Callable[[VMResult], None] | None,
            timeout: float | None,
        ) -> list[VMResult]: ...


_MIN_DIGITS = 2
"""Digits of the numbers of --count, so that lists show node02 before node10."""


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
        results = _act_on_vms(vms, verb, action(fleet), timeout=deadline.remaining)
    _print_results(vms, results, verb, options.format)
    exit_if_failed([*failures, *(result.error for result in results if result.error)])


def _act_on_vms(vms: Sequence[VM], verb: str, action: Action, *, timeout: float) -> list[VMResult]:
    """Act on VMs in parallel, with a progress bar."""
    with output.progress_bar() as bar:
        task = bar.add_task(verb, total=len(vms))
        return action(vms, progress=lambda _: bar.advance(task), timeout=timeout)


def _print_results(
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


@app.command(rich_help_panel=Panel.VMS)
def create(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names of the new VMs.")
    ] = None,
    count: Annotated[
        int, typer.Option(min=0, max=1000, help="Create this many numbered VMs.")
    ] = 0,
    prefix: Annotated[str, typer.Option(help="Prefix of the numbered VMs' names.")] = "node",
    host: Annotated[
        str, typer.Option("--host", metavar="NAME", help="The host; default: the only one.")
    ] = "",
    cpus: Annotated[int, typer.Option(help="Virtual processors.")] = 1,
    memory: Annotated[int, typer.Option(help="Memory in MiB.")] = 2048,
    disk: Annotated[
        int, typer.Option(help="Size of the disk in GiB. Its file grows as it fills.")
    ] = 20,
    attachment: Annotated[
        Attachment, typer.Option(help="What the NIC is attached to.")
    ] = "hostonly",
    network: Annotated[
        str, typer.Option(help="Interface or host-only network; default: the only one.")
    ] = "",
    nic_model: Annotated[NICModel, typer.Option(help="The NIC's hardware.")] = "e1000",
    mac: Annotated[str, typer.Option(help="The NIC's MAC, for a single VM.")] = "",
    os_type: Annotated[
        str, typer.Option(help="An ID from `VBoxManage list ostypes`.")
    ] = "Ubuntu_64",
    timeout: TimeoutOption = 60.0,
) -> None:
    """Create VMs that boot from the network first.

    Nothing is left of a VM that cannot be created. A restricted key cannot create VMs.
    """
    digits = max(_MIN_DIGITS, len(str(count)))
    all_names = [*(names or []), *(f"{prefix}{n:0{digits}}" for n in range(1, count + 1))]
    if not all_names:
        raise errors.ConfigError("no VM to create: give names, or use --count N for numbered VMs")
    if mac and len(all_names) > 1:
        raise errors.ConfigError(
            f"--mac {mac} is for a single VM: omit it to give each VM a free MAC"
        )
    specs = [
        VMSpec(
            name=name,
            cpus=cpus,
            memory=memory,
            disk=disk,
            attachment=attachment,
            network=network,
            nic_model=nic_model,
            mac=mac,
            os_type=os_type,
        )
        for name in all_names
    ]
    options: Options = ctx.obj
    with options.fleet() as fleet, output.progress_bar() as bar:
        task = bar.add_task("create", total=len(specs))

        def advance(spec: VMSpec, error: errors.Error | None) -> None:
            del spec, error
            bar.advance(task)

        results = fleet.create_vms(specs, host=host, progress=advance, timeout=timeout)
    _print_created(results, options.format)
    exit_if_failed([result.error for result in results if result.error])


def _print_created(results: Sequence[Creation], as_format: output.Format) -> None:
    objects = [_describe(result) for result in results]
    output.print_rows(
        ("HOST", "NAME", "RESULT", "SECONDS", "MACS", "UUID"),
        [
            (
                described["host"] or "",
                described["name"],
                described["result"],
                f"{described['seconds']:.2f}",
                tuple(described["macs"]),
                described["uuid"] or "",
            )
            for described in objects
        ],
        as_format,
        objects,
    )


def _describe(result: Creation) -> dict[str, Any]:
    """Return a result as a JSON object."""
    vm = result.vm
    return {
        "host": vm.host.name if vm else None,
        "name": result.spec.name,
        "uuid": vm.uuid if vm else None,
        "macs": list(vm.macs) if vm else [],
        "result": "created" if vm else "failed",
        "error": str(result.error) if result.error else None,
        "seconds": round(result.seconds, 3),
    }


@app.command(rich_help_panel=Panel.VMS)
def delete(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
    yes: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--yes", help="Do not ask for confirmation.")
    ] = False,
    power_off: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--power-off", help="Power off VMs that are on.")
    ] = False,
) -> None:
    """Delete VMs that `create` created, and their disks. Other VMs and disks are never deleted."""
    options: Options = ctx.obj
    with options.fleet() as fleet:
        found, failures = find_vms(fleet, vms, host=host, zone=zone)
        if found and not yes:
            _confirm(found)
        delete_vms = functools.partial(fleet.delete_vms, power_off=power_off)
        results = _act_on_vms(found, "delete", delete_vms, timeout=timeout)
    _print_results(found, results, "deleted", options.format)
    exit_if_failed([*failures, *(result.error for result in results if result.error)])


def _confirm(vms: Sequence[VM]) -> None:
    """Ask for confirmation. Raises `ConfigError` if standard input is not a terminal."""
    names = output.printable(", ".join(f"{vm.host}/{vm.name}" for vm in vms))
    if not sys.stdin.isatty():
        raise errors.ConfigError(f"use --yes to delete {names} and the data on their disks")
    typer.confirm(f"Delete {names} and the data on their disks?", abort=True, err=True)
