# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Packs charms of this project on Debian or Ubuntu without charmcraft's snap, and unpacks them.

    charm = pack(Path("."), Path("dist"))
    folder = unpack(charm, tmp_path / "charm")

As a program (`make pack`): `python -m tools.packing [--project FOLDER] [DESTINATION]`.

The real charm is for Ubuntu 24.04. Here a copy of the tree says that it is for this system and is
packed in destructive mode, with charmcraft from PyPI in an environment that is made once and kept.
What is packed is what git tracks, as it stands in the work tree. On a machine whose charmcraft is
on PATH (Ubuntu's snap) that one packs the project as it is.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CHARMCRAFT = "charmcraft==4.5.*"
PYTHON = Path("/usr/bin/python3").resolve()
"""The system's own: the packed environment names the interpreter it was made with."""
APT_MODULES = Path("/usr/lib/python3/dist-packages")
ENVIRONMENT = Path("~/.cache/maas-virtualbox/charmcraft")

_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_INSTALL_TIMEOUT_S = 300.0
_PACK_TIMEOUT_S = 300.0
_TAIL = 4000
"""How many characters of a failed program's output are shown."""


class PackingError(Exception):
    """The charm cannot be packed; the message says why."""


def unsupported() -> str | None:
    """Say why this machine cannot pack a charm, or None if it can."""
    if shutil.which("charmcraft") is not None:
        return None
    if not PYTHON.exists():
        return f"charms are packed on Debian or Ubuntu: there is no {PYTHON}"
    for module, package in (("ensurepip", "python3-venv"), ("apt_pkg", "python3-apt")):
        probe = [PYTHON, "-c", f"import {module}"]
        if subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode:
            return f"packing a charm needs {package}: apt-get install {package}"
    return None


def pack(project: Path, destination: Path) -> Path:
    """Pack a charm.

    Args:
        project: the folder of its charmcraft.yaml, anywhere in a git work tree. Its parts may use
            other folders of that tree.
        destination: the folder for the .charm file; made if need be.

    Returns:
        The .charm file; of several, one for each platform, the last that was made.

    Raises:
        PackingError: charmcraft is not to be had, or refused; with charmcraft's own words.
    """
    if (reason := unsupported()) is not None:
        raise PackingError(reason)
    tree = Path(_run(("git", "-C", project, "rev-parse", "--show-toplevel")).rstrip("\n"))
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-pack-") as temporary:
        if shutil.which("charmcraft") is not None:
            work, options = project, ()
        else:
            _copy_tracked_files(tree, Path(temporary))
            work = Path(temporary, project.resolve().relative_to(tree))
            options = ("--destructive-mode",)
            recipe_file = work / "charmcraft.yaml"
            recipe: dict[str, Any] = yaml.safe_load(recipe_file.read_text())
            system = platform.freedesktop_os_release()
            platforms = {f"{system['ID']}@{system['VERSION_ID']}:amd64": None}
            for part in recipe["parts"].values():
                # There is no snapd here to ask; what these snaps hold is among the tools.
                part.pop("build-snaps", None)
            recipe_file.write_text(yaml.safe_dump({**recipe, "platforms": platforms}))
        # Without --output: charmcraft 4.5 takes that path twice, one below the other.
        _charmcraft("pack", *options, folder=work)
        # Its names have an _; a link for a bundle has none.
        charms = sorted(work.glob("*_*.charm"), key=lambda charm: charm.stat().st_mtime)
        if not charms:
            raise PackingError(f"charmcraft made no .charm of {project}")
        destination.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(charm, destination)) for charm in charms][-1]


def analyse(charm: Path) -> str:
    """Let charmcraft judge a .charm file.

    Returns:
        What it says.

    Raises:
        PackingError: it found a fault.
    """
    return _charmcraft("analyse", charm.resolve(), folder=charm.resolve().parent)


def unpack(charm: Path, folder: Path) -> Path:
    """Unpack a .charm file into a folder that does not exist yet, modes and links included."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(charm) as packed:
        for entry in packed.infolist():
            mode = entry.external_attr >> 16
            if stat.S_ISLNK(mode):
                Path(folder, entry.filename).symlink_to(packed.read(entry).decode())
                continue
            path = Path(packed.extract(entry, folder))
            if mode:
                path.chmod(stat.S_IMODE(mode))
    return folder


def _copy_tracked_files(tree: Path, copy: Path) -> None:
    for name in _run(("git", "-C", tree, "ls-files", "-z")).split("\0"):
        # A tracked file may be deleted in the work tree, and the last name is empty.
        if name and (tree / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, copy / name, follow_symlinks=False)


def _charmcraft(*arguments: str | Path, folder: Path) -> str:
    """Run charmcraft in a folder; returns what it wrote."""
    if (installed := shutil.which("charmcraft")) is not None:
        return _run((installed, *arguments), folder=folder)
    tools = _ensure_environment() / "bin"
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-charmcraft-") as temporary:
        environment = {
            # The system's Python comes first: the packed environment is made with the first one.
            **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
            "PATH": f"{_SYSTEM_PATH}:{tools}",
            "XDG_RUNTIME_DIR": temporary,
            "XDG_STATE_HOME": temporary,
        }
        return _run((tools / "charmcraft", *arguments), folder=folder, environment=environment)


def _ensure_environment() -> Path:
    """Make charmcraft's environment once; processes that come meanwhile wait for it."""
    environment = ENVIRONMENT.expanduser()
    environment.parent.mkdir(parents=True, exist_ok=True)
    marker = environment / CHARMCRAFT
    with Path(f"{environment}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not marker.exists():
            _run((PYTHON, "-m", "venv", "--clear", environment))
            pip = (environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check")
            _run((*pip, CHARMCRAFT, "uv"), timeout=_INSTALL_TIMEOUT_S)
            packages = next(environment.glob("lib/python3*/site-packages"))
            for pattern in ("apt", "aptsources", "apt_pkg*.so", "apt_inst*.so"):
                for module in APT_MODULES.glob(pattern):
                    (packages / module.name).symlink_to(module)
            marker.touch()
    return environment


def _run(
    argv: Sequence[str | Path],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = _PACK_TIMEOUT_S,
) -> str:
    try:
        return subprocess.run(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=True,
        ).stdout
    except subprocess.CalledProcessError as error:
        raise PackingError(f"{argv[0]} failed:\n{error.stdout[-_TAIL:]}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Pack and analyse; returns the exit code."""
    parser = argparse.ArgumentParser(description="Pack a charm of this project.")
    parser.add_argument("destination", nargs="?", type=Path, default=Path("dist"))
    parser.add_argument("--project", type=Path, default=Path(), help="with its charmcraft.yaml")
    chosen = parser.parse_args(arguments)
    try:
        charm = pack(chosen.project, chosen.destination)
        print(analyse(charm).rstrip())
    except PackingError as error:
        print(f"packing.py: {error}", file=sys.stderr)
        return 1
    print(charm)
    return 0


if __name__ == "__main__":
    sys.exit(main())
