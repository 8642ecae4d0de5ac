# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""All hosts of a host list as one object: the API that programs use."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import time
from typing import TYPE_CHECKING, Literal, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.hosts import HostThreads, create_hosts
from maas_virtualbox.fleet.results import HostReport, HostsDown, act_on_all
from maas_virtualbox.fleet.selectors import Resolver, Scope, Selector
from maas_virtualbox.fleet.vm_hosts import VMHosts
from maas_virtualbox.host.host import VirtualBoxHost
from maas_virtualbox.host.state import CALL_TIMEOUT_S
from maas_virtualbox.host.vm import VM
from maas_virtualbox.provisioning import create, delete

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import paramiko
    from typing_extensions import Self

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.fleet.results import VMResult
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.provisioning.create import Creation
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.states import Power

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_MACS_TIMEOUT_S = 5.0
_WAIT_PAUSE_S = 0.25


class Fleet:
    """All hosts of a host list. A context manager; may be shared between threads.

    The fleet connects to a host when a call needs it. Each host is called on threads of its own:
    one that is down never delays the others.
    """

    def __init__(
        self,
        hosts: Iterable[HostConfig],
        *,
        identity: Path | str | paramiko.PKey | None = None,
        known_hosts: Path | str | None = None,
        policy: PowerPolicy | None = None,
        vm_hosts: Path | str | None = None,
    ) -> None:
        """Prepare the hosts; connects to none.

        Args:
            hosts: the host list, as `parse_hosts` returns it.
            identity: the private key for all hosts, or its file. None: the keys of ssh-agent, then
                the usual files in `~/.ssh`.
            known_hosts: the file that pins host keys, in OpenSSH's format. None: pins are kept in
                memory and lost when the program ends.
            policy: what on and off mean.
            vm_hosts: the file that stores which host each VM belongs to; see `trust_vm`. None:
                this is kept in memory and lost when the program ends.

        Raises:
            IdentityError: the key file cannot be used.
            ConfigError: the known_hosts file cannot be used.
        """
        self.policy = policy or PowerPolicy()
        self.hosts: tuple[VirtualBoxHost, ...] = tuple(
            create_hosts(hosts, self.policy, identity=identity, known_hosts=known_hosts)
        )
        self.vm_hosts = VMHosts((host.config for host in self.hosts), vm_hosts)
        """Which host each VM belongs to."""
        for host in self.hosts:
            host.state.subscribe(self.vm_hosts.record)
        self._threads = HostThreads(self.hosts)
        self.resolver = Resolver(self.hosts, self.vm_hosts, self._threads)
        """Finds VMs."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Fleet of {', '.join(str(host.config) for host in self.hosts) or 'no hosts'}>"

    def claims(
        self, hosts: Sequence[VirtualBoxHost], *, timeout: float | None = None
    ) -> list[Claim]:
        """Return the VMs that these hosts listed at their last polls and that are not known to be
        their own.

        Args:
            hosts: which hosts; they are not polled again.
            timeout: seconds for polls of the hosts that such VMs belong to.
        """
        for host in hosts:
            if host.state.latest() is None:
                self.vm_hosts.record_failure(host.config)
        listed = [(host, uuid) for host in hosts for uuid in host.state.latest_settings()]
        self.resolver.poll_first_hosts(hosts, listed, _query_deadline(timeout))
        names = {host.config.name for host in hosts}
        return [claim for claim in self.vm_hosts.claims() if claim.host.name in names]

    def close(self) -> None:
        """Close all connections. Calls that still run fail."""
        for host in self.hosts:
            host.close()
        self._threads.close()
        self.vm_hosts.close()

    def create_vm(self, spec: VMSpec, *, host: str = "", timeout: float = create.TIMEOUT_S) -> VM:
        """Create one VM and return it; see `create_vms`. Raises the error of its `Creation`."""
        (creation,) = self.create_vms([spec], host=host, timeout=timeout)
        if creation.vm is None:
            assert creation.error
            raise creation.error
        return creation.vm

    def create_vms(
        self,
        specs: Sequence[VMSpec],
        *,
        host: str = "",
        progress: Callable[[VMSpec, errors.Error | None], None] | None = None,
        timeout: float = create.TIMEOUT_S,
    ) -> list[Creation]:
        """Create VMs on one host, in parallel. Each is either created completely or not at all.
        No VM of the fleet has their MACs, as far as the other VMs are known.

        Args:
            specs: what to create.
            host: the name of the host; not needed if the fleet has only one.
            progress: called on this thread with each specification when it is done, and the error.
            timeout: seconds for each VM.

        Returns:
            The result for each specification, in their order.

        Raises:
            UnknownHost: there is no such host, or several and none was named.
            CreationError: the specifications do not fit the host; no VM was created.
            HostError: the host cannot be used; no VM was created.
        """
        hosts = self.scope(host=host)
        if len(hosts) != 1:
            names = ", ".join(str(host.config) for host in hosts) or "no hosts"
            raise errors.UnknownHost(f"name the host for the VMs; the host list has {names}")
        macs = self._read_macs([other for other in self.hosts if other is not hosts[0]])
        return create.create(hosts[0], specs, macs=macs, progress=progress, timeout=timeout)

    def delete_vm(
        self, vm: VM | str, *, power_off: bool = False, timeout: float | None = None
    ) -> None:
        """Delete a VM that `create_vms` created, with its disk.

        Args:
            vm: the VM, or a selector; see `find`.
            power_off: power off a VM that is on; otherwise that is an error.
            timeout: seconds for everything (default: the policy's `action_timeout`).

        Raises:
            DeletionError: the VM was not deleted; the text says why.
            UnknownVM, AmbiguousVM, HostError: as `find` does.
        """
        deadline = self._action_deadline(timeout)

        def act(host: VirtualBoxHost, uuid: str) -> None:
            delete.delete(host, uuid, power_off=power_off, timeout=deadline.remaining)

        self._call(vm, act, deadline)

    def delete_vms(
        self,
        vms: Sequence[VM | str],
        *,
        power_off: bool = False,
        progress: Callable[[VMResult], None] | None = None,
        timeout: float | None = None,
    ) -> list[VMResult]:
        """Delete many VMs in parallel; see `delete_vm` and `power_on_vms`."""
        return act_on_all(
            vms, lambda vm: self.delete_vm(vm, power_off=power_off, timeout=timeout), progress
        )

    def find(
        self,
        selector: str,
        *,
        host: str = "",
        zone: str = "",
        exact: bool = False,
        timeout: float | None = None,
    ) -> VM:
        """Return the one VM that a selector means, with its current state.

        A selector is a UUID, the MAC of a NIC in any notation, the last 12 hex digits of a UUID
        written as a MAC (the legacy convention), or a name. A UUID has precedence over the others.

        Args:
            selector: which VM.
            host: search only on this host (its name).
            zone: search only on the hosts of this zone.
            exact: distinguish running and paused; see `reports`.
            timeout: seconds for everything; a host that has not answered by then is down.

        Raises:
            UnknownHost: no host has this name or zone.
            UnknownVM: no VM matches, and all hosts were asked.
            AmbiguousVM: several VMs match; the error lists them.
            ContestedVM: only VMs match that belong to another host.
            VMUnreachable: no VM matches, but a host that is down may own it.
            HostError: the VM's host cannot be used.
        """
        deadline = _query_deadline(timeout)

        def read(host: VirtualBoxHost, uuid: str) -> VM:
            return host.vm(uuid, exact=exact, timeout=deadline.remaining)

        return self.resolver.call(Selector.parse(selector, host=host, zone=zone), read, deadline)

    def host_of(self, vm: VM) -> VirtualBoxHost:
        """Return the live host of a VM of this fleet."""
        return next(host for host in self.hosts if host.config == vm.host)

    def power_off(
        self,
        vm: VM | str,
        *,
        mode: Literal["hard", "acpi"] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Power off a VM; return when its process has ended. Idempotent.

        Args:
            vm: the VM, or a selector; see `find`.
            mode: `hard`, or `acpi` to press the power button first (default: the policy's).
            timeout: seconds for everything (default: the policy's `action_timeout`).

        Raises:
            PowerTimeout: the VM is not off in time. Retry.
            OrphanedProcess: VirtualBox cannot stop the process that runs the VM.
            PowerError: VirtualBox refuses; the text says why.
            UnknownVM, AmbiguousVM, HostError: as `find` does.
        """
        deadline = self._action_deadline(timeout)

        def act(host: VirtualBoxHost, uuid: str) -> None:
            host.power_off(uuid, mode=mode, timeout=deadline.remaining)

        self._call(vm, act, deadline)

    def power_off_vms(
        self,
        vms: Sequence[VM | str],
        *,
        mode: Literal["hard", "acpi"] | None = None,
        progress: Callable[[VMResult], None] | None = None,
        timeout: float | None = None,
    ) -> list[VMResult]:
        """Power off many VMs in parallel; see `power_off` and `power_on_vms`."""
        return act_on_all(vms, lambda vm: self.power_off(vm, mode=mode, timeout=timeout), progress)

    def power_on(self, vm: VM | str, *, timeout: float | None = None) -> None:
        """Power on a VM; return when it runs. Idempotent.

        A saved VM boots from the network like one that is off, unless the policy resumes it. A
        paused VM is resumed, a crashed one is restarted.

        Args and errors: see `power_off`. If VirtualBox refuses the start, the `PowerError` has the
        end of the VM's VBox.log. `OrphanedProcess`: a process still runs the VM, which VirtualBox
        reports as off; it is not started a second time.
        """
        deadline = self._action_deadline(timeout)

        def act(host: VirtualBoxHost, uuid: str) -> None:
            host.power_on(uuid, timeout=deadline.remaining)

        self._call(vm, act, deadline)

    def power_on_vms(
        self,
        vms: Sequence[VM | str],
        *,
        progress: Callable[[VMResult], None] | None = None,
        timeout: float | None = None,
    ) -> list[VMResult]:
        """Power on many VMs in parallel; see `power_on`. Never raises the error of a VM.

        Args:
            vms: the VMs, or selectors; see `find`.
            progress: called on this thread with each result as soon as it is known.
            timeout: seconds for each VM (default: the policy's `action_timeout`).

        Returns:
            The result for each VM, in their order.
        """
        return act_on_all(vms, lambda vm: self.power_on(vm, timeout=timeout), progress)

    def reports(
        self,
        *,
        host: str = "",
        zone: str = "",
        exact: bool = False,
        timeout: float | None = None,
    ) -> list[HostReport]:
        """Poll all hosts in parallel, with one command each, and return a report for each.

        Args:
            host: poll only this host (its name).
            zone: poll only the hosts of this zone.
            exact: distinguish running and paused VMs; costs a host 40 ms for each running VM.
            timeout: seconds; a host that has not answered by then is reported as down.

        Raises:
            UnknownHost: no host has this name or zone.
        """
        hosts = self.scope(host=host, zone=zone)
        began = time.monotonic()
        deadline = _query_deadline(timeout)

        def poll(host: VirtualBoxHost) -> HostReport:
            try:
                vms = self.resolver.poll(host, deadline, exact=exact)
            except errors.Error as error:
                return HostReport(host.config, (), error, time.monotonic() - began)
            return HostReport(host.config, vms, None, time.monotonic() - began)

        reports, failures = self._threads.call_all(hosts, poll, deadline)
        for late, error in failures.items():
            reports[late] = HostReport(late.config, (), error, time.monotonic() - began)
        listed = [(host, vm.uuid) for host in reports for vm in reports[host].vms]
        self.resolver.poll_first_hosts(hosts, listed, deadline)
        return [self.without_claims(reports[host]) for host in hosts]

    def reset(self, vm: VM | str, *, timeout: float | None = None) -> None:
        """Press the reset button of a VM that is on. A paused VM is resumed first, a crashed one
        is restarted; one that is off is an error. Args and errors: see `power_off`."""
        deadline = self._action_deadline(timeout)

        def act(host: VirtualBoxHost, uuid: str) -> None:
            host.reset(uuid, timeout=deadline.remaining)

        self._call(vm, act, deadline)

    def reset_vms(
        self,
        vms: Sequence[VM | str],
        *,
        progress: Callable[[VMResult], None] | None = None,
        timeout: float | None = None,
    ) -> list[VMResult]:
        """Reset many VMs in parallel; see `reset` and `power_on_vms`."""
        return act_on_all(vms, lambda vm: self.reset(vm, timeout=timeout), progress)

    def scope(self, *, host: str = "", zone: str = "") -> list[VirtualBoxHost]:
        """Return the hosts with this name and zone. Raises `UnknownHost` if there are none."""
        return self.resolver.scope(Scope(host, zone))

    def trust_vm(self, uuid: str, *, host: str, timeout: float | None = None) -> None:
        """Decide that a VM belongs to a host.

        A VM belongs to the host that had it first, until that host is up and no longer lists it.
        Other hosts that list the VM neither answer for it nor receive actions on it. A person must
        decide if the first host lost the VM while it was down, or if it is not known which host
        had the VM first.

        Args:
            uuid: the UUID of the VM.
            host: the name of the host; it may be down.
            timeout: seconds for the poll that shows whether the host lists the VM.

        Raises:
            UnknownHost: there is no such host.
            UnknownVM: the host is up and does not list the VM; nothing was changed.
            ConfigError: the file cannot be written; nothing was changed.
        """
        (trusted,) = self.scope(host=host)
        try:
            listed = {vm.uuid for vm in self.resolver.poll(trusted, _query_deadline(timeout))}
        except errors.Error as error:
            log.warning("%s; whether it lists the VM is not known", error)
        else:
            if uuid not in listed:
                raise errors.UnknownVM(f"{host}: it lists no VM {uuid}; nothing was changed")
        self.vm_hosts.trust(uuid, trusted.config)

    def vms(
        self,
        *,
        host: str = "",
        zone: str = "",
        exact: bool = False,
        timeout: float | None = None,
    ) -> list[VM]:
        """Return the VMs of all hosts, with their current states.

        Args: see `reports`, which also returns what is known while hosts are down.

        Raises:
            HostsDown: hosts are down; the error has the VMs of the others.
            UnknownHost: no host has this name or zone.
        """
        reports = self.reports(host=host, zone=zone, exact=exact, timeout=timeout)
        if any(report.error for report in reports):
            raise HostsDown(reports)
        return [vm for report in reports for vm in report.vms]

    def wait_for(self, vm: VM | str, power: Power, *, timeout: float | None = None) -> VM:
        """Wait until a VM is on or off, whoever switches it, and return it.

        Args:
            vm: the VM, or a selector; see `find`.
            power: the state to wait for.
            timeout: seconds for everything (default: the policy's `action_timeout`).

        Raises:
            PowerTimeout: the VM was not seen in this state before the deadline. Retry.
            UnknownVM, AmbiguousVM, HostError: as `find` does. An error whose `retry` is true, such
                as that of a host that is down for a moment, does not end the wait.
        """
        deadline = self._action_deadline(timeout)

        def read(host: VirtualBoxHost, uuid: str) -> VM:
            return host.vm(uuid, timeout=deadline.remaining)

        reason = ""
        while not deadline.is_past:
            try:
                found = self._call(vm, read, deadline)
            except errors.Error as error:
                if not error.retry:
                    raise
                # A poll that ends at this deadline says nothing new.
                reason = reason if reason and deadline.is_past else str(error)
            else:
                if found.power is power:
                    return found
                reason = f"it is {found.power}"
            time.sleep(min(_WAIT_PAUSE_S, deadline.remaining))
        raise errors.PowerTimeout(f"{vm}: waiting for power {power} took too long: {reason}")

    def without_claims(self, report: HostReport) -> HostReport:
        """Return a report in which VMs that belong to other hosts are `claims`. Polls no host."""
        own = [self.vm_hosts.can_answer(report.host, vm.uuid) for vm in report.vms]
        return dataclasses.replace(
            report,
            vms=tuple(itertools.compress(report.vms, own)),
            claims=tuple(vm for vm, is_own in zip(report.vms, own, strict=True) if not is_own),
        )

    def _action_deadline(self, timeout: float | None) -> Deadline:
        return Deadline.after(self.policy.action_timeout if timeout is None else timeout)

    def _read_macs(self, hosts: Sequence[VirtualBoxHost]) -> list[str]:
        """Return the MACs of all VMs of hosts, as far as they are known."""
        deadline = Deadline.after(_MACS_TIMEOUT_S)
        _, failures = self._threads.call_all(
            hosts, lambda host: host.state.settings(deadline), deadline
        )
        for error in failures.values():
            log.warning("%s; it is not known whether its VMs have the new VMs' MACs", error)
        return [
            mac
            for host in hosts
            for vm in host.state.latest_settings().values()
            for mac in vm.macs
        ]

    def _call(
        self, vm: VM | str, function: Callable[[VirtualBoxHost, str], _T], deadline: Deadline
    ) -> _T:
        """Call a function with the host and the UUID of a VM; see `Resolver.call`."""
        if isinstance(vm, VM):
            return function(self.host_of(vm), vm.uuid)
        return self.resolver.call(Selector.parse(vm), function, deadline)


def _query_deadline(timeout: float | None) -> Deadline:
    return Deadline.after(CALL_TIMEOUT_S if timeout is None else timeout)
