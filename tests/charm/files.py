# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What has changed in the files of a machine whose root is an overlay over this machine's."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NOT_COMPARED = (
    "/run/credentials/",  # systemd's, for each start of a unit
    "/run/log/journal/",
    "/run/systemd/",  # what systemd knows of its units
    "/var/log/journal/",
    # Copies that useradd and userdel keep of what was before them.
    *(f"/etc/{name}-" for name in ("group", "gshadow", "passwd", "shadow", "subgid", "subuid")),
)
"""What `changes` leaves out: it changes whatever a charm does."""

_IN_MEMORY = ("/dev/shm", "/run", "/tmp")


def describe_all(layer: Path, root: Path) -> dict[str, str]:
    """Describe all files that may differ from this machine's.

    Args:
        layer: the overlay's upper folder.
        root: the machine's root, as its processes see it.

    Returns:
        Type, mode, owner and contents by path; nothing for a file that has gone.
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
    """Compare two answers of `describe_all`; returns those of `after` that differ."""

    def below(path: str) -> str:
        # What the layer does not have is as this machine has it; memory begins empty.
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
    """Yield all below a folder that is called so: its path under that name, and where it is."""
    for folder, folders, files in os.walk(top):
        for entry in (*folders, *files):
            path = Path(folder, entry)
            yield f"{name}/{path.relative_to(top)}", path


def _hides_below(path: Path) -> bool:
    """Whether a folder of the layer was made anew where there had been one."""
    try:
        return os.getxattr(path, "trusted.overlay.opaque", follow_symlinks=False) == b"y"
    except OSError:
        return False


def _describe(path: Path) -> str:
    """A file's type, mode, owner and contents; nothing if there is no such file."""
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
