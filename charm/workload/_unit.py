# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The systemd unit of the power service."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from charmlibs import systemd

from maas_virtualbox import templates
from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs
from workload._errors import WorkloadError
from workload._files import APPLIED, CONFIG_FILE, CURRENT, NAME, RELEASES, UNIT, digest, read_note

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path


def render(root: Path, *, group: str) -> str:
    """Return the content of the unit file. It names the release in use."""
    release = (root / CURRENT).readlink().name
    return templates.render(
        UNIT.name,
        program=root / RELEASES / release / "bin" / programs.PROGRAM,
        config_file=root / CONFIG_FILE,
        user=NAME,
        group=group,
    )


def write(root: Path, unit: str) -> None:
    """Write the unit file. If it changed, make systemd read it.

    Raises:
        ConfigError: The file cannot be written.
        WorkloadError: systemd cannot read its unit files.
    """
    if atomic_files.write(root / UNIT, unit.encode(), 0o644):
        with _explain_failure():
            systemd.daemon_reload()


def apply(root: Path, contents: Mapping[Path, str], *, unit: str, listen: str) -> None:
    """Start, restart or reload the service, if what it uses has changed.

    A new unit file, address or set of files takes a restart. Changed files take a reload.

    Raises:
        WorkloadError: The service does not start.
    """
    restart = digest(unit, listen, *sorted(map(str, contents)))
    reload = digest(*contents.values())
    applied = read_note(root, APPLIED).split()
    with _explain_failure():
        if applied[:1] != [restart] or not is_running():
            systemd.service_enable(UNIT.name)
            systemd.service_restart(UNIT.name)
        elif applied != [restart, reload]:
            systemd.service_reload(UNIT.name)
    atomic_files.write(root / APPLIED, f"{restart}\n{reload}\n".encode(), 0o600)


def disable(root: Path) -> None:
    """Stop the service, and do not start it at boot."""
    if (root / UNIT).exists():
        with contextlib.suppress(systemd.SystemdError):
            systemd.service_disable("--now", UNIT.name)


def remove(root: Path) -> None:
    """Remove the unit file."""
    atomic_files.remove(root / UNIT)


def is_running() -> bool:
    """Return whether the service is running, according to systemd."""
    return systemd.service_running(UNIT.name)


def reload_service() -> None:
    """Make the service read its files again and reconnect to its hosts."""
    with contextlib.suppress(systemd.SystemdError):
        systemd.service_reload(UNIT.name)


@contextlib.contextmanager
def _explain_failure() -> Generator[None]:
    try:
        yield
    except systemd.SystemdError:
        raise WorkloadError(
            f"the power service does not start: see `sudo journalctl -u {NAME}` on this unit"
        ) from None
