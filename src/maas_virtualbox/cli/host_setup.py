# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command that installs the extension scripts on a VirtualBox host."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import HostArgument, Options, Panel, app
from maas_virtualbox.host import scripts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.host.host import VirtualBoxHost


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
