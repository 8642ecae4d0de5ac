# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Files written atomically, and only where they differ, also in folders that belong to others.

Root writes into folders of the service's user and of MAAS's, who may exchange files and folders
there at any time. Therefore a path is walked once, name by name, and its last folder stays open:
whatever is done then is done in that folder and to open files, never by path. Root follows a
symbolic link only where nobody else can have placed it; others follow those of a folder's owner,
too, as Linux does in /tmp.

Windows has neither owners nor open folders: there, files are written atomically by path.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import secrets
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from maas_virtualbox import errors

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Owner = tuple[int, int]
"""The numbers of a user and a group."""

READ_LIMIT = 16 * 1024 * 1024
"""The size in bytes from which on a file is not read."""

LOCK_TIMEOUT_S = 10.0
"""Seconds to wait for others who change the same file."""

_LOCK_POLL_S = 0.02
_MAX_LINKS = 40
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "fchown")
_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# A folder that may be searched but not listed can be opened with O_PATH only, where there is one.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


@dataclasses.dataclass(frozen=True)
class File:
    """A file as it was read: all of it from one open file."""

    content: bytes = dataclasses.field(repr=False)
    mode: int
    """Its permissions, such as 0o600."""
    owner: Owner


def ensure_folder(path: Path, mode: int, owner: Owner | None = None) -> bool:
    """Make a folder if it is missing; return whether it was.

    Args:
        path: the folder. Folders above it that are missing are made, for who runs this.
        mode: its permissions if it is made.
        owner: its user and group if it is made. None: who runs this.

    Raises:
        ConfigError: it cannot be made.
    """
    with (
        _explained(path, "made"),
        _place(path / "inside", _Missing(mode, owner)) as place,
    ):
        return place.made


def read(path: Path) -> File:
    """Read a file.

    Raises:
        OSError: it cannot be read, is not a file, is larger than `READ_LIMIT`, or is reached by a
            symbolic link that another user may have placed.
    """
    with _place(path) as place, os.fdopen(place.open(os.O_RDONLY), "rb") as file:
        there = os.fstat(file.fileno())
        content = file.read(READ_LIMIT + 1)
    if len(content) > READ_LIMIT:
        raise OSError(errno.EFBIG, f"it is larger than {READ_LIMIT} bytes")
    return File(content, stat.S_IMODE(there.st_mode), (there.st_uid, there.st_gid))


def remove(path: Path) -> bool:
    """Remove a file; return whether it was there.

    Raises:
        ConfigError: it cannot be removed.
    """
    with _explained(path, "removed"):
        try:
            with _place(path) as place:
                os.unlink(place.name, dir_fd=place.folder)
        except FileNotFoundError:
            return False
    return True


def update(
    path: Path,
    change: Callable[[bytes | None], bytes],
    *,
    kept_mode: int = 0o600,
    timeout: float = LOCK_TIMEOUT_S,
) -> bool:
    """Change a file under a lock, so that no other call, in any process, loses what it changed.

    A new file is its owner's only, as are folders that are made for it; what root makes in a
    folder of another user belongs to that user. A file that is there keeps its owner.

    Windows has no such lock: there, callers see to it that one process at a time calls this.

    Args:
        path: the file.
        change: returns the new content, given the present one, or None where there is no file.
            It may be called several times; what it raises passes through, and nothing changes.
        kept_mode: which permissions of a file that is there are kept.
        timeout: seconds to wait for others who change it.

    Returns:
        Whether the file changed.

    Raises:
        ConfigError: it cannot be written; what was there before still is.
    """
    deadline = time.monotonic() + timeout
    with _explained(path, "written"), _place(path, _Missing(0o700, inherited=True)) as place:
        while True:
            try:
                descriptor = place.open(os.O_RDWR)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):  # another process was faster
                    place.write(change(None), 0o600, _inherited_owner(place.folder), new=True)
                    return True
                _check_deadline(deadline)
                continue
            with os.fdopen(descriptor, "rb") as file:
                _lock(descriptor, deadline)
                if not place.is_there(descriptor):  # the one we waited for has replaced it
                    _check_deadline(deadline)
                    continue
                there = os.fstat(descriptor)
                before = file.read(READ_LIMIT + 1)
                if len(before) > READ_LIMIT:
                    raise OSError(errno.EFBIG, f"it is larger than {READ_LIMIT} bytes")
                after = change(before)
                mode = stat.S_IMODE(there.st_mode) & kept_mode
                if after == before and mode == stat.S_IMODE(there.st_mode):
                    return False
                if fcntl is None:
                    file.close()  # Windows replaces no open file
                place.write(after, mode, place.kept_owner(there))
                return True


def write(
    path: Path,
    content: bytes,
    mode: int,
    owner: Owner | None = None,
    *,
    folder_mode: int = 0o755,
    folder_owner: Owner | None = None,
) -> bool:
    """Write a file atomically; return whether it changed.

    Args:
        path: the file; its folder is made if it is missing.
        content: all of it.
        mode: its permissions, such as 0o600; nobody sees the content with others.
        owner: its user and group. None: who runs this.
        folder_mode: the permissions of a folder that is made.
        folder_owner: the user and group of a folder that is made. None: who runs this.

    Raises:
        ConfigError: it cannot be written, as where a folder or a link of another user has its
            name; what was there before still is.
    """
    with _explained(path, "written"), _place(path, _Missing(folder_mode, folder_owner)) as place:
        if place.holds(content, mode, owner):
            return False
        place.write(content, mode, owner)
    return True


def write_secret(path: Path, text: str, *, what: str) -> None:
    """Write a file for its owner only. One there keeps its owner, and its mode up to the group's.

    Args:
        path: where; missing folders are made, for the owner only.
        text: its content.
        what: how messages begin, such as `secrets-file /etc/…`.

    Raises:
        ConfigError: it cannot be written.
    """
    with renamed(path, what):
        update(path, lambda _: text.encode(), kept_mode=0o660)


@contextlib.contextmanager
def renamed(path: Path, what: str) -> Generator[None]:
    """Let messages about a file begin with what it is to people, such as `secrets-file /etc/…`."""
    try:
        yield
    except errors.ConfigError as error:
        raise errors.ConfigError(str(error).replace(str(path), what, 1)) from None


@dataclasses.dataclass(frozen=True)
class _Missing:
    """What a folder becomes that is missing."""

    mode: int
    owner: Owner | None = None
    inherited: bool = False
    """Whether one that root makes belongs to the owner of the folder around it."""


@dataclasses.dataclass(frozen=True)
class _Place:
    """A name in a folder that is held open: nobody can put another folder in its place."""

    folder: int | None
    """The open folder. None: there are none on this system, and the name is a whole path."""
    name: str
    made: bool = False
    """Whether the folder was made."""

    def open(self, flags: int) -> int:
        """Open the file of this name. Raises `OSError`, also where it is not a regular one."""
        follow = self.folder is None
        _check_regular(os.stat(self.name, dir_fd=self.folder, follow_symlinks=follow))
        # A FIFO that was put there since must not keep us waiting.
        flags |= _NO_LINK | _BINARY | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(self.name, flags, dir_fd=self.folder)
        try:
            _check_regular(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def is_there(self, descriptor: int) -> bool:
        """Whether an open file is still the one of this name."""
        try:
            there = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def holds(self, content: bytes, mode: int, owner: Owner | None) -> bool:
        """Whether the file is there with this content, mode and owner."""
        try:
            descriptor = self.open(os.O_RDONLY)
        except FileNotFoundError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            there = os.fstat(descriptor)
            if self.folder is not None:
                wanted = owner or (os.geteuid(), there.st_gid)
                if (there.st_uid, there.st_gid) != wanted:
                    return False
            return stat.S_IMODE(there.st_mode) == mode and file.read(len(content) + 1) == content

    def kept_owner(self, there: os.stat_result) -> Owner | None:
        """Return the owner of a file that is there, for the one that replaces it.

        Raises:
            PermissionError: somebody else may have placed it, to be given the new one.
        """
        if self.folder is None:
            return None
        folder = os.fstat(self.folder)
        if there.st_uid not in (0, os.geteuid(), folder.st_uid) and not _is_private(folder):
            raise PermissionError(
                errno.EPERM,
                f"it belongs to user {there.st_uid}, who may have placed it there: remove it",
            )
        return there.st_uid, there.st_gid

    def write(self, content: bytes, mode: int, owner: Owner | None, *, new: bool = False) -> None:
        """Write the file atomically.

        Raises:
            FileExistsError: it is there, and was to be new.
            OSError: it cannot be written.
        """
        temporary = self._beside(f".{Path(self.name).name}.{secrets.token_hex(8)}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY
        descriptor = os.open(temporary, flags, 0o600, dir_fd=self.folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                if self.folder is not None:
                    if owner is not None:
                        os.fchown(descriptor, *owner)
                    os.fchmod(descriptor, mode)
            if not new or not self._link(temporary):
                os.replace(temporary, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self.folder)

    def _link(self, temporary: str) -> bool:
        """Give a new file its name, unless that is taken; return whether the file system can."""
        folders = {"src_dir_fd": self.folder, "dst_dir_fd": self.folder}
        try:
            os.link(temporary, self.name, **folders, follow_symlinks=self.folder is None)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.ENOTSUP):  # such as FAT
                return False
            raise
        return True

    def _beside(self, name: str) -> str:
        return name if self.folder is not None else str(Path(self.name).with_name(name))


@contextlib.contextmanager
def _explained(path: Path, done: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be {done}: {error.strerror}") from None


@contextlib.contextmanager
def _place(path: Path, missing: _Missing | None = None) -> Generator[_Place]:
    """Open the folder of a path. Folders are made if it is said what missing ones become."""
    if not _BY_DESCRIPTOR:
        if missing is not None:
            path.parent.mkdir(missing.mode, parents=True, exist_ok=True)
        yield _Place(None, str(path))
        return
    place = _walk(path, missing)
    assert place.folder is not None
    try:
        yield place
    finally:
        os.close(place.folder)


def _walk(path: Path, missing: _Missing | None) -> _Place:
    """Follow a path name by name; the last one stays a name."""
    names = list(reversed(path.parts[1:] if path.anchor else path.parts))
    folder, made, links = os.open(path.anchor or ".", _FOLDER), False, 0
    try:
        while names:
            name = names.pop()
            there = _stat(name, folder)
            if there is not None and stat.S_ISLNK(there.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names += reversed(Path(_read_link(name, folder, there)).parts)
            elif not names:
                return _Place(folder, name, made)
            else:
                if there is None and missing is not None:
                    inner, made = _make_folder(name, folder, missing if len(names) == 1 else None)
                else:
                    inner = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except BaseException:
        os.close(folder)
        raise


def _make_folder(name: str, folder: int, wanted: _Missing | None) -> tuple[int, bool]:
    """Make a folder and open it; returns it, and whether it was made.

    Args:
        name: of the folder.
        folder: the open one to make it in.
        wanted: what it becomes. None: the usual permissions, for who runs this.
    """
    try:
        os.mkdir(name, 0o777 if wanted is None else 0o700, dir_fd=folder)
    except FileExistsError:  # another process was faster
        return os.open(name, _FOLDER, dir_fd=folder), False
    if wanted is None:
        return os.open(name, _FOLDER, dir_fd=folder), True
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=folder)
    try:
        # Whoever owns the outer folder may have put another one in its place.
        with os.scandir(made) as inside:
            if os.fstat(made).st_uid != os.geteuid() or any(inside):
                raise OSError(errno.EEXIST, f"{name} was exchanged for another folder")
        owner = _inherited_owner(folder) if wanted.inherited else wanted.owner
        if owner is not None:
            os.fchown(made, *owner)
        os.fchmod(made, wanted.mode)
    except BaseException:
        os.close(made)
        raise
    return made, True


def _inherited_owner(folder: int | None) -> Owner | None:
    """Return who that belongs to which root makes in a folder of another user: to that user."""
    if folder is None or os.geteuid() != 0:
        return None
    there = os.fstat(folder)
    return (there.st_uid, there.st_gid) if there.st_uid else None


def _stat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _read_link(name: str, folder: int, there: os.stat_result) -> str:
    """Return where a symbolic link leads, unless another user may have placed it."""
    around = os.fstat(folder)
    trusted = {0, os.geteuid()}
    if os.geteuid() != 0:
        trusted.add(around.st_uid)
    if not trusted >= {there.st_uid, around.st_uid} or _is_open_to_all(around):
        raise OSError(
            errno.ELOOP, f"{name} is a symbolic link that another user may have placed there"
        )
    return os.readlink(name, dir_fd=folder)


def _is_open_to_all(folder: os.stat_result) -> bool:
    """Whether everybody may exchange what is in a folder."""
    return bool(folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX)


def _is_private(folder: os.stat_result) -> bool:
    """Whether only root and the caller can place anything in a folder."""
    writable = stat.S_IWGRP | stat.S_IWOTH
    return folder.st_uid in (0, os.geteuid()) and not folder.st_mode & writable


def _check_regular(there: os.stat_result) -> None:
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(there.st_mode):
        kind = _KINDS.get(stat.S_IFMT(there.st_mode), "a device")
        raise OSError(errno.EINVAL, f"it is {kind}, not a file")


def _lock(descriptor: int, deadline: float) -> None:
    if fcntl is None:
        return
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _check_deadline(deadline)
            time.sleep(_LOCK_POLL_S)
        else:
            return


def _check_deadline(deadline: float) -> None:
    if time.monotonic() >= deadline:
        raise TimeoutError(errno.ETIMEDOUT, "another program keeps it locked")
