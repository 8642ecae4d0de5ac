# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands for those who have no VirtualBox at hand, or want to see that theirs works."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from maas_virtualbox.cli.app import EXIT_FAILED, Options, Panel, app
from maas_virtualbox.config import host_list


@app.command(rich_help_panel=Panel.DEMO)
def simulate(
    vms: Annotated[int, typer.Option(min=0, max=10_000, help="How many VMs.")] = 10,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
) -> None:
    """Run a VirtualBox host that is not there, on 127.0.0.1, until interrupted."""
    from maas_virtualbox import simulator  # noqa: PLC0415 - no other command needs it

    with simulator.Simulator(vms=vms, port=port, timings=simulator.Timings.real()) as host:
        print(
            f"--hosts '{host.host_entry} host-key={host_list.key_fingerprint(host.host_key)}'"
            f" --key {host.key_file}",
            flush=True,
        )
        print("Interrupt (Ctrl-C) to stop.", file=sys.stderr, flush=True)
        while True:
            time.sleep(3600)


@app.command(rich_help_panel=Panel.DEMO)
def demo(
    ctx: typer.Context,
    vms: Annotated[int, typer.Option(min=1, max=1000, help="How many simulated VMs.")] = 10,
) -> None:
    """Play MAAS: start the power service and switch all VMs on and off through it, verified.

    The VMs are those of --hosts or --config, or of a simulated host. Those that are on at the
    beginning are left alone.
    """
    from maas_virtualbox.cli import demo  # noqa: PLC0415 - no other command needs it

    options: Options = ctx.obj
    if options.hosts or options.config:
        done = demo.run(options.listed(), options.service_options(), options.format)
    else:
        done = demo.run_simulated(vms, options.format)
    if not done:
        raise typer.Exit(EXIT_FAILED)
