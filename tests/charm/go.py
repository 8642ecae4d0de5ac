# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the small Go programs of these tests, which use Juju's Go libraries."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.conftest import unavailable

if TYPE_CHECKING:
    from pathlib import Path

_BUILD_S = 400.0


def build(folder: Path, program: Path) -> None:
    """Build the main package in a folder. On a new machine, this takes half a minute."""
    if shutil.which("go") is None:
        unavailable(f"go is missing, which builds {folder.name}")
    done = subprocess.run(
        ["go", "build", "-buildvcs=false", "-o", program, "."],
        cwd=folder,
        env={**os.environ, "CGO_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=_BUILD_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
