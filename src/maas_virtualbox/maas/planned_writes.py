# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What enlistment writes to make a machine in MAAS match its VM. Pure: nothing is sent here.

The comment of a machine's tag remembers the VM's name. It tells a renamed VM, whose machine is
renamed too, from a machine that a person renamed, which keeps its name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from maas_virtualbox.escape import printable
from maas_virtualbox.maas import hostnames
from maas_virtualbox.maas.matching import TAG_PREFIX, ManagedURIs, managed_uris, tag_name
from maas_virtualbox.maas.models import Zone
from maas_virtualbox.maas.plan import TagWrites, Writes
from maas_virtualbox.maas.power_parameters import POWER_TYPE, ROUTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from maas_virtualbox.host.host import VM
    from maas_virtualbox.maas.matching import Matcher
    from maas_virtualbox.maas.models import Machine
    from maas_virtualbox.maas.plan import EnlistmentSettings

    Fields = tuple[tuple[str, str], ...]

_COMMENT_PREFIX = "VirtualBox VM "

_NEW = "New"
_NEW_INTERFACE_STATUSES = ("New", "Ready", "Allocated", "Broken", "Failed testing")
"""In these, MAAS adds interfaces to a machine."""
_NEW_MAC_STATUSES = (*_NEW_INTERFACE_STATUSES, "Deployed")
"""In these, MAAS changes the MAC of an interface."""

_PARAMETER_LABELS = {"_token": "token", "_regex": "regular expressions"}
"""How a plan names the power parameters that end like this."""


class Writer:
    """Compares VMs with machines and returns what to write.

    The planner creates one for each plan. It remembers the hostnames that it gave away.
    """

    def __init__(self, matcher: Matcher, settings: EnlistmentSettings) -> None:
        self._matcher = matcher
        self._settings = settings
        self._used_hostnames = set(matcher.hostnames)

    def compare(self, vm: VM, machine: Machine | None) -> Writes:
        """Return what to write so that a machine, or a new one, matches a VM."""
        hostname = self._hostname(vm, machine)
        zone = self._zone(vm, machine)
        return Writes(
            zone=self._new_zone(zone),
            fields=(
                *(_new_machine(vm) if machine is None else ()),
                *([("hostname", hostname)] if hostname else []),
                *([("zone", zone)] if zone else []),
                *self.power_fields(vm.uuid, machine),
            ),
            other_hostnames=_hostnames_after(hostname, vm),
            interfaces=self._interfaces(vm, machine) if machine else (),
            tag=self._tag(vm, machine),
            commission=self._is_commissioning_due(machine),
        )

    def power_fields(self, uuid: str, machine: Machine | None) -> Fields:
        """Return the fields that set a machine's power parameters; empty if they are right."""
        if not self._outdated_parameters(uuid, machine):
            return ()
        wanted = self._wanted_parameters(uuid, machine)
        return (
            ("power_type", POWER_TYPE),
            # Otherwise, MAAS would reject them while no rack controller is connected.
            ("power_parameters_skip_check", "true"),
            *((f"power_parameters_{name}", value) for name, value in wanted.items()),
        )

    def describe_power(self, uuid: str, machine: Machine) -> list[str]:
        """Return which power parameters of a managed machine are outdated, for a plan's line."""
        outdated = self._outdated_parameters(uuid, machine)
        uris = [uri for name, uri in outdated.items() if name.endswith("_uri")]
        bases = [f"URIs {managed_uris(machine).base} → {uri.partition(ROUTES)[0]}" for uri in uris]
        labels = [
            label
            for ending, label in _PARAMETER_LABELS.items()
            if any(name.endswith(ending) for name in outdated)
        ]
        return [*bases[:1], *labels]

    # -- Power parameters ---------------------------------------------------------------------

    def _outdated_parameters(self, uuid: str, machine: Machine | None) -> dict[str, str]:
        current = _current_parameters(machine)
        wanted = self._wanted_parameters(uuid, machine)
        return {name: value for name, value in wanted.items() if current.get(name) != value}

    def _wanted_parameters(self, uuid: str, machine: Machine | None) -> dict[str, str]:
        base = _uris(machine).base
        wanted: dict[str, str] = dataclasses.asdict(self._settings.power_parameters(uuid, base))
        # A person may have installed our CA on the racks and made them check certificates.
        name = "power_verify_ssl"
        wanted[name] = _current_parameters(machine).get(name, wanted[name])
        return wanted

    # -- Hostname, zone and interfaces --------------------------------------------------------

    def _hostname(self, vm: VM, machine: Machine | None) -> str:
        """Return the hostname to write; empty if the machine keeps its own."""
        if machine is not None and not self._is_rename_due(vm, machine):
            return ""
        own = machine.hostname if machine else ""
        candidates = hostnames.candidates(vm.name, vm.host.name, vm.uuid)
        unused = (name for name in candidates if name == own or name not in self._used_hostnames)
        name = next(unused, candidates[-1])
        self._used_hostnames.add(name)
        return "" if name == own else name

    def _is_rename_due(self, vm: VM, machine: Machine) -> bool:
        """Whether the VM was renamed, and the machine still has a hostname that enlistment gave
        it."""
        tag = tag_name(vm.uuid)
        comment = self._matcher.inventory.tags.get(tag, "") if tag in machine.tags else ""
        if not comment or not vm.settings.accessible or comment == _comment(vm):
            return False
        name = comment.removeprefix(_COMMENT_PREFIX)
        return machine.hostname in hostnames.candidates(name, vm.host.name, vm.uuid)

    def _zone(self, vm: VM, machine: Machine | None) -> str:
        """Return the name of the zone to write; empty if the machine stays in its own."""
        return "" if machine is not None and vm.host.zone == machine.zone else vm.host.zone

    def _new_zone(self, name: str) -> Zone | None:
        if not name or name in self._matcher.zones:
            return None
        return Zone(name, ", ".join(self._matcher.accounts(name)))

    def _interfaces(self, vm: VM, machine: Machine) -> tuple[tuple[int | None, str], ...]:
        """Assign new MACs of a VM: first to interfaces whose NIC is gone, then to new ones."""
        stale: list[int | None] = [
            interface.id
            for interface in machine.interfaces
            if interface.kind == "physical" and interface.mac not in vm.macs
        ]
        new = [mac for mac in dict.fromkeys(vm.macs) if self._matcher.is_mac_free(mac)]
        if machine.status not in _NEW_MAC_STATUSES:
            return ()
        if machine.status in _NEW_INTERFACE_STATUSES:
            stale += [None] * len(new)
        return tuple(zip(stale, new, strict=False))

    # -- Tag and commissioning ----------------------------------------------------------------

    def _tag(self, vm: VM, machine: Machine | None) -> TagWrites | None:
        """Return what to write about the VM's tag; None if nothing."""
        tags = self._matcher.inventory.tags
        name, comment = tag_name(vm.uuid), _comment(vm)
        current = machine.tags if machine else ()
        writes = TagWrites(
            name,
            comment,
            create=name not in tags,
            update_comment=vm.settings.accessible and tags.get(name, comment) != comment,
            add=name not in current,
            remove=tuple(tag for tag in current if tag.startswith(TAG_PREFIX) and tag != name),
        )
        return None if writes.is_empty else writes

    def _is_commissioning_due(self, machine: Machine | None) -> bool:
        """Whether MAAS is to commission a machine, which may be one that an earlier run could not
        commission. Without a rack controller, MAAS cannot."""
        is_new = machine is None or machine.status == _NEW
        return self._settings.commission and is_new and self._matcher.inventory.racks != ()


def describe(writes: Writes, machine: Machine) -> list[str]:
    """Return what is written to an existing machine, for a plan's line. The power parameters and
    the tag are left out."""
    fields = dict(writes.fields)
    current = {"hostname": machine.hostname, "zone": machine.zone}
    return [
        *(f"{name} {old} → {fields[name]}" for name, old in current.items() if name in fields),
        *(f"MAC {mac}" for _, mac in writes.interfaces),
        *(["commission"] if writes.commission else []),
    ]


def _uris(machine: Machine | None) -> ManagedURIs:
    return ManagedURIs() if machine is None else managed_uris(machine)


def _current_parameters(machine: Machine | None) -> Mapping[str, str]:
    """Return the power parameters of a managed machine; empty for others."""
    return machine.power_parameters if machine is not None and _uris(machine).base else {}


def _new_machine(vm: VM) -> Fields:
    return (
        ("architecture", f"{vm.settings.architecture or 'amd64'}/generic"),
        *(("mac_addresses", mac) for mac in dict.fromkeys(vm.macs)),
        # Otherwise, MAAS would start it before it is complete.
        ("commission", "false"),
    )


def _hostnames_after(hostname: str, vm: VM) -> tuple[str, ...]:
    """Return the alternatives to a hostname, best first."""
    if not hostname:
        return ()
    candidates = hostnames.candidates(vm.name, vm.host.name, vm.uuid)
    return candidates[candidates.index(hostname) + 1 :]


def _comment(vm: VM) -> str:
    # MAAS strips white space from it.
    return (_COMMENT_PREFIX + printable(vm.name)).strip()
