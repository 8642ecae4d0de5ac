# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command that checks hosts and VMs."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import EXIT_FAILED, Options, Panel, app
from maas_virtualbox.fleet.checks import check_claims
from maas_virtualbox.host import checks
from maas_virtualbox.maas import power_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.host.host import VirtualBoxHost


@app.command(rich_help_panel=Panel.HOSTS)
def check(
    ctx: typer.Context,
    hosts: Annotated[
        list[str] | None, typer.Argument(metavar="HOST", help="Names; default: all hosts.")
    ] = None,
) -> None:
    """Check hosts and VMs for problems, and show how to fix them."""
    options: Options = ctx.obj
    with options.fleet() as fleet:
        chosen = [host for name in hosts or [""] for host in fleet.scope(host=name)]
        findings = [*_check_hosts(chosen), *check_claims(fleet.claims(chosen))]
    output.print_findings(findings, options.format)
    if warning := power_template.upgrade_warning(Path("/")):
        output.print_error(warning)
    if checks.worst_level(findings) is checks.Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


def _check_hosts(hosts: Sequence[VirtualBoxHost]) -> list[checks.Finding]:
    """Check hosts in parallel, with a progress bar."""
    findings: list[checks.Finding] = []
    with (
        output.progress_bar() as bar,
        futures.ThreadPoolExecutor(max(1, len(hosts)), "check") as threads,
    ):
        task = bar.add_task("check", total=len(hosts))
        for found in threads.map(checks.check_host, hosts):
            findings += found
            bar.advance(task)
    return findings
