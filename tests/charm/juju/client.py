# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Juju's client: how `juju run` reads its arguments and prints the results of an action.

The Go program tests/charm/juju_client reads and writes YAML with Juju's own libraries.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.charm import go
from tests.charm.juju.model import JujuError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SOURCE = Path(__file__).parents[1] / "juju_client"
_CACHE = Path("~/.cache/maas-virtualbox/juju-client")
_TIMEOUT_S = 60.0


def parameters(
    actions: Path,
    action: str,
    arguments: Sequence[str] = (),
    *,
    string_args: bool = False,
    given: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """Return the parameters that reach the charm.

    Args:
        actions: The charm's actions.yaml.
        action: The name of the action.
        arguments: The arguments as typed, for example "vm=101".
        string_args: Whether they are text (`--string-args`).
        given: Parameters from a file (`--params`).

    Raises:
        JujuError: Juju refuses the parameters.
    """
    flags = [*(["-string-args"] if string_args else []), *(["-params"] if given else [])]
    printed = _run("params", *flags, str(actions), action, *arguments, given=given)
    return json.loads(printed)


def show(results: Mapping[str, Any], *, failure: str = "") -> str:
    """Return the output of `juju run` after an action."""
    status = "failed" if failure else "completed"
    result = {"id": "2", "status": status, "message": failure, "results": results}
    return _run("print", given=result)


def _run(*arguments: str, given: Mapping[str, object] | None) -> str:
    done = subprocess.run(
        [_program(), *arguments],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise JujuError(done.stderr.strip())
    return done.stdout


@functools.cache
def _program() -> Path:
    """Build the program, unless it was already built from the same source."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum", "main.go"):
        digest.update((_SOURCE / name).read_bytes())
    folder = _CACHE.expanduser()
    program = folder / digest.hexdigest()[:16]
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as partial:
            go.build(_SOURCE, built := Path(partial) / program.name)
            # Another test run may have built it in the meantime.
            os.replace(built, program)  # noqa: PTH105
    return program
