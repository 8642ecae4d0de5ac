# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which unit may change a machine: it claims the machine before it touches anything there.

/opt/NAME/claim.json   the unit that has the machine, written by root

Two units of one charm on a machine would write the same files, and a person may have put files of
their own where the charm writes. The first unit claims the machine if nothing is in its way. Every
other one changes nothing until that unit has released the machine, or its agent is gone. A claim
is there before anything else is, and goes last: a hook that is killed leaves it.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs, statuses

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    import ops


log = logging.getLogger(__name__)

_TEMPORARY = f".{programs.CLAIM}."
"""How files begin that are written to become a claim."""


class _Holder(pydantic.BaseModel):
    """The unit that has a machine."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    unit: str
    """Such as `maas-virtualbox/0`, of which a machine cannot have two, in whatever models."""
    agent: str
    """The folder of its agent, which Juju removes with the unit, by force too."""
    made: tuple[str, ...] = ()
    """What was not on the machine before, such as an account: it may be removed with the unit."""

    def is_gone(self) -> bool:
        """Whether Juju has removed the unit without its remove hook."""
        return not Path(self.agent).exists()


class Claim:
    """One unit's claim on its machine."""

    def __init__(self, charm: ops.CharmBase, root: Path, name: str) -> None:
        """Prepare; reads and writes nothing.

        Args:
            charm: the unit's.
            root: what stands for `/`.
            name: of the charm's place in /opt.
        """
        self._root = root
        self._folder = programs.releases(name)
        self._file = root / self._folder / programs.CLAIM
        self._own = _Holder(unit=charm.unit.name, agent=str(charm.charm_dir.parent))

    def check(self) -> None:
        """Check that this unit has the machine, or that it is free.

        Raises:
            Unready: another unit has it; the status names it.
        """
        self._check(self._read())

    def ensure(
        self,
        paths: Sequence[Path],
        *,
        absent: Callable[[], Sequence[str]] = tuple,
        is_upgrade: bool = False,
    ) -> None:
        """Claim the machine for this unit; changes nothing where it has it.

        Args:
            paths: what the charm writes, relative to `/`: all of it has to be free.
            absent: returns what is not on the machine, and so will be the unit's own.
            is_upgrade: whether what is there may be an earlier version's, which made no claims.

        Raises:
            Unready: another unit has the machine, or a path belongs to somebody else.
        """
        holder = self._read()
        self._check(holder)
        if holder is not None and holder == self._own.model_copy(update={"made": holder.made}):
            return
        if holder is not None:
            made = holder.made
        else:
            if not is_upgrade:
                self._check_free([*paths, self._folder])
            made = tuple(absent())
        own = self._own.model_copy(update={"made": made})

        def change(before: bytes | None) -> bytes:
            # Another unit may have been faster.
            self._check(_parse(before))
            return f"{own.model_dump_json()}\n".encode()

        try:
            atomic_files.ensure_folder(self._file.parent, 0o755)
            atomic_files.update(self._file, change)
        except errors.ConfigError as error:
            raise statuses.blocked(str(error)) from None

    def is_held(self) -> bool:
        """Whether this unit has the machine."""
        holder = self._read()
        return holder is not None and holder.unit == self._own.unit

    def made(self) -> tuple[str, ...]:
        """Return what came with this unit, or with one that it took the machine over from."""
        holder = self._read()
        return () if holder is None else holder.made

    def release(self) -> None:
        """Give the machine up, after all else of the unit has been removed from it."""
        if self.is_held():
            for temporary in self._file.parent.glob(f"{_TEMPORARY}*"):
                atomic_files.remove(temporary)
            atomic_files.remove(self._file)
            programs.remove_folder(self._file.parent)

    def _check(self, holder: _Holder | None) -> None:
        if holder is not None and holder.unit != self._own.unit and not holder.is_gone():
            raise statuses.blocked(
                f"{holder.unit} is on this machine already: juju remove-unit {self._own.unit}, and"
                " place it on another machine"
            )

    def _check_free(self, paths: Sequence[Path]) -> None:
        for path in paths:
            if _is_occupied(self._root / path):
                raise statuses.blocked(
                    f"/{path} was here before this charm: move it to another place"
                )

    def _read(self) -> _Holder | None:
        try:
            return _parse(atomic_files.read(self._file).content)
        except OSError:
            return None


@contextlib.contextmanager
def keep_on_error(what: str) -> Generator[None]:
    """Keep what cannot be removed, with a warning in the log: a unit is removed all the same."""
    try:
        yield
    except (errors.ConfigError, subprocess.CalledProcessError) as error:
        log.warning("%s stays: %s", what, error)


def _is_occupied(path: Path) -> bool:
    """Whether anything is at a path, other than an empty folder or what a killed hook left."""
    if path.is_dir() and not path.is_symlink():
        return any(not inside.name.startswith(_TEMPORARY) for inside in path.iterdir())
    return path.exists() or path.is_symlink()


def _parse(content: bytes | None) -> _Holder | None:
    try:
        return None if content is None else _Holder.model_validate_json(content)
    except pydantic.ValidationError:
        return None
