# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Files that hold secrets: written whole or not at all, for their owner only."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from maas_virtualbox import errors


def write(path: Path, text: str, *, what: str) -> None:
    """Write a file with mode 0600, or keep a file's owner, and its mode as far as the group's.

    Args:
        path: where; missing folders are made, for the owner only.
        text: what.
        what: how messages begin, such as `secrets-file /etc/…`.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        written = Path(name)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileNotFoundError):
                before = path.stat()
                if hasattr(os, "chown"):
                    os.chown(written, before.st_uid, before.st_gid)
                    written.chmod(stat.S_IMODE(before.st_mode) & 0o660)
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be written: {error.strerror}") from None
