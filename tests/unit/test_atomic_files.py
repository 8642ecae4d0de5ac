# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Files are written atomically, changed under a lock, and never through a replaced path.

A test that replaces something always does so between the same two steps of the writer.
"""

from __future__ import annotations

import fcntl
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ME = (os.getuid(), os.getgid())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=["by-descriptor", "by-path"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test as on this system, and as on Windows, which has no owners and no open folders."""
    if request.param == "by-path":
        monkeypatch.setattr(atomic_files, "_BY_DESCRIPTOR", False)
        monkeypatch.setattr(atomic_files, "fcntl", None)
        monkeypatch.delattr(os, "fchown")
        monkeypatch.delattr(os, "fchmod")
        monkeypatch.delattr(os, "geteuid")


def after(monkeypatch: pytest.MonkeyPatch, function: str, step: Callable[[], object]) -> None:
    """Call something right after the next call of a function of `os`."""
    original = getattr(os, function)

    def call(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options)
        monkeypatch.setattr(os, function, original)
        step()
        return result

    monkeypatch.setattr(os, function, call)


@pytest.mark.usefixtures("either_way")
def test_write_creates_the_folder_and_returns_changes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"

    changes = [atomic_files.write(path, content, 0o600) for content in (b"one", b"one", b"two")]

    assert changes == [True, False, True]
    assert path.read_bytes() == b"two"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.usefixtures("either_way")
def test_update_changes_the_content(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"

    changes = [
        atomic_files.update(path, lambda before: (before or b"")[:1] + b"+") for _ in range(3)
    ]

    assert changes == [True, True, False]
    assert path.read_bytes() == b"++"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


@pytest.mark.usefixtures("either_way")
def test_folder_with_the_name_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()

    message = f"{tmp_path}/file: cannot be written: it is a folder"
    with pytest.raises(errors.ConfigError, match=f"^{message}$"):
        atomic_files.write(tmp_path / "file", b"", 0o600)
    with pytest.raises(errors.ConfigError, match=f"^{message}$"):
        atomic_files.update(tmp_path / "file", lambda _: b"")


def test_replaced_temporary_file_changes_no_other_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "theirs"
    victim.touch(0o600)
    folder.mkdir()

    def exchange() -> None:
        (temporary,) = folder.iterdir()
        temporary.rename(folder / "taken")
        temporary.symlink_to(victim)

    after(monkeypatch, "fsync", exchange)
    atomic_files.write(folder / "file", b"content", 0o644, ME)

    assert mode(victim) == 0o600
    assert victim.read_bytes() == b""
    assert mode(folder / "taken") == 0o644


def test_replaced_new_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder = tmp_path / "roots", tmp_path / "theirs"
    target.mkdir()

    def exchange() -> None:
        folder.rename(tmp_path / "taken")
        folder.symlink_to(target)

    after(monkeypatch, "mkdir", exchange)
    with pytest.raises(errors.ConfigError):
        atomic_files.write(folder / "file", b"content", 0o644, ME, folder_owner=ME)

    assert list(target.iterdir()) == []


def test_replaced_folder_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder = tmp_path / "roots", tmp_path / "theirs"
    target.mkdir()
    folder.mkdir()

    def exchange() -> None:
        folder.rename(tmp_path / "taken")
        folder.symlink_to(target)

    after(monkeypatch, "fsync", exchange)
    atomic_files.write(folder / "file", b"content", 0o644)

    assert list(target.iterdir()) == []
    assert (tmp_path / "taken" / "file").read_bytes() == b"content"


def test_file_replaced_by_a_link_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, file = tmp_path / "secret", tmp_path / "file"
    secret.write_bytes(b"secret\n")
    file.write_bytes(b"public\n")

    seen, original = list[bytes | None](), os.stat

    def stat_and_exchange(path: str, **options: Any) -> os.stat_result:
        result = original(path, **options)
        if path == "file" and stat.S_ISREG(result.st_mode):
            file.unlink()
            file.symlink_to(secret)
        return result

    def remember(before: bytes | None) -> bytes:
        seen.append(before)
        return b""

    monkeypatch.setattr(os, "stat", stat_and_exchange)
    with pytest.raises(errors.ConfigError):
        atomic_files.update(file, remember)

    assert seen == []


def test_own_link_is_followed_and_kept(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real/link").symlink_to(tmp_path / "real/file")

    atomic_files.write(tmp_path / "folder/link", b"content", 0o600)

    assert (tmp_path / "real/link").is_symlink()
    assert (tmp_path / "real/file").read_bytes() == b"content"


def test_circular_links_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(errors.ConfigError, match="cannot be written: Too many levels of symbolic"):
        atomic_files.write(tmp_path / "a" / "file", b"content", 0o600)


def test_fifo_with_the_name_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")

    with pytest.raises(errors.ConfigError, match="it is a FIFO, not a file"):
        atomic_files.write(tmp_path / "file", b"content", 0o600)


def test_hard_link_keeps_its_content(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"before")
    os.link(tmp_path / "other", tmp_path / "file")

    atomic_files.write(tmp_path / "file", b"after", 0o600)

    assert (tmp_path / "other").read_bytes() == b"before"


def test_modes_do_not_depend_on_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        atomic_files.write(tmp_path / "folder/file", b"", 0o644, folder_mode=0o755)
    finally:
        os.umask(before)

    assert (mode(tmp_path / "folder"), mode(tmp_path / "folder/file")) == (0o755, 0o644)


def test_ensure_folder_does_not_change_an_existing_one(tmp_path: Path) -> None:
    path = tmp_path / "outer/folder"

    assert atomic_files.ensure_folder(path, 0o700, ME)
    path.chmod(0o750)
    assert not atomic_files.ensure_folder(path, 0o700, ME)

    assert mode(path) == 0o750


def test_update_that_fails_changes_nothing(tmp_path: Path) -> None:
    def fail(_before: bytes | None) -> bytes:
        raise errors.ConfigError("not like this")

    (tmp_path / "there").write_bytes(b"before")
    for name in ("there", "missing"):
        with pytest.raises(errors.ConfigError, match="not like this"):
            atomic_files.update(tmp_path / name, fail)

    assert [file.name for file in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_bytes() == b"before"


@pytest.mark.parametrize(("before", "expected"), [(0o640, 0o640), (0o644, 0o640), (0o600, 0o600)])
def test_update_keeps_the_permitted_mode_bits(tmp_path: Path, before: int, expected: int) -> None:
    path = tmp_path / "file"
    path.touch()
    path.chmod(before)

    atomic_files.update(path, lambda _: b"after", kept_mode=0o660)

    assert mode(path) == expected


def test_update_waits_until_its_timeout(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(errors.ConfigError, match="another program has locked it"):
            atomic_files.update(path, lambda _: b"after", timeout=0.0)

    assert path.read_bytes() == b""


def test_remove_returns_whether_the_file_existed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert atomic_files.remove(tmp_path / "file")
    assert not atomic_files.remove(tmp_path / "file")
    assert not atomic_files.remove(tmp_path / "missing/file")


def test_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(atomic_files.READ_LIMIT + 1)

    with pytest.raises(OSError, match="it is larger than"):
        atomic_files.read(tmp_path / "file")
