# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration file of the command line and of the power service: one YAML file.

This module declares the options, validates them and supplies their defaults. It connects to
nothing: the hosts of MAAS's zones are read by `maas`. What the charm and the file have in common
is in `SharedOptions`. An example of a file:

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
from typing import ClassVar, Literal, cast
from urllib import parse

import platformdirs
import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import host_list, options
from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.config.policy import PowerPolicy

FROM_ZONES = "from-zones"
"""The value of `hosts` for hosts that are listed in the descriptions of MAAS's zones."""

DEFAULT_PORT = 5307
"""The service's TCP port. MAAS itself uses ports from 5240 to about 5300."""

_LISTEN = re.compile(r"(?:\[(?P<v6>[^]]*)\]|(?P<v4>[^:]*))(?::(?P<port>[0-9]{1,5}))?")


@dataclasses.dataclass(frozen=True, slots=True)
class Listen:
    """The address and port at which the power service listens. Immutable."""

    address: str
    """A literal IP address; `0.0.0.0` and `::` stand for all addresses of this machine."""

    port: int = DEFAULT_PORT
    """TCP port. 0 selects a free port, for tests."""

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Parse `address:port`, `[address]:port` or an address alone.

        Raises:
            ValueError: it is none of these; the message says what is expected.
        """
        match = _LISTEN.fullmatch(text)
        address = (match["v6"] or match["v4"]) if match else None
        if not match or not _is_ip_address(address):
            raise ValueError(
                f"expected address:port with a literal IP address, such as 0.0.0.0:{DEFAULT_PORT}"
                f" or [::]:{DEFAULT_PORT}, not {text!r}"
            )
        port = int(match["port"] or DEFAULT_PORT)
        if port > 65535:
            raise ValueError(f"the port {port} is not a number from 0 to 65535")
        return cls(address or "", port)

    def __str__(self) -> str:
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self.port}"


def _is_ip_address(text: str | None) -> bool:
    try:
        ipaddress.ip_address(text or "")
    except ValueError:
        return False
    return True


def check_maas_url(url: str) -> None:
    """Check that a text can be the URL of a MAAS. Does not connect to it.

    Raises:
        ValueError: it is not an HTTP URL, or contains a user name or password.
    """
    # Passwords in URLs end up in logs.
    if "@" in url:
        raise ValueError("maas-url: expected http://ADDRESS:5240/MAAS, without a user and an @")
    if not _is_http_url(url):
        raise ValueError(f"maas-url: expected http://ADDRESS:5240/MAAS, not {url!r}")


def _is_http_url(url: str) -> bool:
    if not url.isprintable() or " " in url:
        return False
    try:
        parts = parse.urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class SharedOptions(options.Options):
    """The options for hosts and power control that the file and the charm have in common."""

    hosts: tuple[HostConfig, ...] | Literal["from-zones"] = ()
    """The host list, in short form or as YAML, or `from-zones`; see `FROM_ZONES`."""
    maas_url: str = ""
    """The URL of MAAS, such as `http://10.0.0.2:5240/MAAS`. For `from-zones` and enlistment."""
    off_mode: Literal["hard", "acpi"] = "hard"
    """See `PowerPolicy.off_mode`."""
    off_timeout: float = pydantic.Field(default=10.0, ge=1.0, le=20.0)
    """Seconds that a guest has to shut down after the power button was pressed."""
    saved_state: Literal["discard", "resume"] = "discard"
    """See `PowerPolicy.saved_state`."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least severe level of the lines that the power service logs."""

    @pydantic.field_validator("hosts", mode="before")
    @classmethod
    def _parse_hosts(cls, value: object) -> object:
        if value == FROM_ZONES or not isinstance(value, str | list):
            return value
        try:
            return host_list.parse_hosts(cast("str | list[object]", value))
        except errors.HostListError as error:
            # The message begins with "host list".
            raise ValueError(f"hosts: expected a {error}") from None

    @pydantic.field_validator("maas_url")
    @classmethod
    def _check_maas_url(cls, value: str) -> str:
        if value:
            check_maas_url(value)
        return value


class Config(SharedOptions):
    """The content of a configuration file. `load` creates it. Immutable."""

    renamed_options: ClassVar = {"snapshot-age": "state-max-age"}

    maas_api_key_file: Path | None = None
    """A file with MAAS's API key."""
    maas_ca_file: Path | None = None
    """PEM file of the CA of MAAS's certificate. None: the CAs of the system."""
    ssh_private_key_file: Path | None = None
    """The private key for all hosts. None: the keys of ssh-agent, then those in ~/.ssh."""
    known_hosts_file: Path | None = None
    """The file with the pinned host keys. None: see `known_hosts`."""
    vm_hosts_file: Path | None = None
    """The file that records the host of each VM. None: beside the known_hosts file."""
    state_max_age: float = pydantic.Field(default=2.0, ge=0.0, le=60.0)
    """Seconds for which the state from one poll of a host answers every query."""

    listen: Listen = Listen("0.0.0.0")  # noqa: S104 - MAAS is on other machines
    """Where the power service listens."""
    socket_file: Path | None = None
    """UNIX socket for local programs such as the extension scripts of MAAS 1.4 to 1.9. Clients
    need no token: only the service's user and group may connect to it. None: no such socket."""
    secrets_file: Path | None = None
    """The master secret of the power service's tokens; see `tokens`."""
    tls_certificate_file: Path | None = None
    """PEM file of the certificate and its chain. None: the power service speaks plain HTTP."""
    tls_key_file: Path | None = None
    """PEM file of the certificate's private key."""
    log_format: Literal["text", "json"] = "text"
    """The format of the power service's log."""

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
        """The file with the pinned host keys; by default in the user's state folder."""
        default = platformdirs.user_state_path("maas-virtualbox") / "known_hosts"
        return self.known_hosts_file or default

    @property
    def vm_hosts(self) -> Path:
        """The file that records the host of each VM."""
        return self.vm_hosts_file or self.known_hosts.with_name("vm-hosts.json")

    @property
    def policy(self) -> PowerPolicy:
        """How VMs are powered on and off."""
        return PowerPolicy(
            off_mode=self.off_mode,
            off_timeout=self.off_timeout,
            saved_state=self.saved_state,
            state_max_age=self.state_max_age,
        )


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: the file is missing or not YAML, or an option is unknown or has a wrong
            value. The message names the line and the option.
    """
    return options.load(
        path, Config, what=str(path), expected="options, such as hosts: user@address"
    )
