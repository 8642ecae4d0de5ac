# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The SSH keys of the account: restricted keys, in a file that only root can change.

/etc/virtualbox-host/authorized_keys            the keys. The account's own file is not changed
/etc/ssh/sshd_config.d/60-virtualbox-host.conf  makes sshd read this file for the account
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
from maas_virtualbox.juju.removal import keep_on_error, remove_empty_folder

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
    """The host keys, each as `type base64`."""


def authorise(root: Path, account: Account, keys: Sequence[str]) -> None:
    """Authorise exactly these keys, as restricted keys.

    Raises:
        ConfigError: The keys or the configuration cannot be written.
        Blocked: sshd rejects the configuration, which was restored.
    """
    revoke(root, keys)
    lines = [f"{scripts.restrict_key(account.home, key)}\n" for key in keys]
    # Owned by root, readable by all: sshd reads it as the account, which must not change it.
    atomic_files.write(root / KEYS, "".join(lines).encode(), 0o644)
    config = (
        "# Written by the charm virtualbox-host.\n"
        f"Match User {account.name}\n"
        f"  AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 {root / KEYS}\n"
        "  PubkeyAuthentication yes\n"
    )
    if atomic_files.write(root / CONFIG, config.encode(), 0o644):
        result = _run_sshd(root, "-t")
        if result.error:
            atomic_files.remove(root / CONFIG)
            raise statuses.Blocked(f"sshd rejects its configuration: {result.error}")
        _reload()


def revoke(root: Path, keys: Sequence[str]) -> None:
    """Revoke all keys except these, and end the sessions of the account if a key was revoked.

    Raises:
        ConfigError: The file of the keys cannot be read or written.
    """
    lines = _read(root / KEYS).splitlines(keepends=True)
    kept = [line for line in lines if any(f" {key} " in line for key in keys)]
    if kept != lines:
        atomic_files.write(root / KEYS, "".join(kept).encode(), 0o644)
        _end_sessions(root)


def read_server(root: Path, account: Account) -> Server:
    """Return how sshd is configured for the account.

    Raises:
        Blocked: sshd is not installed, or has no host key.
    """
    result = _run_sshd(root, "-T", "-C", f"user={account.name},host=localhost,addr=127.0.0.1")
    if result.error:
        raise statuses.Blocked(f"cannot read the configuration of sshd: {result.error}")
    ports, keys = [22], list[str]()
    for line in result.output.splitlines():
        option, _, value = line.partition(" ")
        if option == "port":
            ports.append(int(value))
        elif option == "hostkey":
            with contextlib.suppress(OSError):
                public = root / f"{value.lstrip('/')}.pub"
                keys.append(" ".join(public.read_text(encoding="utf-8").split()[:2]))
    if not keys:
        raise statuses.Blocked("the SSH server has no host key: sudo ssh-keygen -A")
    return Server(ports[1] if len(ports) > 1 else ports[0], tuple(sorted(keys)))


def remove(root: Path) -> None:
    """Revoke all keys, and remove what `authorise` has written."""
    with keep_on_error("the keys"):
        revoke(root, ())
    with keep_on_error(f"/{KEYS}"):
        atomic_files.remove(root / KEYS)
    remove_empty_folder((root / KEYS).parent)
    with keep_on_error(f"/{CONFIG}"):
        if atomic_files.remove(root / CONFIG):
            _reload()


def _read(path: Path) -> str:
    """Return a file's text; empty if it does not exist. Raises `ConfigError`."""
    try:
        return atomic_files.read(path).content.decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise errors.ConfigError(f"cannot read {path}: {error.strerror}") from None


def _run_sshd(root: Path, *arguments: str) -> programs.Result:
    # sshd needs this folder. Its service creates it, but with a socket unit not before a login.
    (root / _RUN).mkdir(mode=0o755, parents=True, exist_ok=True)
    return programs.run_as((0, 0), ["sshd", *arguments], {})


def _reload() -> None:
    # If the service does not run, it reads the configuration when it starts.
    if systemd.service_running(SERVICE):
        with contextlib.suppress(systemd.SystemdError):
            systemd.service_reload(SERVICE)


def _end_sessions(root: Path) -> None:
    """End the account's connections without a terminal, which may use a revoked key."""
    account = _ACCOUNT.search(_read(root / CONFIG))
    for process in Path("/proc").glob("[0-9]*") if account else ():
        with contextlib.suppress(OSError):
            session = _SESSION.match((process / "cmdline").read_bytes())
            if account and session and session["user"] == account["user"].encode():
                os.kill(int(process.name), signal.SIGTERM)
