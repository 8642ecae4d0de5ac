# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Decides what enlistment does about each VM. Pure: reads data, returns a plan, sends nothing.

`matching` says which machines match a VM. Managed machines are kept up to date. Other machines
are adopted if MAAS cannot control their power yet, and skipped if another power type controls
them, unless the settings say to take them over.

The planner never deletes anything. If several VMs or machines match (equal names, cloned MACs),
the plan reports the conflict and changes neither.

The comment of a machine's tag remembers the VM's name. It tells a renamed VM, whose machine is
renamed too, from a machine that a person renamed, which keeps its name.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import TYPE_CHECKING

from maas_virtualbox.escape import printable
from maas_virtualbox.maas import hostnames, messages
from maas_virtualbox.maas.matching import TAG_PREFIX, ManagedURIs, Matcher, managed_uris, tag_name
from maas_virtualbox.maas.models import Zone
from maas_virtualbox.maas.plan import Change, Kind, Plan, TagWrites, Writes, list_few
from maas_virtualbox.maas.power_parameters import POWER_TYPE, ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.messages import Message
    from maas_virtualbox.maas.models import Machine
    from maas_virtualbox.maas.plan import EnlistmentSettings, MAASInventory

    Fields = tuple[tuple[str, str], ...]

_NO_POWER_TYPES = ("", "manual")
_ZONE_NAME = re.compile(r"\w[ \w-]*")
_NO_WRITES = Writes()

_COMMENT_PREFIX = "VirtualBox VM "

_NEW = "New"
_NEW_INTERFACE_STATUSES = ("New", "Ready", "Allocated", "Broken", "Failed testing")
"""In these, MAAS adds interfaces to a machine."""
_NEW_MAC_STATUSES = (*_NEW_INTERFACE_STATUSES, "Deployed")
"""In these, MAAS changes the MAC of an interface."""

_PARAMETER_LABELS = {"_token": "token", "_regex": "regular expressions"}
"""How a plan names the power parameters that end like this."""


def plan(vms: Iterable[VM], inventory: MAASInventory, settings: EnlistmentSettings) -> Plan:
    """Compare VMs with what MAAS contains.

    Args:
        vms: all VMs of the fleet. Those that are not selected count too: they may be clones.
        inventory: see `enlistment.read`.
        settings: how to enlist, and which VMs.
    """
    return _Planner(Matcher(vms, inventory), settings).plan()


class _Planner:
    """Creates one plan."""

    def __init__(self, matcher: Matcher, settings: EnlistmentSettings) -> None:
        self._matcher = matcher
        self._settings = settings
        self._writer = _Comparer(matcher, settings)
        self._managed: dict[str, Machine] = {}
        """The machines that `_update` has seen, by the UUIDs of their VMs."""
        self._selected = [vm for vm in matcher.vms if settings.is_selected(vm)]
        self._same_hostname: dict[str, list[VM]] = collections.defaultdict(list)
        for vm in self._selected:
            self._same_hostname[hostnames.from_text(vm.name)].append(vm)

    def plan(self) -> Plan:
        """Decide about all selected VMs, and about machines without a VM."""
        changes = [change for vm in self._selected for change in self._decide(vm)]
        if not self._settings.has_filter:
            mentioned = {change.system_id for change in changes}
            changes += self._machines_without_vm(mentioned)
        problems = tuple(_region_problems(self._matcher.inventory, changes))
        return Plan(tuple(changes), self._managed, problems)

    # -- Decisions about a VM -----------------------------------------------------------------

    def _decide(self, vm: VM) -> list[Change]:
        if refused := self._refuse(vm):
            return [refused]
        if managed := self._matcher.managed_machines(vm):
            return self._update(vm, managed[0])
        if conflict := self._find_clone(vm, vm.macs):
            return [conflict]
        if candidates := self._matcher.candidates(vm):
            return [self._adopt(vm, candidates)]
        return [self._create(vm)]

    def _refuse(self, vm: VM) -> Change | None:
        """Return why nothing can be done about a VM, whatever machine it has."""
        copies = self._matcher.vms_with_uuid(vm.uuid)
        if len(copies) > 1:
            hosts = list_few(copy.host for copy in copies)
            return _conflict(vm, messages.UUID_OF_VM.of(hosts=hosts))
        zone = vm.host.zone
        if zone and zone not in self._matcher.zones and not _ZONE_NAME.fullmatch(zone):
            return _skip(vm, messages.ZONE_NAME.of(zone=repr(zone), host=vm.host))
        machines = self._matcher.managed_machines(vm)
        if len(machines) > 1:
            return _conflict(vm, messages.SEVERAL_HAVE_URIS.of(machines=_names(machines)))
        return None

    def _create(self, vm: VM) -> Change:
        if not vm.settings.accessible:
            return _skip(vm, messages.INACCESSIBLE)
        if not vm.macs:
            return _skip(vm, messages.NO_NIC.of(uuid=vm.uuid))
        if message := self._find_node(vm, vm.macs):
            return _conflict(vm, message)
        if others := self._vms_with_same_hostname(vm):
            vms = list_few(others)
            return _conflict(vm, messages.NAME_OF_VM.of(vms=vms, uuid=vm.uuid, host=vm.host))
        writes = self._writer.compare(vm, None)
        zone = dict(writes.fields).get("zone", "")
        text = f"MAC {', '.join(vm.macs)}{zone and f'; zone {zone}'}"
        return _write(Kind.CREATE, vm, None, writes, text)

    def _adopt(self, vm: VM, candidates: Sequence[Machine]) -> Change:
        if len(candidates) > 1:
            return _conflict(vm, messages.SEVERAL_FIT.of(machines=_names(candidates)))
        (machine,) = candidates
        if message := self._find_rival(vm, machine):
            return _conflict(vm, message, machine)
        if machine.power_type in _NO_POWER_TYPES:
            return self._set_power(vm, machine, "MAAS cannot control its power yet")
        uuid = managed_uris(machine).uuid
        power = f"the URIs of the VM {uuid}" if uuid else f"the power type {machine.power_type}"
        if self._settings.take_over:
            return self._set_power(vm, machine, f"taken over: it has {power}")
        message = messages.OTHER_POWER_TYPE.of(machine=machine.hostname, power=power)
        return _skip(vm, message, machine)

    def _set_power(self, vm: VM, machine: Machine, reason: str) -> Change:
        writes = self._writer.compare(vm, machine)
        text = "; ".join([reason, *_describe(writes, machine)])
        return _write(Kind.ADOPT, vm, machine, writes, text)

    def _update(self, vm: VM, machine: Machine) -> list[Change]:
        """Return what a managed machine lacks, and which MAC it cannot get."""
        self._managed[vm.uuid] = machine
        writes = self._writer.compare(vm, machine)
        parts = [
            *_describe(writes, machine),
            *self._writer.describe_power(vm.uuid, machine),
            *(["tag"] if writes.tag else []),
        ]
        changes = [_write(Kind.UPDATE, vm, machine, writes, "; ".join(parts))] if parts else []
        assigned = {mac for _, mac in writes.interfaces}
        missing = [mac for mac in vm.macs if mac not in machine.macs and mac not in assigned]
        if missing:
            changes.append(self._explain_missing(vm, machine, missing))
        return changes

    def _explain_missing(self, vm: VM, machine: Machine, macs: Sequence[str]) -> Change:
        """Return why a managed machine does not get MACs of its VM."""
        if conflict := self._find_clone(vm, macs):
            return conflict
        if message := self._find_node(vm, macs):
            return _conflict(vm, message, machine)
        mac = macs[0]
        if others := self._matcher.machines_with_mac(mac):
            message = messages.MAC_OF_MACHINE.of(address=mac, machine=others[0].hostname)
            return _conflict(vm, message, machine)
        return _skip(vm, messages.MAC_LATER.of(address=mac, status=machine.status), machine)

    # -- Conflicts ----------------------------------------------------------------------------

    def _find_clone(self, vm: VM, macs: Iterable[str]) -> Change | None:
        """Return a conflict if another VM has one of these MACs."""
        for mac in macs:
            if others := self._matcher.other_vms_with_mac(mac, vm):
                vms, slot = list_few(others), _slot(vm, mac)
                message = messages.MAC_OF_VM.of(address=mac, vms=vms, uuid=vm.uuid, slot=slot)
                return _conflict(vm, message)
        return None

    def _find_node(self, vm: VM, macs: Iterable[str]) -> Message | None:
        """Return a message if a device or controller of MAAS has one of these MACs."""
        for mac in macs:
            if node := self._matcher.node_with_mac(mac):
                values = {"kind": node.kind, "name": node.hostname, "slot": _slot(vm, mac)}
                return messages.MAC_OF_NODE.of(address=mac, uuid=vm.uuid, **values)
        return None

    def _find_rival(self, vm: VM, machine: Machine) -> Message | None:
        """Return a message if a candidate may be, or is, the machine of another VM."""
        name = machine.hostname
        if rivals := self._matcher.rivals(machine, vm):
            return messages.FITS_OTHERS.of(machine=name, vms=list_few(rivals))
        if owners := self._matcher.vms_with_uuid(managed_uris(machine).uuid):
            return messages.IS_ANOTHER.of(machine=name, vm=owners[0])
        return None

    def _vms_with_same_hostname(self, vm: VM) -> list[VM]:
        """Return the selected VMs of other hosts that would get the same hostname."""
        hostname = hostnames.from_text(vm.name)
        others = self._same_hostname[hostname] if hostname else []
        return [other for other in others if other.host.name != vm.host.name]

    # -- Machines without a VM ----------------------------------------------------------------

    def _machines_without_vm(self, mentioned: set[str]) -> Iterator[Change]:
        """Yield a change for each managed machine whose VM no host has.

        Machines of another power service are not reported, because they have other tokens.
        """
        for machine in self._matcher.inventory.machines:
            uuid = managed_uris(machine).uuid
            if not uuid or self._matcher.vms_with_uuid(uuid) or machine.system_id in mentioned:
                continue
            if self._settings.unreachable:
                yield from self._update_unreachable(machine, uuid)
            elif self._has_our_token(machine, uuid) or self._is_served_here(machine, uuid):
                text, hint = messages.ORPHAN.text, messages.ORPHAN.hint
                yield _without_vm(Kind.ORPHAN, machine, uuid, text, hint)

    def _update_unreachable(self, machine: Machine, uuid: str) -> Iterator[Change]:
        """Yield new power parameters for a machine whose VM may be on an unreachable host."""
        fields = self._writer.power_fields(uuid, machine)
        if fields and self._has_our_token(machine, uuid):
            text = "; ".join(self._writer.describe_power(uuid, machine))
            yield _without_vm(Kind.UPDATE, machine, uuid, text, writes=Writes(fields=fields))

    def _has_our_token(self, machine: Machine, uuid: str) -> bool:
        token = machine.power_parameters.get("power_token", "")
        return self._settings.secrets.role_of(token, uuid) is not None

    def _is_served_here(self, machine: Machine, uuid: str) -> bool:
        base = managed_uris(machine).base
        wanted = self._settings.power_parameters(uuid)
        return wanted.power_on_uri.startswith(f"{base}/")


def _region_problems(inventory: MAASInventory, changes: Iterable[Change]) -> Iterator[Message]:
    """Yield what makes MAAS reject these changes, or fail every power request."""
    if inventory.images is not None and not inventory.images:
        yield messages.NO_IMAGES
    elif inventory.images:
        wanted = {change.writes.architecture for change in changes} - {""}
        for architecture in sorted(wanted - inventory.images):
            yield messages.NO_IMAGE.of(architecture=architecture)
    if inventory.racks == ():
        yield messages.NO_RACK


def _names(machines: Iterable[Machine]) -> str:
    return list_few(machine.hostname for machine in machines)


def _slot(vm: VM, mac: str) -> int:
    """Return the number of the network adapter that has a MAC."""
    return next(nic.slot for nic in vm.settings.nics or () if nic.mac == mac)


def _conflict(vm: VM, message: Message, machine: Machine | None = None) -> Change:
    return _explain(Kind.CONFLICT, vm, message, machine)


def _skip(vm: VM, message: Message, machine: Machine | None = None) -> Change:
    return _explain(Kind.SKIP, vm, message, machine)


def _explain(kind: Kind, vm: VM, message: Message, machine: Machine | None) -> Change:
    hostname, system_id = (machine.hostname, machine.system_id) if machine else ("", "")
    text, hint = message.text, message.hint
    return Change(kind, vm.host.name, vm.name, vm.uuid, text, hostname, system_id, hint)


def _write(kind: Kind, vm: VM, machine: Machine | None, writes: Writes, text: str) -> Change:
    hostname, system_id = (machine.hostname, machine.system_id) if machine else ("", "")
    hostname = dict(writes.fields).get("hostname", hostname)
    return Change(kind, vm.host.name, vm.name, vm.uuid, text, hostname, system_id, writes=writes)


def _without_vm(
    kind: Kind, machine: Machine, uuid: str, text: str, hint: str = "", writes: Writes = _NO_WRITES
) -> Change:
    name, system_id = machine.hostname, machine.system_id
    return Change(kind, "", "", uuid, text, name, system_id, hint, writes)


# -- What makes a machine match its VM ----------------------------------------------------------


class _Comparer:
    """Compares VMs with machines and returns what to write.

    There is one for each plan. It remembers the hostnames that it gave away.
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


def _describe(writes: Writes, machine: Machine) -> list[str]:
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
