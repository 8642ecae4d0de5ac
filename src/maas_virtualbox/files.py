# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Files written whole or not at all, and only where they differ."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from maas_virtualbox import errors

Owner = tuple[int, int]
"""The numbers of a user and a group."""


def write(
    path: Path,
    content: bytes,
    mode: int,
    owner: Owner | None = None,
    *,
    folder_mode: int = 0o755,
    folder_owner: Owner | None = None,
) -> bool:
    """Write a file; false if it was there as it is now.

    Args:
        path: the file; its folder is made if it is missing.
        content: all of it.
        mode: its permissions, such as 0o600; nobody sees the content with others.
        owner: its user and group. None: who runs this.
        folder_mode: the permissions of a folder that is made.
        folder_owner: the user and group of a folder that is made. None: who runs this.

    Raises:
        ConfigError: it cannot be written; what was there before still is.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            there = path.stat()
            same_owner = owner is None or (there.st_uid, there.st_gid) == owner
            same = same_owner and stat.S_IMODE(there.st_mode) == mode
            if same and path.read_bytes() == content:
                return False
        if not path.parent.exists():
            path.parent.mkdir(mode=folder_mode, parents=True)
            if folder_owner is not None:
                shutil.chown(path.parent, *folder_owner)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        written = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if owner is not None:
                os.chown(written, *owner)
            written.chmod(mode)
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    return True


def write_secret(path: Path, text: str, *, what: str) -> None:
    """Write a file for its owner only. One there keeps its owner, and its mode up to the group's.

    Args:
        path: where; missing folders are made, for the owner only.
        text: what.
        what: how messages begin, such as `secrets-file /etc/…`.

    Raises:
        ConfigError: it cannot be written.
    """
    mode, owner = 0o600, None
    with contextlib.suppress(OSError):
        before = path.stat()
        mode = stat.S_IMODE(before.st_mode) & 0o660
        if os.name == "posix":
            owner = before.st_uid, before.st_gid
    try:
        write(path, text.encode(), mode, owner, folder_mode=0o700)
    except errors.ConfigError as error:
        raise errors.ConfigError(str(error).replace(str(path), what, 1)) from None
