# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The files of the power service: where they are, what is in them, and which belong to the charm.

/etc/maas-virtualbox       configuration, secrets and notes, readable only by the service's user
/var/lib/maas-virtualbox   pinned host keys, and the host to which each VM belongs
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from charmlibs import passwd

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.escape import printable
from maas_virtualbox.juju import programs
from maas_virtualbox.juju.removal import keep_on_error, remove_empty_folder
from workload._errors import WorkloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maas_virtualbox.config.tokens import Secrets

NAME = "maas-virtualbox"
"""The name of the service, its user and its folders."""

RELEASES = programs.releases(NAME)
CURRENT = programs.current(NAME)
CONFIG = Path("etc", NAME)
CONFIG_FILE = CONFIG / "config.yaml"
STATE = Path("var/lib", NAME)
UNIT = Path("etc/systemd/system", f"{NAME}.service")
SOCKET = Path("run", NAME, "power.sock")
OTHER_KEY = CONFIG / "other-ssh-key"
"""The SSH key of a single run of the program."""

PATHS = (CONFIG, STATE, UNIT)
"""What the charm writes, apart from its releases. It must not exist before the charm."""

APPLIED = CONFIG / "applied"
"""Note: digests of what the running service was last started with and last reloaded with. It is
written last, so that the next hook completes what an interrupted hook has begun."""

RECONCILED = CONFIG / "reconciled"
"""Note: a digest of the charm's inputs at the last reconcile without any error."""

ENLISTED = CONFIG / "enlisted"
"""Note: a digest of the power parameters that MAAS was last given."""

_NOTES = (APPLIED, RECONCILED, ENLISTED)
_SECRETS = {
    "ssh-private-key-file": CONFIG / "ssh-private-key",
    "secrets-file": CONFIG / "secrets.yaml",
    "maas-api-key-file": CONFIG / "maas-api-key",
    "tls-certificate-file": CONFIG / "tls-certificate.pem",
    "tls-key-file": CONFIG / "tls-key.pem",
}
"""The secret files, by the option that names each."""

_OWN_NAMES = {path.name for path in (CONFIG_FILE, OTHER_KEY, *_NOTES, *_SECRETS.values())}
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}")
"""The name of a file that a killed hook was writing."""


@dataclasses.dataclass(frozen=True)
class ServiceConfig:
    """The desired configuration of the power service."""

    options: Mapping[str, object]
    """The options of its configuration file, except those that name files."""
    listen: str
    """`address:port`."""
    ssh_private_key: str = dataclasses.field(repr=False)
    tokens: Secrets = dataclasses.field(repr=False)
    maas_api_key: str = dataclasses.field(default="", repr=False)
    tls_certificate: str = ""
    """PEM, with its chain. If it is empty, the service uses plain HTTP."""
    tls_key: str = dataclasses.field(default="", repr=False)
    power_template: str = "auto"
    """Whether MAAS's power template is patched: auto, on or off."""


def render(root: Path, config: ServiceConfig) -> dict[Path, str]:
    """Return the content of every file of the configuration."""
    texts = {
        "ssh-private-key-file": config.ssh_private_key,
        "secrets-file": config.tokens.to_yaml(),
        "maas-api-key-file": config.maas_api_key,
        "tls-certificate-file": config.tls_certificate,
        "tls-key-file": config.tls_key,
    }
    secret = {option: text for option, text in texts.items() if text}
    options = {
        **config.options,
        "listen": config.listen,
        "known-hosts-file": str(root / STATE / "known_hosts"),
        "vm-hosts-file": str(root / STATE / "vm-hosts.json"),
        "socket-file": str(root / SOCKET),
        **{option: str(root / _SECRETS[option]) for option in secret},
    }
    return {
        CONFIG_FILE: yaml.safe_dump(options, allow_unicode=True, sort_keys=False),
        **{_SECRETS[option]: text for option, text in secret.items()},
    }


def write(root: Path, contents: Mapping[Path, str]) -> None:
    """Write the configuration, and remove files of the charm that are no longer used.

    Raises:
        ConfigError: A file cannot be written.
        WorkloadError: The folder contains a file that does not belong to the charm. Nothing was
            changed.
    """
    owner = service_user()
    for entry in _list_entries(root / CONFIG):
        if not _is_configuration(entry):
            raise WorkloadError(
                f"/{CONFIG}/{printable(entry.name)} does not belong to this charm: move it away"
            )
    for folder in (CONFIG, STATE):
        atomic_files.ensure_folder(root / folder, 0o700, owner)
    for path, text in contents.items():
        atomic_files.write(root / path, text.encode(), 0o600, owner)
    kept = {path.name for path in (*contents, *_NOTES)}
    for entry in _list_entries(root / CONFIG):
        if entry.name not in kept:
            atomic_files.remove(Path(entry.path))


def remove(root: Path) -> None:
    """Remove the files of the charm and the service.

    Files of others stay, and so do the folders that contain them.
    """
    for folder, is_own in ((CONFIG, _is_configuration), (STATE, _is_state)):
        for entry in _list_entries(root / folder):
            if is_own(entry):
                with keep_on_error(f"the file {printable(entry.path)}"):
                    atomic_files.remove(Path(entry.path))
        remove_empty_folder(root / folder)


def write_note(root: Path, note: Path, text: str) -> None:
    """Write the digest of a text, for `is_noted`. An empty text removes the note.

    Errors are ignored: a missing note causes only unnecessary work.
    """
    with contextlib.suppress(errors.ConfigError):
        if text:
            atomic_files.write(root / note, digest(text).encode(), 0o600)
        else:
            atomic_files.remove(root / note)


def is_noted(root: Path, note: Path, text: str) -> bool:
    """Return whether a note has the digest of a text."""
    return read_note(root, note) == digest(text)


def read_note(root: Path, note: Path) -> str:
    """Return the content of a note; empty if it cannot be read."""
    try:
        return atomic_files.read(root / note).content.decode("ascii", "replace")
    except OSError:
        return ""


def remove_notes(root: Path) -> None:
    """Remove all notes."""
    for note in _NOTES:
        write_note(root, note, "")


def digest(*texts: str) -> str:
    """Return a digest of some texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def service_user() -> atomic_files.Owner:
    """Return the IDs of the service's user and group. `install` has created both."""
    user = passwd.user_exists(NAME)
    assert user is not None, "install creates it"
    return user.pw_uid, user.pw_gid


def _list_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the content of a folder; nothing if the folder does not exist."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_configuration(entry: os.DirEntry[str]) -> bool:
    """Return whether the charm writes such a file into the folder of the configuration."""
    partial = _TEMPORARY.fullmatch(entry.name)
    name = partial["name"] if partial else entry.name
    return name in _OWN_NAMES and entry.is_file(follow_symlinks=False)


def _is_state(entry: os.DirEntry[str]) -> bool:
    """Return whether the service has written a file."""
    user, info = passwd.user_exists(NAME), entry.stat(follow_symlinks=False)
    return user is not None and info.st_uid == user.pw_uid and stat.S_ISREG(info.st_mode)
