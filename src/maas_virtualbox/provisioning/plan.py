# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Validation of specifications against a host, before the first VM is created.

The result is a plan for each VM: a free MAC and the network that exists on the host.
"""

from __future__ import annotations

import collections
import dataclasses
import secrets
from typing import TYPE_CHECKING, Literal

from maas_virtualbox import errors
from maas_virtualbox.provisioning.spec import NIC_TYPES
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

_VIRTUALBOX_PREFIX = "080027"
"""The first digits of the MACs that VirtualBox generates."""


@dataclasses.dataclass(frozen=True, slots=True)
class VMPlan:
    """A specification that the host can satisfy."""

    spec: VMSpec
    options: Mapping[str, str]
    """The options of `modifyvm`."""


def plan_vms(
    host: VirtualBoxHost,
    specs: Sequence[VMSpec],
    existing: Collection[VMSettings],
    other_macs: Collection[str],
    deadline: Deadline,
) -> list[VMPlan]:
    """Validate specifications, and choose the MACs and networks that they do not name.

    Args:
        host: the host of the new VMs.
        specs: the specifications.
        existing: the VMs of the host.
        other_macs: the MACs of the VMs of other hosts.
        deadline: when the validation must end.

    Raises:
        CreationError: the host cannot satisfy one of the specifications.
        VBoxManageError, HostError: the host cannot be asked.
    """
    _check_names(host, specs, existing)
    owners = {mac: vm.name for vm in existing for mac in vm.macs}
    _check_macs(host, specs, owners, other_macs)
    _check_os_types(host, specs, deadline)
    networks = _Networks(host, deadline)
    taken = {*owners, *other_macs, *(spec.mac for spec in specs)}
    return [
        VMPlan(spec, _options(spec, _choose_mac(spec, taken), networks.options(spec)))
        for spec in specs
    ]


def creation_error(
    host: VirtualBoxHost, spec: VMSpec, reason: str, *, retry: bool = False
) -> errors.CreationError:
    """Return the error for a VM that was not created."""
    return errors.CreationError(f"{host.config}/{spec.name}: not created: {reason}", retry=retry)


def _check_names(
    host: VirtualBoxHost, specs: Sequence[VMSpec], existing: Collection[VMSettings]
) -> None:
    count = collections.Counter(spec.name for spec in specs)
    existing_names = {vm.name for vm in existing}
    for spec in specs:
        if spec.name in existing_names:
            raise creation_error(
                host, spec, "the host already has a VM with this name: use another name"
            )
        if count[spec.name] > 1:
            raise creation_error(
                host, spec, "several of the new VMs have this name: use each name once"
            )


def _check_macs(
    host: VirtualBoxHost,
    specs: Sequence[VMSpec],
    owners: Mapping[str, str],
    other_macs: Collection[str],
) -> None:
    count = collections.Counter(spec.mac for spec in specs)
    for spec in specs:
        reason = ""
        if not spec.mac:
            continue
        if spec.mac in owners:
            reason = f"VM {owners[spec.mac]} already has the MAC {spec.mac}"
        elif spec.mac in other_macs:
            reason = f"a VM of another host already has the MAC {spec.mac}"
        elif count[spec.mac] > 1:
            reason = f"several of the new VMs have the MAC {spec.mac}"
        if reason:
            raise creation_error(host, spec, f"{reason}: omit the MAC to use a free one")


def _check_os_types(host: VirtualBoxHost, specs: Sequence[VMSpec], deadline: Deadline) -> None:
    # VirtualBox ignores the case. A host whose list cannot be parsed checks the type itself.
    known = host.vboxmanage.list_os_types(timeout=deadline.remaining)
    lower_case = {os_type.lower() for os_type in known}
    for spec in specs:
        if lower_case and spec.os_type.lower() not in lower_case:
            raise creation_error(
                host,
                spec,
                f"VirtualBox on the host does not know the OS type {spec.os_type!r}: list the"
                " known types there with VBoxManage list ostypes",
            )


def _choose_mac(spec: VMSpec, taken: set[str]) -> str:
    """Return a VM's MAC, and add it to those that are taken."""
    mac = spec.mac or random_mac()
    while mac in taken and not spec.mac:
        mac = random_mac()
    taken.add(mac)
    return mac


def random_mac() -> str:
    """Return a random MAC of VirtualBox's range."""
    return settings_xml.format_mac(_VIRTUALBOX_PREFIX + secrets.token_hex(3))


def _options(spec: VMSpec, mac: str, network: Mapping[str, str]) -> dict[str, str]:
    # The spelling of VirtualBox 6, which 7.2 accepts too (measured).
    return {
        "--cpus": str(spec.cpus),
        "--memory": str(spec.memory),
        "--firmware": "bios",
        "--boot1": "net",
        "--boot2": "disk",
        "--boot3": "none",
        "--boot4": "none",
        **network,
        "--nictype1": NIC_TYPES[spec.nic_model],
        "--cableconnected1": "on",
        "--macaddress1": mac.replace(":", "").upper(),
    }


class _Networks:
    """The networks of a host that NICs can be attached to. Each list is read once."""

    def __init__(self, host: VirtualBoxHost, deadline: Deadline) -> None:
        self._host = host
        self._deadline = deadline
        self._lists: dict[str, list[str]] = {}

    def options(self, spec: VMSpec) -> dict[str, str]:
        """Return the `modifyvm` options that attach a VM's NIC.

        Raises:
            CreationError: the host does not have the network. VBoxManage would only print a
                warning, and the VM would never start (measured).
        """
        if spec.attachment == "none":
            return {"--nic1": "null"}
        if spec.attachment == "nat":
            return {"--nic1": "nat"}
        if spec.attachment == "bridged":
            name = self._choose(spec, "bridgedifs", "list bridgedifs")
            return {"--nic1": "bridged", "--bridgeadapter1": name}
        if self._has_host_only_networks():
            name = self._choose(spec, "hostonlynets", "hostonlynet add")
            return {"--nic1": "hostonlynet", "--host-only-net1": name}
        name = self._choose(spec, "hostonlyifs", "hostonlyif create")
        return {"--nic1": "hostonly", "--hostonlyadapter1": name}

    def _has_host_only_networks(self) -> bool:
        # macOS has host-only networks instead of adapters since VirtualBox 7.
        installation = self._host.vboxmanage.installation(timeout=self._deadline.remaining)
        return installation.system == "Darwin" and installation.release >= (7, 0)

    def _choose(
        self,
        spec: VMSpec,
        list_name: Literal["bridgedifs", "hostonlyifs", "hostonlynets"],
        command: str,
    ) -> str:
        """Return the network that a specification names, or the only one.

        Args:
            spec: the specification.
            list_name: the list of VBoxManage that has the names.
            command: the command of VBoxManage to run on a host that has none.
        """
        if list_name not in self._lists:
            self._lists[list_name] = self._host.vboxmanage.list_networks(
                list_name, timeout=self._deadline.remaining
            )
        names = self._lists[list_name]
        # macOS lists `en0: Wi-Fi`, and people call it en0.
        matches = [name for name in names if spec.network in ("", name, name.partition(": ")[0])]
        if len(matches) == 1:
            return matches[0]
        what = "host-only network" if spec.attachment == "hostonly" else "network interface"
        if not names:
            reason = f"the host has no {what}: run there VBoxManage {command}"
        elif matches:
            reason = f"the host has several {what}s: choose one with --network: {', '.join(names)}"
        else:
            reason = f"the host has no {what} {spec.network!r}: use one of {', '.join(names)}"
        raise creation_error(self._host, spec, reason)
