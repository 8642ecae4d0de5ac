# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The input and the output of enlistment's planner: settings and an inventory in, a plan out.

Plain data. `planner` decides, `enlistment` carries out.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import fnmatch
import itertools
from typing import TYPE_CHECKING
from urllib import parse

from maas_virtualbox.maas.power_parameters import PowerParameters

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from maas_virtualbox.config.tokens import Secrets
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.maas.messages import Message
    from maas_virtualbox.maas.models import Machine, Node, Rack, Zone


class Kind(str, enum.Enum):
    """What enlistment does about a VM or a machine."""

    CREATE = "create"
    """MAAS has no machine for the VM: create one."""
    ADOPT = "adopt"
    """MAAS has the VM's machine but cannot control its power: set power parameters."""
    UPDATE = "update"
    """The machine is managed but outdated: change what differs."""
    SKIP = "skip"
    """Write nothing, for the reason given."""
    ORPHAN = "orphan"
    """The machine is managed but no host has its VM: write nothing."""
    CONFLICT = "conflict"
    """A person must decide, because several machines or VMs match: write nothing."""

    def __str__(self) -> str:
        return self.value


WRITING = (Kind.CREATE, Kind.ADOPT, Kind.UPDATE)
"""The kinds of changes that write to MAAS."""

_MAX_LISTED = 3


def list_few(items: Iterable[object]) -> str:
    """Return the first three items, separated by commas, and an ellipsis if there are more."""
    listed = [str(item) for item in itertools.islice(items, _MAX_LISTED + 1)]
    return ", ".join(listed[:_MAX_LISTED] + ["…"] * (len(listed) > _MAX_LISTED))


@dataclasses.dataclass(frozen=True, slots=True)
class MAASInventory:
    """What one MAAS contains."""

    machines: Sequence[Machine]
    zones: Sequence[Zone]
    tags: Mapping[str, str]
    """The comment of each tag, by the tag's name."""
    other_nodes: Sequence[Node] = ()
    """Devices and controllers."""
    racks: tuple[Rack, ...] | None = None
    """Rack controllers. None: unknown."""
    images: frozenset[str] | None = None
    """The architectures of its boot images, such as `amd64`. None: unknown."""


@dataclasses.dataclass(frozen=True, slots=True)
class EnlistmentSettings:
    """How to enlist, and which VMs."""

    secrets: Secrets
    """The secrets from which the power service derives its tokens."""
    address: str
    """The literal IP address at which MAAS's racks reach the power service."""
    port: int
    tls: bool = False
    host: str = ""
    """Enlist only the VMs of this host. Empty: of all hosts."""
    zone: str = ""
    """Enlist only the VMs of this zone's hosts. Empty: of all zones."""
    name: str = "*"
    """Enlist only VMs whose names match this shell pattern."""
    commission: bool = False
    """Let MAAS commission new machines, which starts them."""
    take_over: bool = False
    """Replace the power type of machines that another power type controls."""
    unreachable: tuple[str, ...] = ()
    """The hosts that did not answer. Their VMs still exist."""
    other_addresses: tuple[str, ...] = ()
    """The addresses of other power services with the same secrets. Machines that MAAS controls
    through one of them stay there."""

    @property
    def has_filter(self) -> bool:
        """Whether the settings exclude any VM."""
        return bool(self.host or self.zone) or self.name != "*"

    def is_selected(self, vm: VM) -> bool:
        """Whether to enlist a VM."""
        return (
            self.host in ("", vm.host.name)
            and self.zone in ("", vm.host.zone)
            and fnmatch.fnmatchcase(vm.name, self.name)
        )

    def power_parameters(self, uuid: str, base: str = "") -> PowerParameters:
        """Return the power parameters that MAAS needs for a VM.

        Args:
            uuid: the VM's.
            base: the start of the VM's current URIs, such as `http://10.0.0.2:5307`. If another
                power service answers there, the VM stays with it.
        """
        address = parse.urlsplit(base).hostname or ""
        if address not in self.other_addresses:
            address = self.address
        token = self.secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address=address, port=self.port, tls=self.tls)


@dataclasses.dataclass(frozen=True, slots=True)
class TagWrites:
    """What a change writes about the tag that links a machine to its VM."""

    name: str
    comment: str
    create: bool
    """Create the tag with its comment."""
    update_comment: bool
    """Write the comment of an existing tag."""
    add: bool
    """Add the tag to the machine."""
    remove: tuple[str, ...]
    """Tags of other VMs, to be removed from the machine."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        return not (self.create or self.update_comment or self.add or self.remove)


@dataclasses.dataclass(frozen=True, slots=True)
class Writes:
    """What a change writes to MAAS, in this order."""

    zone: Zone | None = None
    """A zone to create first."""
    fields: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    """The machine's fields, written in one call. They contain secrets."""
    other_hostnames: tuple[str, ...] = ()
    """Alternatives, best first, if the hostname among the fields is used by then."""
    interfaces: tuple[tuple[int | None, str], ...] = ()
    """The ID of an interface, or None for a new one, and the MAC that it gets."""
    tag: TagWrites | None = None
    commission: bool = False
    """Let MAAS commission the machine at the end."""

    @property
    def architecture(self) -> str:
        """The architecture of a new machine, such as `amd64`; empty for existing machines."""
        return dict(self.fields).get("architecture", "").partition("/")[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. Its representation contains no secret."""

    kind: Kind
    host: str
    """The host's name; empty for an orphan."""
    vm: str
    """The VM's name; empty for an orphan."""
    uuid: str
    """The VM's UUID."""
    text: str
    """What is written, or why nothing is."""
    machine: str = ""
    """The machine's hostname in MAAS after the change."""
    system_id: str = ""
    """MAAS's ID of the machine; empty if the machine does not exist yet."""
    hint: str = ""
    """What a person can do if nothing is written."""
    writes: Writes = Writes()

    def to_dict(self) -> dict[str, str]:
        """Return the change without its writes, for JSON."""
        names = ("host", "vm", "uuid", "machine", "system_id", "text", "hint")
        return {"kind": str(self.kind), **{name: getattr(self, name) for name in names}}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to do about each VM. Plain data."""

    changes: tuple[Change, ...]
    """In the order of the VMs, orphans last. A machine that is up to date has no change."""
    machines: Mapping[str, Machine]
    """The managed machines, by the UUIDs of their VMs."""
    messages: tuple[Message, ...] = ()
    """Problems of MAAS as a whole that make it reject changes or fail power requests."""

    @property
    def writing(self) -> tuple[Change, ...]:
        """The changes that write to MAAS."""
        return tuple(change for change in self.changes if change.kind in WRITING)

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones to create first, each once."""
        zones = (change.writes.zone for change in self.changes)
        return tuple(dict.fromkeys(zone for zone in zones if zone is not None))

    def of(self, *kinds: Kind) -> Plan:
        """Return this plan with only these kinds of changes."""
        return dataclasses.replace(
            self, changes=tuple(change for change in self.changes if change.kind in kinds)
        )

    def summary(self) -> str:
        """Return the number of changes of each kind, such as `2 create, 7 up to date`."""
        counts = collections.Counter(change.kind for change in self.changes)
        parts = [f"{counts[kind]} {kind}" for kind in Kind if counts[kind]]
        changed = {change.uuid for change in self.changes}
        up_to_date = len(self.machines.keys() - changed)
        if up_to_date or not parts:
            parts.append(f"{up_to_date} up to date")
        return ", ".join(parts)
