# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The file that stores which host each VM belongs to, so that this survives a restart.

It is JSON, and only its owner may read and write it:

{"version": 1, "hosts": [{"account": "ivan@10.0.0.5", "name": "izMBP13", "vms": ["95581d29-…"]}]}

`vm_hosts` decides what it means and when it changes. Several processes may share the file.
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

_UUID = Annotated[
    str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
]


@dataclasses.dataclass(frozen=True, slots=True)
class Remembered:
    """The content of the file."""

    names: Mapping[str, str]
    """The names of the hosts when the file was written, by account."""
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
    """One state file. Threads and processes may share it."""

    def __init__(self, path: Path, *, lock_timeout: float = 5.0) -> None:
        """Prepare; reads nothing.

        Args:
            path: the file.
            lock_timeout: how many seconds `update` waits for other processes.
        """
        self.path = path
        self._lock_timeout = lock_timeout
        self._version: tuple[int, ...] | None = ()

    def has_changed(self) -> bool:
        """Return whether the file has changed since this object last read it, or was not read
        yet."""
        return self._current_version() != self._version

    def read(self) -> Remembered | None:
        """Return the content of the file; None if it is missing or broken.

        A broken file is copied to another name, with one warning, and does not stop the service.
        Power control of all VMs is more important than which host had them first, and only the
        service's own user can break this file, who can use its SSH key too.

        Raises:
            ConfigError: the file exists but cannot be read, or cannot be repaired.
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
        """Apply a function to the content, while no other process changes it.

        Raises:
            ConfigError: the file cannot be read or written, or another process keeps it locked.
                It is unchanged.
        """

        def change(before: bytes | None) -> bytes:
            try:
                remembered = NOTHING if before is None else _parse(before)
            except ValueError as error:
                self._back_up(before or b"", error)
                remembered = NOTHING
            return _dump(edit(remembered))

        atomic_files.update(self.path, change, timeout=self._lock_timeout)

    def _current_version(self) -> tuple[int, ...] | None:
        """Return what identifies this version of the file; None if the file is missing."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _back_up(self, content: bytes, error: ValueError) -> None:
        reason = str(error)
        if isinstance(error, pydantic.ValidationError):
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
        backup = self.path.with_name(f"{self.path.name}.broken")
        atomic_files.write(backup, content, 0o600)
        log.warning(
            "%s: broken, copied to %s: %s. It is written again from what the hosts list:"
            " `maas-virtualbox check` shows VMs that several hosts list",
            self.path,
            backup.name,
            reason,
        )


def _parse(content: bytes) -> Remembered:
    """Parse the content. Raises `ValueError` if it is not what `_dump` returns."""
    stored = _Stored.model_validate_json(content)
    return Remembered(
        {host.account: host.name for host in stored.hosts},
        {uuid: host.account for host in stored.hosts for uuid in host.vms},
    )


def _dump(remembered: Remembered) -> bytes:
    """Return the bytes of the content, without hosts that have no VMs."""
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
