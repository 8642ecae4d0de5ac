# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The account that owns the VMs. Its VMs keep running while nobody is logged in."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from charmlibs import passwd

from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs, statuses
from maas_virtualbox.juju.removal import keep_on_error

if TYPE_CHECKING:
    import pwd

log = logging.getLogger(__name__)

TMPFILES = Path("etc/tmpfiles.d/virtualbox-host.conf")

_TMPFILES = """\
# Written by the charm virtualbox-host. Without these folders, VirtualBox loses running VMs.
x /tmp/.vbox-*-ipc
"""


@dataclasses.dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    owner: atomic_files.Owner
    """The IDs of its user and group."""
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of its programs."""
        return {"HOME": self.home, "LOGNAME": self.name, "USER": self.name}


def ensure(root: Path, name: str) -> Account:
    """Return the account. Create it if it is missing, and keep its VMs running after a logout.

    Raises:
        ConfigError: The file for systemd-tmpfiles cannot be written.
        Blocked: The account cannot be created.
    """
    entry = passwd.user_exists(name)
    if entry is None:
        # Without a password, but not locked: an sshd without PAM refuses a locked account.
        try:
            entry = passwd.add_user(
                name,
                password="*",  # noqa: S106
                system_user=True,
                home_dir=f"/home/{name}",
            )
        except subprocess.CalledProcessError as error:
            reason = " ".join((error.stderr or str(error)).split())[:200]
            raise statuses.Blocked(f"cannot create the account {name}: {reason}") from None
    atomic_files.write(root / TMPFILES, _TMPFILES.encode(), 0o644)
    result = programs.run_as((0, 0), ["loginctl", "enable-linger", name], {})
    if result.error:
        log.warning("VMs of %s may end with its sessions: %s", name, result.error)
    return _account(entry)


def find(name: str) -> Account | None:
    """Return the account; None if it does not exist."""
    entry = passwd.user_exists(name)
    return None if entry is None else _account(entry)


def remove(root: Path) -> None:
    """Remove what `ensure` created, except the account, which owns the VMs."""
    with keep_on_error(f"/{TMPFILES}"):
        atomic_files.remove(root / TMPFILES)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, (entry.pw_uid, entry.pw_gid), entry.pw_dir)
