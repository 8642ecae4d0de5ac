# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Finding a VM: reads from the hosts what `resolver` needs to know about a selector."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.fleet import resolver
from maas_virtualbox.fleet.resolver import KnownHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.fleet.hosts import HostThreads
    from maas_virtualbox.fleet.resolver import Match, Scope, Selector
    from maas_virtualbox.fleet.vm_hosts import VMHosts
    from maas_virtualbox.host.host import VM, VirtualBoxHost

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_REFRESH_PAUSE_S = 5.0
"""A selector that matches no VM makes a host read its settings files at most this often."""


class Search:
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
        settings files again if no VM matches. Raises what `resolver.resolve` does."""
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
        matches = resolver.find_matches(selector, self._known(failures))
        listed = [(self._hosts[match.host], match.vm.uuid) for match in matches]
        failures = {**failures, **self.poll_first_hosts(hosts, listed, deadline)}
        return resolver.resolve(selector, self._known(failures), self._vm_hosts.first_hosts())

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
