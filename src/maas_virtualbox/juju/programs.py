# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The program `maas-virtualbox` in a place of its own, for charms. Knows nothing of Juju.

/opt/NAME/RELEASE   a copy of the charm's environment: the charm's own folder is swapped when it is
                    refreshed, and deleted when it is removed
/opt/NAME/current   the release in use

Functions take the folder that stands for `/`, and may be called again at any time.
"""

from __future__ import annotations

import contextlib
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
from maas_virtualbox.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = "maas-virtualbox"

ENVIRONMENT = {"LANG": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
"""Of every program a charm starts; Juju's own, with the charm's PYTHONPATH, stays outside."""

CLAIM = "claim.json"
"""Beside the releases: see `claims`."""

TIMEOUT_S = 120.0
"""Seconds a program may take, unless it is said."""

_COMPILE_TIMEOUT_S = 120.0
_PARTIAL = re.compile(r"\.[\w.+-]+-[0-9a-f]{12}")
"""The name of a release that is being copied."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a program said."""

    output: str
    problem: str
    """What went wrong, for people; empty if nothing did. There may be output all the same."""


def releases(name: str) -> Path:
    """Return the folder of a charm's releases, relative to `/`."""
    return Path("opt", name)


def current(name: str) -> Path:
    """Return the link to the release in use, relative to `/`."""
    return releases(name) / "current"


def install(root: Path, charm: Path, name: str, *, compiled: Sequence[str]) -> None:
    """Copy a charm's environment to its own place, unless it is there already.

    Args:
        root: what stands for `/`.
        charm: the charm's folder, with `venv/`, `src/` and `templates/`.
        name: of its place.
        compiled: the modules that the program loads: whoever runs it cannot write there.

    Raises:
        ConfigError: it cannot be copied; the release in use stays.
    """
    try:
        _install(root, charm, name, compiled)
    except (OSError, shutil.Error, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else ""
        raise errors.ConfigError(
            f"/{releases(name)}: the program cannot be installed: {reason or error}"
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
        _make_program(partial, target, compiled)
        partial.replace(target)
    link = root / releases(name) / ".current"
    link.unlink(missing_ok=True)
    link.symlink_to(release)
    link.replace(root / current(name))


def is_installed(root: Path, name: str) -> bool:
    """Whether there is a release to run."""
    return (root / current(name)).exists()


def remove(root: Path, name: str) -> None:
    """Remove all releases, and nothing that somebody else has put beside them."""
    remove_old(root, name)
    used = _used(root, name)
    if used is not None:
        (root / current(name)).unlink()
        shutil.rmtree(used, ignore_errors=True)
    remove_folder(root / releases(name))


def remove_folder(folder: Path) -> None:
    """Remove a folder if nothing is in it."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def remove_old(root: Path, name: str) -> None:
    """Remove the releases that are not in use any more."""
    used = _used(root, name)
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
) -> Answer:
    """Run the program `maas-virtualbox`.

    Args:
        root: what stands for `/`.
        name: of its place.
        arguments: its command and options.
        owner: the user and group that run it.
        environment: what it is given besides `ENVIRONMENT`.
        timeout: seconds, after which it is ended.
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
) -> Answer:
    """Run any program as a user and group, with `ENVIRONMENT` and what is given besides."""
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
        return Answer("", f"not done within {timeout:.0f} s")
    except OSError as error:
        return Answer("", f"{argv[0]} cannot be run: {error.strerror}")
    problem = done.stderr.replace(f"{PROGRAM}: ", "").strip() if done.returncode else ""
    return Answer(
        done.stdout, problem or ("not all is well: see the results" if done.returncode else "")
    )


def _used(root: Path, name: str) -> Path | None:
    """Return the release in use, if there is one."""
    link = root / current(name)
    return link.parent / link.readlink().name if link.is_symlink() else None


def _is_release(path: Path) -> bool:
    """Whether `install` made a folder, be it in part."""
    if path.is_symlink() or not path.is_dir():
        return False
    return bool(_PARTIAL.fullmatch(path.name)) or (path / "bin" / PROGRAM).is_file()


def _release(charm: Path) -> str:
    """Name what the charm brings: differently where the code or a package differs."""
    digest = hashlib.sha256()
    for folder in ("src", "templates"):
        for path in sorted((charm / folder).rglob("*")):
            if path.is_file() and path.parent.name != "__pycache__":
                digest.update(f"{path.relative_to(charm)}\0".encode() + path.read_bytes())
    for package in sorted(charm.glob("venv/lib/python3*/site-packages/*.dist-info")):
        digest.update(package.name.encode())
    return f"{VERSION}-{digest.hexdigest()[:12]}"


def _make_program(partial: Path, target: Path, compiled: Sequence[str]) -> None:
    """Give a copied environment its interpreter and the program, to be run from `target`."""
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
