# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands for the power service: run it, and manage its tokens."""

from __future__ import annotations

import datetime
import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    AddressOption,
    HostOption,
    Options,
    Panel,
    VMsArgument,
    ZoneOption,
    app,
    exit_if_failed,
    find_vms,
)
from maas_virtualbox.config import tokens
from maas_virtualbox.maas import power_parameters, power_template
from maas_virtualbox.schemas import VMView


@app.command(rich_help_panel=Panel.SERVICE)
def serve(ctx: typer.Context) -> None:
    """Run the power service for MAAS's webhook power type, as configured by --config FILE.

    SIGHUP reads the file again. SIGTERM stops the service within ten seconds.
    """
    options: Options = ctx.obj
    try:
        from maas_virtualbox.service import process  # noqa: PLC0415 - an extra; and slow to load
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            f"the power service needs {error.name}: pip install 'maas-virtualbox[service]'"
        ) from None
    if warning := power_template.upgrade_warning(Path("/")):
        output.print_error(warning)
    code = 0
    try:
        process.run(options.config_file())
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else EXIT_FAILED
    # Threads that wait for a host must not delay the end of the process.
    logging.shutdown()
    os._exit(code)


@app.command(rich_help_panel=Panel.SERVICE)
def parameters(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    address: AddressOption = "",
) -> None:
    """Print the parameters of MAAS's webhook power type for VMs.

    They contain tokens: anybody who sees them can power the VMs on and off. They contain an IP
    address instead of a name, because MAAS polls only addresses on a rack controller's subnet.
    """
    options: Options = ctx.obj
    secrets = tokens.load(options.secrets_file())
    loaded = options.loaded
    served_at = address or power_parameters.reachable_address(loaded.listen)
    warning = power_parameters.address_problem(served_at)
    with options.fleet() as fleet:
        found, failures = find_vms(fleet, vms, host=host, zone=zone)
    parameters_of_vms = [
        (
            vm,
            power_parameters.PowerParameters.of(
                vm.uuid,
                secrets.vm_token(vm.uuid),
                address=served_at,
                port=loaded.listen.port,
                tls=loaded.tls_certificate_file is not None,
            ),
        )
        for vm in found
    ]
    output.print_parameters(
        [(VMView.of(vm).model_dump(), described) for vm, described in parameters_of_vms],
        options.format,
    )
    if warning:
        output.print_error(warning)
    exit_if_failed(failures)


@app.command("admin-token", rich_help_panel=Panel.SERVICE)
def admin_token(ctx: typer.Context) -> None:
    """Print the token for the whole HTTP API, to be sent as Bearer or as the password of Basic."""
    options: Options = ctx.obj
    print(tokens.load(options.secrets_file()).admin_token())


@app.command("rotate-tokens", rich_help_panel=Panel.SERVICE)
def rotate_tokens(
    ctx: typer.Context,
    secrets_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: the secrets-file of --config FILE."),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            min=0.0, max=8760.0, help="Hours for which the old tokens remain valid; 0: none."
        ),
    ] = 24.0,
) -> None:
    """Create a new master secret. Afterwards, MAAS must be given the new tokens.

    A running service uses the new secret after its next SIGHUP.
    """
    options: Options = ctx.obj
    path = options.secrets_file(secrets_file)
    if tokens.rotate(path, datetime.timedelta(hours=grace)):
        print(f"{path}: new master secret; the old tokens remain valid for {grace:g} hours")
    else:
        print(f"{path}: created with a new master secret")
