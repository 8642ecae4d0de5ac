# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Power control of VirtualBox VMs on other machines, over SSH.

What most programs want::

    import maas_virtualbox as mv

    hosts = mv.parse_hosts("ivan@10.0.0.5 zone=izMBP13, ivan@10.0.0.6")
    with mv.Fleet(hosts, identity="~/.ssh/id_ed25519", known_hosts="known_hosts") as fleet:
        vm = fleet.find("08:00:27:aa:bb:01")   # UUID, MAC, UUID tail as MAC, or name
        fleet.power_on(vm)                     # returns when it runs, or raises saying why
        for vm in fleet.vms():                 # one command a host, however many VMs
            print(vm.host.name, vm.name, vm.power)

Hosts
    `parse_hosts` reads a host list (short form, YAML or parsed YAML) into `HostConfig` objects.

VMs and power
    `Fleet.find`, `vms` and `reports` look; `power_on`, `power_off` and `reset` act, are idempotent
    and end within `PowerPolicy.action_timeout` seconds. A `VM` is a picture with a `VMState`
    (VirtualBox's word) and a `Power` (on, off, unknown). All of it may be used from many threads.

Making and deleting VMs
    `Fleet.create_vms` makes VMs for MAAS from `VMSpec` objects, each whole or not at all, and says
    in a `Creation` what became of each; `Fleet.delete_vm` deletes what was made so, and no others.

One host
    `Fleet.hosts` are `VirtualBoxHost` objects; their `vboxmanage` attribute has VBoxManage's
    commands as methods.

Errors
    All derive from `Error`. The library has by then retried what is worth retrying within the
    deadline; `error.retry` says whether the *caller* may try again later (`HostUnreachable`,
    `PowerTimeout`), or whether a person has to change something first (`LoginRefused`,
    `HostKeyChanged`, `UnknownVM`, `AmbiguousVM`, `ContestedVM`, `OrphanedProcess`,
    `HostListError`, `DeletionError`).

Tests
    `maas_virtualbox.simulator` is a VirtualBox host that is not there, for your tests too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maas_virtualbox.config.host_list import HostConfig, parse_hosts
    from maas_virtualbox.config.policy import PowerPolicy
    from maas_virtualbox.errors import (
        AmbiguousVM,
        BadOutput,
        Closed,
        CommandTimeout,
        ConfigError,
        ConnectionLost,
        ContestedVM,
        CreationError,
        DeletionError,
        Error,
        ErrorCode,
        HostDown,
        HostError,
        HostKeyChanged,
        HostListError,
        HostUnreachable,
        IdentityError,
        KnownHostsBroken,
        LoginRefused,
        OrphanedProcess,
        OversizedOutput,
        PowerError,
        PowerTimeout,
        UnknownHost,
        UnknownVM,
        VBoxManageError,
        VBoxManageMissing,
        VMSpecError,
        VMUnreachable,
    )
    from maas_virtualbox.fleet.fleet import Fleet, HostReport, HostsDown, PowerResult
    from maas_virtualbox.host.host import VM, VirtualBoxHost
    from maas_virtualbox.provisioning.create import Creation
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
    from maas_virtualbox.virtualbox.states import Power, VMState

__all__ = [
    "NIC",
    "VM",
    "AmbiguousVM",
    "BadOutput",
    "Closed",
    "CommandTimeout",
    "ConfigError",
    "ConnectionLost",
    "ContestedVM",
    "Creation",
    "CreationError",
    "DeletionError",
    "Error",
    "ErrorCode",
    "Fleet",
    "HostConfig",
    "HostDown",
    "HostError",
    "HostKeyChanged",
    "HostListError",
    "HostReport",
    "HostUnreachable",
    "HostsDown",
    "IdentityError",
    "KnownHostsBroken",
    "LoginRefused",
    "OrphanedProcess",
    "OversizedOutput",
    "Power",
    "PowerError",
    "PowerPolicy",
    "PowerResult",
    "PowerTimeout",
    "UnknownHost",
    "UnknownVM",
    "VBoxManageError",
    "VBoxManageMissing",
    "VMSettings",
    "VMSpec",
    "VMSpecError",
    "VMState",
    "VMUnreachable",
    "VirtualBoxHost",
    "parse_hosts",
]

_HOMES = (
    "errors",
    "config.host_list",
    "config.policy",
    "virtualbox.states",
    "virtualbox.settings_xml",
    "provisioning.spec",
    "host.host",
    "provisioning.create",
    "fleet.fleet",
)
"""Of the names above, those that load least first."""


def __getattr__(name: str) -> object:
    # Who needs one small module of this package does not wait for all of it.
    if name in __all__:
        for home in _HOMES:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
