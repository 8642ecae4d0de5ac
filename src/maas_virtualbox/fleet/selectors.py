# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VM a selector means, and the search for it on the hosts.

`resolve` decides from what is known about the hosts, without connecting to any. `Resolver` reads
from the hosts what `resolve` needs to know, for `Fleet`. The service's dispatcher reads the hosts
itself and calls `resolve`.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.fleet.hosts import HostThreads
    from maas_virtualbox.fleet.vm_hosts import VMHosts
    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MAX_CANDIDATES = 10
"""So many VMs are listed in the text of an error."""

_REFRESH_PAUSE_S = 5.0
"""A selector that matches no VM makes a host read its settings files at most this often."""


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
    own = [match for match in matches if _is_own(match, first_hosts)]
    if len(own) == 1:
        return own[0]
    if own:
        raise _ambiguous(selector, own)
    if matches:
        raise _contested(matches[0], hosts, first_hosts)
    raise _not_found(selector, hosts)


# -- The search ---------------------------------------------------------------------------------


class Resolver:
    """Finds VMs on the hosts of one fleet. Created by `Fleet`; shared between threads."""

    def __init__(
        self, hosts: Sequence[VirtualBoxHost], vm_hosts: VMHosts, threads: HostThreads
    ) -> None:
        self._hosts = {host.config: host for host in hosts}
        self._vm_hosts = vm_hosts
        self._threads = threads
        self._lock = threading.Lock()
        self._refreshed: dict[VirtualBoxHost, float] = {}

    def call(
        self,
        selector: Selector,
        function: Callable[[VirtualBoxHost, str], _T],
        deadline: Deadline,
    ) -> _T:
        """Call a function with the host and the UUID of the VM that a selector means.

        If the selector is a UUID and the VM's host is known, nothing is read before the call: the
        function must raise `UnknownVM` where the host does not have the VM, and is then called
        with the host that the VM has moved to.
        """
        host = self.first_host(selector)
        if host is not None:
            try:
                return function(host, selector.uuid)
            except errors.UnknownVM as error:
                log.info("%s; searching on all hosts", error)
                self._note_missing(host, selector.uuid, deadline)
        match = self.find(selector, deadline)
        return function(self._hosts[match.host], match.vm.uuid)

    def find(self, selector: Selector, deadline: Deadline) -> Match:
        """Return the VM that a selector means, from what is known of the hosts; reads their
        settings files again if no VM matches. Raises what `resolve` does."""
        hosts = self.scope(selector.scope)
        try:
            return self._resolve(selector, hosts, deadline, refresh=False)
        except (errors.UnknownVM, errors.VMUnreachable):
            return self._resolve(selector, hosts, deadline, refresh=True)

    def first_host(self, selector: Selector) -> VirtualBoxHost | None:
        """Return the host that the VM with a UUID belongs to, if it is known and in the scope."""
        config = self._vm_hosts.host_of(selector.uuid) if selector.uuid else None
        if config is None or not selector.scope.includes(config):
            return None
        return self._hosts[config]

    def poll(
        self, host: VirtualBoxHost, deadline: Deadline, *, exact: bool = False
    ) -> tuple[VM, ...]:
        """Return a host's VMs with their current states. Its claims end if it does not answer."""
        began = time.monotonic()
        try:
            return tuple(host.vms(exact=exact, timeout=deadline.remaining))
        except errors.Error:
            self._vm_hosts.record_failure(host.config, began)
            raise

    def poll_first_hosts(
        self,
        asked: Sequence[VirtualBoxHost],
        listed: Iterable[tuple[VirtualBoxHost, str]],
        deadline: Deadline,
    ) -> Mapping[VirtualBoxHost, errors.Error]:
        """Poll the hosts that VMs belong to which other hosts list, because such a VM may have
        moved. Return why hosts could not be polled.

        Args:
            asked: hosts that need no poll.
            listed: the VMs, as hosts and UUIDs.
            deadline: when to stop waiting.
        """
        firsts = [
            self._vm_hosts.host_of(uuid)
            for host, uuid in listed
            if not self._vm_hosts.can_answer(host.config, uuid)
        ]
        hosts = [self._hosts[config] for config in self._hosts if config in firsts]
        hosts = [host for host in hosts if host not in asked]
        return self._threads.call_all(hosts, lambda host: self.poll(host, deadline), deadline)[1]

    def scope(self, scope: Scope) -> list[VirtualBoxHost]:
        """Return the hosts in a scope. Raises `UnknownHost`."""
        return [self._hosts[config] for config in scope.select(list(self._hosts))]

    def _note_missing(self, host: VirtualBoxHost, uuid: str, deadline: Deadline) -> None:
        """Poll a host that no longer has a VM, so that the VM can belong to another one."""
        host.state.invalidate(uuid)
        try:
            self.poll(host, deadline)
        except errors.Error as error:
            log.info("%s; whether it still lists VM %s is not known", error, uuid)

    def _resolve(
        self,
        selector: Selector,
        hosts: Sequence[VirtualBoxHost],
        deadline: Deadline,
        *,
        refresh: bool,
    ) -> Match:
        failures = self._read_settings(hosts, deadline, refresh=refresh)
        matches = find_matches(selector, self._known(failures))
        listed = [(self._hosts[match.host], match.vm.uuid) for match in matches]
        failures = {**failures, **self.poll_first_hosts(hosts, listed, deadline)}
        return resolve(selector, self._known(failures), self._vm_hosts.first_hosts())

    def _known(self, failures: Mapping[VirtualBoxHost, errors.Error]) -> list[KnownHost]:
        return [
            KnownHost(config, host.state.latest_settings(), failures.get(host))
            for config, host in self._hosts.items()
        ]

    def _read_settings(
        self, hosts: Sequence[VirtualBoxHost], deadline: Deadline, *, refresh: bool
    ) -> Mapping[VirtualBoxHost, errors.Error]:
        """Read which VMs hosts have, with names and MACs; from the cache, unless `refresh`. Return
        why hosts could not be read."""

        def read(host: VirtualBoxHost) -> None:
            if refresh and self._may_refresh(host):
                host.state.settings(deadline, max_age=0.0)
            else:
                host.state.settings(deadline)

        _, failures = self._threads.call_all(hosts, read, deadline)
        for host in failures:
            self._vm_hosts.record_failure(host.config)
        return failures

    def _may_refresh(self, host: VirtualBoxHost) -> bool:
        """Return whether to read a host's settings files for a selector that matches no VM. This
        is limited, so that many unknown names put no load on the host."""
        now = time.monotonic()
        with self._lock:
            if now - self._refreshed.get(host, float("-inf")) < _REFRESH_PAUSE_S:
                return False
            self._refreshed[host] = now
            return True


# -- The decision and its errors ----------------------------------------------------------------


def _is_own(match: Match, first_hosts: Mapping[str, HostConfig]) -> bool:
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
