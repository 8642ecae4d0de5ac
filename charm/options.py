# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The options of charmcraft.yaml and their validation."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

import pydantic

from maas_virtualbox.config import config_file, options

if TYPE_CHECKING:
    from collections.abc import Mapping

Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_subnet(value: object) -> Subnet | None:
    """Parse listen-subnet; None if it is empty.

    Raises:
        ValueError: It is not a subnet.
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
    """The options of `juju config`. Immutable. Secrets are URIs here, never content."""

    ssh_private_key: str = ""
    """The URI of a secret with `private-key`. If it is empty, the charm uses its own key pair."""
    listen_port: int = pydantic.Field(default=config_file.DEFAULT_PORT, ge=1, le=65535)
    """TCP port of the power service."""
    listen_subnet: Subnet | None = None
    """The subnet of the address at which MAAS reaches this unit. None: any."""
    maas_api_key: str = ""
    """The URI of a secret with `api-key`."""
    auto_enlist: Literal["off", "adopt", "all"] = "off"
    """Which VMs the leader enlists in MAAS automatically."""
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
                raise ValueError(
                    "hosts: expected maas-url and maas-api-key to be set for from-zones"
                )
        elif any(host.is_local for host in self.hosts):
            raise ValueError(
                "hosts: expected user@address, also for VMs on this machine: user@127.0.0.1"
            )
        return self

    def service_options(self) -> dict[str, object]:
        """Return the options that are part of the configuration file of the power service."""
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
    """Validate the options of Juju.

    Raises:
        ValueError: An option is invalid. The message is one sentence that names it.
    """
    return options.validate(CharmOptions, values)
