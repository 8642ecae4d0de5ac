# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Root writes to a folder while its owner replaces files and folders as fast as possible.

The attacker is a process of a user without privileges, who owns the folder. It tries to own a file
of root, to read it, or to create one where only root may. Other tests change a file in parallel.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files

from tests.conftest import unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from multiprocessing.synchronize import Event

NOBODY = (65534, 65534)
WRITES = 1500
_fork = multiprocessing.get_context("fork")


@pytest.fixture
def area() -> Generator[Path]:
    """A folder of root that every user may enter, like /etc. pytest's own folders are private."""
    if os.geteuid() != 0:
        unavailable("only root can give files away")
    folder = Path(tempfile.mkdtemp(prefix="maas-virtualbox-files-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def theirs(area: Path) -> Path:
    """A folder of the attacker."""
    folder = area / "theirs"
    folder.mkdir(mode=0o755)
    os.chown(folder, *NOBODY)
    return folder


@pytest.fixture
def victim(area: Path) -> Path:
    """A secret file of root."""
    file = area / "victim"
    file.touch(0o600)
    file.write_text("a secret of root's\n")
    return file


@contextlib.contextmanager
def attacking(attack: Callable[[], object]) -> Generator[None]:
    """Repeat an attack in a process of another user until the block ends."""
    began, enough = _fork.Event(), _fork.Event()

    def run(began: Event, enough: Event) -> None:
        os.setgroups([])
        os.setgid(NOBODY[1])
        os.setuid(NOBODY[0])
        began.set()
        while not enough.is_set():
            for _ in range(50):
                with contextlib.suppress(OSError):
                    attack()

    process = _fork.Process(target=run, args=(began, enough))
    process.start()
    began.wait()
    try:
        yield
    finally:
        enough.set()
        process.join()


def given_away(victim: Path) -> bool:
    there = victim.stat()
    return (there.st_uid, stat.S_IMODE(there.st_mode)) != (0, 0o600)


def shows_secret(path: Path) -> bool:
    """Return whether a file of the attacker has the content of root's file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as file:
        return os.fstat(descriptor).st_uid == NOBODY[0] and b"secret of root" in file.read()


def exchange_temporary_file(folder: Path, victim: Path) -> None:
    """Replace a file that root is writing by a link to root's file."""
    for path in folder.glob(".*"):
        if path.suffix != ".theirs":
            path.rename(f"{path}.theirs")
            path.symlink_to(victim)


def test_write_never_gives_away_a_file_of_root(theirs: Path, victim: Path) -> None:
    won, written = 0, 0
    with attacking(lambda: exchange_temporary_file(theirs, victim)):
        for number in range(WRITES):
            with contextlib.suppress(errors.ConfigError):
                atomic_files.write(theirs / "secret", b"%d" % number, 0o644, NOBODY)
                written += 1
            if given_away(victim):
                won += 1
                os.chown(victim, 0, 0)
                victim.chmod(0o600)
            for left in theirs.glob(".*"):
                left.unlink(missing_ok=True)

    assert written, "the attacker prevented all writing by root"
    assert won == 0, f"{won} of {WRITES}"


def test_folder_of_root_is_never_given_away(theirs: Path, area: Path) -> None:
    target = area / "roots"
    target.mkdir(mode=0o700)

    def exchange_folder() -> None:
        folder = theirs / "scripts"
        if folder.is_dir() and not folder.is_symlink():
            folder.rename(theirs / f"taken-{random.getrandbits(40):x}")
        folder.symlink_to(target)

    won = 0
    with attacking(exchange_folder):
        for _ in range(WRITES):
            with contextlib.suppress(errors.ConfigError):
                atomic_files.write(
                    theirs / "scripts/power_on", b"#!/bin/sh\n", 0o755, NOBODY, folder_owner=NOBODY
                )
            there = target.stat()
            if there.st_uid != 0 or list(target.iterdir()):
                won += 1
                os.chown(target, 0, 0)
                for file in target.iterdir():
                    file.unlink()
            with contextlib.suppress(OSError):
                (theirs / "scripts").unlink()

    assert won == 0, f"{won} of {WRITES}"


def test_update_never_reveals_or_gives_away_a_file_of_root(theirs: Path, victim: Path) -> None:
    file = theirs / "known_hosts"
    mine = theirs / "mine"
    mine.write_text("1\n")
    os.chown(mine, *NOBODY)

    def exchange_file() -> None:
        link = theirs / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(victim)
        link.rename(file)
        copy = theirs / "copy"
        copy.unlink(missing_ok=True)
        os.link(mine, copy)
        copy.rename(file)
        exchange_temporary_file(theirs, victim)

    won, written = 0, 0
    with attacking(exchange_file):
        for _ in range(WRITES):
            with contextlib.suppress(errors.ConfigError):
                atomic_files.update(file, lambda before: (before or b"")[-100:] + b"2\n")
                written += 1
            won += given_away(victim) or any(map(shows_secret, theirs.iterdir()))

    assert written, "the attacker prevented all writing by root"
    assert won == 0, f"{won} of {WRITES}"


def add_numbers(path: Path, numbers: range) -> None:
    for number in numbers:
        atomic_files.update(
            path, lambda before, n=number: (before or b"") + b"%d\n" % n, timeout=300.0
        )


def test_parallel_updates_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "numbers"
    processes = [
        _fork.Process(target=add_numbers, args=(path, range(start, start + 40)))
        for start in range(0, 160, 40)
    ]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert sorted(map(int, path.read_text().split())) == list(range(160))
    assert [file.name for file in path.parent.iterdir()] == ["numbers"]


def test_link_of_another_user_is_not_followed(theirs: Path, area: Path) -> None:
    (area / "roots").mkdir()
    link = theirs / "scripts"
    link.symlink_to(area / "roots")
    os.lchown(link, *NOBODY)

    with pytest.raises(errors.ConfigError) as caught:
        atomic_files.write(link / "power_on", b"", 0o755, NOBODY, folder_owner=NOBODY)

    assert str(caught.value) == (
        f"{link}/power_on: cannot be written: scripts is a symbolic link that another user may"
        " have created"
    )
    assert list((area / "roots").iterdir()) == []


@pytest.mark.parametrize(
    ("folder_mode", "is_followed"), [(0o755, True), (0o1777, True), (0o777, False)]
)
def test_link_of_the_folder_owner_is_followed_by_others(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, folder_mode: int, is_followed: bool
) -> None:
    (theirs / "file").write_bytes(b"content")
    (theirs / "link").symlink_to("file")
    os.lchown(theirs / "link", *NOBODY)
    theirs.chmod(folder_mode)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with contextlib.nullcontext() if is_followed else pytest.raises(OSError, match="may have"):
        assert atomic_files.read(theirs / "link").content == b"content"


def test_link_of_a_third_user_in_tmp_is_not_followed(
    area: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    area.chmod(0o1777)
    (area / "file").touch()
    (area / "link").symlink_to("file")
    os.lchown(area / "link", *NOBODY)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(OSError, match="another user may have created"):
        atomic_files.read(area / "link")


def test_link_of_root_in_a_folder_of_root_is_followed(theirs: Path, area: Path) -> None:
    (area / "link").symlink_to("theirs")

    assert atomic_files.write(area / "link/file", b"", 0o600, NOBODY)

    assert (theirs / "file").stat().st_uid == NOBODY[0]


def test_update_by_root_keeps_the_owner_of_the_folder(theirs: Path) -> None:
    atomic_files.update(theirs / "folder/file", lambda _: b"one")
    atomic_files.write(theirs / "kept", b"", 0o600, NOBODY)
    atomic_files.update(theirs / "kept", lambda _: b"two")

    assert (theirs / "kept").stat().st_uid == NOBODY[0]
    assert (theirs / "folder").stat().st_uid == NOBODY[0]
    assert (theirs / "folder/file").stat().st_uid == NOBODY[0]


def test_file_of_another_user_in_tmp_is_not_overwritten(area: Path) -> None:
    area.chmod(0o1777)
    atomic_files.write(area / "secrets.yaml", b"theirs", 0o600, NOBODY)

    with pytest.raises(errors.ConfigError, match="it belongs to user 65534, who may have created"):
        atomic_files.update(area / "secrets.yaml", lambda _: b"a new secret")

    assert (area / "secrets.yaml").read_bytes() == b"theirs"
