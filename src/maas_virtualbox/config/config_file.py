# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration file of the command line and of the power service: YAML, checked whole.

hosts: ivan@10.0.0.5 zone=izMBP13, ivan@10.0.0.6
ssh-private-key-file: /etc/maas-virtualbox/id_ed25519
known-hosts-file: /var/lib/maas-virtualbox/known_hosts
vm-hosts-file: /var/lib/maas-virtualbox/vm-hosts.json
secrets-file: /etc/maas-virtualbox/secrets.yaml
listen: 0.0.0.0:5307
off-mode: acpi
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from pathlib import Path
from typing import Literal, cast
from urllib import parse

import platformdirs
import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import host_list, options
from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.config.policy import PowerPolicy

FROM_ZONES = "from-zones"

DEFAULT_PORT = 5307
"""Above the ports MAAS itself uses (5240 to 5300 or so)."""

_LISTEN = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<v4>[^:]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclasses.dataclass(frozen=True, slots=True)
class Listen:
    """Where the power service listens."""

    address: str
    """A literal IP address; `0.0.0.0` and `::` stand for all of this machine's."""

    port: int = DEFAULT_PORT
    """TCP port; 0: any free one, for tests."""

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Read `address:port`, `[address]:port` or an address alone.

        Raises:
            ValueError: it is none of these.
        """
        match = _LISTEN.fullmatch(text)
        address = (match["v6"] or match["v4"] or "") if match else ""
        port = match["port"] if match else None
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise ValueError(
                f"expected address:port with a literal IP address, such as 0.0.0.0:{DEFAULT_PORT}"
                f" or [::]:{DEFAULT_PORT}, not {text!r}"
            ) from None
        if port and int(port) > 65535:
            raise ValueError(f"the port {port} is not a number from 0 to 65535")
        return cls(address, int(port) if port else DEFAULT_PORT)

    def __str__(self) -> str:
        return (
            f"[{self.address}]:{self.port}"
            if ":" in self.address
            else f"{self.address}:{self.port}"
        )


def check_maas_url(url: str) -> None:
    """Check MAAS's URL; what it leads to is not asked.

    Raises:
        ValueError: it is no URL of HTTP, or has a user or password in it.
    """
    try:
        parts = parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    # A user's password would end up in logs.
    if "@" in url:
        raise ValueError("maas-url: expected http://ADDRESS:5240/MAAS, without a user and an @")
    if not good or not url.isprintable() or " " in url:
        raise ValueError(f"maas-url: expected http://ADDRESS:5240/MAAS, not {url!r}")


class SharedOptions(options.Options):
    """What people decide about hosts and power, alike in a configuration file and in Juju."""

    hosts: tuple[HostConfig, ...] | Literal["from-zones"] = ()
    """The host list, in short form or as YAML; or from the descriptions of MAAS's zones."""
    maas_url: str = ""
    """Such as `http://10.0.0.2:5240/MAAS`, for `hosts: from-zones` and enlistment."""
    off_mode: Literal["hard", "acpi"] = "hard"
    """See `PowerPolicy.off_mode`."""
    off_timeout: float = pydantic.Field(default=10.0, ge=1.0, le=20.0)
    """Seconds a guest has to react to the power button."""
    saved_state: Literal["discard", "resume"] = "discard"
    """See `PowerPolicy.saved_state`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important lines the power service logs."""

    @pydantic.field_validator("hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, value: object) -> object:
        if value == FROM_ZONES or not isinstance(value, str | list):
            return value
        try:
            return host_list.parse_hosts(cast("str | list[object]", value))
        except errors.HostListError as error:
            # All of them begin with "host list".
            raise ValueError(f"hosts: expected a {error}") from None

    @pydantic.field_validator("maas_url")
    @classmethod
    def _check_maas_url(cls, value: str) -> str:
        if value:
            check_maas_url(value)
        return value


class Config(SharedOptions):
    """What a configuration file says. Immutable; unknown options are errors."""

    maas_api_key_file: Path | None = None
    """A file with MAAS's API key."""
    maas_ca_file: Path | None = None
    """The CA of MAAS's certificate. None: the system's."""
    ssh_private_key_file: Path | None = None
    """The private key for all hosts. None: ssh-agent's keys, then the usual files in ~/.ssh."""
    known_hosts_file: Path | None = None
    """Where host keys are pinned."""
    vm_hosts_file: Path | None = None
    """Where the host of each VM is remembered; see `vm_hosts`. None: beside the known hosts."""
    state_max_age: float = pydantic.Field(default=2.0, ge=0.0, le=60.0)
    """Seconds for which one observation of a host answers every query."""

    listen: Listen = Listen("0.0.0.0")  # noqa: S104 - MAAS is on other machines
    """Where the power service listens."""
    socket_file: Path | None = None
    """UNIX socket for local programs such as the extension scripts of MAAS 1.4 to 1.9; whoever may
    write to it, the service's user and group, needs no token. None: there is none."""
    secrets_file: Path | None = None
    """The master secret of the power service's tokens; see `tokens`."""
    tls_certificate_file: Path | None = None
    """PEM file of the certificate and its chain. None: the power service speaks plain HTTP."""
    tls_key_file: Path | None = None
    """PEM file of the certificate's private key."""
    log_format: Literal["text", "json"] = "text"
    """How the power service writes its log."""

    @pydantic.field_validator("listen", mode="before")
    @classmethod
    def _parse_listen(cls, value: object) -> object:
        return Listen.parse(str(value)) if isinstance(value, str | int) else value

    @pydantic.model_validator(mode="after")
    def _check_tls(self) -> Config:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tls-certificate-file and tls-key-file go together: give both")
        return self

    @property
    def known_hosts(self) -> Path:
        """Where host keys are pinned; in the user's state folder if no file is named."""
        default = platformdirs.user_state_path("maas-virtualbox") / "known_hosts"
        return self.known_hosts_file or default

    @property
    def vm_hosts(self) -> Path:
        """Where the host of each VM is remembered."""
        return self.vm_hosts_file or self.known_hosts.with_name("vm-hosts.json")

    @property
    def policy(self) -> PowerPolicy:
        """What on and off mean."""
        return PowerPolicy(
            off_mode=self.off_mode,
            off_timeout=self.off_timeout,
            saved_state=self.saved_state,
            state_max_age=self.state_max_age,
        )


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: the file is missing, not YAML, or an option is unknown or wrong; the text
            names the line and the option.
    """
    return options.load(
        path, Config, what=str(path), expected="options, such as hosts: user@address"
    )
