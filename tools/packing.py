# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Packs the charms of this project, also on Debian and without snaps, and unpacks them.

    charm = pack(Path("."), Path("dist"))
    folder = unpack(charm, tmp_path / "charm")

As a program (`make pack`): `python -m tools.packing [--project FOLDER] [DESTINATION]`.

If charmcraft is on PATH (Ubuntu's snap), it packs the project without changes. Otherwise
charmcraft is installed from PyPI into its own environment, once. It packs a copy of the project in
destructive mode, with a platform for this system instead of Ubuntu. The copy has the files that
git tracks, with their content in the work tree.
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
"""The system's Python: the packed environment contains the path of its interpreter."""
APT_MODULES = Path("/usr/lib/python3/dist-packages")
ENVIRONMENT = Path("~/.cache/maas-virtualbox/charmcraft")

_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_INSTALL_TIMEOUT_S = 300.0
_PACK_TIMEOUT_S = 300.0
_TAIL = 4000
"""How many characters of the output of a failed program are shown."""


class PackingError(Exception):
    """The charm cannot be packed. The message says why."""


def unsupported() -> str | None:
    """Return why this machine cannot pack a charm; None if it can."""
    if shutil.which("charmcraft") is not None:
        return None
    if not PYTHON.exists():
        return f"{PYTHON} is missing: charms are packed on Debian or Ubuntu"
    for module, package in (("ensurepip", "python3-venv"), ("apt_pkg", "python3-apt")):
        probe = [PYTHON, "-c", f"import {module}"]
        if subprocess.run(probe, capture_output=True, timeout=30, check=False).returncode:
            return f"packing a charm needs {package}: apt-get install {package}"
    return None


def pack(project: Path, destination: Path) -> Path:
    """Pack a charm.

    Args:
        project: The folder of charmcraft.yaml, in a git work tree. Its parts may use other folders
            of that tree.
        destination: The folder for the .charm file. It is created if it is missing.

    Returns:
        The .charm file. If there are several, for several platforms, the newest.

    Raises:
        PackingError: charmcraft cannot be installed, or it failed. The message has its output.
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
                # There may be no snapd here. The environment has the programs of these snaps.
                part.pop("build-snaps", None)
            recipe_file.write_text(yaml.safe_dump({**recipe, "platforms": platforms}))
        # Do not use --output: charmcraft 4.5 applies that path twice.
        _charmcraft("pack", *options, folder=work)
        # The names of packed charms have an underscore. The link for a bundle has none.
        charms = sorted(work.glob("*_*.charm"), key=lambda charm: charm.stat().st_mtime)
        if not charms:
            raise PackingError(f"charmcraft created no .charm file for {project}")
        destination.mkdir(parents=True, exist_ok=True)
        return [Path(shutil.copy(charm, destination)) for charm in charms][-1]


def analyse(charm: Path) -> str:
    """Run `charmcraft analyse` for a .charm file.

    Returns:
        Its output.

    Raises:
        PackingError: It found a problem.
    """
    return _charmcraft("analyse", charm.resolve(), folder=charm.resolve().parent)


def unpack(charm: Path, folder: Path) -> Path:
    """Unpack a .charm file into a new folder, with file modes and symbolic links."""
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
        # A tracked file may have been deleted, and the last name is empty.
        if name and (tree / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(tree / name, copy / name, follow_symlinks=False)


def _charmcraft(*arguments: str | Path, folder: Path) -> str:
    """Run charmcraft in a folder. Return its output."""
    if (installed := shutil.which("charmcraft")) is not None:
        return _run((installed, *arguments), folder=folder)
    tools = _ensure_environment() / "bin"
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-charmcraft-") as temporary:
        environment = {
            # The system's Python is first: the first one creates the packed environment.
            **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
            "PATH": f"{_SYSTEM_PATH}:{tools}",
            "XDG_RUNTIME_DIR": temporary,
            "XDG_STATE_HOME": temporary,
        }
        return _run((tools / "charmcraft", *arguments), folder=folder, environment=environment)


def _ensure_environment() -> Path:
    """Create charmcraft's environment, once. Other processes wait for it."""
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
    """Pack and analyse a charm. Return the exit code."""
    parser = argparse.ArgumentParser(description="Pack a charm of this project.")
    parser.add_argument("destination", nargs="?", type=Path, default=Path("dist"))
    parser.add_argument(
        "--project", type=Path, default=Path(), help="the folder of charmcraft.yaml"
    )
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
