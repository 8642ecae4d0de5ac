# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The file that remembers which host each VM belongs to, so that a restart does not forget it.

JSON, readable and writable by its owner only:

{"version": 1, "hosts": [{"account": "ivan@10.0.0.5", "name": "izMBP13", "vms": ["95581d29-…"]}]}

What it means and when it changes is decided in `vm_hosts`. Several processes may share the file.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

_LOCK_TIMEOUT_S = 5.0
"""Other processes hold the lock for milliseconds: longer means that one was stopped."""

_UUID = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
]


@dataclasses.dataclass(frozen=True, slots=True)
class Remembered:
    """What the file says."""

    names: Mapping[str, str]
    """The names of hosts when they were last written, by account."""
    hosts: Mapping[str, str]
    """The accounts of the hosts that VMs belong to, by the VMs' UUIDs."""


NOTHING = Remembered({}, {})


class _StoredHost(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    account: str
    name: str
    vms: list[_UUID]


class _Stored(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")

    version: Literal[1]
    hosts: list[_StoredHost]


class VMHostsFile:
    """One state file. May be shared between threads and processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._version: tuple[int, ...] | None = ()

    def has_changed(self) -> bool:
        """Return whether it has changed since it was last read here, or was not read yet."""
        return self._current_version() != self._version

    def read(self) -> Remembered | None:
        """Return what the file says; None if it is missing or broken.

        A broken file is copied aside with one warning and does not stop the service: power control
        of all VMs matters more than which host had them first, and whoever can break this file,
        the service's own user, can use its SSH key too.

        Raises:
            ConfigError: the file is there and cannot be read, or cannot be repaired.
        """
        self._version = self._current_version()
        try:
            return _parse(atomic_files.read(self.path).content)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise errors.ConfigError(f"{self.path}: cannot be read: {error.strerror}") from None
        except ValueError:
            self.update(lambda remembered: remembered)
            self._version = self._current_version()
            return None

    def update(self, edit: Callable[[Remembered], Remembered]) -> None:
        """Replace the content by what a function makes of it, while no other process changes it.

        Raises:
            ConfigError: it cannot be read or written, or another process keeps it locked; it stays
                as it was.
        """

        def change(before: bytes | None) -> bytes:
            try:
                remembered = NOTHING if before is None else _parse(before)
            except ValueError as error:
                self._copy_aside(before or b"", error)
                remembered = NOTHING
            return _dump(edit(remembered))

        atomic_files.update(self.path, change, timeout=_LOCK_TIMEOUT_S)

    def _current_version(self) -> tuple[int, ...] | None:
        """Return what differs between two versions of the file; None where there is none."""
        try:
            there = self.path.stat()
        except OSError:
            return None
        return there.st_ino, there.st_mtime_ns, there.st_size

    def _copy_aside(self, content: bytes, error: ValueError) -> None:
        reason = str(error)
        if isinstance(error, pydantic.ValidationError):
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        aside = self.path.with_name(f"{self.path.name}.broken")
        atomic_files.write(aside, content, 0o600)
        log.warning(
            "%s: broken, copied to %s: %s; it is written again from what the hosts list:"
            " `maas-virtualbox check` shows VMs that several hosts list",
            self.path,
            aside.name,
            reason,
        )


def _parse(content: bytes) -> Remembered:
    """Read the content. Raises `ValueError` if it is not what `_dump` returns."""
    stored = _Stored.model_validate_json(content)
    return Remembered(
        {host.account: host.name for host in stored.hosts},
        {uuid: host.account for host in stored.hosts for uuid in host.vms},
    )


def _dump(remembered: Remembered) -> bytes:
    """Return the content; hosts without VMs are left out."""
    vms: dict[str, list[str]] = collections.defaultdict(list)
    for uuid, account in sorted(remembered.hosts.items()):
        vms[account].append(uuid)
    hosts = [
        {"account": account, "name": remembered.names[account], "vms": vms[account]}
        for account in sorted(vms)
    ]
    return (
        json.dumps({"version": 1, "hosts": hosts}, indent=1, ensure_ascii=False) + "\n"
    ).encode()
