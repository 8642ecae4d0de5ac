# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VM a selector means: pure functions of what is known about the hosts.

Nothing here connects to a host. `Fleet` and the service's dispatcher read the hosts' states first
and call `resolve` with them.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

_MAX_CANDIDATES = 10
"""So many VMs are listed in the text of an error."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scope:
    """The hosts on which to search."""

    host: str = ""
    """The name of the only host; empty: all."""

    zone: str = ""
    """The name of the only zone; empty: all."""

    def includes(self, host: HostConfig) -> bool:
        """Return whether a host has this name and zone."""
        return self.host in ("", host.name) and self.zone in ("", host.zone)

    def select(self, hosts: Sequence[HostConfig]) -> list[HostConfig]:
        """Return the hosts of a host list that are in the scope. Raises `UnknownHost` if a name or
        a zone was given and no host has it."""
        selected = [host for host in hosts if self.includes(host)]
        if selected or self == Scope():
            return selected
        names = ", ".join(_with_zone(host) for host in hosts) or "no hosts"
        raise errors.UnknownHost(f"no {self} in the host list; it has {names}")

    def __str__(self) -> str:
        named = {"host": self.host, "zone": self.zone}
        return " and ".join(f"{what} {name!r}" for what, name in named.items() if name)


@dataclasses.dataclass(frozen=True, slots=True)
class Selector:
    """A text that selects one VM, parsed once, and the scope of the search.

    A UUID selects the VM that has it. Any other text selects by the MAC of a NIC, by the last 12
    hex digits of a UUID written as a MAC (the legacy convention), and by name, all alike.
    """

    text: str
    """As a person typed it."""

    uuid: str = ""
    """The UUID that the text stands for; empty if it does not."""

    mac: str = ""
    """The MAC that the text stands for; empty if it does not."""

    name: str | None = None
    """The name to compare; None: names do not count. A VM that is named like a UUID is selected
    only if no VM has this UUID and all hosts are up."""

    scope: Scope = Scope()
    """The hosts on which the VM may be."""

    @classmethod
    def parse(cls, text: str, *, host: str = "", zone: str = "") -> Self:
        """Parse a text; any text selects something, if only by name."""
        uuid, mac = settings_xml.normalise_uuid(text), settings_xml.parse_mac(text)
        return cls(text, uuid=uuid, mac=mac, name=text, scope=Scope(host, zone))

    def matches(self, vm: VMSettings) -> bool:
        """Return whether a VM has the name, the MAC or the tail of the UUID."""
        if vm.accessible and vm.name == self.name:
            return True
        return bool(self.mac) and (
            self.mac in vm.macs or vm.uuid.endswith(self.mac.replace(":", ""))
        )

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True, slots=True)
class KnownHost:
    """What is known about one host."""

    config: HostConfig
    """Its entry in the host list."""

    vms: Mapping[str, VMSettings]
    """The VMs that it lists, or listed when it was last up, by UUID."""

    error: errors.Error | None = None
    """Why it is down; None if it is up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """A VM that a selector matches."""

    host: HostConfig
    """The host that lists it."""

    vm: VMSettings
    """Its settings."""

    def __str__(self) -> str:
        return f"{self.host}/{self.vm.name} {{{self.vm.uuid}}}"


def find_matches(selector: Selector, hosts: Sequence[KnownHost]) -> list[Match]:
    """Return all VMs that a selector matches, whichever host they belong to."""
    in_scope = _in_scope(selector, hosts)
    by_uuid = _find_by_uuid(selector.uuid, in_scope)
    # A host that is down may have the VM with this UUID: another VM must not replace it.
    if by_uuid or (selector.uuid and any(host.error for host in in_scope)):
        return by_uuid
    return [
        Match(host.config, vm)
        for host in in_scope
        for vm in host.vms.values()
        if selector.matches(vm)
    ]


def resolve(
    selector: Selector, hosts: Sequence[KnownHost], first_hosts: Mapping[str, HostConfig]
) -> Match:
    """Return the one VM that a selector means.

    Args:
        selector: which VM.
        hosts: what is known about all hosts.
        first_hosts: the hosts that VMs belong to, by the VMs' UUIDs; see `vm_hosts`. Another host
            that lists such a VM does not answer for it.

    Raises:
        UnknownHost: the selector names a host or a zone that does not exist.
        UnknownVM: no VM matches, and all hosts are up.
        AmbiguousVM: several VMs match; the error lists them.
        ContestedVM: all VMs that match belong to other hosts.
        VMUnreachable: no VM matches, but a host that is down may own it.
    """
    matches = find_matches(selector, hosts)
    own = [match for match in matches if is_own(match, first_hosts)]
    if len(own) == 1:
        return own[0]
    if own:
        raise _ambiguous(selector, own)
    if matches:
        raise _contested(matches[0], hosts, first_hosts)
    raise _not_found(selector, hosts)


def is_own(match: Match, first_hosts: Mapping[str, HostConfig]) -> bool:
    """Return whether a host may answer for a VM that it lists: the VM belongs to this host, or it
    is not known to belong to any."""
    return first_hosts.get(match.vm.uuid, match.host) == match.host


def _ambiguous(selector: Selector, matches: Sequence[Match]) -> errors.AmbiguousVM:
    shown = ", ".join(str(match) for match in matches[:_MAX_CANDIDATES])
    if len(matches) > _MAX_CANDIDATES:
        shown += f" and {len(matches) - _MAX_CANDIDATES} more"
    hint = "use a UUID, or name the host or the zone"
    if len({match.vm.uuid for match in matches}) == 1:
        hint = (
            "it is not known which host had it first: decide with `maas-virtualbox trust-vm"
            f" {matches[0].vm.uuid} --host NAME`"
        )
    return errors.AmbiguousVM(
        f"{selector.text!r} matches {len(matches)} VMs: {shown}; {hint}",
        candidates=[str(match) for match in matches],
    )


def _contested(
    match: Match, hosts: Sequence[KnownHost], first_hosts: Mapping[str, HostConfig]
) -> errors.Error:
    uuid, first = match.vm.uuid, first_hosts[match.vm.uuid]
    error = next((host.error for host in hosts if host.config == first), None)
    if error is not None:
        return _first_host_is_down(uuid, first, error)
    return errors.ContestedVM(
        f"VM {uuid} on {match.host} belongs to {first}, which is down or lists it too. Unregister"
        f" it on one of them, or decide: maas-virtualbox trust-vm {uuid} --host {match.host}",
        candidates=[f"{host}/{{{uuid}}}" for host in (first, match.host)],
    )


def _first_host_is_down(uuid: str, first: HostConfig, error: errors.Error) -> errors.VMUnreachable:
    """Return the error for a VM whose host is down."""
    return errors.VMUnreachable(
        first.name,
        f"VM {uuid} belongs to host {first}, which is unreachable: {_reason(error)}",
        retry=error.retry,
    )


def _find_by_uuid(uuid: str, hosts: Sequence[KnownHost]) -> list[Match]:
    return [Match(host.config, host.vms[uuid]) for host in hosts if uuid in host.vms]


def _in_scope(selector: Selector, hosts: Sequence[KnownHost]) -> list[KnownHost]:
    return [host for host in hosts if selector.scope.includes(host.config)]


def _not_found(selector: Selector, hosts: Sequence[KnownHost]) -> errors.Error:
    asked = selector.scope.select([host.config for host in hosts])
    down = [host for host in _in_scope(selector, hosts) if host.error]
    if down:
        return _not_found_while_down(selector, down)
    accounts = ", ".join(f"{host} ({host.account})" for host in asked) or "no hosts"
    return errors.UnknownVM(
        f"no VM matches {selector.text!r}; asked: {accounts}. Each account of a host has its own"
        " VMs: does the VM belong to another account?"
    )


def _not_found_while_down(selector: Selector, down: Sequence[KnownHost]) -> errors.VMUnreachable:
    named = down[0]
    assert named.error
    return errors.VMUnreachable(
        named.config.name,
        f"VM {selector.text!r} not found. Host {named.config}, which may own it, is unreachable:"
        f" {_reason(named.error)}",
        retry=any(host.error.retry for host in down if host.error),
    )


def _reason(error: errors.Error) -> str:
    """Return the text of an error without the name of its host."""
    return error.reason if isinstance(error, errors.HostError) else str(error)


def _with_zone(host: HostConfig) -> str:
    return f"{host} (zone {host.zone})" if host.zone else str(host)
