# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What enlistment is told and what it says: settings in, a plan out. Plain data."""

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
    from maas_virtualbox.host.host import VM
    from maas_virtualbox.maas.messages import Message
    from maas_virtualbox.maas.models import Machine, Node, Rack, Zone


class Kind(str, enum.Enum):
    """What is to become of a VM or a machine."""

    CREATE = "create"
    """MAAS does not know the VM."""
    ADOPT = "adopt"
    """MAAS has its machine, and cannot switch it."""
    UPDATE = "update"
    """The machine is ours and not as it should be."""
    SKIP = "skip"
    """Nothing is done, for the reason given."""
    ORPHAN = "orphan"
    """The machine is ours, and its VM is gone. Nothing is done."""
    CONFLICT = "conflict"
    """Several could be meant: a person has to decide. Nothing is done."""

    def __str__(self) -> str:
        return self.value


WRITING = (Kind.CREATE, Kind.ADOPT, Kind.UPDATE)
_SHOWN = 3


def some(things: Iterable[object]) -> str:
    """Return the first few, and that there are more."""
    shown = [str(thing) for thing in itertools.islice(things, _SHOWN + 1)]
    return ", ".join(shown[:_SHOWN] + ["…"] * (len(shown) > _SHOWN))


@dataclasses.dataclass(frozen=True, slots=True)
class Inventory:
    """What MAAS knows."""

    machines: Sequence[Machine]
    zones: Sequence[Zone]
    tags: Mapping[str, str]
    """The comments of all tags."""
    other_nodes: Sequence[Node] = ()
    """Devices and controllers."""
    racks: tuple[Rack, ...] | None = None
    """None: not known."""
    images: frozenset[str] | None = None
    """The architectures of its images; None: not known."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How to enlist, and whom."""

    secrets: Secrets
    """Whose tokens the power service takes."""
    address: str
    """The literal IP address at which MAAS's racks reach the power service."""
    port: int
    tls: bool = False
    host: str = ""
    """Only this host's VMs."""
    zone: str = ""
    """Only VMs of this zone's hosts."""
    name: str = "*"
    """Only VMs whose names fit this pattern of a shell."""
    commission: bool = False
    """Let MAAS commission new machines, which starts them."""
    take_over: bool = False
    """Give machines with somebody else's power type ours."""
    unreachable: tuple[str, ...] = ()
    """The hosts that did not answer: their VMs are not gone."""
    other_addresses: tuple[str, ...] = ()
    """Those of other power services with the same tokens: machines that MAAS switches there stay
    there."""

    @property
    def selects_all(self) -> bool:
        """Whether no VM is left out."""
        return not (self.host or self.zone) and self.name == "*"

    def selects(self, vm: VM) -> bool:
        """Whether a VM is meant."""
        return (
            self.host in ("", vm.host.name)
            and self.zone in ("", vm.host.zone)
            and fnmatch.fnmatchcase(vm.name, self.name)
        )

    def parameters(self, uuid: str, base: str = "") -> PowerParameters:
        """Return what MAAS is to know of a VM.

        Args:
            uuid: the VM's.
            base: how the URIs begin by which MAAS switches it now, such as `http://10.0.0.2:5307`.
        """
        address = parse.urlsplit(base).hostname or ""
        if address not in self.other_addresses:
            address = self.address
        token = self.secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address=address, port=self.port, tls=self.tls)


@dataclasses.dataclass(frozen=True, slots=True)
class Writes:
    """What a change writes, in this order."""

    zone: Zone | None = None
    """To be made first."""
    fields: tuple[tuple[str, str], ...] = dataclasses.field(default=(), repr=False)
    """The machine's, in one call. Holds secrets."""
    other_hostnames: tuple[str, ...] = ()
    """What to call it where the hostname among the fields is taken meanwhile, in this order."""
    interfaces: tuple[tuple[int | None, str], ...] = ()
    """An interface's id, None for a new one, and the MAC it gets."""
    tag: str = ""
    comment: str = ""
    make_tag: bool = False
    write_comment: bool = False
    put_tag: bool = False
    take_off: tuple[str, ...] = ()
    """Marks of other VMs, to be taken off the machine."""
    commission: bool = False
    """Let MAAS commission it, when all else is written."""

    @property
    def architecture(self) -> str:
        """That of a machine to be made, such as `amd64`; empty for others."""
        return dict(self.fields).get("architecture", "").partition("/")[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One line of a plan. Shows no secret."""

    kind: Kind
    host: str
    """The host's name; empty for an orphan."""
    vm: str
    """The VM's name; empty for an orphan."""
    uuid: str
    """The VM's."""
    text: str
    """What is done, or why nothing is."""
    machine: str = ""
    """The hostname in MAAS after it."""
    system_id: str = ""
    """MAAS's; empty for a machine that is not there yet."""
    hint: str = ""
    """What a person can do about it, where nothing is done."""
    writes: Writes = Writes()

    def shown(self) -> dict[str, str]:
        """Return it for people and programs."""
        names = ("host", "vm", "uuid", "machine", "system_id", "text", "hint")
        return {"kind": str(self.kind), **{name: getattr(self, name) for name in names}}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done about each VM. Plain data."""

    changes: tuple[Change, ...]
    """In the order of the VMs; orphans last. Nothing is said of a machine that is as it should
    be."""
    machines: Mapping[str, Machine]
    """By UUID, the machines of VMs that are ours already."""
    messages: tuple[Message, ...] = ()
    """What MAAS as a whole lacks: it will refuse changes, or carry out no power request."""

    @property
    def writing(self) -> tuple[Change, ...]:
        """The changes that write something."""
        return tuple(change for change in self.changes if change.kind in WRITING)

    @property
    def zones(self) -> tuple[Zone, ...]:
        """The zones to be made first."""
        zones = (change.writes.zone for change in self.changes)
        return tuple(dict.fromkeys(zone for zone in zones if zone is not None))

    def of(self, *kinds: Kind) -> Plan:
        """Return the part of it with these kinds of changes."""
        return dataclasses.replace(
            self, changes=tuple(change for change in self.changes if change.kind in kinds)
        )

    def summary(self) -> str:
        """Return such as `2 create, 1 conflict, 7 as they should be`."""
        count = collections.Counter(change.kind for change in self.changes)
        said = [f"{count[kind]} {kind}" for kind in Kind if count[kind]]
        touched = {change.uuid for change in self.changes}
        good = len(self.machines.keys() - touched)
        return ", ".join([*said, *([f"{good} as they should be"] if good or not said else [])])
