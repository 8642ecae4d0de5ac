# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The options of charmcraft.yaml, checked whole."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Literal

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import options
from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.provisioning.spec import Attachment, NICModel, VMSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9.+-]+")
_VERSION = re.compile(r"[A-Za-z0-9.+~:-]*")

_EXPECTED = {
    "": "network: expected nothing beside this attachment",
    "name": "name-prefix: expected what a name begins with",
    "network": "network: expected the name of an interface or a network",
    "zone": "zone: expected the name of a zone",
}
"""How errors of a field of `VMSpec` or `HostConfig` begin, or of all fields together."""


class HostOptions(options.Options):
    """What `juju config` says. Immutable."""

    install: Literal["auto", "never"] = "auto"
    """Whether VirtualBox is installed where it is missing."""
    package: str = "virtualbox"
    """The package that brings it."""
    version: str = ""
    """Its exact version. Empty: the newest."""
    user: str = "vbox"
    """The account that owns the VMs."""
    zone: str = ""
    """MAAS's zone of the VMs; may be empty."""
    vm_count: int = pydantic.Field(default=0, ge=0, le=200)
    """How many VMs are made."""
    name_prefix: str = "node"
    """What their names begin with."""
    cpus: int = 1
    """Of a new VM, as the fields below; see `VMSpec`."""
    memory: int = 2048
    disk: int = 20
    nic_model: NICModel = "e1000"
    attachment: Attachment = "hostonly"
    network: str = ""

    @pydantic.model_validator(mode="after")
    def _check(self) -> HostOptions:
        if not _USER.fullmatch(self.user) or self.user == "root":
            raise ValueError(f"user: expected the name of an account, not {self.user!r}")
        if not _PACKAGE.fullmatch(self.package):
            raise ValueError(f"package: expected the name of a package, not {self.package!r}")
        if not _VERSION.fullmatch(self.version):
            raise ValueError(f"version: expected a version of a package, not {self.version!r}")
        try:
            HostConfig(zone=self.zone)
        except pydantic.ValidationError as error:
            raise ValueError(_explain("zone", options.explain(error))) from None
        try:
            self.spec(self._name(0, 1))
        except errors.VMSpecError as error:
            raise ValueError(_explain(error.option, str(error))) from None
        return self

    def spec(self, name: str) -> VMSpec:
        """Return the specification of a new VM. Raises `VMSpecError`."""
        fields = VMSpec.model_fields.keys() & type(self).model_fields.keys()
        return VMSpec(name=name, **{field: getattr(self, field) for field in fields})

    def kept(self, names: Iterable[str]) -> list[str]:
        """Return those of some VMs that make up `vm_count`."""
        return self._counted(names)[: self.vm_count]

    def missing(self, unit: int, names: Iterable[str]) -> list[str]:
        """Return the names of the VMs that a unit has to make.

        Args:
            unit: its number: VMs of several units are MAAS's machines, with a name each.
            names: of the VMs that there are. Those that another unit has made here count too: that
                unit was removed, and its VMs stayed.
        """
        there = set(names)
        free = (
            name
            for number in itertools.count(1)
            if (name := self._name(unit, number)) not in there
        )
        return list(itertools.islice(free, max(0, self.vm_count - len(self._counted(there)))))

    def surplus(self, names: Iterable[str]) -> list[str]:
        """Return those of some VMs that are named as if a unit had made them, and are too many."""
        return self._counted(names)[self.vm_count :]

    def _counted(self, names: Iterable[str]) -> list[str]:
        """Return those that a unit has made, be it one before this, in the order of numbers."""
        pattern = re.compile(re.escape(self.name_prefix) + r"(\d+)-(\d{2,})", re.ASCII)
        found = [match for name in names if (match := pattern.fullmatch(name))]
        return [match[0] for match in sorted(found, key=lambda it: (int(it[1]), int(it[2])))]

    def _name(self, unit: int, number: int) -> str:
        return f"{self.name_prefix}{unit}-{number:02}"


def _explain(option: str, reason: str) -> str:
    """Name the option of this charm that makes a VM or a host list entry wrong."""
    return reason if reason.startswith(f"{option}:") else f"{_EXPECTED[option]}: {reason}"


def parse(values: Mapping[str, object]) -> HostOptions:
    """Check the options as Juju has them.

    Raises:
        ValueError: one is wrong; the text is one sentence that names it.
    """
    return options.validate(HostOptions, values)
