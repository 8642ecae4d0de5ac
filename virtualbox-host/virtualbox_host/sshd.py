# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Who may log in as the account: keys bound to the gate, in a file that only root can change.

/etc/virtualbox-host/authorized_keys            the keys; the account's own file is left alone
/etc/ssh/sshd_config.d/60-virtualbox-host.conf  makes sshd read it for the account
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from charmlibs import systemd

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.host import scripts
from maas_virtualbox.juju import programs, statuses
from maas_virtualbox.juju.machine_lock import keep_on_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtualbox_host.accounts import Account

KEYS = Path("etc/virtualbox-host/authorized_keys")
CONFIG = Path("etc/ssh/sshd_config.d/60-virtualbox-host.conf")
SERVICE = "ssh.service"

_RUN = Path("run/sshd")
_ACCOUNT = re.compile(r"^Match User (?P<user>.+)$", re.MULTILINE)
_SESSION = re.compile(rb"sshd(?:-session)?: (?P<user>[^@\0]+)@notty")


@dataclasses.dataclass(frozen=True)
class Server:
    """The SSH server of this machine."""

    port: int
    """TCP port."""
    host_keys: tuple[str, ...]
    """`type base64` of each key it presents."""


def authorise(root: Path, account: Account, keys: Sequence[str]) -> None:
    """Let exactly these keys in, bound to the gate.

    Raises:
        ConfigError: the keys or the configuration cannot be written.
        Unready: sshd does not take the configuration; it is as before.
    """
    revoke(root, keys)
    lines = [f"{scripts.gated(account.home, key)}\n" for key in keys]
    # Root's and readable by all: sshd reads it as the account, which cannot change it.
    atomic_files.write(root / KEYS, "".join(lines).encode(), 0o644)
    config = (
        "# Written by the charm virtualbox-host.\n"
        f"Match User {account.name}\n"
        f"  AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 {root / KEYS}\n"
        "  PubkeyAuthentication yes\n"
    )
    if atomic_files.write(root / CONFIG, config.encode(), 0o644):
        answer = _sshd(root, "-t")
        if answer.problem:
            atomic_files.remove(root / CONFIG)
            raise statuses.blocked(f"sshd does not take its configuration: {answer.problem}")
        _reload()


def revoke(root: Path, keys: Sequence[str]) -> None:
    """Let nobody in any more but by these keys, and end the sessions of those who were in.

    Raises:
        ConfigError: the file of the keys cannot be read or written.
    """
    lines = _read(root / KEYS).splitlines(keepends=True)
    kept = [line for line in lines if any(f" {key} " in line for key in keys)]
    if kept != lines:
        atomic_files.write(root / KEYS, "".join(kept).encode(), 0o644)
        _end_sessions(root)


def read_server(root: Path, account: Account) -> Server:
    """Ask sshd how it is configured for the account.

    Raises:
        Unready: there is no sshd, or it has no key.
    """
    answer = _sshd(root, "-T", "-C", f"user={account.name},host=localhost,addr=127.0.0.1")
    if answer.problem:
        raise statuses.blocked(f"the SSH server cannot be asked: {answer.problem}")
    ports, keys = [22], list[str]()
    for line in answer.output.splitlines():
        option, _, value = line.partition(" ")
        if option == "port":
            ports.append(int(value))
        elif option == "hostkey":
            with contextlib.suppress(OSError):
                public = root / f"{value.lstrip('/')}.pub"
                keys.append(" ".join(public.read_text(encoding="utf-8").split()[:2]))
    if not keys:
        raise statuses.blocked("the SSH server has no host key: sudo ssh-keygen -A")
    return Server(ports[1] if len(ports) > 1 else ports[0], tuple(sorted(keys)))


def remove(root: Path) -> None:
    """Let nobody in any more by what `authorise` wrote, and take that away."""
    with keep_on_error("a key"):
        revoke(root, ())
    with keep_on_error("the file of the keys"):
        atomic_files.remove(root / KEYS)
    programs.remove_folder((root / KEYS).parent)
    with keep_on_error("a file"):
        if atomic_files.remove(root / CONFIG):
            _reload()


def _read(path: Path) -> str:
    """Return a file's text; none where there is no file. Raises `ConfigError`."""
    try:
        return atomic_files.read(path).content.decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _sshd(root: Path, *arguments: str) -> programs.Answer:
    # It wants this folder, which its service makes: where a socket starts it, that may be to come.
    (root / _RUN).mkdir(mode=0o755, parents=True, exist_ok=True)
    return programs.run_as((0, 0), ["sshd", *arguments], {})


def _reload() -> None:
    # One that does not run reads it when it starts.
    if systemd.service_running(SERVICE):
        with contextlib.suppress(systemd.SystemdError):
            systemd.service_reload(SERVICE)


def _end_sessions(root: Path) -> None:
    """End the account's connections without a terminal: a revoked key is not to go on by one."""
    account = _ACCOUNT.search(_read(root / CONFIG))
    for process in Path("/proc").glob("[0-9]*") if account else ():
        with contextlib.suppress(OSError):
            found = _SESSION.match((process / "cmdline").read_bytes())
            if account and found and found["user"] == account["user"].encode():
                os.kill(int(process.name), signal.SIGTERM)
