# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The options of charmcraft.yaml, checked whole."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

import pydantic

from maas_virtualbox.config import config_file, options

if TYPE_CHECKING:
    from collections.abc import Mapping

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_subnet(value: object) -> Subnet | None:
    """Read listen-subnet; None where it is empty.

    Raises:
        ValueError: it is no subnet.
    """
    if not value:
        return None
    try:
        return ipaddress.ip_network(str(value))
    except ValueError:
        raise ValueError(
            f"listen-subnet: expected a subnet such as 10.0.0.0/24, not {value!r}"
        ) from None


class CharmOptions(config_file.SharedOptions):
    """What `juju config` says. Immutable. Secrets are URIs here, never content."""

    ssh_private_key: str = ""
    """The URI of a secret with `private-key`. Empty: the charm has a key pair of its own."""
    listen_port: int = pydantic.Field(default=config_file.DEFAULT_PORT, ge=1, le=65535)
    """TCP port of the power service."""
    listen_subnet: Subnet | None = None
    """The subnet of the address MAAS reaches us by. None: the binding's."""
    maas_api_key: str = ""
    """The URI of a secret with `api-key`."""
    auto_enlist: Literal["off", "adopt", "all"] = "off"
    """Which VMs the leader makes known to MAAS by itself."""
    power_template: Literal["auto", "on", "off"] = "auto"
    """Whether the power template of MAAS 1.4 to 1.9 is installed."""

    @pydantic.field_validator("listen_subnet", mode="before")
    @classmethod
    def _parse_subnet(cls, value: object) -> object:
        return parse_subnet(value)

    @pydantic.model_validator(mode="after")
    def _check_hosts(self) -> CharmOptions:
        if self.hosts == config_file.FROM_ZONES:
            if not (self.maas_url and self.maas_api_key):
                raise ValueError("hosts: expected maas-url and maas-api-key beside from-zones")
        elif any(host.is_local for host in self.hosts):
            raise ValueError(
                "hosts: expected user@address, also for VMs on this machine: user@127.0.0.1"
            )
        return self

    def service_options(self) -> dict[str, object]:
        """Return what the configuration file of the power service has of them."""
        shared = config_file.SharedOptions.model_fields.keys() - {"hosts"}
        listed = (
            self.hosts
            if self.hosts == config_file.FROM_ZONES
            else [
                host.model_dump(mode="json", by_alias=True, exclude_defaults=True)
                for host in self.hosts
            ]
        )
        return {
            "hosts": listed,
            **self.model_dump(mode="json", by_alias=True, include=set(shared)),
        }


def parse(values: Mapping[str, object]) -> CharmOptions:
    """Check the options as Juju has them.

    Raises:
        ValueError: one is wrong; the text is one sentence that names it.
    """
    return options.validate(CharmOptions, values)
