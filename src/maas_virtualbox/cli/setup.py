# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands that put files on a VirtualBox host and on a machine of MAAS 1.4 to 1.9."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from maas_virtualbox import errors
from maas_virtualbox.cli import extension_script, output
from maas_virtualbox.cli.app import HostOption, Options, Panel, app
from maas_virtualbox.config import host_list
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import scripts
from maas_virtualbox.maas import power_template
from maas_virtualbox.virtualbox import settings_xml

_TRUST_TIMEOUT_S = 10.0

RootOption = Annotated[
    Path, typer.Option(metavar="FOLDER", help="What stands for / in a scratch installation.")
]
HostArgument = Annotated[str, typer.Argument(metavar="HOST", help="Its name in the host list.")]


@app.command("host-setup", rich_help_panel=Panel.HOSTS)
def set_host_up(
    ctx: typer.Context,
    host: HostArgument,
    gate: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--gate", help="Print the line that lets the key switch VMs only.")
    ] = False,
    remove: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--remove", help="Remove the scripts again.")
    ] = False,
) -> None:
    """Give a VirtualBox host the extension scripts; print the line for its authorized_keys.

    Needs a key that is not yet bound to the gate.
    """
    from maas_virtualbox.transport import ssh_login  # noqa: PLC0415 - slow to load

    options: Options = ctx.obj
    with options.fleet() as fleet:
        (owner,) = fleet.scope(host=host)
        if remove:
            written, line = scripts.remove(owner), ""
        else:
            written = scripts.install(owner)
            key_file = options.key_file()
            if key_file is None and (gate or not owner.config.is_local):
                raise errors.ConfigError(
                    "which key is it for? say --key FILE, or ssh-private-key-file in --config"
                )
            line = (
                scripts.authorized_key(owner, ssh_login.load_identity(key_file), gate=gate)
                if key_file
                else ""
            )
    done = "removed" if remove else "written"
    output.print_rows(
        ("FILE", "RESULT"),
        [
            (f"~/{scripts.FOLDER}/{each.name}", done if each.changed else "unchanged")
            for each in written
        ],
        options.format,
        {"files": [dataclasses.asdict(each) for each in written], "authorized_key": line},
    )
    if options.format is not output.Format.JSON:
        if line:
            print(
                f"\nIn ~/.ssh/authorized_keys of {owner.config.account}:\n{output.printable(line)}"
            )
        if remove:
            print("\nIf a line of its authorized_keys names the gate, take it out too.")


@app.command(rich_help_panel=Panel.HOSTS)
def trust(
    ctx: typer.Context,
    host: HostArgument,
    fingerprint: Annotated[
        str,
        typer.Option(metavar="SHA256:…", help="The key to accept, as read on the host itself."),
    ] = "",
) -> None:
    """Show the key a host presents and the pinned one; with --fingerprint, pin it.

    Compare it on the host: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    from maas_virtualbox.transport import host_keys, ssh_login  # noqa: PLC0415 - slow to load

    options: Options = ctx.obj
    listed = {each.name: each for each in options.listed()}
    if host not in listed:
        known = ", ".join(listed)
        raise errors.ConfigError(f"there is no host {host!r} in the list; it has {known}")
    wanted = listed[host]
    pins = host_keys.KnownHosts(options.known_hosts or options.loaded.known_hosts)
    key = ssh_login.presented_key(wanted, pins, Deadline.after(_TRUST_TIMEOUT_S))
    presented = host_list.fingerprint(key.asbytes())
    before = wanted.host_key or tuple(pin.fingerprint for pin in pins.pinned(wanted))
    if fingerprint and fingerprint != presented:
        raise errors.HostKeyChanged(
            host,
            f"presents {presented}, not {fingerprint}; nothing was changed",
            pinned=before,
            presented=presented,
        )
    if fingerprint and wanted.host_key and presented not in wanted.host_key:
        raise errors.ConfigError(
            f"{host}: the host list itself pins {', '.join(wanted.host_key)}: change its host-key="
            f" to {presented}"
        )
    trusted = presented in before
    if fingerprint and not trusted:
        pins.replace(wanted, key)
        trusted = True
    output.print_rows(
        ("HOST", "PINNED", "PRESENTED", "TRUSTED"),
        [(host, before, presented, "yes" if trusted else "no")],
        options.format,
        {"host": host, "pinned": before, "presented": presented, "trusted": trusted},
    )


@app.command("trust-vm", rich_help_panel=Panel.HOSTS)
def trust_vm(
    ctx: typer.Context,
    vm: Annotated[str, typer.Argument(metavar="UUID", help="The VM's UUID.")],
    host: HostOption = "",
) -> None:
    """Show which host a VM belongs to and which list it; with --host, let it belong to that one.

    A VM belongs to the host on which it was first seen, until that one is up and no longer lists
    it. A running power service notices a decision at once.
    """
    options: Options = ctx.obj
    uuid = settings_xml.normalise_uuid(vm)
    if not uuid:
        raise errors.ConfigError(f"expected a UUID, as `list` shows it, not {vm!r}")
    options.config_file()
    if options.vm_hosts_file() is None:
        raise errors.ConfigError("--hosts: the decision is about the hosts in --config: omit it")
    with options.fleet() as fleet:
        if host:
            fleet.trust_vm(uuid, host=host)
        reports = fleet.reports()
        first = fleet.vm_hosts.host_of(uuid)
    listing = [
        report.host.name
        for report in reports
        if any(each.uuid == uuid for each in (*report.vms, *report.claims))
    ]
    down = [report.host.name for report in reports if report.error]
    if not (first or listing or down):
        raise errors.UnknownVM(f"no host lists a VM {uuid}, and none had it")
    output.print_rows(
        ("UUID", "HOST", "BELONGS TO IT", "LISTS IT"),
        [
            (
                uuid,
                name,
                "yes" if first and first.name == name else "no",
                "unknown" if name in down else "yes" if name in listing else "no",
            )
            for name in (report.host.name for report in reports)
        ],
        options.format,
        {
            "uuid": uuid,
            "host": first.name if first else None,
            "listed_by": listing,
            "unreachable": down,
        },
    )


@app.command("install-template", rich_help_panel=Panel.MAAS)
def install_template(
    ctx: typer.Context,
    root: RootOption = Path("/"),
    force: Annotated[  # noqa: FBT002 - a flag of the command line
        bool, typer.Option("--force", help="Keep a template aside that is not MAAS's own.")
    ] = False,
) -> None:
    """Install the power template and the extension scripts of MAAS 1.4 to 1.9 (as root).

    Safe to run again: after an upgrade of MAAS that rewrote the template it has to be.
    """
    options: Options = ctx.obj
    program = shutil.which(sys.argv[0]) or sys.argv[0]
    wanted = power_template.Settings(
        program=Path(program).resolve(),
        python=Path(sys.executable),
        config_file=options.config_file().resolve(),
        socket_file=options.loaded.socket_file or Path("/run/maas-virtualbox/power.sock"),
    )
    _report(power_template.install(root, wanted, force=force))


@app.command("remove-template", rich_help_panel=Panel.MAAS)
def remove_template(root: RootOption = Path("/")) -> None:
    """Put MAAS's own power template back and remove the extension scripts (as root)."""
    _report(power_template.remove(root))


def _report(done: list[str]) -> None:
    for sentence in done or ["nothing to do"]:
        print(output.printable(sentence))


@app.command(hidden=True)
def extension(ctx: typer.Context, verb: str, mac: str) -> None:
    """Do what an extension script is asked for where no power service runs."""
    options: Options = ctx.obj
    if verb not in extension_script.VERBS:
        raise errors.ConfigError(
            f"expected one of {', '.join(extension_script.VERBS)}, not {verb!r}"
        )
    with options.fleet() as fleet:
        raise typer.Exit(extension_script.run(fleet, verb, mac))
