# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command line `maas-virtualbox`: options in, one call on `Fleet`, an answer out.

Exit codes: 0 done; 1 an action failed, a VM is unknown or ambiguous, or `check` found an error;
2 wrong usage, host list or configuration; 3 a host is down (what could be told was told);
130 interrupted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import functools
import logging
import os
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import typer.core

from maas_virtualbox import config, doctor, errors, hosts, power_parameters, tokens
from maas_virtualbox.cli import show
from maas_virtualbox.cli.show import Format
from maas_virtualbox.doors.views import VMView
from maas_virtualbox.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from maas_virtualbox.host import VM

EXIT_FAILED, EXIT_USAGE, EXIT_HOST_DOWN, EXIT_INTERRUPTED = 1, 2, 3, 130

_GLOBAL_OPTIONS = ("--config", "--format", "--hosts", "--key", "--known-hosts")


class _Group(typer.core.TyperGroup):
    """Takes the options of the whole program after the command too, where people type them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        moved: list[str] = []
        kept: list[str] = []
        words = iter(args)
        for word in words:
            if word == "--":
                kept += [word, *words]
            elif word in _GLOBAL_OPTIONS:
                moved += [word, *([value] if (value := next(words, None)) is not None else [])]
            elif word.startswith(tuple(f"{option}=" for option in _GLOBAL_OPTIONS)):
                moved.append(word)
            else:
                kept.append(word)
        return super().parse_args(ctx, [*moved, *kept])


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Power control of VirtualBox VMs on other machines, over SSH.",
    epilog="The options above may stand after the command too. Put -- before a VM's name that"
    " begins with a dash.",
)


@dataclasses.dataclass(frozen=True)
class _Options:
    """The options of the whole program."""

    hosts: str | None
    config: Path | None
    key: Path | None
    known_hosts: Path | None
    format: Format

    @functools.cached_property
    def loaded(self) -> config.Config:
        """The configuration file's content; the defaults without one. Raises `ConfigError`."""
        return config.load(self.config) if self.config else config.Config()

    def config_file(self) -> Path:
        """Return `--config`. Raises `ConfigError` if it was not given."""
        if self.config is None:
            raise errors.ConfigError("say --config FILE; the README has an example")
        return self.config

    def secrets_file(self, given: Path | None = None) -> Path:
        """Return the secrets file given, or the one the configuration names."""
        path = given
        if path is None and self.config_file():
            path = self.loaded.secrets_file
        if path is None:
            raise errors.ConfigError(f"{self.config}: secrets-file: expected a path")
        return path

    @contextlib.contextmanager
    def fleet(self, **policy: Any) -> Generator[Fleet]:
        """Make the fleet the options describe. Raises `Error` where they do not fit."""
        with Fleet(
            self.listed(),
            identity=self.key or self.loaded.ssh_private_key_file,
            known_hosts=self.known_hosts or self.loaded.known_hosts,
            policy=dataclasses.replace(self.loaded.policy, **policy),
        ) as fleet:
            yield fleet

    def listed(self) -> tuple[hosts.Host, ...]:
        """Return the hosts. Raises `HostListError` or `ConfigError`."""
        listed = hosts.parse_hosts(self.hosts) if self.hosts is not None else self.loaded.hosts
        if not listed:
            raise errors.HostListError(
                "no hosts: say --hosts user@address, or put hosts: in a file and say --config FILE"
            )
        return listed

    def service_options(self) -> dict[str, object]:
        """Return the options as a power service's configuration file has them."""
        key = self.key or self.loaded.ssh_private_key_file
        return {
            **({"ssh-private-key-file": str(key)} if key else {}),
            "known-hosts-file": str(self.known_hosts or self.loaded.known_hosts),
            "off-mode": self.loaded.off_mode,
            "off-timeout": self.loaded.off_timeout,
            "saved-state": self.loaded.saved_state,
            "snapshot-age": self.loaded.snapshot_age,
        }


@app.callback()
def _program(
    ctx: typer.Context,
    hosts_: Annotated[
        str | None,
        typer.Option(
            "--hosts",
            envvar="MAAS_VIRTUALBOX_HOSTS",
            metavar="LIST",
            help="user@address[:port] [zone=…] [name=…] [host-key=…] [vboxmanage=…], …; or local.",
        ),
    ] = None,
    config_: Annotated[
        Path | None, typer.Option("--config", metavar="FILE", help="YAML with hosts: and more.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Private SSH key for all hosts.")
    ] = None,
    known_hosts: Annotated[
        Path | None,
        typer.Option("--known-hosts", metavar="FILE", help="Where host keys are pinned."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="How answers are printed.")
    ] = Format.TABLE,
) -> None:
    ctx.obj = _Options(hosts_, config_, key, known_hosts, format_)


HostOption = Annotated[str, typer.Option("--host", metavar="NAME", help="Only this host.")]
ZoneOption = Annotated[str, typer.Option("--zone", metavar="NAME", help="Only this zone's hosts.")]
VMsArgument = Annotated[
    list[str], typer.Argument(metavar="VM…", help="UUID, MAC, UUID tail as MAC, or name.")
]
TimeoutOption = Annotated[
    float, typer.Option(min=1.0, max=3600.0, help="Seconds for each VM, retries included.")
]


@app.command("list")
def list_(ctx: typer.Context, host: HostOption = "", zone: ZoneOption = "") -> None:
    """List all VMs of all hosts."""
    options: _Options = ctx.obj
    with options.fleet() as fleet:
        reports = fleet.reports(host=host, zone=zone, exact=True)
    show.vms([vm for report in reports for vm in report.vms], options.format)
    _exit([report.error for report in reports if report.error])


@app.command()
def status(
    ctx: typer.Context, vms: VMsArgument, host: HostOption = "", zone: ZoneOption = ""
) -> None:
    """Tell whether VMs are on or off."""
    options: _Options = ctx.obj
    with options.fleet() as fleet:
        found, failures = _resolve(fleet, vms, host, zone)
        exact: list[VM] = []
        for vm in found:
            try:
                exact.append(fleet.host_of(vm).vm(vm.uuid, exact=True))
            except errors.Error as error:
                failures.append(error)
    show.vms(exact, options.format)
    _exit(failures)


@app.command()
def on(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Switch VMs on, all at once; returns when they run."""
    _act(ctx.obj, "on", Fleet.power_on, vms, host, zone, timeout)


@app.command()
def off(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
    acpi: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--acpi", help="Press the power button first, then pull the plug.")
    ] = False,
) -> None:
    """Switch VMs off, all at once; returns when no process runs them."""
    policy = {"off_mode": "acpi"} if acpi else {}
    _act(ctx.obj, "off", Fleet.power_off, vms, host, zone, timeout, **policy)


@app.command()
def reset(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    timeout: TimeoutOption = 25.0,
) -> None:
    """Press the reset button of VMs that are on."""
    _act(ctx.obj, "reset", Fleet.reset, vms, host, zone, timeout)


@app.command()
def check(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[HOST…]", help="Names; default: all hosts.")
    ] = None,
) -> None:
    """Look for what is wrong with hosts and VMs, and say what to type about it."""
    options: _Options = ctx.obj
    with options.fleet() as fleet, show.bar() as bar:
        wanted = [owner for name in names or [""] for owner in fleet.scope(host=name)]
        task = bar.add_task("checking", total=len(wanted))
        findings: list[doctor.Finding] = []
        with futures.ThreadPoolExecutor(max_workers=max(1, len(wanted))) as threads:
            for found in threads.map(doctor.examine, wanted):
                findings += found
                bar.advance(task)
    show.rows(
        ("HOST", "VM", "CHECK", "LEVEL", "FINDING", "REMEDY"),
        [(f.host, f.vm, f.check, f.level, f.text, f.remedy) for f in findings],
        options.format,
        [dataclasses.asdict(finding) for finding in findings],
    )
    if doctor.worst(findings) is doctor.Level.ERROR:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def simulate(
    vms: Annotated[int, typer.Option(min=0, max=10_000, help="How many VMs.")] = 10,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
) -> None:
    """Run a VirtualBox host that is not there, on 127.0.0.1, until interrupted."""
    from maas_virtualbox import simulator  # noqa: PLC0415 - no other command needs it

    with simulator.Simulator(vms=vms, port=port, timings=simulator.Timings.real()) as host:
        print(
            f"--hosts '{host.host_entry} host-key={hosts.key_fingerprint(host.host_key)}'"
            f" --key {host.key_file}",
            flush=True,
        )
        print("Interrupt (Ctrl-C) to stop.", file=sys.stderr, flush=True)
        while True:
            time.sleep(3600)


@app.command()
def demo(
    ctx: typer.Context,
    vms: Annotated[int, typer.Option(min=1, max=1000, help="How many simulated VMs.")] = 10,
) -> None:
    """Play MAAS: start the power service and switch all VMs on and off through it, verified.

    The VMs are those of --hosts or --config, or of a simulated host. Those that are on at the
    beginning are left alone.
    """
    from maas_virtualbox.cli import demonstration  # noqa: PLC0415 - no other command needs it

    options: _Options = ctx.obj
    if options.hosts or options.config:
        done = demonstration.run(options.listed(), options.service_options(), options.format)
    else:
        done = demonstration.run_simulated(vms, options.format)
    if not done:
        raise typer.Exit(EXIT_FAILED)


@app.command()
def serve(ctx: typer.Context) -> None:
    """Serve MAAS's webhook power type over HTTP, as --config FILE says, until stopped.

    SIGHUP reads the file anew; SIGTERM stops within ten seconds.
    """
    options: _Options = ctx.obj
    try:
        from maas_virtualbox.service import process  # noqa: PLC0415 - an extra; and slow to load
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            f"the power service needs {error.name}: pip install 'maas-virtualbox[service]'"
        ) from None
    code = 0
    try:
        process.run(options.config_file())
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else EXIT_FAILED
    # All is done; threads that wait for a dead host must not hold the end up.
    logging.shutdown()
    os._exit(code)


@app.command()
def parameters(
    ctx: typer.Context,
    vms: VMsArgument,
    host: HostOption = "",
    zone: ZoneOption = "",
    address: Annotated[
        str,
        typer.Option(
            metavar="IP", help="This machine's, on a subnet of MAAS's racks; default: listen's."
        ),
    ] = "",
) -> None:
    """Print what MAAS has to know of VMs: the parameters of its webhook power type.

    They hold tokens: whoever sees them can switch the VMs. MAAS polls literal IP addresses on a
    rack's subnet only, so there is no name in them.
    """
    options: _Options = ctx.obj
    secrets = tokens.load(options.secrets_file())
    loaded = options.loaded
    served_at = address or power_parameters.reachable_address(loaded.listen)
    warning = power_parameters.doubt(served_at)
    with options.fleet() as fleet:
        found, failures = _resolve(fleet, vms, host, zone)
    described = [
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
    show.parameters([(VMView.of(vm).model_dump(), each) for vm, each in described], options.format)
    if warning:
        show.problem(warning)
    _exit(failures)


@app.command("admin-token")
def admin_token(ctx: typer.Context) -> None:
    """Print the token that opens the whole HTTP API, as Bearer or as Basic's password."""
    options: _Options = ctx.obj
    print(tokens.load(options.secrets_file()).admin_token())


@app.command("rotate-tokens")
def rotate_tokens(
    ctx: typer.Context,
    secrets_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Default: the one --config FILE names."),
    ] = None,
    grace: Annotated[
        float, typer.Option(min=0.0, max=8760.0, help="Hours the old tokens stay good.")
    ] = 24.0,
) -> None:
    """Make a new master secret, or the first; then give MAAS the new tokens.

    A running service takes it up at its next SIGHUP.
    """
    options: _Options = ctx.obj
    path = options.secrets_file(secrets_file)
    if path.exists():
        until = datetime.timedelta(hours=grace)
        tokens.save(path, tokens.load(path).rotated(until))
        print(f"{path}: a new master secret; the old tokens stay good for {grace:g} hours")
    else:
        tokens.save(path, tokens.Secrets.new())
        print(f"{path}: made, with the first master secret")


# -- What the commands share ------------------------------------------------------------------


def _resolve(
    fleet: Fleet, selectors: Sequence[str], host: str, zone: str
) -> tuple[list[VM], list[errors.Error]]:
    """Find VMs, each once, and say of which selectors there is none."""
    found: dict[tuple[str, str], VM] = {}
    failures: list[errors.Error] = []
    for selector in dict.fromkeys(selectors):
        try:
            vm = fleet.find(selector, host=host, zone=zone)
            found[vm.host.name, vm.uuid] = vm
        except errors.Error as error:
            failures.append(error)
    return list(found.values()), failures


def _act(
    options: _Options,
    verb: str,
    action: Callable[..., None],
    selectors: Sequence[str],
    host: str,
    zone: str,
    timeout: float,
    **policy: str,
) -> None:
    with options.fleet(**policy) as fleet:
        found, failures = _resolve(fleet, selectors, host, zone)
        results = act_on_all(fleet, verb, action, found, timeout)
    failures += [error for _, error, _ in results if error]
    show.rows(
        ("HOST", "NAME", "RESULT", "SECONDS"),
        [
            (vm.host.name, vm.name, "failed" if error else verb, f"{seconds:.2f}")
            for vm, error, seconds in results
        ],
        options.format,
        [
            {
                "host": vm.host.name,
                "name": vm.name,
                "uuid": vm.uuid,
                "result": "failed" if error else verb,
                "error": str(error) if error else None,
                "seconds": round(seconds, 3),
            }
            for vm, error, seconds in results
        ],
    )
    _exit(failures)


Result = tuple["VM", "errors.Error | None", float]


def act_on_all(
    fleet: Fleet, verb: str, action: Callable[..., None], found: Sequence[VM], timeout: float
) -> list[Result]:
    """Do one thing to many VMs at once, with a progress display; errors are results too."""

    def one(vm: VM) -> Result:
        began = time.monotonic()
        error = None
        try:
            action(fleet, vm, timeout=timeout)
        except errors.Error as problem:
            error = problem
        return vm, error, time.monotonic() - began

    results: dict[int, Result] = {}
    with show.bar() as bar, futures.ThreadPoolExecutor(max_workers=64) as threads:
        task = bar.add_task(verb, total=len(found))
        jobs = {threads.submit(one, vm): number for number, vm in enumerate(found)}
        for job in futures.as_completed(jobs):
            results[jobs[job]] = job.result()
            bar.advance(task)
    return [results[number] for number in sorted(results)]


def _exit(failures: Sequence[errors.Error]) -> None:
    """Report failures and leave with the code that fits them; return if there are none."""
    for failure in failures:
        show.problem(failure)
    if failures:
        down = all(isinstance(failure, errors.HostDown) for failure in failures)
        raise typer.Exit(EXIT_HOST_DOWN if down else EXIT_FAILED)


def main() -> NoReturn:
    """Run the program; every expected error is a sentence and an exit code, never a traceback."""
    logging.basicConfig(level=logging.WARNING, format="maas-virtualbox: %(message)s")
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)
    try:
        app()
    except (errors.HostListError, errors.ConfigError, errors.IdentityError) as error:
        show.problem(error)
        sys.exit(EXIT_USAGE)
    except errors.HostDown as error:
        show.problem(error)
        sys.exit(EXIT_HOST_DOWN)
    except errors.Error as error:
        show.problem(error)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    raise AssertionError("typer always exits")
