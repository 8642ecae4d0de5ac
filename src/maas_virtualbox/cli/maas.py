# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands about MAAS: `maas login`, `maas enlist` and `maas check`."""

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
    exit_if_failed,
    print_errors,
)
from maas_virtualbox.config import atomic_files, tokens
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import checks
from maas_virtualbox.maas import connection, power_parameters

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.maas.client import MAAS
    from maas_virtualbox.maas.enlistment import (
        EnlistmentSettings,
        MAASInventory,
        Outcome,
        Plan,
    )

_HOSTS_TIMEOUT_S = 18.0
"""How long the hosts may take to report their VMs."""
_LOGIN_TIMEOUT_S = 60.0

program = typer.Typer(
    no_args_is_help=True, help="Enlist VMs as machines in MAAS, and check what MAAS knows of them."
)
app.add_typer(program, name="maas", rich_help_panel=Panel.MAAS)


class _Only(str, enum.Enum):
    """The values of `--only`: the kinds of changes that write to MAAS."""

    CREATE = "create"
    ADOPT = "adopt"
    UPDATE = "update"


_NameOption = Annotated[
    str, typer.Option(metavar="PATTERN", help="Only VMs with a matching name: 'node*'.")
]
_DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan, write nothing.")]
_CommissionOption = Annotated[
    bool, typer.Option("--commission", help="Let MAAS commission new machines, which starts them.")
]
_TakeOverOption = Annotated[bool, typer.Option("--take-over", help="Replace other power types.")]
_OnlyOption = Annotated[
    list[_Only] | None, typer.Option(help="Only changes of this kind. May be repeated.")
]
_TimeoutOption = Annotated[
    float,
    typer.Option(metavar="SECONDS", min=1.0, max=86400.0, help="Seconds for the whole command."),
]


# -- login --------------------------------------------------------------------------------------


@program.command()
def login(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(metavar="URL", help="http://ADDRESS:5240/MAAS")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to store the key. Default: the file that --config names, or your own.",
        ),
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The CA of MAAS's certificate.")
    ] = None,
) -> None:
    """Test an administrator's API key and store it.

    The command reads the key from standard input or from a prompt. MAAS prints it: maas apikey
    --username NAME
    """
    options: Options = ctx.obj
    path = key_file or options.loaded.maas_api_key_file or _default_key_file()
    key = pydantic.SecretStr(
        getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline()
    )
    name = _check_administrator(url, key, ca_file or options.loaded.maas_ca_file)
    atomic_files.write_secret(path, key.get_secret_value().strip() + "\n", what=str(path))
    mode = stat.S_IMODE(path.stat().st_mode)
    print(f"{path}: the API key of {name}, an administrator of MAAS (mode {mode:04o})")
    lines = [f"maas-url: {url}", f"maas-api-key-file: {path.resolve()}"]
    if ca_file:
        lines.append(f"maas-ca-file: {ca_file.resolve()}")
    print("In the configuration file:\n\n" + "\n".join(lines))


def _default_key_file() -> Path:
    return platformdirs.user_config_path("maas-virtualbox") / "maas-api-key"


def _check_administrator(url: str, key: pydantic.SecretStr, ca_file: Path | None) -> str:
    """Return the name of the API key's user, an administrator.

    Raises:
        ConfigError: the user is not an administrator, or an argument is invalid.
        MAASError: MAAS did not respond or rejected the key.
    """
    deadline = Deadline.after(_LOGIN_TIMEOUT_S)
    with connection.open_client(url, key, ca_file, "maas login", deadline) as client:
        user = client.whoami()
    if not user.is_admin:
        raise errors.ConfigError(
            f"{url}: {user.name}, the user of this API key, is not an administrator of MAAS and"
            " cannot enlist machines: use the key of an administrator; nothing was written"
        )
    return output.printable(user.name)


# -- enlist -------------------------------------------------------------------------------------


@program.command()
def enlist(
    ctx: typer.Context,
    host: HostOption = "",
    zone: ZoneOption = "",
    name: _NameOption = "*",
    dry_run: _DryRunOption = False,  # noqa: FBT002 - a flag of the command line
    commission: _CommissionOption = False,  # noqa: FBT002 - as above
    take_over: _TakeOverOption = False,  # noqa: FBT002 - as above
    only: _OnlyOption = None,
    address: AddressOption = "",
    other_address: OtherAddressOption = None,
    timeout: _TimeoutOption = 3600.0,
) -> None:
    """Create or update the machines of all VMs in MAAS. Safe to repeat."""
    options: Options = ctx.obj
    deadline = Deadline.after(timeout)
    with connection.connect(options.loaded, "maas enlist", deadline) as client:
        from maas_virtualbox.maas import enlistment  # noqa: PLC0415 - an extra

        reports = _reports(options, deadline, host, zone)
        settings = dataclasses.replace(
            _settings(options, address, other_address),
            host=host,
            zone=zone,
            name=name,
            commission=commission,
            take_over=take_over,
        )
        problem = power_parameters.address_problem(settings.address)
        plan = enlistment.plan_fleet(reports, _read_inventory(client), settings)
        if only:
            plan = plan.of(*(enlistment.Kind(kind.value) for kind in only))
        _print_plan(plan, options.format)
        outcome = None if dry_run else _apply(client, plan, options.format)
    _print_outcome(plan, outcome, options.format)
    failures = outcome.failures if outcome else ()
    _warn([*([problem] if problem else []), *map(str, plan.messages)], failures)
    _exit_if_interrupted(plan, outcome)
    exit_if_failed([*_errors(reports), *failures])
    _exit_if_incomplete(plan, is_commissioning=commission)


def _read_inventory(client: MAAS) -> MAASInventory:
    """Read what MAAS contains and show a progress bar: a thousand machines take 20 s."""
    from maas_virtualbox.maas import enlistment  # noqa: PLC0415 - an extra

    with output.progress_bar() as bar:
        bar.add_task("reading MAAS's machines", total=None)
        return enlistment.read(client)


def _apply(client: MAAS, plan: Plan, as_format: output.Format) -> Outcome:
    """Carry out a plan and show the progress. SIGINT and SIGTERM interrupt it."""
    from maas_virtualbox.maas import enlistment  # noqa: PLC0415 - an extra

    with (
        _stopped_by_signals() as stop,
        output.count_progress("enlisting", len(plan.writing), as_format) as tick,
    ):
        return enlistment.apply(client, plan, progress=lambda _: tick(), stop=stop)


@contextlib.contextmanager
def _stopped_by_signals() -> Generator[threading.Event]:
    """Return an event that the first SIGINT or SIGTERM sets. The second has its usual effect."""
    from maas_virtualbox.maas import messages  # noqa: PLC0415 - an extra

    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    # A program that a shell started in the background must continue to ignore SIGINT.
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


def _print_plan(plan: Plan, as_format: output.Format) -> None:
    """Print a plan before it is carried out. JSON is printed at the end."""
    if as_format is output.Format.JSON:
        return
    if plan.changes:
        output.print_rows(
            ("PLAN", "HOST", "VM", "MACHINE", "WHAT", "HINT"),
            [(c.kind, c.host, c.vm, c.machine, c.text, c.hint) for c in plan.changes],
            as_format,
            None,
        )
    if as_format is output.Format.TABLE:
        print(("\n" if plan.changes else "nothing to do: ") + plan.summary())


def _print_outcome(plan: Plan, outcome: Outcome | None, as_format: output.Format) -> None:
    from maas_virtualbox.maas import enlistment  # noqa: PLC0415 - an extra

    if as_format is output.Format.JSON:
        output.print_rows((), (), as_format, enlistment.report(plan, outcome))
    elif as_format is output.Format.TABLE and outcome is not None and plan.writing:
        print(f"\n{len(outcome.done)} of {len(plan.writing)} machines written")


def _warn(warnings: Iterable[str], failures: Sequence[errors.Error]) -> None:
    """Print warnings, except those that a failure repeats."""
    for warning in warnings:
        if not any(warning in str(failure) for failure in failures):
            output.print_error(warning)


def _exit_if_interrupted(plan: Plan, outcome: Outcome | None) -> None:
    from maas_virtualbox.maas import messages  # noqa: PLC0415 - an extra

    if outcome is not None and outcome.interrupted:
        print_errors(outcome.failures)
        done, total = len(outcome.done), len(plan.writing)
        output.print_error(messages.INTERRUPTED.of(done=done, total=total))
        raise typer.Exit(EXIT_INTERRUPTED)


def _exit_if_incomplete(plan: Plan, *, is_commissioning: bool) -> None:
    """Fail if there are conflicts, or if MAAS cannot commission any machine."""
    from maas_virtualbox.maas import enlistment, messages  # noqa: PLC0415 - an extra

    has_conflicts = bool(plan.of(enlistment.Kind.CONFLICT).changes)
    if has_conflicts or (is_commissioning and messages.NO_RACK in plan.messages):
        raise typer.Exit(EXIT_FAILED)


# -- check --------------------------------------------------------------------------------------


@program.command()
def check(
    ctx: typer.Context,
    address: AddressOption = "",
    other_address: OtherAddressOption = None,
    timeout: _TimeoutOption = 600.0,
) -> None:
    """Check that MAAS can control the VMs' power, and show how to fix problems."""
    options: Options = ctx.obj
    deadline = Deadline.after(timeout)
    with connection.connect(options.loaded, "maas check", deadline) as client:
        from maas_virtualbox.maas import check as maas_check  # noqa: PLC0415 - an extra

        reports = _reports(options, deadline)
        settings = _settings(options, address, other_address)
        findings = maas_check.examine(client, reports, settings)
    output.print_findings(findings, options.format)
    exit_if_failed(_errors(reports))
    if checks.worst_level(findings) is checks.Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


# -- What enlist and check have in common -------------------------------------------------------


def _reports(
    options: Options, deadline: Deadline, host: str = "", zone: str = ""
) -> list[HostReport]:
    """Return the reports of all hosts, because VMs that are not selected may be clones.

    Raises:
        Error: there is no such host or zone.
    """
    with options.fleet(deadline) as fleet:
        fleet.scope(host=host, zone=zone)
        return fleet.reports(timeout=deadline.within(_HOSTS_TIMEOUT_S).remaining)


def _errors(reports: Iterable[HostReport]) -> list[errors.Error]:
    return [report.error for report in reports if report.error]


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
