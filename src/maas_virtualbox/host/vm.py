# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One VM as a poll of its host showed it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.virtualbox.settings_xml import VMSettings
    from maas_virtualbox.virtualbox.states import Power, VMState


@dataclasses.dataclass(frozen=True, slots=True)
class VM:
    """One VM at the time of a poll. A value: it never changes."""

    host: HostConfig
    """The host it is on."""

    settings: VMSettings
    """What its settings file says."""

    state: VMState
    """VirtualBox's name for its state. Unless the states are exact, `running` also stands for
    paused, livesnapshotting and teleporting."""

    power: Power
    """Whether it is on, off or unknown."""

    @property
    def uuid(self) -> str:
        """Lower case, without braces."""
        return self.settings.uuid

    @property
    def name(self) -> str:
        """Its name; `<inaccessible>`, as VirtualBox says, when it cannot be read."""
        return self.settings.name if self.settings.accessible else "<inaccessible>"

    @property
    def macs(self) -> tuple[str, ...]:
        """Its NICs' MAC addresses."""
        return self.settings.macs

    def __repr__(self) -> str:
        return f"<VM {self}: {self.state}, power {self.power}>"

    def __str__(self) -> str:
        return f"{self.host}/{self.name} {{{self.uuid}}}"
