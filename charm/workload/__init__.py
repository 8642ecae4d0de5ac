# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service on this machine: installed, configured, asked, removed. Knows nothing of Juju.

/opt/maas-virtualbox/RELEASE   a copy of the charm's environment: the charm's own folder is
                               swapped when it is refreshed, and deleted when it is removed
/opt/maas-virtualbox/current   the release in use
/etc/maas-virtualbox           configuration and secrets, for the service's user only
/var/lib/maas-virtualbox       pinned host keys, and which host each VM belongs to
/etc/systemd/system/maas-virtualbox.service

Functions take the folder that stands for `/`, and may be called again at any time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.client
import json
import os
import re
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from charmlibs import passwd, systemd

from maas_virtualbox import errors, templates
from maas_virtualbox.config import atomic_files
from maas_virtualbox.escape import printable
from maas_virtualbox.juju import programs
from maas_virtualbox.juju.machine_lock import keep_on_error
from maas_virtualbox.maas import power_template
from maas_virtualbox.schemas import HostView

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from maas_virtualbox.config.tokens import Secrets

NAME = "maas-virtualbox"
"""Of the service, its user and its folders."""

USER, GROUP = "user", "group"
"""The service's accounts, as `absent_accounts` calls them."""

RELEASES = programs.releases(NAME)
CURRENT = programs.current(NAME)
CONFIG = Path("etc", NAME)
CONFIG_FILE = CONFIG / "config.yaml"
STATE = Path("var/lib", NAME)
UNIT = Path("etc/systemd/system", f"{NAME}.service")
SOCKET = Path("run", NAME, "power.sock")

_APPLIED = CONFIG / "applied"
"""Digests of what the running service was started and last reloaded with. Written last, so that
what an interrupted hook left undone is done by the next."""

SETTLED = CONFIG / "settled"
"""A note of what the charm was told when all was last well."""
TOLD = CONFIG / "told"
"""A note of what MAAS was last told of us."""

_OTHER_KEY = CONFIG / "other-ssh-key"
_SECRETS = {
    "ssh-private-key-file": CONFIG / "ssh-private-key",
    "secrets-file": CONFIG / "secrets.yaml",
    "maas-api-key-file": CONFIG / "maas-api-key",
    "tls-certificate-file": CONFIG / "tls-certificate.pem",
    "tls-key-file": CONFIG / "tls-key.pem",
}
"""The secret files by the option that names each."""

PATHS = (CONFIG, STATE, UNIT)
"""What the charm writes besides its releases, of which nothing may be somebody else's."""

_OWN = {path.name for path in (CONFIG_FILE, _APPLIED, SETTLED, TOLD, _OTHER_KEY)} | {
    path.name for path in _SECRETS.values()
}
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{16}")
"""What a killed hook leaves of a file that was being written."""

_MAAS_USER = "maas"
_ASK_TIMEOUT_S = 15.0
_MODULES = (
    "maas_virtualbox.cli.main",
    "maas_virtualbox.maas.check",
    "maas_virtualbox.service.process",
)


class WorkloadError(Exception):
    """The machine is not as wanted; the text says why, for `juju status`."""


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What the power service is to be like."""

    options: Mapping[str, object]
    """Of its configuration file, without those that name files."""
    listen: str
    """`address:port`."""
    ssh_private_key: str = dataclasses.field(repr=False)
    tokens: Secrets = dataclasses.field(repr=False)
    maas_api_key: str = dataclasses.field(default="", repr=False)
    tls_certificate: str = ""
    """PEM, with its chain. Empty: plain HTTP."""
    tls_key: str = dataclasses.field(default="", repr=False)
    power_template: str = "auto"
    """Whether MAAS's power template is patched: auto, on or off."""


def install(root: Path, charm: Path) -> None:
    """Copy the charm's environment to its own place, unless it is there already.

    Raises:
        WorkloadError: it cannot be copied, or the service's user cannot be made.
    """
    try:
        if passwd.user_exists(NAME) is None:
            passwd.add_user(  # noqa: S604 - a login shell
                NAME,
                shell="/usr/sbin/nologin",
                system_user=True,
                home_dir="/nonexistent",
                create_home=False,
            )
        # The service cannot write there: what it loads is compiled now, not at every start.
        programs.install(root, charm, NAME, compiled=_MODULES)
    except errors.ConfigError as error:
        raise WorkloadError(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise WorkloadError(f"the user {NAME} cannot be made: {error.stderr or error}") from None


def absent_accounts() -> list[str]:
    """Return which of the service's user and group are not on the machine."""
    known = {USER: passwd.user_exists(NAME), GROUP: passwd.group_exists(NAME)}
    return [kind for kind, found in known.items() if found is None]


def is_installed(root: Path) -> bool:
    """Tell whether there is a release to run."""
    return programs.is_installed(root, NAME)


def configure(root: Path, wanted: Wanted) -> None:
    """Bring files, service and power template into the wanted state.

    The service is restarted or reloaded only where that makes a difference.

    Raises:
        WorkloadError: something cannot be done; the rest is.
    """
    patched = _wants_template(root, wanted.power_template)
    contents = _contents(root, wanted)
    try:
        release = (root / CURRENT).readlink().name
        unit = templates.render(
            UNIT.name,
            program=root / RELEASES / release / "bin" / programs.PROGRAM,
            config_file=root / CONFIG_FILE,
            user=NAME,
            group=_MAAS_USER if patched else NAME,
        )
        new_unit = _write_files(root, contents, unit)
    except errors.ConfigError as error:
        raise WorkloadError(str(error)) from None
    except OSError as error:
        raise WorkloadError(f"{error.filename}: {error.strerror}") from None
    fixed = _digest(unit, wanted.listen, *sorted(contents))
    try:
        if new_unit:
            systemd.daemon_reload()
        _apply(root, fixed, _digest(*contents.values()))
    except systemd.SystemdError:
        raise WorkloadError(
            f"the power service does not start: see `sudo journalctl -u {NAME}` there"
        ) from None
    programs.remove_old(root, NAME)
    _place_template(root, patched=patched)


def stop(root: Path) -> None:
    """Stop the service, for the next boot too; its files stay."""
    for path in (_APPLIED, SETTLED, TOLD):
        note(root, path, "")
    if (root / UNIT).exists():
        with contextlib.suppress(systemd.SystemdError):
            systemd.service_disable("--now", UNIT.name)


def remove(root: Path, accounts: Collection[str]) -> None:
    """Take away all that `install` and `configure` made, and put MAAS's own template back.

    What somebody else has put into the folders stays, with its folder.

    Args:
        root: what stands for `/`.
        accounts: those of `absent_accounts`, when the unit came.
    """
    stop(root)
    with keep_on_error("the power template"):
        power_template.remove(root)
    with keep_on_error("the unit file"):
        atomic_files.remove(root / UNIT)
    with contextlib.suppress(systemd.SystemdError):
        systemd.daemon_reload()
    programs.remove(root, NAME)
    for folder, is_own in ((CONFIG, _is_configuration), (STATE, _is_state)):
        for entry in _entries(root / folder):
            if is_own(entry):
                with keep_on_error("a file"):
                    atomic_files.remove(Path(entry.path))
        programs.remove_folder(root / folder)
    if USER in accounts and passwd.user_exists(NAME) is not None:
        with keep_on_error(f"the user {NAME}"):
            passwd.remove_user(NAME)
    if GROUP in accounts and passwd.group_exists(NAME) is not None:
        with keep_on_error(f"the group {NAME}"):
            passwd.remove_group(NAME)


def note(root: Path, path: Path, text: str) -> None:
    """Keep the digest of a text, for `is_noted`; of none, where it is empty.

    One that cannot be kept is only missing, and then more is done than has to be.
    """
    with contextlib.suppress(errors.ConfigError):
        if text:
            atomic_files.write(root / path, _digest(text).encode(), 0o600)
        else:
            atomic_files.remove(root / path)


def is_noted(root: Path, path: Path, text: str) -> bool:
    """Tell whether a text is the one that was noted last."""
    return _read(root / path) == _digest(text)


def is_running() -> bool:
    """Tell whether systemd has the service running."""
    return systemd.service_running(UNIT.name)


def reload_service() -> None:
    """Let the service read its files and connect to its hosts anew."""
    with contextlib.suppress(systemd.SystemdError):
        systemd.service_reload(UNIT.name)


def hosts(root: Path) -> list[HostView]:
    """Ask the service for its hosts: it looks at each once, unless it did just now.

    Raises:
        WorkloadError: it does not answer.
    """
    try:
        with contextlib.closing(_LocalConnection(root / SOCKET)) as connection:
            connection.request("GET", "/api/v1/hosts")
            answer = json.loads(connection.getresponse().read())
        return [HostView.model_validate(host) for host in answer["hosts"]]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        raise WorkloadError(
            f"the power service does not answer: see `sudo journalctl -u {NAME}` there"
        ) from None


def run(
    root: Path, *arguments: str, key: str = "", timeout: float | None = None
) -> programs.Answer:
    """Run the program `maas-virtualbox`, as the service's user and with its configuration.

    Args:
        root: what stands for `/`.
        arguments: its command and options.
        key: the text of another SSH private key.
        timeout: seconds, after which it is ended. None: `programs.TIMEOUT_S`.
    """
    if not (root / CONFIG_FILE).exists():
        return programs.Answer("", "the power service is not configured yet: see juju status")
    options = ["--config", str(root / CONFIG_FILE)]
    owner = _service_user()
    other_key = root / _OTHER_KEY
    try:
        if key:
            atomic_files.write(other_key, key.encode(), 0o600, owner)
            options += ["--key", str(other_key)]
        limit = timeout or programs.TIMEOUT_S
        return programs.run(root, NAME, *options, *arguments, owner=owner, timeout=limit)
    except errors.ConfigError as error:
        return programs.Answer("", str(error))
    finally:
        note(root, _OTHER_KEY, "")


def _contents(root: Path, wanted: Wanted) -> dict[Path, str]:
    """Return the content of every file of the configuration."""
    texts = {
        "ssh-private-key-file": wanted.ssh_private_key,
        "secrets-file": wanted.tokens.dump(),
        "maas-api-key-file": wanted.maas_api_key,
        "tls-certificate-file": wanted.tls_certificate,
        "tls-key-file": wanted.tls_key,
    }
    secret = {option: text for option, text in texts.items() if text}
    options = {
        **wanted.options,
        "listen": wanted.listen,
        "known-hosts-file": str(root / STATE / "known_hosts"),
        "vm-hosts-file": str(root / STATE / "vm-hosts.json"),
        "socket-file": str(root / SOCKET),
        **{option: str(root / _SECRETS[option]) for option in secret},
    }
    return {
        CONFIG_FILE: yaml.safe_dump(options, allow_unicode=True, sort_keys=False),
        **{_SECRETS[option]: text for option, text in secret.items()},
    }


def _write_files(root: Path, contents: Mapping[Path, str], unit: str) -> bool:
    """Write configuration and unit file; tells whether the unit file is a new one.

    Raises:
        WorkloadError: something in the configuration's folder is somebody else's; nothing was
            changed.
    """
    user = _service_user()
    for entry in _entries(root / CONFIG):
        if not _is_configuration(entry):
            raise WorkloadError(
                f"/{CONFIG}/{printable(entry.name)} is not this charm's: move it to another place"
            )
    for folder in (CONFIG, STATE):
        atomic_files.ensure_folder(root / folder, 0o700, user)
    for path, text in contents.items():
        atomic_files.write(root / path, text.encode(), 0o600, user)
    kept = {path.name for path in (*contents, _APPLIED, SETTLED, TOLD)}
    for entry in _entries(root / CONFIG):
        if entry.name not in kept:
            atomic_files.remove(Path(entry.path))
    return atomic_files.write(root / UNIT, unit.encode(), 0o644)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder; nothing where there is none."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_configuration(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file as the charm writes it into the configuration's folder."""
    partial = _TEMPORARY.fullmatch(entry.name)
    name = partial["name"] if partial else entry.name
    return name in _OWN and entry.is_file(follow_symlinks=False)


def _is_state(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file that the service has written into its folder."""
    user, there = passwd.user_exists(NAME), entry.stat(follow_symlinks=False)
    return user is not None and there.st_uid == user.pw_uid and stat.S_ISREG(there.st_mode)


def _apply(root: Path, fixed: str, changeable: str) -> None:
    """Start, restart or reload the service by what it last was started and reloaded with.

    Args:
        root: what stands for `/`.
        fixed: the digest of what takes a restart.
        changeable: the digest of what takes a reload.
    """
    applied = root / _APPLIED
    before = _read(applied).split()
    if before[:1] != [fixed] or not is_running():
        systemd.service_enable(UNIT.name)
        systemd.service_restart(UNIT.name)
    elif before != [fixed, changeable]:
        systemd.service_reload(UNIT.name)
    atomic_files.write(applied, f"{fixed}\n{changeable}\n".encode(), 0o600)


def _read(note: Path) -> str:
    """Return a note's text; none where it cannot be read. The service's user owns its folder."""
    try:
        return atomic_files.read(note).content.decode("ascii", "replace")
    except OSError:
        return ""


def _wants_template(root: Path, choice: str) -> bool:
    present = (root / power_template.TEMPLATE).exists()
    if choice == "on" and not present:
        raise WorkloadError(
            f"power-template: expected auto or off: there is no /{power_template.TEMPLATE} here,"
            " which MAAS 1.4 to 1.9 has"
        )
    return present and choice != "off"


def _place_template(root: Path, *, patched: bool) -> None:
    wanted = power_template.Settings(
        program=root / CURRENT / "bin" / NAME,
        python=root / CURRENT / "venv/bin/python",
        config_file=root / CONFIG_FILE,
        socket_file=root / SOCKET,
        user=_MAAS_USER,
    )
    try:
        if patched:
            power_template.install(root, wanted)
        else:
            power_template.remove(root)
    except errors.ConfigError as error:
        raise WorkloadError(
            f"power-template: {error}{'; or set it to off' if patched else ''}"
        ) from None


def _service_user() -> atomic_files.Owner:
    user = passwd.user_exists(NAME)
    assert user is not None, "install makes it"
    return user.pw_uid, user.pw_gid


def _digest(*texts: object) -> str:
    return hashlib.sha256("\0".join(map(str, texts)).encode()).hexdigest()


class _LocalConnection(http.client.HTTPConnection):
    """HTTP over the service's UNIX socket, which needs no token."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_ASK_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
