# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What a VirtualBox host can be given: the extension scripts, and the gate for a restricted key.

`~/VBox_host_extensions/` holds `startvm`, `stopvm`, `killvm` and `checkvm`, as in 2015, for people
and their scripts; this library does not need them. `gate` is a forced command: a key that is bound
to it in `authorized_keys` can switch VMs and do nothing else. Making and deleting VMs needs
another key: whoever steals the one that MAAS uses every minute must not get at anybody's disks.
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

    from maas_virtualbox.fleet.fleet import VirtualBoxHost

FOLDER = "VBox_host_extensions"
SCRIPTS = ("startvm", "stopvm", "killvm", "checkvm", "gate")

_COMMENT = "maas-virtualbox"
_TIMEOUT_S = 20.0
_UUID, _NONCE = "00000000-0000-0000-0000-000000000000", "@NONCE@"
_LOCALES = ("C.UTF-8", "en_US.UTF-8")


@dataclasses.dataclass(frozen=True, slots=True)
class Written:
    """One file on a host."""

    name: str
    changed: bool
    """Whether it was not there as it is now."""


def scripts(programs: tuple[str, ...]) -> dict[str, str]:
    """Return the scripts by name, for a host whose VBoxManage is at one of some paths."""
    values = {"programs": programs, "version": VERSION, **_gate_values(programs)}
    return {name: templates.render(f"{FOLDER}/{name}", **values) for name in SCRIPTS}


def install(owner: VirtualBoxHost) -> list[Written]:
    """Write the scripts on a host, whole or not at all; what is there already is left.

    Raises:
        HostError: the host cannot be asked, or is a Windows host; the text says which.
    """
    where = owner.vboxmanage.installation(timeout=_TIMEOUT_S)
    written: list[Written] = []
    for name, content in scripts((where.program,)).items():
        answer = _run(owner, _posix(owner).install(FOLDER, name, content))
        if answer not in ("changed", "same"):
            raise errors.BadOutput(str(owner.config), f"{FOLDER}/{name} was not written: {answer}")
        written.append(Written(name, answer == "changed"))
    return written


def remove(owner: VirtualBoxHost) -> list[Written]:
    """Remove the scripts from a host, and their folder if nothing else is in it."""
    removed = _run(owner, _posix(owner).remove(FOLDER, SCRIPTS)).split()
    return [Written(name, name in removed) for name in SCRIPTS]


def authorized_key(owner: VirtualBoxHost, key: paramiko.PKey, *, gate: bool) -> str:
    """Return the line for the account's `~/.ssh/authorized_keys`.

    Args:
        owner: the host.
        key: the private key that logs in.
        gate: bind the key to the gate, which has to be installed.
    """
    line = f"{key.get_name()} {key.get_base64()}"
    return gated(_run(owner, _posix(owner).home()), line) if gate else f"{line} {_COMMENT}"


def gated(home: str, key: str) -> str:
    """Return the line that binds a public key to the gate.

    Args:
        home: the account's home folder.
        key: `type base64`.
    """
    program = f"{home}/{FOLDER}/gate".replace('"', '\\"')
    return f'restrict,command="{program}" {key} {_COMMENT}'


def _posix(owner: VirtualBoxHost) -> shells.Posix:
    shell = owner.vboxmanage.installation(timeout=_TIMEOUT_S).shell
    if not isinstance(shell, shells.Posix):
        raise errors.HostSetupRefused(
            str(owner.config), "the extension scripts are for Linux and macOS, and this is Windows"
        )
    return shell


def _run(owner: VirtualBoxHost, command: str) -> str:
    result = owner.transport.run(command, deadline=Deadline.after(_TIMEOUT_S))
    if result.exit_code != 0:
        words = result.stderr.decode("utf-8", "replace").strip()
        raise errors.HostSetupRefused(
            str(owner.config),
            f"{words or f'exit code {result.exit_code}'}; a key that is bound to the gate cannot"
            " do this: say another with --key",
        )
    return result.stdout.decode("utf-8", "replace").strip()


def _gate_values(programs: tuple[str, ...]) -> dict[str, object]:
    """What the gate lets through: every command line of `shells.Posix` that `VBoxManage` sends."""
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
    """Every call of VBoxManage that the library makes to control power, about the VM `_UUID`."""
    return [
        ["list", "vms"],
        ["list", "--long", "vms"],
        ["showvminfo", _UUID, "--machinereadable"],
        ["discardstate", _UUID],
        *(["controlvm", _UUID, verb] for verb in ("acpipowerbutton", "reset", "resume")),
    ]
