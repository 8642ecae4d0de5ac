# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that create and delete VMs."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output, power
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
from maas_virtualbox.provisioning.spec import Attachment, NICModel, VMSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.host.host import VM
    from maas_virtualbox.provisioning.create import Creation

_MIN_DIGITS = 2
"""Digits of the numbers of --count, so that lists show node02 before node10."""


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
        results = power.act_on_vms(found, "delete", delete_vms, timeout=timeout)
    power.print_results(found, results, "deleted", options.format)
    exit_if_failed([*failures, *(result.error for result in results if result.error)])


def _confirm(vms: Sequence[VM]) -> None:
    """Ask for confirmation. Raises `ConfigError` if standard input is not a terminal."""
    names = output.printable(", ".join(f"{vm.host}/{vm.name}" for vm in vms))
    if not sys.stdin.isatty():
        raise errors.ConfigError(f"use --yes to delete {names} and the data on their disks")
    typer.confirm(f"Delete {names} and the data on their disks?", abort=True, err=True)
