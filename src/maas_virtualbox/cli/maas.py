# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands about MAAS's side of it: `maas login`, `maas enlist`, `maas check`."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import getpass
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import pydantic
import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    AddressOption,
    HostOption,
    Options,
    OtherAddressOption,
    Panel,
    ZoneOption,
    app,
    leave,
)
from maas_virtualbox.config import atomic_files, tokens
from maas_virtualbox.host import checks
from maas_virtualbox.maas import connection, power_parameters

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.fleet.fleet import HostReport
    from maas_virtualbox.maas.enlistment import EnlistmentSettings, Plan

program = typer.Typer(
    no_args_is_help=True, help="Tell MAAS of the VMs, and look at what it knows of them."
)
app.add_typer(program, name="maas", rich_help_panel=Panel.MAAS)


class _Only(str, enum.Enum):
    """The values of `--only`: the kinds of changes that write."""

    CREATE = "create"
    ADOPT = "adopt"
    UPDATE = "update"


@program.command()
def login(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="http://ADDRESS:5240/MAAS")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the key is kept; default: as --config says, or your own."
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The CA of MAAS's certificate.")
    ] = None,
) -> None:
    """Take an administrator's API key, from standard input or a prompt, try it, and keep it.

    MAAS prints it: maas apikey --username NAME
    """
    options: Options = ctx.obj
    try:
        from maas_virtualbox.maas.client import MAAS  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            f"maas login needs {error.name}: pip install 'maas-virtualbox[maas]'"
        ) from None
    loaded = options.loaded
    own = platformdirs.user_config_path("maas-virtualbox") / "maas-api-key"
    path = key_file or loaded.maas_api_key_file or own
    key = getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    with MAAS(url, pydantic.SecretStr(key), ca_file or loaded.maas_ca_file) as client:
        user = client.whoami()
    if not user.is_admin:
        raise errors.ConfigError(
            f"{url}: this is the key of {user.name}, who is no administrator of MAAS and may not"
            " enlist: take an administrator's; nothing was written"
        )
    atomic_files.write_secret(path, key.strip() + "\n", what=str(path))
    mode = stat.S_IMODE(path.stat().st_mode)
    name = output.printable(user.name)
    print(f"{path}: the key of {name}, an administrator of MAAS (mode {mode:04o})")
    lines = [f"maas-url: {url}", f"maas-api-key-file: {path.resolve()}"]
    if ca_file:
        lines.append(f"maas-ca-file: {ca_file.resolve()}")
    print("In the configuration file:\n\n" + "\n".join(lines))


@program.command()
def enlist(
    ctx: typer.Context,
    host: HostOption = "",
    zone: ZoneOption = "",
    name: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only VMs with such a name, as 'node*'.")
    ] = "*",
    dry_run: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--dry-run", help="Show the plan and do nothing.")
    ] = False,
    commission: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--commission", help="Let MAAS commission, and start, new machines.")
    ] = False,
    take_over: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--take-over", help="Replace other power types by ours.")
    ] = False,
    only: Annotated[
        list[_Only] | None,
        typer.Option(help="Only such changes; may be given again."),
    ] = None,
    address: AddressOption = "",
    other_address: OtherAddressOption = None,
) -> None:
    """Make all VMs known to MAAS, with zones and power parameters. Safe to run again."""
    options: Options = ctx.obj
    with connection.connect(options.loaded, "maas enlist") as client:
        from maas_virtualbox.maas import enlistment, messages  # noqa: PLC0415 - an extra

        reports = _reports(options, host, zone)
        settings = dataclasses.replace(
            _settings(options, address, other_address),
            host=host,
            zone=zone,
            name=name,
            commission=commission,
            take_over=take_over,
        )
        doubt = power_parameters.address_problem(settings.address)
        with output.progress_bar() as bar:
            bar.add_task("reading MAAS's machines", total=None)  # 20 s for a thousand
            known = enlistment.read(client)
        plan = enlistment.plan_fleet(reports, known, settings)
        if only:
            plan = plan.of(*(enlistment.Kind(kind.value) for kind in only))
        if options.format is not output.Format.JSON:
            _show_plan(plan, options.format)
        outcome = None
        if not dry_run:
            with (
                _stopped_by_signals() as stop,
                output.count_progress("enlisting", len(plan.writing), options.format) as tick,
            ):
                outcome = enlistment.apply(client, plan, progress=lambda _: tick(), stop=stop)
    if options.format is output.Format.JSON:
        output.print_rows((), (), options.format, enlistment.report(plan, outcome))
    elif options.format is output.Format.TABLE and outcome is not None and plan.writing:
        print(f"\n{len(outcome.done)} of {len(plan.writing)} machines written")
    failures = outcome.failures if outcome else ()
    for message in (*([doubt] if doubt else []), *map(str, plan.messages)):
        if not any(message in str(failure) for failure in failures):
            output.print_error(message)
    if outcome is not None and outcome.interrupted:
        done, total = len(outcome.done), len(plan.writing)
        output.print_error(messages.INTERRUPTED.of(done=done, total=total))
        raise typer.Exit(EXIT_INTERRUPTED)
    leave([*(report.error for report in reports if report.error), *failures])
    if plan.of(enlistment.Kind.CONFLICT).changes or (commission and not known.racks):
        raise typer.Exit(EXIT_FAILED)


@contextlib.contextmanager
def _stopped_by_signals() -> Generator[threading.Event]:
    """Return what SIGINT and SIGTERM set, the first time; the second acts as it always does."""
    from maas_virtualbox.maas import messages  # noqa: PLC0415 - an extra

    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    # What a shell started in the background ignores SIGINT, and goes on doing so.
    before = {n: h for n in numbers if (h := signal.getsignal(n)) is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(*_: object) -> None:
        restore()
        stop.set()
        output.print_error(messages.FINISHING)

    for number in before:
        signal.signal(number, handle)
    try:
        yield stop
    finally:
        restore()


@program.command()
def check(
    ctx: typer.Context, address: AddressOption = "", other_address: OtherAddressOption = None
) -> None:
    """Look for what is wrong on MAAS's side, and say what to type about it."""
    options: Options = ctx.obj
    with connection.connect(options.loaded, "maas check") as client:
        from maas_virtualbox.maas import check as maas_check  # noqa: PLC0415 - an extra

        reports = _reports(options)
        settings = _settings(options, address, other_address)
        findings = maas_check.examine(client, reports, settings)
    output.print_findings(findings, options.format)
    leave([report.error for report in reports if report.error])
    if checks.worst(findings) is checks.Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


def _reports(options: Options, host: str = "", zone: str = "") -> list[HostReport]:
    """Ask all hosts, those that are not meant too: their VMs show what is cloned."""
    with options.fleet() as fleet:
        fleet.scope(host=host, zone=zone)
        return fleet.reports()


def _settings(options: Options, address: str, others: list[str] | None) -> EnlistmentSettings:
    from maas_virtualbox.maas.enlistment import EnlistmentSettings  # noqa: PLC0415 - an extra

    loaded = options.loaded
    return EnlistmentSettings(
        tokens.load(options.secrets_file()),
        address or power_parameters.reachable_address(loaded.listen),
        loaded.listen.port,
        loaded.tls_certificate_file is not None,
        other_addresses=tuple(others or ()),
    )


def _show_plan(plan: Plan, as_format: output.Format) -> None:
    if plan.changes:
        output.print_rows(
            ("PLAN", "HOST", "VM", "MACHINE", "WHAT", "HINT"),
            [(c.kind, c.host, c.vm, c.machine, c.text, c.hint) for c in plan.changes],
            as_format,
            None,
        )
    if as_format is output.Format.TABLE:
        print(("\n" if plan.changes else "nothing to do: ") + plan.summary())
