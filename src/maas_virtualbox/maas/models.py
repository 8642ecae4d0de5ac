# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What MAAS's API tells, as values; each is made from the API's JSON by its `parse`.

A `parse` raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for what is none of
MAAS's; the client makes a sentence of it.
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
    """Lower case, with colons; empty if it has none."""
    kind: str = "physical"
    """physical, bond, bridge or vlan; the last three often have a physical one's MAC."""

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Interface:
        """Read one of a machine's `interface_set`."""
        return cls(
            int(raw["id"]), str(raw["mac_address"] or "").lower(), str(raw.get("type", "physical"))
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Machine:
    """A machine of MAAS."""

    system_id: str
    hostname: str
    hardware_uuid: str = ""
    """Lower case; empty before the first commissioning."""
    zone: str = "default"
    power_type: str = ""
    """`webhook` where it may be ours; empty or `manual`: MAAS cannot switch it."""
    power_state: str = "unknown"
    """As MAAS last saw it: on, off, unknown or error."""
    status: str = "New"
    """MAAS's word, such as New, Ready or Deployed."""
    interfaces: tuple[Interface, ...] = ()
    tags: tuple[str, ...] = ()
    power_parameters: Mapping[str, str] = dataclasses.field(
        default_factory=dict[str, str], repr=False
    )
    """Under MAAS's own names; holds secrets."""

    @property
    def macs(self) -> tuple[str, ...]:
        """The MACs of all its interfaces."""
        return tuple(interface.mac for interface in self.interfaces if interface.mac)

    @classmethod
    def parse(cls, raw: Mapping[str, Any], power_parameters: Mapping[str, Any]) -> Machine:
        """Read a machine and what `op=power_parameters` says of it."""
        return cls(
            system_id=str(raw["system_id"]),
            hostname=str(raw["hostname"]),
            hardware_uuid=settings_xml.normalise_uuid(str(raw.get("hardware_uuid") or "")),
            zone=str(raw["zone"]["name"]),
            power_type=str(raw["power_type"] or ""),
            power_state=str(raw["power_state"]),
            status=str(raw["status_name"]),
            interfaces=tuple(Interface.parse(each) for each in raw["interface_set"]),
            tags=tuple(str(tag) for tag in raw["tag_names"]),
            power_parameters={name: str(value or "") for name, value in power_parameters.items()},
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node of MAAS that is no machine: its hostname and MACs are not free for one."""

    kind: str
    """Such as `device`; for people."""
    hostname: str
    macs: tuple[str, ...]

    @classmethod
    def parse(cls, raw: Mapping[str, Any], kind: str) -> Node:
        """Read one of the devices or controllers."""
        macs = (str(each.get("mac_address") or "").lower() for each in raw["interface_set"])
        return cls(kind, str(raw["hostname"]), tuple(mac for mac in macs if mac))


@dataclasses.dataclass(frozen=True, slots=True)
class Rack:
    """A rack controller: what asks our power service."""

    node: Node
    subnets: tuple[_Network, ...]
    """Of its interfaces that have an address there."""

    @property
    def hostname(self) -> str:
        """Its name in MAAS."""
        return self.node.hostname

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Rack:
        """Read one of the rack controllers."""
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
    """Whose API key it is."""

    name: str
    is_admin: bool

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> User:
        """Read the answer to `op=whoami`."""
        return cls(str(raw["username"]), bool(raw["is_superuser"]))


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """A physical zone of MAAS."""

    name: str
    description: str

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Zone:
        """Read one of the zones."""
        return cls(str(raw["name"]), str(raw["description"]))
