# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Removing what a charm has put on a machine. A failure must not stop the removal of a unit."""

from __future__ import annotations

import contextlib
import logging
import subprocess
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

log = logging.getLogger(__name__)


@contextlib.contextmanager
def keep_on_error(name: str) -> Generator[None]:
    """Log a warning if something cannot be removed, and continue.

    Args:
        name: What is being removed, for the warning.
    """
    try:
        yield
    except (errors.ConfigError, subprocess.CalledProcessError) as error:
        log.warning("cannot remove %s: %s", name, error)


def remove_empty_folder(folder: Path) -> None:
    """Remove a folder if it is empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()
