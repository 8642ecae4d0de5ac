# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Decide whether a host's key is accepted: by the host list, or by a known_hosts file.

The first connection to a host without a pinned key pins the key that the host presents (trust on
first use) and logs it. After that, any other key is refused. Nothing disables the check. The
format of the file belongs to `known_hosts_file`.
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
    from collections.abc import Callable, Generator, Sequence

    import paramiko

log = logging.getLogger(__name__)


class KnownHosts:
    """The pinned host keys: a file in OpenSSH's known_hosts format, or only memory.

    `Fleet` creates one object for all its hosts, and threads may share it. Processes may share the
    file, which has mode 0600: it is locked during each change, so that no pin is lost.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        """Read the file, if it exists.

        Args:
            path: the file. None: pins are kept in memory, for this object only.

        Raises:
            ConfigError: the file cannot be used; the message names the line. Permanent.
        """
        self._path = Path(path) if path is not None else None
        self._lock = threading.Lock()
        self._memory = b""
        try:
            self._read()
        except (OSError, known_hosts_file.InvalidFile) as error:
            raise errors.ConfigError(f"known hosts file {self._path}: {_reason(error)}") from None

    def algorithms(self, host: host_list.HostConfig) -> tuple[str, ...]:
        """Return the host key algorithms in the order of preference: those of pinned keys first.

        Otherwise, a host that has several keys may present another key than the pinned one.
        """
        pinned = [key.key_type for key in self.pinned(host)]
        ordered = sorted(known_hosts_file.ALGORITHMS, key=lambda name: name not in pinned)
        return tuple(
            algorithm for name in ordered for algorithm in known_hosts_file.ALGORITHMS[name]
        )

    def check(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Check the key that a host presented. Pin it if no key is pinned.

        Raises:
            HostKeyChanged: another key is pinned, or the key is revoked. Permanent.
            KnownHostsBroken: the file cannot be read or written, or accepts only certificates for
                this host. Permanent.
        """
        presented = PublicKey.of(key)
        if host.host_key:
            if presented.fingerprint not in host.host_key:
                raise self._changed(
                    host, host.host_key, presented.fingerprint, "its host-key= option"
                )
            return
        name = known_hosts_file.name_of(host)
        with self._explained(host, "read"):
            known = self._read()
        self._check_revoked(host, known, presented)
        if not known.find(name):
            known = self._pin_first(host, name, presented)
        pinned = [entry.key for entry in known.find(name)]
        if presented not in pinned:
            fingerprints = [pin.fingerprint for pin in pinned]
            raise self._changed(host, fingerprints, presented.fingerprint, self._location())

    def pinned(self, host: host_list.HostConfig) -> list[PublicKey]:
        """Return the keys that the file pins for a host. Does not consider `host-key=`.

        Raises:
            KnownHostsBroken: the file cannot be read. Permanent.
        """
        with self._explained(host, "read"):
            return [entry.key for entry in self._read().find(known_hosts_file.name_of(host))]

    def replace(self, host: host_list.HostConfig, key: paramiko.PKey) -> None:
        """Replace the pins of a host by one key, whose fingerprint a person has compared.

        The pins of other hosts are kept, even if one line pins a key for several hosts.

        Raises:
            HostKeyChanged: the key is revoked. Permanent.
            KnownHostsBroken: the file cannot be read or written, and was not changed. Permanent.
        """
        name, accepted = known_hosts_file.name_of(host), PublicKey.of(key)

        def change(content: bytes) -> bytes:
            known = known_hosts_file.parse(content)
            self._check_revoked(host, known, accepted)
            return known.with_pins_replaced(name, accepted)

        with self._explained(host, "replace a key in"):
            self._change(change)

    def _pin_first(
        self, host: host_list.HostConfig, name: str, presented: PublicKey
    ) -> known_hosts_file.KnownHostsFile:
        """Pin a key unless another call or process has just pinned one. Return the new content."""
        is_pinned = False

        def change(content: bytes) -> bytes:
            nonlocal is_pinned
            known = known_hosts_file.parse(content)
            if authority := known.find(name, known_hosts_file.CERT_AUTHORITY):
                raise errors.KnownHostsBroken(
                    str(host),
                    f"line {authority[0].number} of {self._location()} accepts only certified keys"
                    " for this host, and this client cannot check certificates: pin the host's own"
                    " key with `maas-virtualbox trust`",
                )
            is_pinned = not known.find(name)
            return known.with_pin(name, presented) if is_pinned else content

        with self._explained(host, "write"):
            self._change(change)
            known = self._read()
        if is_pinned:
            log.warning(
                "%s: pinned host key %s %s on the first connection%s",
                host,
                presented.key_type,
                presented.fingerprint,
                f" in {self._path}" if self._path else "",
            )
        return known

    def _read(self) -> known_hosts_file.KnownHostsFile:
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

    def _location(self) -> str:
        return str(self._path) if self._path else "this program's memory"

    def _check_revoked(
        self, host: host_list.HostConfig, known: known_hosts_file.KnownHostsFile, key: PublicKey
    ) -> None:
        revoked = known.find(known_hosts_file.name_of(host), known_hosts_file.REVOKED)
        if any(entry.key == key for entry in revoked):
            raise errors.HostKeyChanged(
                str(host),
                f"host key revoked: {self._location()} marks {key.fingerprint}, which"
                f" {host.account} presented, as @revoked; give the host a new key",
                pinned=(),
                presented=key.fingerprint,
            )

    @staticmethod
    def _changed(
        host: host_list.HostConfig, pinned: Sequence[str], presented: str, location: str
    ) -> errors.HostKeyChanged:
        return errors.HostKeyChanged(
            str(host),
            f"host key changed: {location} pins {', '.join(pinned)} but {host.account} presented"
            f" {presented}; if the host was reinstalled, compare the new fingerprint with"
            " `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` on the host, and accept it with"
            " `maas-virtualbox trust`; otherwise somebody may intercept the connection",
            pinned=pinned,
            presented=presented,
        )

    @contextlib.contextmanager
    def _explained(self, host: host_list.HostConfig, verb: str) -> Generator[None]:
        """Raise `KnownHostsBroken` if the file cannot be used."""
        try:
            yield
        except errors.KnownHostsBroken:
            raise
        except (OSError, known_hosts_file.InvalidFile, errors.ConfigError) as error:
            raise errors.KnownHostsBroken(
                str(host), f"cannot {verb} the known hosts file {self._path}: {_reason(error)}"
            ) from error


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
