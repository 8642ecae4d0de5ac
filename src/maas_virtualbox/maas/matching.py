# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which machine of a MAAS belongs to which VM. Pure lookups; the decisions are in `planner`.

Machines match a VM in this order:

1. Managed machines: their power parameters are this project's URIs, which contain the VM's UUID.
   MAAS stores them in the same call that creates the machine.
2. Machines with the tag `virtualbox-UUID`. Tags survive when a machine is released, and every
   administrator may write them. Owner data would not do: only the user who has allocated the
   machine may write it, and MAAS deletes it on release.
3. Machines with one of the VM's MACs, or with the VM's UUID as their hardware UUID.
"""

from __future__ import annotations

import collections
import functools
import re
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from maas_virtualbox.maas.power_parameters import POWER_TYPE, ROUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.models import Machine, Node
    from maas_virtualbox.maas.plan import MAASInventory

TAG_PREFIX = "virtualbox-"

_URI = re.compile(r"(?P<base>https?://[^/]+)" + ROUTES + r"(?P<uuid>[0-9a-f-]{36})/(?P<verb>\w+)")

_T = TypeVar("_T")


class ManagedURIs(NamedTuple):
    """What the power URIs of a managed machine have in common; empty for other machines."""

    base: str = ""
    """Such as `http://10.0.0.2:5307`."""
    uuid: str = ""
    """The VM's."""


def managed_uris(machine: Machine) -> ManagedURIs:
    """Return the base and UUID of a machine's URIs, if all three have this project's form and
    name the same VM."""
    if machine.power_type != POWER_TYPE:
        return ManagedURIs()
    found = {
        _parse_uri(machine.power_parameters.get(f"power_{verb}_uri", ""), verb)
        for verb in ("on", "off", "query")
    }
    return found.pop() if len(found) == 1 else ManagedURIs()


def _parse_uri(uri: str, verb: str) -> ManagedURIs:
    match = _URI.fullmatch(uri)
    if match is None or match["verb"] != verb:
        return ManagedURIs()
    return ManagedURIs(match["base"], match["uuid"])


def tag_name(uuid: str) -> str:
    """Return the name of the tag that links a machine to the VM with this UUID."""
    return TAG_PREFIX + uuid


class Matcher:
    """Looks up VMs, machines and other nodes by what they have in common.

    The planner creates one for each plan. It never changes after that.
    """

    def __init__(self, vms: Iterable[VM], inventory: MAASInventory) -> None:
        self.vms = tuple(vms)
        self.inventory = inventory
        self._vms_by_uuid = _index(self.vms, lambda vm: [vm.uuid])
        self._vms_by_mac = _index(self.vms, lambda vm: vm.macs)
        self._vms_by_zone = _index(self.vms, lambda vm: [vm.host.zone])
        self._managed = _index(inventory.machines, lambda machine: [managed_uris(machine).uuid])
        self._machines_by_trait = _index(inventory.machines, _traits)
        self._nodes_by_mac = _index(inventory.other_nodes, lambda node: node.macs)

    @functools.cached_property
    def zones(self) -> frozenset[str]:
        """The names of all zones in MAAS."""
        return frozenset(zone.name for zone in self.inventory.zones)

    @functools.cached_property
    def hostnames(self) -> frozenset[str]:
        """The hostnames of all nodes in MAAS."""
        nodes = (*self.inventory.machines, *self.inventory.other_nodes)
        return frozenset(node.hostname for node in nodes)

    @functools.cached_property
    def _vms_by_candidate(self) -> dict[str, list[VM]]:
        """The VMs that have no managed machine, by the system IDs of their candidates."""
        vms = (vm for vm in self.vms if not self.managed_machines(vm))
        return _index(vms, lambda vm: [machine.system_id for machine in self.candidates(vm)])

    def accounts(self, zone: str) -> tuple[str, ...]:
        """Return the accounts (`user@address`) of a zone's hosts, each once."""
        return tuple(dict.fromkeys(vm.host.account for vm in self._vms_by_zone.get(zone, ())))

    def candidates(self, vm: VM) -> list[Machine]:
        """Return the machines that match a VM by tag, or else by MAC or hardware UUID."""
        traits = [*vm.macs, vm.uuid, _swap_bytes(vm.uuid)]
        machines = self._machines_by_trait.get(tag_name(vm.uuid)) or [
            machine for trait in traits for machine in self._machines_by_trait.get(trait, ())
        ]
        return list({machine.system_id: machine for machine in machines}.values())

    def is_mac_free(self, mac: str) -> bool:
        """Whether one VM at most and no node of MAAS has a MAC."""
        return (
            mac not in self._machines_by_trait
            and mac not in self._nodes_by_mac
            and len(self._vms_by_mac.get(mac, ())) <= 1
        )

    def machines_with_mac(self, mac: str) -> Sequence[Machine]:
        """Return the machines that have a MAC."""
        return self._machines_by_trait.get(mac, ())

    def managed_machines(self, vm: VM) -> Sequence[Machine]:
        """Return the machines whose URIs are those of a VM."""
        return self._managed.get(vm.uuid, ())

    def node_with_mac(self, mac: str) -> Node | None:
        """Return the device or controller that has a MAC."""
        return next(iter(self._nodes_by_mac.get(mac, ())), None)

    def other_vms_with_mac(self, mac: str, vm: VM) -> list[VM]:
        """Return all other VMs that have a MAC of this one."""
        return [other for other in self._vms_by_mac.get(mac, ()) if other is not vm]

    def rivals(self, machine: Machine, vm: VM) -> list[VM]:
        """Return all other VMs for which a machine is a candidate."""
        vms = self._vms_by_candidate.get(machine.system_id, ())
        return [other for other in vms if other.uuid != vm.uuid]

    def vms_with_uuid(self, uuid: str) -> Sequence[VM]:
        """Return the VMs with a UUID: several if one was copied to another host."""
        return self._vms_by_uuid.get(uuid, ())


def _index(items: Iterable[_T], keys: Callable[[_T], Iterable[str]]) -> dict[str, list[_T]]:
    """Return the items by each of their keys."""
    index: dict[str, list[_T]] = collections.defaultdict(list)
    for item in items:
        for key in dict.fromkeys(keys(item)):
            index[key].append(item)
    return dict(index)


def _traits(machine: Machine) -> Iterable[str]:
    """Return what identifies a machine that is not managed."""
    return (*machine.tags, *machine.macs, machine.hardware_uuid)


def _swap_bytes(uuid: str) -> str:
    """Return a UUID in the other byte order of SMBIOS, which some firmware reports."""
    parts = uuid.split("-")
    swapped = [bytes.fromhex(part)[::-1].hex() for part in parts[:3]]
    return "-".join([*swapped, *parts[3:]])
