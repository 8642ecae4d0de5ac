# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Connections to the MAAS that a configuration file names.

The MAAS client is an optional extra, so this module imports it only when it is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config.config_file import FROM_ZONES

if TYPE_CHECKING:
    from pathlib import Path

    from maas_virtualbox.config.config_file import Config
    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.maas.client import MAAS

ZONES_TIMEOUT_S = 60.0
"""How long the command line and the power service wait for the list of MAAS's zones."""


def connect(config: Config, purpose: str, deadline: Deadline | None = None) -> MAAS:
    """Return a client of the configured MAAS. Does not connect yet.

    Args:
        config: must have `maas-url` and `maas-api-key-file`.
        purpose: what needs the client, for error messages.
        deadline: when every call of this client must have ended. None: each call has its own
            timeout only.

    Raises:
        ConfigError: an option or the extra `maas` is missing, or a file cannot be read.
    """
    if not config.maas_url or config.maas_api_key_file is None:
        raise errors.ConfigError(f"{purpose} needs maas-url and maas-api-key-file")
    key = _read_key(config.maas_api_key_file)
    return open_client(config.maas_url, key, config.maas_ca_file, purpose, deadline)


def open_client(
    url: str,
    api_key: pydantic.SecretStr,
    ca_file: Path | None,
    purpose: str,
    deadline: Deadline | None = None,
) -> MAAS:
    """Return a client of a MAAS. Does not connect yet.

    Raises:
        ConfigError: the extra `maas` is missing, or an argument is invalid; see `client.MAAS`.
    """
    try:
        from maas_virtualbox.maas.client import MAAS  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            f"{purpose} needs {error.name}: pip install 'maas-virtualbox[maas]'"
        ) from None
    return MAAS(url, api_key, ca_file, deadline=deadline)


def find_hosts(config: Config, deadline: Deadline) -> tuple[HostConfig, ...]:
    """Return the configured hosts. With `hosts: from-zones`, read them from MAAS's zones.

    Raises:
        ConfigError: MAAS must be asked, but is not fully configured; see `connect`.
        MAASError: MAAS did not answer by the deadline, or refused. See its `retry`.
    """
    if config.hosts != FROM_ZONES:
        return config.hosts
    with connect(config, "hosts: from-zones", deadline) as client:
        from maas_virtualbox.maas.zones import hosts_from_zones  # noqa: PLC0415 - an extra

        return hosts_from_zones(client.zones())


def _read_key(path: Path) -> pydantic.SecretStr:
    try:
        return pydantic.SecretStr(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise errors.ConfigError(f"maas-api-key-file: {path} cannot be read: {reason}") from None
