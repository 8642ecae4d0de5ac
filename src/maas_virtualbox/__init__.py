# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Power control of VirtualBox VMs on other machines, over SSH.

What most programs want::

    import maas_virtualbox as mv

    hosts = mv.parse_hosts("ivan@10.0.0.5 zone=izMBP13, ivan@10.0.0.6")
    with mv.Fleet(hosts, identity="~/.ssh/id_ed25519", known_hosts="known_hosts") as fleet:
        vm = fleet.find("08:00:27:aa:bb:01")   # UUID, MAC, UUID tail as MAC, or name
        fleet.power_on(vm)                     # returns when the VM runs, or raises an error
        for vm in fleet.vms():                 # one SSH command for each host
            print(vm.host.name, vm.name, vm.power)

Hosts
    `parse_hosts` parses a host list (short form, YAML or parsed YAML) into `HostConfig` objects.

VMs and power
    `Fleet.find`, `vms` and `reports` return VMs with their current states. A `VM` is a value that
    never changes; it has a `VMState` (VirtualBox's name) and a `Power` (on, off, unknown).
    `power_on`, `power_off` and `reset` are idempotent and end within
    `PowerPolicy.action_timeout` seconds. `power_on_vms` and `power_off_vms` do the same for many
    VMs in parallel. `wait_for` waits until a VM is on or off. All calls are thread-safe.

Creating and deleting VMs
    `Fleet.create_vms` creates VMs for MAAS from `VMSpec` objects, each completely or not at all,
    and returns a `Creation` for each. `Fleet.delete_vm` deletes VMs that were created so, and no
    others.

One host
    `Fleet.hosts` are `VirtualBoxHost` objects; their `vboxmanage` attribute has VBoxManage's
    commands as methods.

Errors
    All errors derive from `Error`. The library has already retried what is worth retrying within
    the deadline. `error.retry` says whether the *caller* should retry later (`HostUnreachable`,
    `PowerTimeout`), or whether a person has to change something first (`LoginRefused`,
    `HostKeyChanged`, `UnknownVM`, `AmbiguousVM`, `ContestedVM`, `OrphanedProcess`,
    `ConfigError`, `DeletionError`). `error.code` is an `ErrorCode`, for programs and logs.

Tests
    `maas_virtualbox.simulator` simulates a VirtualBox host, also for the tests of your program.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from maas_virtualbox import version

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
    from maas_virtualbox.fleet.fleet import Fleet
    from maas_virtualbox.fleet.results import HostReport, HostsDown, VMResult
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.provisioning.create import Creation
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
    from maas_virtualbox.virtualbox.states import Power, VMState

__all__ = [
    "NIC",
    "VM",
    "AmbiguousVM",
    "BadOutput",
    "Claim",
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
    "PowerTimeout",
    "UnknownHost",
    "UnknownVM",
    "VBoxManageError",
    "VBoxManageMissing",
    "VMResult",
    "VMSettings",
    "VMSpec",
    "VMSpecError",
    "VMState",
    "VMUnreachable",
    "VirtualBoxHost",
    "__version__",
    "parse_hosts",
]

__version__ = version.VERSION

_MODULES = (
    "errors",
    "config.policy",
    "config.host_list",
    "virtualbox.states",
    "virtualbox.settings_xml",
    "provisioning.spec",
    "fleet.results",
    "fleet.vm_hosts",
    "host.host",
    "host.vm",
    "provisioning.create",
    "fleet.fleet",
)
"""The modules of the names above. Each imports little more than the one before."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    # A program that needs one small module of this package does not load all of it.
    if name in __all__:
        for module in _MODULES:
            found = vars(importlib.import_module(f"{__name__}.{module}")).get(name)
            if getattr(found, "__module__", "") == f"{__name__}.{module}":
                globals()[name] = found
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
