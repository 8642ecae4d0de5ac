# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The objects of MAAS's API as values. Each has a `parse`, which reads the API's JSON.

If the JSON is not MAAS's, `parse` raises `KeyError`, `TypeError`, `ValueError` or
`AttributeError`. The client turns these into a `MAASError`.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import TYPE_CHECKING, Any

from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """A network interface of a machine."""

    id: int
    mac: str
    """Lower case, with colons; empty if the interface has none."""
    kind: str = "physical"
    """physical, bond, bridge or vlan. The last three often share a physical interface's MAC."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Interface:
        """Read an item of a machine's `interface_set`."""
        return cls(
            int(raw["id"]), str(raw["mac_address"] or "").lower(), str(raw.get("type", "physical"))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A machine in MAAS."""

    system_id: str
    hostname: str
    hardware_uuid: str = ""
    """Lower case; empty until the machine is commissioned."""
    zone: str = "default"
    power_type: str = ""
    """`webhook` if this project may control it. With an empty one or `manual`, MAAS has no power
    control."""
    power_state: str = "unknown"
    """The result of MAAS's last poll: on, off, unknown or error."""
    status: str = "New"
    """Such as New, Ready or Deployed."""
    interfaces: tuple[Interface, ...] = ()
    tags: tuple[str, ...] = ()
    power_parameters: Mapping[str, str] = dataclasses.field(
        default_factory=dict[str, str], repr=False
    )
    """By MAAS's names. They contain secrets."""

    @property
    def macs(self) -> tuple[str, ...]:
        """The MACs of all its interfaces."""
        return tuple(interface.mac for interface in self.interfaces if interface.mac)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], power_parameters: Mapping[str, Any]) -> Machine:
        """Read a machine and its part of the response to `op=power_parameters`."""
        return cls(
            system_id=str(raw["system_id"]),
            hostname=str(raw["hostname"]),
            hardware_uuid=settings_xml.normalise_uuid(str(raw.get("hardware_uuid") or "")),
            zone=str(raw["zone"]["name"]),
            power_type=str(raw["power_type"] or ""),
            power_state=str(raw["power_state"]),
            status=str(raw["status_name"]),
            interfaces=tuple(Interface.parse(item) for item in raw["interface_set"]),
            tags=tuple(str(tag) for tag in raw["tag_names"]),
            power_parameters={name: str(value or "") for name, value in power_parameters.items()},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node in MAAS that is not a machine. No machine can have its hostname or MACs."""

    kind: str
    """Such as `device`, for messages."""
    hostname: str
    macs: tuple[str, ...]

    @classmethod
    def parse(cls, raw: Mapping[str, Any], kind: str) -> Node:
        """Read a device or controller."""
        macs = (str(item.get("mac_address") or "").lower() for item in raw["interface_set"])
        return cls(kind, str(raw["hostname"]), tuple(mac for mac in macs if mac))


@dataclasses.dataclass(frozen=True, slots=True)
class Rack:
    """A rack controller, which sends requests to the power service."""

    node: Node
    subnets: tuple[_Network, ...]
    """The subnets in which its interfaces have addresses."""

    @property
    def hostname(self) -> str:
        """Its hostname in MAAS."""
        return self.node.hostname

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Rack:
        """Read a rack controller."""
        networks = dict.fromkeys(
            ipaddress.ip_network(str(link["subnet"]["cidr"]))
            for interface in raw["interface_set"]
            for link in _links(interface)
        )
        return cls(Node.parse(raw, "rack controller"), tuple(networks))


def _links(interface: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    return (link for link in interface.get("links") or () if link.get("subnet"))


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """The user of an API key."""

    name: str
    is_admin: bool

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> User:
        """Read the response to `op=whoami`."""
        return cls(str(raw["username"]), bool(raw["is_superuser"]))


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """A physical zone in MAAS."""

    name: str
    description: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Zone:
        """Read a zone."""
        return cls(str(raw["name"]), str(raw["description"]))
