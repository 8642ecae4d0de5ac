# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Finds changed files of a machine whose root is an overlay over the root of this machine."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOT_COMPARED = (
    "/run/credentials/",  # systemd creates them at each start of a unit
    "/run/log/journal/",
    "/run/systemd/",  # the state of systemd's units
    "/var/log/journal/",
    # Backups by useradd and userdel.
    *(f"/etc/{name}-" for name in ("group", "gshadow", "passwd", "shadow", "subgid", "subuid")),
)
"""What `changes` ignores, because it always changes."""

_IN_MEMORY = ("/dev/shm", "/run", "/tmp")


def describe_all(layer: Path, root: Path) -> dict[str, str]:
    """Describe all files that may differ from those of this machine.

    Args:
        layer: The upper folder of the overlay.
        root: The root of the machine, as its processes see it.

    Returns:
        Type, mode, owner and content by path; empty for a deleted file.
    """
    paths: set[str] = set()
    for path, where in _walk(layer, ""):
        paths.add(path)
        if _hides_below(where):
            paths.update(below for below, _ in _walk(Path(path), path))
    for top in _IN_MEMORY:
        paths.update(path for path, _ in _walk(root / top.lstrip("/"), top))
    return {path: _describe(root / path.lstrip("/")) for path in paths}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Compare two results of `describe_all`. Return the descriptions in `after` that differ."""

    def below(path: str) -> str:
        # A file that is not in the layer is that of this machine. Memory is empty at first.
        return (
            ""
            if path.startswith(tuple(f"{top}/" for top in _IN_MEMORY))
            else _describe(Path(path))
        )

    changed: dict[str, str] = {}
    for path in sorted(before.keys() | after.keys()):
        if path not in NOT_COMPARED and not f"{path}/".startswith(NOT_COMPARED):
            old, new = (known.get(path, below(path)) for known in (before, after))
            if old != new:
                changed[path] = new
    return changed


def _walk(top: Path, name: str) -> Iterator[tuple[str, Path]]:
    """Yield each file below a folder: its path below `name`, and its real path."""
    for folder, folders, files in os.walk(top):
        for entry in (*folders, *files):
            path = Path(folder, entry)
            yield f"{name}/{path.relative_to(top)}", path


def _hides_below(path: Path) -> bool:
    """Return whether a folder of the layer replaces a folder that was deleted."""
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _describe(path: Path) -> str:
    """Return a file's type, mode, owner and content; empty if it does not exist."""
    try:
        info = path.lstat()
        contents = ""
        if stat.S_ISREG(info.st_mode):
            contents = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            contents = str(path.readlink())
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return f"{stat.filemode(info.st_mode)} {info.st_uid}:{info.st_gid} {contents}".rstrip()
