# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What enlistment would do: VMs compared with MAAS's machines, as plain data. Asks nobody.

Which machine is a VM's
    First the one whose power parameters are our URIs, which have the VM's UUID in them and are
    written by the same call as the machine itself; then the one with our mark; then the one with
    one of its MACs or its hardware UUID. The first is ours and kept up to date. The others are
    adopted if MAAS cannot switch them yet, and left alone, unless asked, if somebody gave them
    another power type.

The mark
    A tag, `virtualbox-UUID`. Owner data cannot be one: MAAS lets only the user who has allocated
    the machine write it, and forgets it when the machine is released; tags are any administrator's
    and stay. The tag's comment remembers the VM's name, so that a machine is renamed when its VM
    was, and not when a person renamed the machine.

What is never done
    Nothing is deleted, and where two things could be meant (equal names, cloned MACs) the plan
    says so and leaves both.
"""

from __future__ import annotations

import collections
import dataclasses
import re
from typing import TYPE_CHECKING

from maas_virtualbox.escape import printable
from maas_virtualbox.maas import hostnames, messages
from maas_virtualbox.maas.models import Zone
from maas_virtualbox.maas.plan import Change, Kind, Plan, Writes, some
from maas_virtualbox.maas.power_parameters import POWER_TYPE, ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from maas_virtualbox.host.host import VM
    from maas_virtualbox.maas.messages import Message
    from maas_virtualbox.maas.models import Machine
    from maas_virtualbox.maas.plan import Inventory, Settings

TAG_PREFIX = "virtualbox-"
REMEMBERS = "VirtualBox VM "
"""A mark's comment is this and the VM's name."""

_NEW = "New"
_NO_POWER = ("", "manual")
_ZONE_NAME = re.compile(r"\w[ \w-]*")
_URI = re.compile(r"(?P<base>https?://[^/]+)" + ROUTES + r"(?P<uuid>[0-9a-f-]{36})/(?P<verb>\w+)")

_NEW_NIC_STATUSES = ("New", "Ready", "Allocated", "Broken", "Failed testing")
"""In which MAAS adds interfaces to a machine; it gives one another MAC when Deployed, too."""


def plan(vms: Iterable[VM], known: Inventory, settings: Settings) -> Plan:
    """Compare VMs with what MAAS knows.

    Args:
        vms: all of the fleet's, those that are not selected too: they show what is cloned.
        known: see `enlistment.read`.
        settings: how, and whom.
    """
    return _Planner(vms, known, settings).plan()


def our_uris(machine: Machine) -> tuple[str, str]:
    """Return the base and the VM's UUID of a machine's URIs; empty unless all three are of our
    form and of one VM."""
    if machine.power_type != POWER_TYPE:
        return "", ""
    found: set[tuple[str, str]] = set()
    for verb in ("on", "off", "query"):
        match = _URI.fullmatch(machine.power_parameters.get(f"power_{verb}_uri", ""))
        found.add((match["base"], match["uuid"]) if match and match["verb"] == verb else ("", ""))
    return found.pop() if len(found) == 1 else ("", "")


def _swapped(uuid: str) -> str:
    """Return a UUID in SMBIOS's other byte order, as some firmware tells it."""
    parts = uuid.split("-")
    turned = [bytes.fromhex(part)[::-1].hex() for part in parts[:3]]
    return "-".join([*turned, *parts[3:]])


class _Planner:
    """One comparison; made for it and thrown away."""

    def __init__(self, vms: Iterable[VM], known: Inventory, settings: Settings) -> None:
        self._vms = list(vms)
        self._known = known
        self._settings = settings
        self._zones = {zone.name for zone in known.zones}
        self._accounts: dict[str, dict[str, None]] = collections.defaultdict(dict)
        self._vms_by_uuid: dict[str, list[VM]] = collections.defaultdict(list)
        self._vms_by_mac: dict[str, list[VM]] = collections.defaultdict(list)
        for vm in self._vms:
            self._accounts[vm.host.zone][vm.host.account] = None
            self._vms_by_uuid[vm.uuid].append(vm)
            for mac in dict.fromkeys(vm.macs):
                self._vms_by_mac[mac].append(vm)
        self._by_uri: dict[str, list[Machine]] = collections.defaultdict(list)
        self._by_trait: dict[str, list[Machine]] = collections.defaultdict(list)
        for machine in known.machines:
            if uuid := our_uris(machine)[1]:
                self._by_uri[uuid].append(machine)
            for trait in dict.fromkeys([*machine.tags, *machine.macs, machine.hardware_uuid]):
                self._by_trait[trait].append(machine)
        self._claims: dict[str, list[VM]] = collections.defaultdict(list)
        for vm in self._vms:
            if vm.uuid not in self._by_uri:
                for machine in self._candidates(vm):
                    self._claims[machine.system_id].append(vm)
        nodes = known.other_nodes
        self._nodes_by_mac = {mac: node for node in nodes for mac in node.macs}
        self._taken = {node.hostname for node in (*known.machines, *nodes)}
        self._ours: dict[str, Machine] = {}

    def plan(self) -> Plan:
        """Judge every VM that is meant, and what is left over."""
        selected = [vm for vm in self._vms if self._settings.selects(vm)]
        namesakes = self._namesakes(selected)
        changes = [
            change for vm in selected for change in self._judge(vm, namesakes.get(vm.uuid, ""))
        ]
        if self._settings.selects_all:
            changes += self._left_over({change.system_id for change in changes})
        return Plan(tuple(changes), self._ours, tuple(self._lacking(changes)))

    def _lacking(self, changes: Iterable[Change]) -> Iterator[Message]:
        """What MAAS as a whole lacks."""
        images = self._known.images
        if images is not None:
            wanted = {change.writes.architecture for change in changes} - {""}
            missing = [messages.NO_IMAGE.of(architecture=each) for each in sorted(wanted - images)]
            yield from missing if images else [messages.NO_IMAGES]
        if self._known.racks == ():
            yield messages.NO_RACK

    # -- Which machine ------------------------------------------------------------------------

    def _judge(self, vm: VM, namesakes: str) -> Iterator[Change]:
        twins = self._vms_by_uuid[vm.uuid]
        machines = self._by_uri.get(vm.uuid, [])
        zone = vm.host.zone
        if len(twins) > 1:
            message = messages.UUID_OF_VM.of(hosts=some(twin.host for twin in twins))
            yield _said(Kind.CONFLICT, vm, message)
        elif zone and zone not in self._zones and not _ZONE_NAME.fullmatch(zone):
            message = messages.ZONE_NAME.of(zone=repr(zone), host=vm.host)
            yield _said(Kind.SKIP, vm, message)
        elif len(machines) > 1:
            message = messages.SEVERAL_HAVE_URIS.of(machines=_names(machines))
            yield _said(Kind.CONFLICT, vm, message)
        elif machines:
            self._ours[vm.uuid] = machines[0]
            yield from self._keep(vm, machines[0])
        elif cloned := self._cloned(vm):
            yield cloned
        elif candidates := self._candidates(vm):
            yield self._adopt(vm, candidates)
        else:
            yield self._create(vm, namesakes)

    def _candidates(self, vm: VM) -> list[Machine]:
        """Return the machines that may be a VM's, though none has its URIs."""
        traits = [*vm.macs, vm.uuid, _swapped(vm.uuid)]
        machines = self._by_trait.get(_mark(vm.uuid)) or [
            machine for trait in traits for machine in self._by_trait.get(trait, ())
        ]
        return list({machine.system_id: machine for machine in machines}.values())

    def _adopt(self, vm: VM, candidates: Sequence[Machine]) -> Change:
        machine = candidates[0]
        rivals = [each for each in self._claims[machine.system_id] if each.uuid != vm.uuid]
        if len(candidates) > 1:
            message = messages.SEVERAL_FIT.of(machines=_names(candidates))
            return _said(Kind.CONFLICT, vm, message)
        if rivals:
            message = messages.FITS_OTHERS.of(machine=machine.hostname, vms=some(rivals))
            return _said(Kind.CONFLICT, vm, message, machine)
        owner = our_uris(machine)[1]
        if owner in self._vms_by_uuid:
            other = self._vms_by_uuid[owner][0]
            message = messages.IS_ANOTHER.of(machine=machine.hostname, vm=other)
            return _said(Kind.CONFLICT, vm, message, machine)
        if machine.power_type in _NO_POWER:
            return self._change(Kind.ADOPT, vm, machine, "MAAS cannot switch it yet")
        has = f"the URIs of the VM {owner}" if owner else f"the power type {machine.power_type}"
        if self._settings.take_over:
            return self._change(Kind.ADOPT, vm, machine, f"taken over: it has {has}")
        message = messages.OTHER_POWER_TYPE.of(machine=machine.hostname, power=has)
        return _said(Kind.SKIP, vm, message, machine)

    def _create(self, vm: VM, namesakes: str) -> Change:
        if not vm.settings.accessible:
            return _said(Kind.SKIP, vm, messages.INACCESSIBLE)
        if not vm.macs:
            return _said(Kind.SKIP, vm, messages.NO_NIC.of(uuid=vm.uuid))
        if taken := self._taken_by_node(vm, vm.macs):
            return _said(Kind.CONFLICT, vm, taken)
        if namesakes:
            message = messages.NAME_OF_VM.of(vms=namesakes, uuid=vm.uuid, host=vm.host)
            return _said(Kind.CONFLICT, vm, message)
        return self._change(Kind.CREATE, vm, None, f"MAC {', '.join(vm.macs)}")

    def _cloned(self, vm: VM, macs: Iterable[str] | None = None) -> Change | None:
        for mac in vm.macs if macs is None else macs:
            others = [each for each in self._vms_by_mac[mac] if each is not vm]
            if others:
                message = messages.MAC_OF_VM.of(
                    address=mac, vms=some(others), uuid=vm.uuid, slot=_slot(vm, mac)
                )
                return _said(Kind.CONFLICT, vm, message)
        return None

    def _taken_by_node(self, vm: VM, macs: Iterable[str]) -> Message | None:
        """Return what is wrong where a device or controller of MAAS has one of these MACs."""
        for mac in macs:
            if node := self._nodes_by_mac.get(mac):
                return messages.MAC_OF_NODE.of(
                    address=mac,
                    kind=node.kind,
                    name=node.hostname,
                    uuid=vm.uuid,
                    slot=_slot(vm, mac),
                )
        return None

    def _namesakes(self, selected: Iterable[VM]) -> dict[str, str]:
        """Return, by UUID, which VMs of other hosts would have the same hostname."""
        named: dict[str, list[VM]] = collections.defaultdict(list)
        for vm in selected:
            named[hostnames.valid(vm.name)].append(vm)
        return {
            vm.uuid: some(other for other in vms if other.host.name != vm.host.name)
            for name, vms in named.items()
            if name
            for vm in vms
        }

    def _left_over(self, mentioned: set[str]) -> Iterator[Change]:
        """The machines of ours whose VM no host has. A token proves them ours: another power
        service's are none of our business."""
        settings = self._settings
        for machine in self._known.machines:
            base, uuid = our_uris(machine)
            if not uuid or uuid in self._vms_by_uuid or machine.system_id in mentioned:
                continue
            wanted = settings.parameters(uuid)
            proven = settings.secrets.opens(machine.power_parameters.get("power_token", ""), uuid)
            here = wanted.power_on_uri.startswith(f"{base}/")
            text, fields = self._power(uuid, machine)
            if settings.unreachable and proven and fields:
                writes = Writes(fields=tuple(fields))
                kind, hint = Kind.UPDATE, ""
            elif not settings.unreachable and (proven or here):
                kind, writes = Kind.ORPHAN, Writes()
                text, hint = messages.ORPHAN.text, messages.ORPHAN.hint
            else:
                continue
            yield Change(
                kind, "", "", uuid, text, machine.hostname, machine.system_id, hint, writes
            )

    # -- What is written ----------------------------------------------------------------------

    def _keep(self, vm: VM, machine: Machine) -> Iterator[Change]:
        """What a machine of ours lacks, and what it cannot have."""
        change = self._change(Kind.UPDATE, vm, machine, "")
        if change.text:
            yield change
        given = {mac for _, mac in change.writes.interfaces}
        lacking = [mac for mac in vm.macs if mac not in machine.macs and mac not in given]
        if cloned := self._cloned(vm, lacking):
            yield cloned
        elif lacking:
            others = self._by_trait.get(lacking[0])
            if taken := self._taken_by_node(vm, lacking):
                yield _said(Kind.CONFLICT, vm, taken, machine)
            elif others:
                message = messages.MAC_OF_MACHINE.of(
                    address=lacking[0], machine=others[0].hostname
                )
                yield _said(Kind.CONFLICT, vm, message, machine)
            else:
                message = messages.MAC_LATER.of(address=lacking[0], status=machine.status)
                yield _said(Kind.SKIP, vm, message, machine)

    def _change(self, kind: Kind, vm: VM, machine: Machine | None, why: str) -> Change:
        fields: list[tuple[str, str]] = []
        said = [why]
        if machine is None:
            fields += [
                ("architecture", f"{vm.settings.architecture or 'amd64'}/generic"),
                *(("mac_addresses", mac) for mac in dict.fromkeys(vm.macs)),
                # MAAS would by itself, before the machine is as it should be.
                ("commission", "false"),
            ]
        hostname = self._hostname(vm, machine)
        names: tuple[str, ...] = ()
        if machine is None or hostname != machine.hostname:
            candidates = hostnames.candidates(vm.name, vm.host.name, vm.uuid)
            names = candidates[candidates.index(hostname) + 1 :]
            fields.append(("hostname", hostname))
            said.append(f"hostname {machine.hostname} → {hostname}" if machine else "")
        zone = vm.host.zone
        if zone and (machine is None or zone != machine.zone):
            fields.append(("zone", zone))
            said.append(f"zone {machine.zone} → {zone}" if machine else f"zone {zone}")
        power, parameters = self._power(vm.uuid, machine)
        fields += parameters
        interfaces = self._interfaces(vm, machine) if machine else ()
        marking = self._marking(vm, machine)
        said += [f"MAC {mac}" for _, mac in interfaces]
        commission = self._is_to_be_commissioned(machine)
        if kind is Kind.UPDATE:
            said += [power, "mark" if marking != Writes() else ""]
        if machine is not None:
            said += ["commission" if commission else ""]
        new = zone and zone not in self._zones and ("zone", zone) in fields
        return Change(
            kind,
            vm.host.name,
            vm.name,
            vm.uuid,
            "; ".join(part for part in said if part),
            machine=hostname,
            system_id=machine.system_id if machine else "",
            writes=dataclasses.replace(
                marking,
                zone=Zone(zone, ", ".join(self._accounts[zone])) if new else None,
                fields=tuple(fields),
                other_hostnames=names,
                interfaces=interfaces,
                commission=commission,
            ),
        )

    def _is_to_be_commissioned(self, machine: Machine | None) -> bool:
        """Whether to let MAAS commission a machine; also one for which an earlier run could not.
        Without a rack controller MAAS cannot."""
        is_new = machine is None or machine.status == _NEW
        return self._settings.commission and is_new and self._known.racks != ()

    def _power(self, uuid: str, machine: Machine | None) -> tuple[str, list[tuple[str, str]]]:
        """Return what is wrong with a machine's power parameters, and the fields that mend it."""
        base = our_uris(machine)[0] if machine else ""
        wanted: dict[str, str] = dataclasses.asdict(self._settings.parameters(uuid, base))
        has: Mapping[str, str] = machine.power_parameters if machine and base else {}
        # A person may have given the racks our CA, and made them check it.
        wanted["power_verify_ssl"] = has.get("power_verify_ssl", wanted["power_verify_ssl"])
        wrong = {name for name, value in wanted.items() if has.get(name) != value}
        if not wrong:
            return "", []
        here = wanted["power_on_uri"].partition(ROUTES)[0]
        said = [f"URIs {base + ' → ' if base else ''}{here}"] if _any(wrong, "_uri") else []
        said += ["token"] if "power_token" in wrong else []
        said += ["regular expressions"] if _any(wrong, "_regex") else []
        return ", ".join(said), [
            ("power_type", POWER_TYPE),
            # No rack needs to be there to take them.
            ("power_parameters_skip_check", "true"),
            *((f"power_parameters_{name}", value) for name, value in wanted.items()),
        ]

    def _hostname(self, vm: VM, machine: Machine | None) -> str:
        """Return a machine's hostname: it follows the VM's name, unless a person changed it."""
        candidates = hostnames.candidates(vm.name, vm.host.name, vm.uuid)
        if machine is not None:
            tag = _mark(vm.uuid)
            comment = self._known.tags.get(tag, "") if tag in machine.tags else ""
            before = comment.removeprefix(REMEMBERS)
            was_ours = machine.hostname in hostnames.candidates(before, vm.host.name, vm.uuid)
            renamed = comment and vm.settings.accessible and comment != _comment(vm)
            if not (renamed and was_ours):
                return machine.hostname
        own = machine.hostname if machine else None
        free = (each for each in candidates if each == own or each not in self._taken)
        name = next(free, candidates[-1])
        self._taken.add(name)
        return name

    def _interfaces(self, vm: VM, machine: Machine) -> tuple[tuple[int | None, str], ...]:
        """Return which interface gets which MAC: one whose NIC is gone, or else a new one."""
        gone: list[int | None] = [
            interface.id
            for interface in machine.interfaces
            if interface.kind == "physical" and interface.mac not in vm.macs
        ]
        new = [
            mac
            for mac in dict.fromkeys(vm.macs)
            if mac not in self._by_trait
            and mac not in self._nodes_by_mac
            and len(self._vms_by_mac[mac]) == 1
        ]
        if machine.status in _NEW_NIC_STATUSES:
            gone += [None] * len(new)
        elif machine.status != "Deployed":
            gone = []
        return tuple(zip(gone, new, strict=False))

    def _marking(self, vm: VM, machine: Machine | None) -> Writes:
        tag, comment = _mark(vm.uuid), _comment(vm)
        tags = machine.tags if machine else ()
        made = tag in self._known.tags
        put = tag not in tags
        others = tuple(each for each in tags if each.startswith(TAG_PREFIX) and each != tag)
        write = made and vm.settings.accessible and self._known.tags[tag] != comment
        if made and not (put or others or write):
            return Writes()
        return Writes(
            tag=tag,
            comment=comment,
            make_tag=not made,
            write_comment=write,
            put_tag=put,
            take_off=others,
        )


def _mark(uuid: str) -> str:
    return TAG_PREFIX + uuid


def _comment(vm: VM) -> str:
    # MAAS strips what it is given.
    return (REMEMBERS + printable(vm.name)).strip()


def _names(machines: Iterable[Machine]) -> str:
    return some(machine.hostname for machine in machines)


def _any(names: Iterable[str], end: str) -> bool:
    return any(name.endswith(end) for name in names)


def _slot(vm: VM, mac: str) -> int:
    return next(nic.slot for nic in vm.settings.nics or () if nic.mac == mac)


def _said(kind: Kind, vm: VM, message: Message, machine: Machine | None = None) -> Change:
    return Change(
        kind,
        vm.host.name,
        vm.name,
        vm.uuid,
        message.text,
        machine.hostname if machine else "",
        machine.system_id if machine else "",
        message.hint,
    )
