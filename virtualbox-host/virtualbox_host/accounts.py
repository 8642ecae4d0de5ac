# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The account that owns the VMs, and what keeps its VMs alive while nobody is logged in."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from charmlibs import passwd

from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs, statuses
from maas_virtualbox.juju.machine_lock import keep_on_error

if TYPE_CHECKING:
    import pwd

log = logging.getLogger(__name__)

TMPFILES = Path("etc/tmpfiles.d/virtualbox-host.conf")

_TMPFILES = """\
# Written by the charm virtualbox-host. VirtualBox loses sight of running VMs without this folder.
x /tmp/.vbox-*-ipc
"""


@dataclasses.dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    owner: atomic_files.Owner
    """The numbers of its user and group."""
    home: str

    @property
    def environment(self) -> dict[str, str]:
        """What its programs are told of it."""
        return {"HOME": self.home, "LOGNAME": self.name, "USER": self.name}


def ensure(root: Path, name: str) -> Account:
    """Return the account, made if it is missing; its VMs run on after a logout.

    Raises:
        ConfigError: what keeps its VMs alive cannot be written.
        Unready: the account cannot be made.
    """
    known = passwd.user_exists(name)
    if known is None:
        # Without a password, but not locked: where sshd does without PAM a locked one is refused.
        try:
            known = passwd.add_user(
                name,
                password="*",  # noqa: S106
                system_user=True,
                home_dir=f"/home/{name}",
            )
        except subprocess.CalledProcessError as error:
            reason = " ".join((error.stderr or str(error)).split())[:200]
            raise statuses.blocked(f"the account {name} cannot be made: {reason}") from None
    atomic_files.write(root / TMPFILES, _TMPFILES.encode(), 0o644)
    lingered = programs.run_as((0, 0), ["loginctl", "enable-linger", name], {})
    if lingered.problem:
        log.warning("VMs of %s may end with its sessions: %s", name, lingered.problem)
    return _account(known)


def find(name: str) -> Account | None:
    """Return the account if there is one."""
    known = passwd.user_exists(name)
    return None if known is None else _account(known)


def remove(root: Path) -> None:
    """Take away what `ensure` made, except the account: the VMs are its."""
    with keep_on_error("a file"):
        atomic_files.remove(root / TMPFILES)


def _account(known: pwd.struct_passwd) -> Account:
    return Account(known.pw_name, (known.pw_uid, known.pw_gid), known.pw_dir)
