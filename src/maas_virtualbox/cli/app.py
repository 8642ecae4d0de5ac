# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The program: its global options, its exit codes, and functions that its commands share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.output import Format
from maas_virtualbox.config import config_file, host_list
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.host.vm import VM
from maas_virtualbox.maas import connection
from maas_virtualbox.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

EXIT_FAILED, EXIT_USAGE, EXIT_HOST_DOWN, EXIT_INTERRUPTED = 1, 2, 3, 130

_GLOBAL_OPTIONS = ("--config", "--format", "--hosts", "--key", "--known-hosts")


class Panel:
    """The groups in which `--help` lists the commands, in the order in which it lists them."""

    VMS = "VMs"
    SERVICE = "Service"
    MAAS = "MAAS"
    HOSTS = "Hosts"
    DEMO = "Try it"


_PANELS = (Panel.VMS, Panel.SERVICE, Panel.MAAS, Panel.HOSTS, Panel.DEMO)


class _Group(typer.core.TyperGroup):
    """Accepts the global options also after the command, and orders the commands by panel."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=self._panel_number)

    def _panel_number(self, name: str) -> int:
        panel = getattr(self.commands[name], "rich_help_panel", None)
        return _PANELS.index(panel) if panel in _PANELS else len(_PANELS)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        moved: list[str] = []
        kept: list[str] = []
        arguments = iter(args)
        for argument in arguments:
            if argument == "--":
                kept += [argument, *arguments]
            elif argument in _GLOBAL_OPTIONS:
                value = next(arguments, None)
                moved += [argument] if value is None else [argument, value]
            elif argument.startswith(tuple(f"{option}=" for option in _GLOBAL_OPTIONS)):
                moved.append(argument)
            else:
                kept.append(argument)
        return super().parse_args(ctx, [*moved, *kept])


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Control the power of VirtualBox VMs on remote hosts, over SSH.",
    epilog="The options --config, --format, --hosts, --key and --known-hosts may also follow the"
    " command. Put -- before a VM name that begins with a dash.",
)


@dataclasses.dataclass(frozen=True)
class Options:
    """The global options."""

    hosts: str | None
    config: Path | None
    key: Path | None
    known_hosts: Path | None
    format: Format

    @functools.cached_property
    def loaded(self) -> config_file.Config:
        """The content of the configuration file, or the defaults. Raises `ConfigError`."""
        return config_file.load(self.config) if self.config else config_file.Config()

    def config_file(self) -> Path:
        """Return `--config`. Raises `ConfigError` if it was not given."""
        if self.config is None:
            raise errors.ConfigError("no configuration file: use --config FILE")
        return self.config

    def secrets_file(self, given: Path | None = None) -> Path:
        """Return the given secrets file, or the one that the configuration file names."""
        path = given
        if path is None and self.config_file():
            path = self.loaded.secrets_file
        if path is None:
            raise errors.ConfigError(f"{self.config}: secrets-file: expected a path")
        return path

    @contextlib.contextmanager
    def fleet(self, deadline: Deadline | None = None) -> Generator[Fleet]:
        """Open the fleet that the options describe. Raises what `host_configs` raises."""
        with Fleet(
            self.host_configs(deadline),
            identity=self.key_file(),
            known_hosts=self.known_hosts or self.loaded.known_hosts,
            policy=self.loaded.policy,
            vm_hosts=self.vm_hosts_file(),
        ) as fleet:
            yield fleet

    def vm_hosts_file(self) -> Path | None:
        """Return the file that records the host of each VM. None: it is kept in memory only.

        The file belongs to the host list in `--config`. It is not used with `--hosts`: for another
        list, the hosts of this one would be gone.
        """
        return self.loaded.vm_hosts if self.config and self.hosts is None else None

    def host_configs(self, deadline: Deadline | None = None) -> tuple[host_list.HostConfig, ...]:
        """Return the host list. Reads it from MAAS's zones by the deadline (default: in 60 s).

        Raises `HostListError`, `ConfigError` or `MAASError`.
        """
        deadline = (deadline or Deadline(math.inf)).within(connection.ZONES_TIMEOUT_S)
        hosts = (
            host_list.parse_hosts(self.hosts)
            if self.hosts is not None
            else connection.find_hosts(self.loaded, deadline)
        )
        if not hosts:
            raise errors.HostListError(
                "no hosts: use --hosts user@address, or --config FILE with hosts: in the file"
            )
        return hosts

    def key_file(self) -> Path | None:
        """Return the private key for all hosts, if there is one."""
        return self.key or self.loaded.ssh_private_key_file

    def service_options(self) -> dict[str, object]:
        """Return the options as in the configuration file of a power service."""
        key = self.key_file()
        return {
            **({"ssh-private-key-file": str(key)} if key else {}),
            "known-hosts-file": str(self.known_hosts or self.loaded.known_hosts),
            "off-mode": self.loaded.off_mode,
            "off-timeout": self.loaded.off_timeout,
            "saved-state": self.loaded.saved_state,
            "state-max-age": self.loaded.state_max_age,
        }


def _print_version(is_wanted: bool) -> None:  # noqa: FBT001 - typer passes the option's value
    if is_wanted:
        print(f"maas-virtualbox {VERSION}")
        raise typer.Exit


@app.callback()
def _global_options(
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
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML file with hosts: etc."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Private SSH key for all hosts.")
    ] = None,
    known_hosts: Annotated[
        Path | None,
        typer.Option("--known-hosts", metavar="FILE", help="File that pins host keys."),
    ] = None,
    format_: Annotated[
        Format, typer.Option("--format", help="Format of the output.")
    ] = Format.TABLE,
    version: Annotated[  # noqa: FBT002 - a flag of the command line
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    del version
    ctx.obj = Options(hosts_, config_, key, known_hosts, format_)


HostArgument = Annotated[
    str, typer.Argument(metavar="HOST", help="The name of the host in the host list.")
]
HostOption = Annotated[str, typer.Option("--host", metavar="NAME", help="Only on this host.")]
ZoneOption = Annotated[str, typer.Option("--zone", metavar="NAME", help="Only in this zone.")]
VMsArgument = Annotated[
    list[str],
    typer.Argument(metavar="VM", help="UUID, MAC, last 12 hex digits of the UUID, or name."),
]
AddressOption = Annotated[
    str,
    typer.Option(
        metavar="IP",
        help="Address of the power service, on a subnet of MAAS's racks; default: as in listen.",
    ),
]
OtherAddressOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="IP",
        help="Address of another power service with the same tokens, whose machines are skipped;"
        " may be given several times.",
    ),
]
TimeoutOption = Annotated[float, typer.Option(min=1.0, max=3600.0, help="Seconds for each VM.")]


def find_vms(
    fleet: Fleet,
    selectors: Sequence[str],
    *,
    host: str,
    zone: str,
    exact: bool = False,
    deadline: Deadline | None = None,
) -> tuple[list[VM], list[errors.Error]]:
    """Find VMs in parallel. Return each VM once, and the errors of the selectors without one.

    Args:
        fleet: the hosts.
        selectors: which VMs.
        host: search only on this host (its name).
        zone: search only on the hosts of this zone.
        exact: distinguish running and paused VMs.
        deadline: when each search must end.
    """

    def find(selector: str) -> VM | errors.Error:
        timeout = deadline.remaining if deadline else None
        try:
            return fleet.find(selector, host=host, zone=zone, exact=exact, timeout=timeout)
        except errors.Error as error:
            return error

    unique = list(dict.fromkeys(selectors))
    with (
        output.progress_bar() as bar,
        futures.ThreadPoolExecutor(max(1, len(unique)), "find") as threads,
    ):
        bar.add_task("finding VMs", total=None)
        results = list(threads.map(find, unique))
    vms = {(vm.host.name, vm.uuid): vm for vm in results if isinstance(vm, VM)}
    return list(vms.values()), [error for error in results if isinstance(error, errors.Error)]


def print_errors(failures: Sequence[errors.Error]) -> None:
    """Print the errors, one on a line."""
    for failure in failures:
        output.print_error(failure)


def exit_if_failed(failures: Sequence[errors.Error]) -> None:
    """Print the errors and exit with the code for them. Return if there are none."""
    print_errors(failures)
    if failures:
        is_down = all(isinstance(failure, errors.HostError) for failure in failures)
        raise typer.Exit(EXIT_HOST_DOWN if is_down else EXIT_FAILED)
