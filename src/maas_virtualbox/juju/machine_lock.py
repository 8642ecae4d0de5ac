# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A lock on a machine: only the unit that holds it may change the machine.

/opt/NAME/lock.json   the unit that holds the lock, written by root

Two units of one charm on one machine would write the same files, and a person may have put files
where the charm writes. The first unit acquires the lock if none of its paths exists. Every other
unit changes nothing until that unit has released the lock, or its agent was removed. The lock is
the first file that is written and the last that is removed. A killed hook therefore leaves it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs, statuses
from maas_virtualbox.juju.removal import remove_empty_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import ops


FILE_NAME = "lock.json"

_TEMPORARY = f".{FILE_NAME}."
"""The beginning of the names of temporary files, from which the lock is renamed."""


class _Holder(pydantic.BaseModel):
    """The unit that holds the lock of a machine."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    unit: str
    """For example `maas-virtualbox/0`. A machine cannot have two, even of two models."""
    agent: str
    """The folder of the unit's agent. Juju removes it with the unit, also with --force."""
    absent: tuple[str, ...] = ()
    """What did not exist before the unit, such as an account. It may be removed with the unit."""

    def is_gone(self) -> bool:
        """Return whether Juju has removed the unit without running its remove hook."""
        return not Path(self.agent).exists()


class MachineLock:
    """The lock of a machine, as one unit sees it."""

    def __init__(self, charm: ops.CharmBase, root: Path, name: str) -> None:
        """Prepare the lock. This reads and writes nothing.

        Args:
            charm: The charm of the unit.
            root: The folder that represents `/`.
            name: The name of the charm's folder in /opt.
        """
        self._root = root
        self._folder = programs.releases(name)
        self._file = root / self._folder / FILE_NAME
        self._own = _Holder(unit=charm.unit.name, agent=str(charm.charm_dir.parent))

    def check(self) -> None:
        """Check that this unit holds the lock, or that no unit holds it.

        Raises:
            Blocked: Another unit holds the lock.
        """
        self._check(self._read())

    def acquire(
        self,
        paths: Sequence[Path],
        *,
        list_absent: Callable[[], Sequence[str]] = tuple,
        is_upgrade: bool = False,
    ) -> None:
        """Acquire the lock for this unit, unless it holds the lock already.

        Args:
            paths: What the charm writes, relative to `/`. None of it may exist.
            list_absent: Returns what does not exist on the machine and will belong to the unit.
            is_upgrade: Whether the paths may exist, because an earlier version without locks
                wrote them.

        Raises:
            Blocked: Another unit holds the lock, or a path exists.
        """
        holder = self._read()
        self._check(holder)
        if holder is not None and holder == self._own.model_copy(update={"absent": holder.absent}):
            return
        if holder is not None:
            absent = holder.absent
        else:
            if not is_upgrade:
                self._check_free([*paths, self._folder])
            absent = tuple(list_absent())
        own = self._own.model_copy(update={"absent": absent})

        def change(before: bytes | None) -> bytes:
            # Another unit may have acquired the lock in the meantime.
            self._check(_parse(before))
            return f"{own.model_dump_json()}\n".encode()

        try:
            atomic_files.ensure_folder(self._file.parent, 0o755)
            atomic_files.update(self._file, change)
        except errors.ConfigError as error:
            raise statuses.Blocked(str(error)) from None

    def is_held(self) -> bool:
        """Return whether this unit holds the lock."""
        holder = self._read()
        return holder is not None and holder.unit == self._own.unit

    def absent_before(self) -> tuple[str, ...]:
        """Return what did not exist before this unit, or before the unit that it replaced."""
        holder = self._read()
        return () if holder is None else holder.absent

    def release(self) -> None:
        """Release the lock, after everything else of the unit has been removed."""
        if self.is_held():
            for temporary in self._file.parent.glob(f"{_TEMPORARY}*"):
                atomic_files.remove(temporary)
            atomic_files.remove(self._file)
            remove_empty_folder(self._file.parent)

    def _check(self, holder: _Holder | None) -> None:
        if holder is not None and holder.unit != self._own.unit and not holder.is_gone():
            raise statuses.Blocked(
                f"{holder.unit} is already on this machine: juju remove-unit {self._own.unit}, and"
                " place it on another machine"
            )

    def _check_free(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if _is_occupied(self._root / path):
                raise statuses.Blocked(f"/{path} existed before this charm: move it away")

    def _read(self) -> _Holder | None:
        try:
            return _parse(atomic_files.read(self._file).content)
        except OSError:
            return None


def _is_occupied(path: Path) -> bool:
    """Return whether a path exists, except an empty folder or one with temporary files only."""
    if path.is_dir() and not path.is_symlink():
        return any(not entry.name.startswith(_TEMPORARY) for entry in path.iterdir())
    return path.exists() or path.is_symlink()


def _parse(content: bytes | None) -> _Holder | None:
    try:
        return None if content is None else _Holder.model_validate_json(content)
    except pydantic.ValidationError:
        return None
