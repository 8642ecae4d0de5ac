# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned host keys: the ones the host list carries, and a known_hosts file of our own.

The first connection to a host without a pinned key pins what it saw (trust on first use) and says
so in the log. From then on another key is refused. Nothing switches the check off.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko import hostkeys

from maas_virtualbox import errors, files, hosts

if TYPE_CHECKING:
    import io
    from collections.abc import Generator, Iterator

log = logging.getLogger(__name__)

# OpenSSH's order, without the algorithms paramiko 5 has dropped.
_ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


class KnownHosts:
    """A file in OpenSSH's known_hosts format, or only memory when no path is given.

    One object serves all hosts of a fleet and may be shared between threads; processes may share
    the file, which has mode 0600. First contacts append a whole line; `replace` writes it anew.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self._path = Path(path) if path is not None else None
        self._lock = threading.Lock()
        self._memory: list[tuple[str, paramiko.PKey]] = []

    def algorithms(self, host: hosts.Host) -> tuple[str, ...]:
        """Return the host key algorithms to ask for: those of pinned keys before all others.

        Without this a host that has several keys might present one that is not the pinned one.
        """
        pinned = [key.get_name() for key in self.pinned(host)]
        ordered = sorted(_ALGORITHMS, key=lambda name: name not in pinned)
        return tuple(algorithm for name in ordered for algorithm in _ALGORITHMS[name])

    def check(self, host: hosts.Host, key: paramiko.PKey) -> None:
        """Accept the key a host presented, pinning it if it is the first.

        Raises:
            HostKeyChanged: another key is pinned.
        """
        presented = hosts.fingerprint(key.asbytes())
        if host.host_key:
            if presented not in host.host_key:
                raise self._changed(host, host.host_key, presented, "its host-key= option")
            return
        with self._lock:
            pinned = self.pinned(host)
            if not pinned:
                self._pin(host, key)
                log.warning(
                    "%s: pinned host key %s %s at first contact%s",
                    host,
                    key.get_name(),
                    presented,
                    f" in {self._path}" if self._path else "",
                )
                return
        if all(key.asbytes() != known.asbytes() for known in pinned):
            fingerprints = [hosts.fingerprint(known.asbytes()) for known in pinned]
            place = str(self._path) if self._path else "this program's memory"
            raise self._changed(host, fingerprints, presented, place)

    def pinned(self, host: hosts.Host) -> list[paramiko.PKey]:
        """Return the keys the file pins for a host; what its `host-key=` says is not among them.

        Raises:
            HostUnreachable: the file cannot be used.
        """
        name = _name(host)
        keys = [key for known, key in self._memory if known == name]
        if self._path is not None:
            with _usable(host, self._path, "read"), contextlib.suppress(FileNotFoundError):
                lines = self._path.read_text(encoding="utf-8").splitlines()
                for number, line in enumerate(lines, 1):
                    keys += _keys(line, number, name)
        return keys

    def replace(self, host: hosts.Host, key: paramiko.PKey) -> None:
        """Pin another key for a host, because a person compared its fingerprint.

        Raises:
            HostUnreachable: the file cannot be used; it stays as it was.
        """
        name = _name(host)
        with self._lock:
            self._memory = [(known, pin) for known, pin in self._memory if known != name]
            if self._path is None or not self._path.exists():
                self._pin(host, key)
                return
            with _usable(host, self._path, "replace a key in"):
                lines = self._path.read_text(encoding="utf-8").splitlines()
                kept = [
                    line
                    for number, line in enumerate(lines, 1)
                    if not any(_keys(line, number, name))
                ]
                there = self._path.stat()
                owner = (there.st_uid, there.st_gid) if os.name == "posix" else None
                text = "\n".join([*kept, _line(host, key)]) + "\n"
                files.write(self._path, text.encode(), 0o600, owner)

    @staticmethod
    def _changed(
        host: hosts.Host, pinned: list[str] | tuple[str, ...], presented: str, place: str
    ) -> errors.HostKeyChanged:
        return errors.HostKeyChanged(
            str(host),
            f"host key changed: {place} pins {', '.join(pinned)} but {host.account} presented"
            f" {presented}; if the host was reinstalled, put the new fingerprint there (see"
            " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host), as with"
            " `maas-virtualbox trust`, else someone is in between",
            pinned=pinned,
            presented=presented,
        )

    def _pin(self, host: hosts.Host, key: paramiko.PKey) -> None:
        if self._path is None:
            self._memory.append((_name(host), key))
            return
        with _usable(host, self._path, "write"):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(self._path, "a+b", buffering=0, opener=_private) as file:
                file.write(b"" if _ends_a_line(file) else b"\n")
                file.write(f"{_line(host, key)}\n".encode())


def _ends_a_line(file: io.FileIO) -> bool:
    """Whether a line appended here stands alone; an editor may have left the last one open."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    return file.read(1) in (b"", b"\n")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _line(host: hosts.Host, key: paramiko.PKey) -> str:
    return f"{_name(host)} {key.get_name()} {key.get_base64()}"


def _name(host: hosts.Host) -> str:
    return host.address if host.port == 22 else f"[{host.address}]:{host.port}"


def _keys(line: str, number: int, name: str) -> Iterator[paramiko.PKey]:
    """Yield the line's key if it is for this host. A line that cannot be read is an error:
    passing over it would accept any key."""
    if not line.strip() or line.startswith("#"):
        return
    if line.startswith("@") or len(line.split()) < 3:
        raise ValueError(f"line {number} is not 'host type key'")
    entry = hostkeys.HostKeyEntry.from_line(" ".join(line.split()), number)
    if entry is None:
        return  # a type of key this client never negotiates
    for known in entry.hostnames or ():
        hashed = known.startswith("|1|")
        if known == (paramiko.HostKeys.hash_host(name, known) if hashed else name):
            yield entry.key


@contextlib.contextmanager
def _usable(host: hosts.Host, path: Path, verb: str) -> Generator[None]:
    """Turn a known_hosts file that cannot be used into a sentence; never go on without it."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (
        OSError,
        ValueError,
        errors.ConfigError,
        hostkeys.InvalidHostKey,
        paramiko.SSHException,
    ) as error:
        raise errors.HostUnreachable(
            str(host), f"cannot {verb} the known hosts file {path}: {error}; not connecting"
        ) from error
