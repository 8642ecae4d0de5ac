# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that install files on a VirtualBox host and on a machine of MAAS 1.4 to 1.9."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import extension_script, output
from maas_virtualbox.cli.app import HostArgument, Options, Panel, app
from maas_virtualbox.host import scripts
from maas_virtualbox.maas import power_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.host.host import VirtualBoxHost

RootOption = Annotated[
    Path,
    typer.Option(metavar="FOLDER", help="The root folder of the installation."),
]


@app.command("host-setup", rich_help_panel=Panel.HOSTS)
def set_up_host(
    ctx: typer.Context,
    host: HostArgument,
    gate: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option("--gate", help="Print a line that restricts the key to power control."),
    ] = False,
    remove: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--remove", help="Remove the scripts.")
    ] = False,
) -> None:
    """Install the extension scripts on a VirtualBox host; print the line for authorized_keys.

    Needs a key that is not restricted.
    """
    options: Options = ctx.obj
    with options.fleet() as fleet:
        (target,) = fleet.scope(host=host)
        if remove:
            files, line = scripts.remove(target), ""
        else:
            files = scripts.install(target)
            line = _authorized_key(options, target, gate=gate)
    _print_files(files, "removed" if remove else "written", line, options.format)
    if options.format is not output.Format.JSON:
        if line:
            print(f"\nIn ~/.ssh/authorized_keys of {target.config.account}:")
            print(output.printable(line))
        if remove:
            print("\nIf a line in its authorized_keys names the script gate, remove it too.")


def _print_files(
    files: Sequence[scripts.Written], done: str, line: str, as_format: output.Format
) -> None:
    output.print_rows(
        ("FILE", "RESULT"),
        [
            (f"~/{scripts.FOLDER}/{file.name}", done if file.changed else "unchanged")
            for file in files
        ],
        as_format,
        {"files": [dataclasses.asdict(file) for file in files], "authorized_key": line},
    )


def _authorized_key(options: Options, host: VirtualBoxHost, *, gate: bool) -> str:
    """Return the line for authorized_keys. It is empty for this machine, which needs no key."""
    from maas_virtualbox.transport import ssh_login  # noqa: PLC0415 - slow to load

    if key_file := options.key_file():
        return scripts.authorized_key(host, ssh_login.load_identity(key_file), gate=gate)
    if gate or not host.config.is_local:
        raise errors.ConfigError("no key: use --key FILE, or ssh-private-key-file in --config")
    return ""


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
