# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands for a machine of MAAS 1.4 to 1.9: its power template and its extension scripts."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import extension_script, output
from maas_virtualbox.cli.app import Options, Panel, app
from maas_virtualbox.maas import power_template

if TYPE_CHECKING:
    from collections.abc import Sequence

RootOption = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="The root folder of the installation."),
]


@app.command("install-template", rich_help_panel=Panel.MAAS)
def install_template(
    ctx: typer.Context,
    root: RootOption = Path("/"),
    force: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option("--force", help="Replace also a template that is not MAAS's; keep a copy."),
    ] = False,
) -> None:
    """Install the power template and the extension scripts of MAAS 1.4 to 1.9 (as root).

    Run it again after an upgrade of MAAS has replaced the template.
    """
    options: Options = ctx.obj
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    settings = power_template.TemplateSettings(
        program=Path(program).resolve(),
        python=Path(sys.executable),
        config_file=options.config_file().resolve(),
        socket_file=options.loaded.socket_file or Path("/run/maas-virtualbox/power.sock"),
    )
    _print_changes(power_template.install(root, settings, force=force))


@app.command("remove-template", rich_help_panel=Panel.MAAS)
def remove_template(root: RootOption = Path("/")) -> None:
    """Restore MAAS's own power template and remove the extension scripts (as root)."""
    _print_changes(power_template.remove(root))


def _print_changes(changes: Sequence[str]) -> None:
    for change in changes or ["nothing to do"]:
        print(output.printable(change))


@app.command(hidden=True)
def extension(ctx: typer.Context, verb: str, mac: str) -> None:
    """Do the work of an extension script where no power service runs."""
    options: Options = ctx.obj
    if verb not in extension_script.VERBS:
        raise errors.ConfigError(
            f"expected one of {', '.join(extension_script.VERBS)}, not {verb!r}"
        )
    with options.fleet() as fleet:
        raise typer.Exit(extension_script.run(fleet, verb, mac))
