# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Installs scripts on a host: the extension scripts, and the script `gate` for restricted keys.

`~/VBox_host_extensions/` has the legacy scripts `startvm`, `stopvm`, `killvm` and `checkvm`, for
people and their scripts; this library does not need them. `gate` is a forced command: a restricted
key, which `authorized_keys` limits to it, can only control power. Creating and deleting VMs needs
another key, so that a thief of the key that MAAS uses every minute cannot delete disks.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, get_args

from maas_virtualbox import errors, templates
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.version import VERSION
from maas_virtualbox.virtualbox import shells

if TYPE_CHECKING:
    import paramiko

    from maas_virtualbox.host.host import VirtualBoxHost

FOLDER = "VBox_host_extensions"
SCRIPTS = ("startvm", "stopvm", "killvm", "checkvm", "gate")

_COMMENT = "maas-virtualbox"
_TIMEOUT_S = 20.0
_UUID, _NONCE = "00000000-0000-0000-0000-000000000000", "@NONCE@"
_LOCALES = ("C.UTF-8", "en_US.UTF-8")


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """The result for one file on a host."""

    name: str
    """Its name in the folder."""

    changed: bool
    """Whether it was written or removed; False: nothing had to be done."""


def scripts(programs: tuple[str, ...]) -> dict[str, str]:
    """Return the scripts by name, for a host that has VBoxManage at one of these paths."""
    values = {"programs": programs, "version": VERSION, **_gate_values(programs)}
    return {name: templates.render(f"{FOLDER}/{name}", **values) for name in SCRIPTS}


def install(host: VirtualBoxHost) -> list[Written]:
    """Write the scripts on a host, each atomically. Scripts that are there already are kept.

    Raises:
        HostSetupRefused: the host runs Windows, or the key is a restricted key.
        HostError: the host cannot be used.
    """
    installation = host.vboxmanage.installation(timeout=_TIMEOUT_S)
    written: list[Written] = []
    for name, content in scripts((installation.program,)).items():
        answer = _run(host, _posix(host).install(FOLDER, name, content))
        if answer not in ("changed", "same"):
            raise errors.BadOutput(str(host.config), f"{FOLDER}/{name} was not written: {answer}")
        written.append(Written(name, answer == "changed"))
    return written


def remove(host: VirtualBoxHost) -> list[Written]:
    """Remove the scripts from a host, and their folder if nothing else is in it."""
    removed = _run(host, _posix(host).remove(FOLDER, SCRIPTS)).split()
    return [Written(name, name in removed) for name in SCRIPTS]


def authorized_key(host: VirtualBoxHost, key: paramiko.PKey, *, gate: bool) -> str:
    """Return the line for the account's `~/.ssh/authorized_keys`.

    Args:
        host: the host.
        key: the private key that logs in.
        gate: whether to make it a restricted key; the script `gate` must be installed.
    """
    line = f"{key.get_name()} {key.get_base64()}"
    return restrict_key(_run(host, _posix(host).home()), line) if gate else f"{line} {_COMMENT}"


def restrict_key(home: str, key: str) -> str:
    """Return the line that makes a public key a restricted key.

    Args:
        home: the account's home folder.
        key: `type base64`.
    """
    program = f"{home}/{FOLDER}/gate".replace('"', '\\"')
    return f'restrict,command="{program}" {key} {_COMMENT}'


def _posix(host: VirtualBoxHost) -> shells.Posix:
    shell = host.vboxmanage.installation(timeout=_TIMEOUT_S).shell
    if not isinstance(shell, shells.Posix):
        raise errors.HostSetupRefused(
            str(host.config),
            "the extension scripts need Linux or macOS, but the host runs Windows",
        )
    return shell


def _run(host: VirtualBoxHost, command: str) -> str:
    result = host.transport.run(command, deadline=Deadline.after(_TIMEOUT_S))
    if result.exit_code != 0:
        message = result.stderr.decode("utf-8", "replace").strip()
        raise errors.HostSetupRefused(
            str(host.config),
            f"{message or f'exit code {result.exit_code}'}; a restricted key cannot do this: use"
            " another key with --key",
        )
    return result.stdout.decode("utf-8", "replace").strip()


def _gate_values(programs: tuple[str, ...]) -> dict[str, object]:
    """Return what `gate` allows: each command line of `shells.Posix` that `VBoxManage` sends."""
    exact: list[str] = []
    prefixes: list[str] = []
    for shell in map(shells.Posix, _LOCALES):
        exact += [shell.probe(_NONCE, configured) for configured in ("", *programs)]
        for program in programs:
            exact += [
                shell.poll(_NONCE, program, settings=read, long=long)
                for read in ("heads", "all")
                for long in (False, True)
            ]
            exact += [
                shell.start(_NONCE, program, _UUID, guard) for guard in get_args(shells.StartGuard)
            ]
            exact.append(shell.power_off(_NONCE, program, _UUID))
            exact += [shell.run(program, argv) for argv in _calls()]
            prefixes.append(shell.inspect(_NONCE, program, "/").removesuffix("/"))
    log_prefix = shells.Posix().tail("/", 0).replace(" 0 ", " @COUNT@ ").removesuffix("/")
    return {
        "exact": sorted({line.replace(_UUID, "@UUID@") for line in exact}),
        "prefixes": sorted(set(prefixes)),
        "log_prefix": log_prefix,
    }


def _calls() -> list[list[str]]:
    """Return each call of VBoxManage that controls power, for the VM `_UUID`."""
    return [
        ["list", "vms"],
        ["list", "--long", "vms"],
        ["showvminfo", _UUID, "--machinereadable"],
        ["discardstate", _UUID],
        *(["controlvm", _UUID, verb] for verb in ("acpipowerbutton", "reset", "resume")),
    ]
