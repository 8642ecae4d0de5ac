# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Read and write files atomically and safely, even in folders that belong to other users.

Root writes to folders of the service's user and of MAAS's user, who can replace files and folders
there at any time. Therefore a path is followed once, name by name, and its last folder stays
open. Everything after that refers to the open folder and to open files, never to a path. Root
follows a symbolic link only if no other user can have created it. Other users also follow the
links of a folder's owner, as Linux does in /tmp.

Windows has neither owners nor open folders. There, files are written atomically by path. The
content of files belongs to the callers.
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
from typing import TYPE_CHECKING, BinaryIO

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Owner = tuple[int, int]
"""The numeric IDs of a user and a group."""

READ_LIMIT = 16 * 1024 * 1024
"""The size in bytes of the largest file that is read."""

LOCK_TIMEOUT_S = 10.0
"""Seconds to wait for other programs that change the same file."""

_LOCK_INTERVAL_S = 0.02
_MAX_LINKS = 40
_BY_DESCRIPTOR = os.open in os.supports_dir_fd and hasattr(os, "fchown")
_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
# A folder that may be searched but not listed can be opened only with O_PATH, if that exists.
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
_FILE_TYPES = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}


@dataclasses.dataclass(frozen=True)
class File:
    """A file as it was read. Everything comes from one open file."""

    content: bytes = dataclasses.field(repr=False)
    mode: int
    """The permissions, such as 0o600."""
    owner: Owner


def ensure_folder(path: Path, mode: int, owner: Owner | None = None) -> bool:
    """Create a folder if it is missing. Return whether it was created.

    Args:
        path: the folder. Missing parent folders are created for the current user.
        mode: the permissions of a new folder.
        owner: the owner of a new folder. None: the current user.

    Raises:
        ConfigError: the folder cannot be created.
    """
    with (
        _explained(path, "created"),
        _opened(path / "inside", _NewFolder(mode, owner)) as entry,
    ):
        return entry.is_folder_new


def read(path: Path) -> File:
    """Read a file.

    Raises:
        OSError: the path cannot be read, is not a file, is larger than `READ_LIMIT`, or contains
            a symbolic link that another user may have created.
    """
    with _opened(path) as entry, os.fdopen(entry.open(os.O_RDONLY), "rb") as file:
        return _read(file)


def remove(path: Path) -> bool:
    """Remove a file. Return whether it existed.

    Raises:
        ConfigError: the file cannot be removed.
    """
    with _explained(path, "removed"):
        try:
            with _opened(path) as entry:
                os.unlink(entry.name, dir_fd=entry.folder)
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
    """Change a file under a lock, so that parallel calls in all processes lose no change.

    Only its owner can read a new file, and new folders for it. If root creates them in a folder of
    another user, they belong to that user. An existing file keeps its owner.

    On Windows there is no lock: callers must ensure that one process at a time calls this.

    Args:
        path: the file.
        change: returns the new content, given the present content, or None if there is no file.
            It may be called several times. If it raises, nothing changes and the error passes
            through.
        kept_mode: the permission bits that an existing file keeps.
        timeout: seconds to wait for other programs that change the file.

    Returns:
        Whether the file changed.

    Raises:
        ConfigError: the file cannot be written, and was not changed.
    """
    deadline = Deadline.after(timeout)
    with _explained(path, "written"), _opened(path, _NewFolder(0o700, inherits=True)) as entry:
        while True:
            try:
                descriptor = entry.open(os.O_RDWR)
            except FileNotFoundError:
                with contextlib.suppress(FileExistsError):  # another process has just created it
                    owner = _inherited_owner(entry.folder)
                    entry.write(change(None), 0o600, owner, must_be_new=True)
                    return True
            else:
                with os.fdopen(descriptor, "rb") as file:
                    _lock(descriptor, deadline)
                    # The process that had the lock may have replaced the file.
                    if entry.is_present(descriptor):
                        return _change(entry, file, change, kept_mode)
            _check_deadline(deadline)


def _change(
    entry: _Entry, file: BinaryIO, change: Callable[[bytes | None], bytes], kept_mode: int
) -> bool:
    """Replace a file that is open and locked, if its content or mode changes."""
    status = os.fstat(file.fileno())
    before = _read(file)
    after = change(before.content)
    mode = before.mode & kept_mode
    if after == before.content and mode == before.mode:
        return False
    if fcntl is None:
        file.close()  # Windows cannot replace an open file
    entry.write(after, mode, entry.owner_to_keep(status))
    return True


def _read(file: BinaryIO) -> File:
    status = os.fstat(file.fileno())
    content = file.read(READ_LIMIT + 1)
    if len(content) > READ_LIMIT:
        raise OSError(errno.EFBIG, f"it is larger than {READ_LIMIT} bytes")
    return File(content, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid))


def write(
    path: Path,
    content: bytes,
    mode: int,
    owner: Owner | None = None,
    *,
    folder_mode: int = 0o755,
    folder_owner: Owner | None = None,
) -> bool:
    """Write a file atomically. Return whether it changed.

    Args:
        path: the file. Its folder is created if it is missing.
        content: the whole content.
        mode: the permissions, such as 0o600. The file never has other permissions.
        owner: the owner of the file. None: the current user.
        folder_mode: the permissions of a new folder.
        folder_owner: the owner of a new folder. None: the current user.

    Raises:
        ConfigError: the file cannot be written, for example because a folder, or a link of
            another user, has its name. The file was not changed.
    """
    folder = _NewFolder(folder_mode, folder_owner)
    with _explained(path, "written"), _opened(path, folder) as entry:
        if entry.is_equal(content, mode, owner):
            return False
        entry.write(content, mode, owner)
    return True


def write_secret(path: Path, text: str, *, what: str) -> None:
    """Write a file that only its owner can read.

    An existing file keeps its owner and the permissions of its group.

    Args:
        path: the file. Missing folders are created, for the owner only.
        text: the content.
        what: the beginning of error messages, such as `secrets-file /etc/…`.

    Raises:
        ConfigError: the file cannot be written.
    """
    with described_as(path, what):
        update(path, lambda _: text.encode(), kept_mode=0o660)


@contextlib.contextmanager
def described_as(path: Path, what: str) -> Generator[None]:
    """Replace the path in error messages by a description, such as `secrets-file /etc/…`."""
    try:
        yield
    except errors.ConfigError as error:
        raise errors.ConfigError(str(error).replace(str(path), what, 1)) from None


@dataclasses.dataclass(frozen=True)
class _NewFolder:
    """How to create a missing folder."""

    mode: int
    owner: Owner | None = None
    inherits: bool = False
    """Whether a folder that root creates gets the owner of the folder around it."""


@dataclasses.dataclass(frozen=True)
class _Entry:
    """A name in an open folder, which nobody can replace by another folder."""

    folder: int | None
    """The descriptor of the open folder. None: this system has none, and the name is a path."""
    name: str
    is_folder_new: bool = False
    """Whether the folder was created."""

    def open(self, flags: int) -> int:
        """Open the file. Raises `OSError`, also if it is not a regular file."""
        follow = self.folder is None
        _check_regular(os.stat(self.name, dir_fd=self.folder, follow_symlinks=follow))
        # If it has just been replaced by a FIFO, opening must not block.
        flags |= _NO_LINK | _BINARY | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(self.name, flags, dir_fd=self.folder)
        try:
            _check_regular(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def is_present(self, descriptor: int) -> bool:
        """Return whether an open file still has this name."""
        try:
            status = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(status, os.fstat(descriptor))

    def is_equal(self, content: bytes, mode: int, owner: Owner | None) -> bool:
        """Return whether the file exists with this content, mode and owner."""
        try:
            descriptor = self.open(os.O_RDONLY)
        except FileNotFoundError:
            return False
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if self.folder is not None:
                wanted = owner or (os.geteuid(), status.st_gid)
                if (status.st_uid, status.st_gid) != wanted:
                    return False
            return stat.S_IMODE(status.st_mode) == mode and file.read(len(content) + 1) == content

    def owner_to_keep(self, status: os.stat_result) -> Owner | None:
        """Return the owner of an existing file, for the file that replaces it.

        Raises:
            PermissionError: another user may have created the file in order to own the new one.
        """
        if self.folder is None:
            return None
        folder = os.fstat(self.folder)
        if status.st_uid not in (0, os.geteuid(), folder.st_uid) and not _is_private(folder):
            raise PermissionError(
                errno.EPERM,
                f"it belongs to user {status.st_uid}, who may have created it there: remove it",
            )
        return status.st_uid, status.st_gid

    def write(
        self, content: bytes, mode: int, owner: Owner | None, *, must_be_new: bool = False
    ) -> None:
        """Write the file atomically.

        Raises:
            FileExistsError: the file exists, but must be new.
            OSError: the file cannot be written.
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
            if not must_be_new or not self._link(temporary):
                os.replace(temporary, self.name, src_dir_fd=self.folder, dst_dir_fd=self.folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=self.folder)

    def _link(self, temporary: str) -> bool:
        """Give a new file its name, if that is free. Return whether the file system has links."""
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
def _explained(path: Path, action: str) -> Generator[None]:
    """Turn an `OSError` into a `ConfigError` that names the file."""
    try:
        yield
    except OSError as error:
        raise errors.ConfigError(f"{path}: cannot be {action}: {error.strerror}") from None


@contextlib.contextmanager
def _opened(path: Path, new_folder: _NewFolder | None = None) -> Generator[_Entry]:
    """Open the folder of a path. Missing folders are created if `new_folder` says how."""
    if not _BY_DESCRIPTOR:
        if new_folder is not None:
            path.parent.mkdir(new_folder.mode, parents=True, exist_ok=True)
        yield _Entry(None, str(path))
        return
    entry = _follow(path, new_folder)
    assert entry.folder is not None
    try:
        yield entry
    finally:
        os.close(entry.folder)


def _follow(path: Path, new_folder: _NewFolder | None) -> _Entry:
    """Follow a path name by name, and open its last folder."""
    names = list(reversed(path.parts[1:] if path.anchor else path.parts))
    folder, is_new, links = os.open(path.anchor or ".", _FOLDER), False, 0
    try:
        while names:
            name = names.pop()
            status = _stat(name, folder)
            if status is not None and stat.S_ISLNK(status.st_mode):
                links += 1
                names += reversed(_read_link(name, folder, status, links).parts)
            elif not names:
                return _Entry(folder, name, is_new)
            else:
                outer = folder
                is_last = len(names) == 1
                folder, is_new = _enter(name, outer, status, new_folder, is_last=is_last)
                os.close(outer)
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except BaseException:
        os.close(folder)
        raise


def _enter(
    name: str,
    outer: int,
    status: os.stat_result | None,
    new_folder: _NewFolder | None,
    *,
    is_last: bool,
) -> tuple[int, bool]:
    """Open a folder, or create it if it is missing. Return it, and whether it was created.

    Args:
        name: the name of the folder.
        outer: the open folder around it.
        status: the status of the folder. None: it is missing.
        new_folder: how to create the last folder of the path. Others are created with the usual
            permissions, for the current user. None: create no folder.
        is_last: whether it is the last folder of the path.
    """
    if status is not None or new_folder is None:
        return os.open(name, _FOLDER, dir_fd=outer), False
    try:
        os.mkdir(name, 0o700 if is_last else 0o777, dir_fd=outer)
    except FileExistsError:  # another process has just created it
        return os.open(name, _FOLDER, dir_fd=outer), False
    if is_last:
        return _open_new_folder(name, outer, new_folder), True
    return os.open(name, _FOLDER, dir_fd=outer), True


def _open_new_folder(name: str, outer: int, new_folder: _NewFolder) -> int:
    """Open a folder that was just created, and set its owner and mode."""
    folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _NO_LINK, dir_fd=outer)
    try:
        # The owner of the outer folder may have replaced it by another one.
        with os.scandir(folder) as entries:
            if os.fstat(folder).st_uid != os.geteuid() or any(entries):
                raise OSError(errno.EEXIST, f"{name} was replaced by another folder")
        owner = _inherited_owner(outer) if new_folder.inherits else new_folder.owner
        if owner is not None:
            os.fchown(folder, *owner)
        os.fchmod(folder, new_folder.mode)
    except BaseException:
        os.close(folder)
        raise
    return folder


def _inherited_owner(folder: int | None) -> Owner | None:
    """Return the owner for what root creates in a folder of another user: that user."""
    if folder is None or os.geteuid() != 0:
        return None
    status = os.fstat(folder)
    return (status.st_uid, status.st_gid) if status.st_uid else None


def _stat(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _read_link(name: str, folder: int, link: os.stat_result, count: int) -> Path:
    """Return the target of a symbolic link, unless another user may have created the link.

    Args:
        name: the name of the link.
        folder: the open folder of the link.
        link: the status of the link.
        count: how many links of the path were followed, including this one.
    """
    if count > _MAX_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    outer = os.fstat(folder)
    trusted = {0, os.geteuid()}
    if os.geteuid() != 0:
        trusted.add(outer.st_uid)
    if not trusted >= {link.st_uid, outer.st_uid} or _is_world_writable(outer):
        raise OSError(errno.ELOOP, f"{name} is a symbolic link that another user may have created")
    return Path(os.readlink(name, dir_fd=folder))


def _is_world_writable(folder: os.stat_result) -> bool:
    """Return whether every user may replace what is in a folder."""
    return bool(folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX)


def _is_private(folder: os.stat_result) -> bool:
    """Return whether only root and the current user can create files in a folder."""
    writable = stat.S_IWGRP | stat.S_IWOTH
    return folder.st_uid in (0, os.geteuid()) and not folder.st_mode & writable


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(status.st_mode):
        file_type = _FILE_TYPES.get(stat.S_IFMT(status.st_mode), "a device")
        raise OSError(errno.EINVAL, f"it is {file_type}, not a file")


def _lock(descriptor: int, deadline: Deadline) -> None:
    if fcntl is None:
        return
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _check_deadline(deadline)
            time.sleep(_LOCK_INTERVAL_S)
        else:
            return


def _check_deadline(deadline: Deadline) -> None:
    if deadline.is_past:
        raise TimeoutError(errno.ETIMEDOUT, "another program has locked it for too long")
