# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A copy of the program `maas-virtualbox` outside the charm's folder. It does not use Juju.

/opt/NAME/RELEASE   a copy of the charm's environment. Juju replaces the charm's own folder when it
                    refreshes the charm, and deletes it on removal
/opt/NAME/current   the release in use

Functions take the folder that represents `/`. They can be called repeatedly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju.removal import remove_empty_folder
from maas_virtualbox.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "maas-virtualbox"

ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""The environment of every program that a charm starts. Juju's environment is not passed on,
because it contains the charm's PYTHONPATH."""

TIMEOUT_S = 120.0
"""The default time limit of a program, in seconds."""

_COMPILE_TIMEOUT_S = 120.0
_PARTIAL = re.compile(r"\.[\w.+-]+-[0-9a-f]{12}")
"""The name of a release that is being copied."""


@dataclasses.dataclass(frozen=True)
class Result:
    """The output of a program."""

    output: str
    error: str
    """What failed, for people; empty on success. There can be output in both cases."""


def releases(name: str) -> Path:
    """Return the folder of a charm's releases, relative to `/`."""
    return Path("opt", name)


def current(name: str) -> Path:
    """Return the link to the release in use, relative to `/`."""
    return releases(name) / "current"


def install(root: Path, charm: Path, name: str, *, compiled: Sequence[str]) -> None:
    """Copy a charm's environment to /opt, unless it is already there.

    Args:
        root: The folder that represents `/`.
        charm: The charm's folder, with `venv/`, `src/` and `templates/`.
        name: The name of the folder in /opt.
        compiled: The modules to compile now, because the user who runs the program cannot write
            there.

    Raises:
        ConfigError: The environment cannot be copied. The release in use stays.
    """
    try:
        _install(root, charm, name, compiled)
    except (OSError, shutil.Error, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise errors.ConfigError(
            f"/{releases(name)}: cannot install the program: {reason or error}"
        ) from None


def _install(root: Path, charm: Path, name: str, compiled: Sequence[str]) -> None:
    release = _release(charm)
    target = root / releases(name) / release
    if not target.exists():
        atomic_files.ensure_folder(target.parent, 0o755)
        partial = target.with_name(f".{release}")
        shutil.rmtree(partial, ignore_errors=True)
        for folder in ("venv", "src", "templates"):
            shutil.copytree(charm / folder, partial / folder, symlinks=True)
        _add_program(partial, target, compiled)
        partial.replace(target)
    link = root / releases(name) / ".current"
    link.unlink(missing_ok=True)
    link.symlink_to(release)
    link.replace(root / current(name))


def is_installed(root: Path, name: str) -> bool:
    """Return whether there is a release to run."""
    return (root / current(name)).exists()


def remove(root: Path, name: str) -> None:
    """Remove all releases. Files of others in the same folder stay."""
    remove_old(root, name)
    used = _current_release(root, name)
    if used is not None:
        (root / current(name)).unlink()
        shutil.rmtree(used, ignore_errors=True)
    remove_empty_folder(root / releases(name))


def remove_old(root: Path, name: str) -> None:
    """Remove the releases that are no longer in use."""
    used = _current_release(root, name)
    for old in (root / releases(name)).glob("*"):
        if old != used and _is_release(old):
            shutil.rmtree(old, ignore_errors=True)


def run(
    root: Path,
    name: str,
    *arguments: str,
    owner: atomic_files.Owner,
    environment: Mapping[str, str] | None = None,
    timeout: float = TIMEOUT_S,
) -> Result:
    """Run the program `maas-virtualbox`.

    Args:
        root: The folder that represents `/`.
        name: The name of the folder in /opt.
        arguments: The program's command and options.
        owner: The IDs of the user and group that run the program.
        environment: Variables to add to `ENVIRONMENT`.
        timeout: Seconds, after which the program is ended.
    """
    program = root / current(name) / "bin" / PROGRAM
    argv = [str(program), *arguments]
    return run_as(owner, argv, environment or {}, timeout=timeout)


def run_as(
    owner: atomic_files.Owner,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    timeout: float = TIMEOUT_S,
) -> Result:
    """Run any program as a user and group, with `ENVIRONMENT` and additional variables."""
    user, group = owner
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            check=False,
            cwd="/",
            env={**ENVIRONMENT, **environment},
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            timeout=timeout,
            user=user,
            group=group,
            extra_groups=[],
        )
    except subprocess.TimeoutExpired:
        return Result("", f"{Path(argv[0]).name} did not finish within {timeout:.0f} s")
    except OSError as error:
        return Result("", f"cannot run {argv[0]}: {error.strerror}")
    if not done.returncode:
        return Result(done.stdout, "")
    error = done.stderr.replace(f"{PROGRAM}: ", "").strip()
    return Result(done.stdout, error or "the command failed: see the results")


def _current_release(root: Path, name: str) -> Path | None:
    """Return the release in use; None if there is no release."""
    link = root / current(name)
    return link.parent / link.readlink().name if link.is_symlink() else None


def _is_release(path: Path) -> bool:
    """Return whether `install` created a folder, complete or incomplete."""
    if path.is_symlink() or not path.is_dir():
        return False
    return bool(_PARTIAL.fullmatch(path.name)) or (path / "bin" / PROGRAM).is_file()


def _release(charm: Path) -> str:
    """Return the name of the charm's release. It differs if the code or a package differs."""
    digest = hashlib.sha256()
    for folder in ("src", "templates"):
        for path in sorted((charm / folder).rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                digest.update(f"{path.relative_to(charm)}\0".encode() + path.read_bytes())
    for package in sorted(charm.glob("venv/lib/python3*/site-packages/*.dist-info")):
        digest.update(package.name.encode())
    return f"{VERSION}-{digest.hexdigest()[:12]}"


def _add_program(partial: Path, target: Path, compiled: Sequence[str]) -> None:
    """Add the interpreter and the program to a copied environment. It will run from `target`."""
    python = partial / "venv/bin/python"
    python.unlink(missing_ok=True)
    python.parent.mkdir(exist_ok=True)
    python.symlink_to(Path(sys.executable).resolve())
    packages = next(partial.glob("venv/lib/python3*/site-packages"))
    (packages / "maas_virtualbox.pth").write_text("../../../../src\n", encoding="utf-8")
    script = f"#!{target}/venv/bin/python\nfrom maas_virtualbox.cli.main import main\n\nmain()\n"
    atomic_files.write(partial / "bin" / PROGRAM, script.encode(), 0o755)
    subprocess.run(
        [python, "-c", f"import {', '.join(compiled)}"],
        check=True,
        cwd="/",
        env=ENVIRONMENT,
        timeout=_COMPILE_TIMEOUT_S,
    )
