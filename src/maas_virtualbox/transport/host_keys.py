# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned host keys: the ones the host list carries, and a known_hosts file of our own.

The first connection to a host without a pinned key pins what it saw (trust on first use) and says
so in the log. From then on another key is refused. Nothing switches the check off.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files, host_list
from maas_virtualbox.transport import known_hosts_file
from maas_virtualbox.transport.known_hosts_file import PublicKey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import paramiko

log = logging.getLogger(__name__)


class KnownHosts:
    """A file in OpenSSH's known_hosts format, or only memory when no path is given.

    One object serves all hosts of a fleet and may be shared between threads; processes may share
    the file, which has mode 0600. Whoever changes it holds a lock on it, so that no pin is lost.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        """Read the file, if there is one already.

        Raises:
            ConfigError: it cannot be used; the text names the line. A person has to change it.
        """
        self._path = Path(path) if path is not None else None
        self._lock = threading.Lock()
        self._memory = b""
        try:
            self._read()
        except (OSError, known_hosts_file.Broken) as error:
            reason = getattr(error, "strerror", None) or error
            raise errors.ConfigError(f"known hosts file {self._path}: {reason}") from None

    def algorithms(self, host: host_list.HostConfig) -> tuple[str, ...]:
        """Return the host key algorithms to ask for: those of pinned keys before all others.

        Without this a host that has several keys might present one that is not the pinned one.
        """
        pinned = [key.kind for key in self.pinned(host)]
        ordered = sorted(known_hosts_file.ALGORITHMS, key=lambda name: name not in pinned)
        return tuple(
            algorithm for name in ordered for algorithm in known_hosts_file.ALGORITHMS[name]
        )

    def check(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Accept the key a host presented, pinning it if it is the first.

        Raises:
            HostKeyChanged: another key is pinned, or this one is revoked.
            KnownHostsBroken: the file cannot be used any more, or lets only certificates in.
            HostUnreachable: the pin cannot be written.
        """
        presented = PublicKey.of(key)
        if host.host_key:
            if presented.fingerprint not in host.host_key:
                raise self._changed(
                    host, host.host_key, presented.fingerprint, "its host-key= option"
                )
            return
        name = known_hosts_file.name_of(host)
        with self._usable(host, "read"):
            known = self._read()
        self._check_revoked(host, known, presented)
        if not known.find(name):
            known = self._pin_first(host, name, presented)
        pinned = [entry.key for entry in known.find(name)]
        if presented not in pinned:
            fingerprints = [pin.fingerprint for pin in pinned]
            raise self._changed(host, fingerprints, presented.fingerprint, self._place())

    def pinned(self, host: host_list.HostConfig) -> list[PublicKey]:
        """Return the keys the file pins for a host; what its `host-key=` says is not among them.

        Raises:
            KnownHostsBroken: the file cannot be used any more.
        """
        with self._usable(host, "read"):
            return [entry.key for entry in self._read().find(known_hosts_file.name_of(host))]

    def replace(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Pin another key for a host, because a person compared its fingerprint.

        Pins of other hosts stay, also where one line pins several.

        Raises:
            HostKeyChanged: the key is revoked.
            KnownHostsBroken: the file cannot be used any more.
            HostUnreachable: it cannot be written; it stays as it was.
        """
        name, accepted = known_hosts_file.name_of(host), PublicKey.of(key)

        def change(content: bytes) -> bytes:
            known = known_hosts_file.parse(content)
            self._check_revoked(host, known, accepted)
            return known.with_pins_replaced(name, accepted)

        with self._usable(host, "replace a key in"):
            self._change(change)

    def _pin_first(
        self, host: host_list.HostConfig, name: str, presented: PublicKey
    ) -> known_hosts_file.KnownKeys:
        """Pin a key, unless another call or process has just pinned one; returns what is known."""
        pinned: list[bool] = []

        def change(content: bytes) -> bytes:
            known = known_hosts_file.parse(content)
            if authority := known.find(name, known_hosts_file.CERT_AUTHORITY):
                raise errors.KnownHostsBroken(
                    str(host),
                    f"line {authority[0].number} of {self._place()} lets in only keys that an"
                    " authority has certified, which this client cannot check: pin the host's own"
                    " key with `maas-virtualbox trust`",
                )
            pinned[:] = [not known.find(name)]
            return known.with_pin(name, presented) if pinned[0] else content

        with self._usable(host, "write"):
            self._change(change)
            known = self._read()
        if pinned[0]:
            log.warning(
                "%s: pinned host key %s %s at first contact%s",
                host,
                presented.kind,
                presented.fingerprint,
                f" in {self._path}" if self._path else "",
            )
        return known

    def _read(self) -> known_hosts_file.KnownKeys:
        content = self._memory
        if self._path is not None:
            with contextlib.suppress(FileNotFoundError):
                content = atomic_files.read(self._path).content
        return known_hosts_file.parse(content)

    def _change(self, change: Callable[[bytes], bytes]) -> None:
        with self._lock:
            if self._path is None:
                self._memory = change(self._memory)
            else:
                atomic_files.update(self._path, lambda before: change(before or b""))

    def _place(self) -> str:
        return str(self._path) if self._path else "this program's memory"

    def _check_revoked(
        self, host: host_list.HostConfig, known: known_hosts_file.KnownKeys, key: PublicKey
    ) -> None:
        revoked = known.find(known_hosts_file.name_of(host), known_hosts_file.REVOKED)
        if any(entry.key == key for entry in revoked):
            raise errors.HostKeyChanged(
                str(host),
                f"host key revoked: {self._place()} marks {key.fingerprint}, which {host.account}"
                " presented, as @revoked; give the host a new key",
                pinned=(),
                presented=key.fingerprint,
            )

    @staticmethod
    def _changed(
        host: host_list.HostConfig, pinned: list[str] | tuple[str, ...], presented: str, place: str
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

    @contextlib.contextmanager
    def _usable(self, host: host_list.HostConfig, verb: str) -> Generator[None]:
        """Turn a file that cannot be used into a sentence; never go on without it."""
        try:
            yield
        except errors.KnownHostsBroken:
            raise
        except (OSError, known_hosts_file.Broken) as error:
            reason = getattr(error, "strerror", None) or error
            raise errors.KnownHostsBroken(
                str(host), f"cannot {verb} the known hosts file {self._path}: {reason}"
            ) from error
        except errors.ConfigError as error:
            raise errors.HostUnreachable(str(host), f"no pin, no connection: {error}") from error
