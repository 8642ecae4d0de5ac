# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that decide which host key and which host of a VM to trust."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import HostArgument, HostOption, Options, Panel, app
from maas_virtualbox.config import host_list
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.fleet.results import HostReport

_TRUST_TIMEOUT_S = 10.0


@app.command(rich_help_panel=Panel.HOSTS)
def trust(
    ctx: typer.Context,
    host: HostArgument,
    fingerprint: Annotated[
        str,
        typer.Option(metavar="SHA256:…", help="The key to accept, as shown on the host itself."),
    ] = "",
) -> None:
    """Show the key that a host presents and the pinned one; with --fingerprint, pin it.

    To compare, run on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    from maas_virtualbox.transport import host_keys, ssh_login  # noqa: PLC0415 - slow to load

    options: Options = ctx.obj
    config = _listed_host(options, host)
    pins = host_keys.KnownHosts(options.known_hosts or options.loaded.known_hosts)
    key = ssh_login.presented_key(config, pins, Deadline.after(_TRUST_TIMEOUT_S))
    presented = host_list.fingerprint(key.asbytes())
    pinned = config.host_key or tuple(pin.fingerprint for pin in pins.pinned(config))
    trusted = presented in pinned
    if fingerprint:
        _refuse_other_key(config, fingerprint, presented, pinned)
        if not trusted:
            pins.replace(config, key)
            trusted = True
    output.print_rows(
        ("HOST", "PINNED", "PRESENTED", "TRUSTED"),
        [(host, pinned, presented, _yes_or_no(trusted))],
        options.format,
        {"host": host, "pinned": pinned, "presented": presented, "trusted": trusted},
    )


def _listed_host(options: Options, name: str) -> host_list.HostConfig:
    hosts = {host.name: host for host in options.host_configs()}
    if name not in hosts:
        raise errors.ConfigError(f"no host {name!r} in the host list; it has {', '.join(hosts)}")
    return hosts[name]


def _refuse_other_key(
    host: host_list.HostConfig, fingerprint: str, presented: str, pinned: tuple[str, ...]
) -> None:
    """Raise an error unless the presented key is the given one and the host list permits it."""
    if fingerprint != presented:
        raise errors.HostKeyChanged(
            host.name,
            f"presents {presented}, not {fingerprint}; nothing was changed",
            pinned=pinned,
            presented=presented,
        )
    if host.host_key and presented not in host.host_key:
        raise errors.ConfigError(
            f"{host}: the host list itself pins {', '.join(host.host_key)}: change its host-key="
            f" to {presented}"
        )


@app.command("trust-vm", rich_help_panel=Panel.HOSTS)
def trust_vm(
    ctx: typer.Context,
    vm: Annotated[str, typer.Argument(metavar="UUID", help="The UUID of the VM.")],
    host: HostOption = "",
) -> None:
    """Show which host a VM belongs to and which hosts list it; with --host, assign it to a host.

    A VM belongs to the host on which it was first seen, until that host is up and no longer lists
    it. A running power service applies the decision at once.
    """
    options: Options = ctx.obj
    uuid = settings_xml.normalise_uuid(vm)
    if not uuid:
        raise errors.ConfigError(f"expected a UUID, as shown by `list`, not {vm!r}")
    options.config_file()
    if options.vm_hosts_file() is None:
        raise errors.ConfigError("--hosts: omit it; the decision applies to the hosts in --config")
    with options.fleet() as fleet:
        if host:
            fleet.trust_vm(uuid, host=host)
        reports = fleet.reports()
        first_host = fleet.vm_hosts.host_of(uuid)
    ownership = _Ownership.of(uuid, first_host, reports)
    if not (ownership.host or ownership.listed_by or ownership.unreachable):
        raise errors.UnknownVM(f"VM {uuid} not found: no host lists it, now or earlier")
    output.print_rows(
        ("UUID", "HOST", "BELONGS TO IT", "LISTS IT"),
        [(uuid, report.host.name, *ownership.cells(report.host.name)) for report in reports],
        options.format,
        dataclasses.asdict(ownership),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Ownership:
    """The host that a VM belongs to, and the hosts that list it."""

    uuid: str
    host: str | None
    listed_by: list[str]
    unreachable: list[str]

    @classmethod
    def of(
        cls, uuid: str, host: host_list.HostConfig | None, reports: Sequence[HostReport]
    ) -> _Ownership:
        """Read it from the reports of all hosts."""
        listed_by = [report.host.name for report in reports if _is_listed(uuid, report)]
        unreachable = [report.host.name for report in reports if report.error]
        return cls(uuid, host.name if host else None, listed_by, unreachable)

    def cells(self, host: str) -> tuple[str, str]:
        """Return whether the VM belongs to a host and whether the host lists it."""
        is_listed = "unknown" if host in self.unreachable else _yes_or_no(host in self.listed_by)
        return _yes_or_no(host == self.host), is_listed


def _is_listed(uuid: str, report: HostReport) -> bool:
    return any(vm.uuid == uuid for vm in (*report.vms, *report.claims))


def _yes_or_no(value: bool) -> str:  # noqa: FBT001 - a value to show
    return "yes" if value else "no"
