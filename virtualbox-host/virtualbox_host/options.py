# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The options of charmcraft.yaml and their validation."""

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
    "": "network: expected no network for this attachment",
    "name": "name-prefix: expected the beginning of a VM name",
    "network": "network: expected the name of an interface or a network",
    "zone": "zone: expected the name of a zone",
}
"""The beginning of an error, by the field of `VMSpec` or `HostConfig`; "" means all fields."""


class HostOptions(options.Options):
    """The options of `juju config`. Immutable."""

    install: Literal["auto", "never"] = "auto"
    """Whether VirtualBox is installed if it is missing."""
    package: str = "virtualbox"
    """The package that contains VirtualBox."""
    version: str = ""
    """The exact version of the package. If it is empty, the newest is installed."""
    user: str = "vbox"
    """The account that owns the VMs."""
    zone: str = ""
    """The MAAS zone of the VMs; can be empty."""
    vm_count: int = pydantic.Field(default=0, ge=0, le=200)
    """How many VMs the charm creates."""
    name_prefix: str = "node"
    """The beginning of their names."""
    cpus: int = 1
    """Virtual processors of a new VM. For this field and those below, see `VMSpec`."""
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
        except errors.HostListError as error:
            raise ValueError(_explain("zone", str(error))) from None
        try:
            self.spec(self._name(0, 1))
        except errors.VMSpecError as error:
            raise ValueError(_explain(error.option, str(error))) from None
        return self

    def spec(self, name: str) -> VMSpec:
        """Return the specification of a new VM. Raises `VMSpecError`."""
        fields = VMSpec.model_fields.keys() & type(self).model_fields.keys()
        return VMSpec(name=name, **{field: getattr(self, field) for field in fields})

    def missing_names(self, unit: int, names: Iterable[str]) -> list[str]:
        """Return the names of the VMs that a unit has to create.

        Args:
            unit: The unit's number. It is in the names, because the VMs of all units become
                machines in one MAAS.
            names: The names of the existing VMs. VMs that a removed unit has created here also
                count, because they stay.
        """
        existing = set(names)
        free = (
            name
            for number in itertools.count(1)
            if (name := self._name(unit, number)) not in existing
        )
        return list(
            itertools.islice(free, max(0, self.vm_count - len(self._sort_managed(existing))))
        )

    def names_within_count(self, names: Iterable[str]) -> list[str]:
        """Return the names of the VMs that count for `vm_count` and are not surplus."""
        return self._sort_managed(names)[: self.vm_count]

    def surplus_names(self, names: Iterable[str]) -> list[str]:
        """Return the names of the VMs that exceed `vm_count`. Only names of units' VMs count."""
        return self._sort_managed(names)[self.vm_count :]

    def _sort_managed(self, names: Iterable[str]) -> list[str]:
        """Return the names that this or an earlier unit has given, in the order of numbers."""
        pattern = re.compile(re.escape(self.name_prefix) + r"(\d+)-(\d{2,})", re.ASCII)
        matches = [match for name in names if (match := pattern.fullmatch(name))]
        matches.sort(key=lambda match: (int(match[1]), int(match[2])))
        return [match[0] for match in matches]

    def _name(self, unit: int, number: int) -> str:
        return f"{self.name_prefix}{unit}-{number:02}"


def _explain(option: str, reason: str) -> str:
    """Name the option of this charm that makes a VM or a host list entry invalid."""
    return reason if reason.startswith(f"{option}:") else f"{_EXPECTED[option]}: {reason}"


def parse(values: Mapping[str, object]) -> HostOptions:
    """Validate the options of Juju.

    Raises:
        ValueError: An option is invalid. The message is one sentence that names it.
    """
    return options.validate(HostOptions, values)
