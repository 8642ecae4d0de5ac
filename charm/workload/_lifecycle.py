# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The life of the power service: installed, configured, stopped, removed."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

from charmlibs import passwd, systemd

from maas_virtualbox import errors
from maas_virtualbox.config import atomic_files
from maas_virtualbox.juju import programs
from maas_virtualbox.juju.removal import keep_on_error
from maas_virtualbox.maas import power_template
from workload import _files, _template, _unit
from workload._errors import WorkloadError
from workload._files import CONFIG_FILE, NAME, OTHER_KEY

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_USER, _GROUP = "user", "group"
_COMPILED_MODULES = (
    "maas_virtualbox.cli.main",
    "maas_virtualbox.maas.check",
    "maas_virtualbox.service.process",
)


def install(root: Path, charm: Path) -> None:
    """Copy the charm's environment to its own folder, and create the service's user.

    Raises:
        WorkloadError: The environment cannot be copied, or the user cannot be created.
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
        # The service cannot write there. Its modules are compiled now, not at every start.
        programs.install(root, charm, NAME, compiled=_COMPILED_MODULES)
    except errors.ConfigError as error:
        raise WorkloadError(str(error)) from None
    except subprocess.CalledProcessError as error:
        raise WorkloadError(f"cannot create the user {NAME}: {error.stderr or error}") from None


def is_installed(root: Path) -> bool:
    """Return whether there is a release to run."""
    return programs.is_installed(root, NAME)


def absent_accounts() -> list[str]:
    """Return which of the service's accounts do not exist: "user", "group" or both."""
    accounts = {_USER: passwd.user_exists(NAME), _GROUP: passwd.group_exists(NAME)}
    return [account for account, entry in accounts.items() if entry is None]


def configure(root: Path, config: _files.ServiceConfig) -> None:
    """Bring files, service and power template into the desired state.

    The service is restarted or reloaded only if that is necessary.

    Raises:
        WorkloadError: A step failed. If only the power template cannot be changed, the service
            runs with the new configuration.
    """
    patched = _template.is_patched(root, config.power_template)
    contents = _files.render(root, config)
    try:
        unit = _unit.render(root, group=_template.MAAS_USER if patched else NAME)
        _files.write(root, contents)
        _unit.write(root, unit)
        _unit.apply(root, contents, unit=unit, listen=config.listen)
    except errors.ConfigError as error:
        raise WorkloadError(str(error)) from None
    except OSError as error:
        raise WorkloadError(f"{error.filename}: {error.strerror}") from None
    programs.remove_old(root, NAME)
    _template.ensure(root, patched=patched)


def stop(root: Path) -> None:
    """Stop the service, and do not start it at boot. Its files stay."""
    _files.remove_notes(root)
    _unit.disable(root)


def remove(root: Path, accounts: Collection[str]) -> None:
    """Remove everything that `install` and `configure` created, and restore MAAS's template.

    Args:
        root: The folder that represents `/`.
        accounts: The accounts to remove: what `absent_accounts` returned before `install`.
    """
    stop(root)
    with keep_on_error("the power template"):
        power_template.remove(root)
    with keep_on_error("the unit file"):
        _unit.remove(root)
    with contextlib.suppress(systemd.SystemdError):
        systemd.daemon_reload()
    programs.remove(root, NAME)
    _files.remove(root)
    if _USER in accounts and passwd.user_exists(NAME) is not None:
        with keep_on_error(f"the user {NAME}"):
            passwd.remove_user(NAME)
    if _GROUP in accounts and passwd.group_exists(NAME) is not None:
        with keep_on_error(f"the group {NAME}"):
            passwd.remove_group(NAME)


def run(
    root: Path, *arguments: str, key: str = "", timeout: float | None = None
) -> programs.Result:
    """Run the program `maas-virtualbox` as the service's user, with its configuration.

    Args:
        root: The folder that represents `/`.
        arguments: The program's command and options.
        key: An SSH private key to use instead of the configured one.
        timeout: Seconds, after which the program is ended. None: `programs.TIMEOUT_S`.
    """
    if not (root / CONFIG_FILE).exists():
        return programs.Result("", "the power service is not configured yet: see juju status")
    options = ["--config", str(root / CONFIG_FILE)]
    owner = _files.service_user()
    key_file = root / OTHER_KEY
    try:
        if key:
            atomic_files.write(key_file, key.encode(), 0o600, owner)
            options += ["--key", str(key_file)]
        seconds = timeout or programs.TIMEOUT_S
        return programs.run(root, NAME, *options, *arguments, owner=owner, timeout=seconds)
    except errors.ConfigError as error:
        return programs.Result("", str(error))
    finally:
        with contextlib.suppress(errors.ConfigError):
            atomic_files.remove(key_file)
