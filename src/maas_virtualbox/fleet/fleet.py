# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Many hosts as one: which host a VM is on, and all hosts asked at once.

The front doors (command line, web service, templates) talk to `Fleet` and to nothing to its right.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import itertools
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.vm_hosts import VMHosts
from maas_virtualbox.host import state
from maas_virtualbox.host.host import VM, VirtualBoxHost
from maas_virtualbox.host.state import FailedPoll
from maas_virtualbox.provisioning import create, delete
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import paramiko
    from typing_extensions import Self

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.fleet.vm_hosts import Claim
    from maas_virtualbox.host.state import HostState
    from maas_virtualbox.provisioning.create import Creation
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.transport import Transport
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_REFRESH_PAUSE_S = 5.0
"""A selector that fits nothing makes a host read its inventory anew at most this often."""

_MACS_S = 5.0
_ANSWER_GRACE_S = 0.25
"""How long after its deadline a call may take to say that it is late."""

_MAX_CANDIDATES = 10
_THREADS_PER_HOST = 16


@dataclasses.dataclass(frozen=True, slots=True)
class HostReport:
    """One host's VMs, or why they cannot be told."""

    host: HostConfig
    """The host."""

    vms: tuple[VM, ...]
    """Its VMs in VirtualBox's order; empty when it is down."""

    error: errors.Error | None
    """Why the host could not be asked; None if it answered."""

    seconds: float
    """How long the answer took."""

    claims: tuple[VM, ...] = ()
    """VMs that it lists too, but that belong to another host; see `vm_hosts`."""


class Fleet:
    """All hosts of a host list. A context manager; may be shared between threads.

    Nothing is asked before the first call that needs an answer, and each host is asked on a
    thread of its own, so that a dead one never delays another.
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
            hosts: as `parse_hosts` returns them.
            identity: the private key for all hosts, or its file. None: ssh-agent's keys, then the
                usual files in `~/.ssh`.
            known_hosts: the file that pins host keys, in OpenSSH's format. None: pins are kept in
                memory and forgotten at the end.
            policy: what on and off mean.
            vm_hosts: the file that remembers which host each VM belongs to; see `vm_hosts`. None:
                this is kept in memory and forgotten at the end.

        Raises:
            IdentityError: the key file cannot be used.
            ConfigError: the known_hosts file cannot be used.
        """
        self.policy = policy or PowerPolicy()
        self.hosts: tuple[VirtualBoxHost, ...] = tuple(
            VirtualBoxHost(host, transport, self.policy)
            for host, transport in _transports(hosts, identity, known_hosts)
        )
        self.vm_hosts = VMHosts((owner.config for owner in self.hosts), vm_hosts)
        """Which host each VM belongs to."""
        for owner in self.hosts:
            owner.state.subscribe(self._record)
        self._lock = threading.Lock()
        self._refreshed: dict[str, float] = {}
        # Threads of its own for each host: however many wait for a dead one, they are not lacking
        # elsewhere.
        self._threads = {
            owner.config.name: concurrent.futures.ThreadPoolExecutor(
                _THREADS_PER_HOST, f"fleet {owner.config}"
            )
            for owner in self.hosts
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: types.TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections. Calls under way fail."""
        for host in self.hosts:
            host.close()
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        self.vm_hosts.close()

    def claims(
        self, hosts: Sequence[VirtualBoxHost], *, timeout: float | None = None
    ) -> list[Claim]:
        """Return which of these hosts list VMs that are not known to be their own, by what they
        listed when they were last asked; asks none of them, but the hosts of such VMs."""
        listed: list[tuple[VirtualBoxHost, str]] = []
        for owner in hosts:
            if owner.state.settings_began == state.NEVER:
                self.vm_hosts.record_failure(owner.config)
                continue
            vms = owner.state.latest_settings()
            self.vm_hosts.record_poll(owner.config, vms, owner.state.settings_began)
            listed += [(owner, uuid) for uuid in vms]
        deadline = Deadline.after(state.CALL_TIMEOUT_S if timeout is None else timeout)
        self._poll_first_hosts(hosts, listed, deadline)
        names = {owner.config.name for owner in hosts}
        return [claim for claim in self.vm_hosts.claims() if claim.host.name in names]

    def create_vm(self, spec: VMSpec, *, host: str = "", timeout: float = create.TIMEOUT_S) -> VM:
        """Make one VM and return it; see `create_vms`. Raises what that puts into `Creation`."""
        (made,) = self.create_vms([spec], host=host, timeout=timeout)
        if made.vm is None:
            assert made.error
            raise made.error
        return made.vm

    def create_vms(
        self,
        specs: Sequence[VMSpec],
        *,
        host: str = "",
        progress: Callable[[VMSpec, errors.Error | None], None] | None = None,
        timeout: float = create.TIMEOUT_S,
    ) -> list[Creation]:
        """Make VMs on one host; see `creation.create`. Their MACs are unlike those of
        all VMs of the fleet, as far as its hosts are or were in reach.

        Args:
            specs: what to make.
            host: the name of the host; may be left out where the fleet has but one.
            progress: called on this thread with each VM that is made, or why it is not.
            timeout: seconds for each VM.

        Raises:
            UnknownVM: no such host, or which one was not said.
            CreationError: they do not fit the host; nothing was made.
            HostError: the host cannot be asked; nothing was made.
        """
        owners = self.scope(host=host)
        if len(owners) != 1:
            names = ", ".join(str(owner.config) for owner in owners) or "no hosts"
            raise errors.UnknownVM(f"say which host shall have the VMs: {names}")
        others = [owner for owner in self.hosts if owner is not owners[0]]
        deadline = Deadline.after(_MACS_S)
        answers = self._ask_all(
            others,
            lambda other: _macs(other, deadline),
            lambda other, _: _known_macs(other),
            deadline,
        )
        macs = [mac for known in answers for mac in known]
        return create.create(owners[0], specs, macs=macs, progress=progress, timeout=timeout)

    def delete_vm(
        self, vm: VM | str, *, power_off: bool = False, timeout: float | None = None
    ) -> None:
        """Delete a VM, given a VM or a selector; see `deletion.delete`."""
        deadline = self._action_deadline(timeout)
        owner, uuid = self._owner(vm, deadline)
        delete.delete(owner, uuid, power_off=power_off, timeout=deadline.remaining)

    def find(
        self, selector: str, *, host: str = "", zone: str = "", timeout: float | None = None
    ) -> VM:
        """Return the one VM a selector stands for, as it is now.

        A selector is a UUID, the MAC of a NIC in any notation, the last 12 hex digits of a UUID
        written as a MAC (the convention of 2015), or a name. A UUID always wins; the others count
        alike.

        Args:
            selector: which VM.
            host: look on this host only (its name).
            zone: look on the hosts of this zone only.
            timeout: seconds for everything; a host that has not answered by then is down.

        Raises:
            UnknownVM: no VM answers to it, and all hosts in question were asked.
            AmbiguousVM: several do; the error lists them.
            ContestedVM: only VMs that belong to another host do.
            HostError: none does, but a host is down that may have it; or its own host is down.
        """
        deadline = Deadline.after(state.CALL_TIMEOUT_S if timeout is None else timeout)
        owner, machine = self._resolve(selector, deadline, host=host, zone=zone)
        return owner.vm(machine.uuid, timeout=deadline.remaining)

    def host_of(self, vm: VM) -> VirtualBoxHost:
        """Return the host a VM of this fleet is on."""
        return next(host for host in self.hosts if host.config == vm.host)

    def power_off(self, vm: VM | str, *, timeout: float | None = None) -> None:
        """Switch a VM off, given a VM or a selector; see `VirtualBoxHost.power_off`."""
        deadline = self._action_deadline(timeout)
        owner, uuid = self._owner(vm, deadline)
        owner.power_off(uuid, timeout=deadline.remaining)

    def power_on(self, vm: VM | str, *, timeout: float | None = None) -> None:
        """Switch a VM on, given a VM or a selector; see `VirtualBoxHost.power_on`."""
        deadline = self._action_deadline(timeout)
        owner, uuid = self._owner(vm, deadline)
        owner.power_on(uuid, timeout=deadline.remaining)

    def reports(
        self,
        *,
        host: str = "",
        zone: str = "",
        exact: bool = False,
        timeout: float | None = None,
    ) -> list[HostReport]:
        """Ask all hosts at once, one command each, and return an answer for each, in their order.

        Args:
            host: ask this host only (its name).
            zone: ask the hosts of this zone only.
            exact: tell running and paused VMs apart; costs a host 40 ms a running VM.
            timeout: seconds; a host that has not answered by then is reported as down.
        """
        owners = self.scope(host=host, zone=zone)
        began = time.monotonic()
        deadline = Deadline.after(state.CALL_TIMEOUT_S if timeout is None else timeout)

        def ask(owner: VirtualBoxHost) -> HostReport:
            try:
                vms = tuple(self._poll(owner, deadline, exact=exact))
            except errors.Error as error:
                return failed(owner, error)
            return HostReport(owner.config, vms, None, time.monotonic() - began)

        def failed(owner: VirtualBoxHost, error: errors.Error) -> HostReport:
            return HostReport(owner.config, (), error, time.monotonic() - began)

        reports = self._ask_all(owners, ask, failed, deadline)
        found = [
            (owner, vm.uuid)
            for owner, report in zip(owners, reports, strict=True)
            for vm in report.vms
        ]
        self._poll_first_hosts(owners, found, deadline)
        return [self.without_claims(report) for report in reports]

    def reset(self, vm: VM | str, *, timeout: float | None = None) -> None:
        """Reset a VM, given a VM or a selector; see `VirtualBoxHost.reset`."""
        deadline = self._action_deadline(timeout)
        owner, uuid = self._owner(vm, deadline)
        owner.reset(uuid, timeout=deadline.remaining)

    def scope(self, *, host: str = "", zone: str = "") -> list[VirtualBoxHost]:
        """Return the hosts of that name and zone. Raises `UnknownVM` if there is none."""
        found = [
            owner
            for owner in self.hosts
            if (not host or owner.config.name == host) and (not zone or owner.config.zone == zone)
        ]
        if not found and (host or zone):
            wish = " and ".join(
                f"{what} {name!r}" for what, name in (("host", host), ("zone", zone)) if name
            )
            names = ", ".join(
                f"{owner.config}" + (f" (zone {owner.config.zone})" if owner.config.zone else "")
                for owner in self.hosts
            )
            raise errors.UnknownVM(f"no {wish} in the host list; it has {names or 'no hosts'}")
        return found

    def trust_vm(self, uuid: str, *, host: str, timeout: float | None = None) -> None:
        """Let a VM belong to a host from now on, although it was first seen on another one, or it
        is not known on which; see `vm_hosts`.

        Args:
            uuid: the VM's.
            host: the name of the host; it may be down.
            timeout: seconds for the host to say whether it lists the VM.

        Raises:
            UnknownVM: no such host, or it is up and does not list the VM; nothing was changed.
            ConfigError: the file cannot be written; nothing was changed.
        """
        deadline = Deadline.after(state.CALL_TIMEOUT_S if timeout is None else timeout)
        (owner,) = self.scope(host=host)
        try:
            listed = {vm.uuid for vm in self._poll(owner, deadline)}
        except errors.Error as error:
            log.warning("%s; whether it lists the VM is not known", error)
        else:
            if uuid not in listed:
                raise errors.UnknownVM(f"{host}: it lists no VM {uuid}; nothing was changed")
        self.vm_hosts.trust(uuid, owner.config)

    def vms(
        self,
        *,
        host: str = "",
        zone: str = "",
        exact: bool = False,
        timeout: float | None = None,
    ) -> list[VM]:
        """Return the VMs of all hosts that answer within `timeout` seconds; `reports` also shows
        which do not, and why."""
        reports = self.reports(host=host, zone=zone, exact=exact, timeout=timeout)
        return [vm for report in reports for vm in report.vms]

    def without_claims(self, report: HostReport) -> HostReport:
        """Return a report in which the VMs of other hosts are `claims`; asks nobody."""
        own = [self.vm_hosts.can_answer(report.host, vm.uuid) for vm in report.vms]
        return dataclasses.replace(
            report,
            vms=tuple(itertools.compress(report.vms, own)),
            claims=tuple(vm for vm, is_own in zip(report.vms, own, strict=True) if not is_own),
        )

    # -- Which VM -----------------------------------------------------------------------------

    def _action_deadline(self, timeout: float | None) -> Deadline:
        return Deadline.after(self.policy.action_timeout if timeout is None else timeout)

    def _owner(self, vm: VM | str, deadline: Deadline) -> tuple[VirtualBoxHost, str]:
        if isinstance(vm, VM):
            return self.host_of(vm), vm.uuid
        owner, machine = self._resolve(vm, deadline)
        return owner, machine.uuid

    def _resolve(
        self, selector: str, deadline: Deadline, *, host: str = "", zone: str = ""
    ) -> tuple[VirtualBoxHost, VMSettings]:
        hosts = self.scope(host=host, zone=zone)
        if on_first_host := self._on_first_host(
            settings_xml.normalise_uuid(selector), hosts, deadline
        ):
            return on_first_host
        down: dict[str, errors.Error] = {}
        found = self._candidates(selector, hosts, down, deadline, refresh=False)
        if not found:
            found = self._candidates(selector, hosts, down, deadline, refresh=True)
        listed = [(owner, machine.uuid) for owner, machine in found]
        down |= self._poll_first_hosts(hosts, listed, deadline)
        claims = found
        found = [pair for pair in found if self.vm_hosts.can_answer(pair[0].config, pair[1].uuid)]
        if claims and not found:
            raise self._contested(*claims[0], down)
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise ambiguous(selector, found)
        if down:
            name, error = next(iter(down.items()))
            reason = error.reason if isinstance(error, errors.HostError) else str(error)
            raise errors.VMUnreachable(
                name,
                f"VM {selector!r} not found. Host {name}, which may own it, is unreachable:"
                f" {reason}",
                retry=any(problem.retry for problem in down.values()),
            ) from error
        accounts = ", ".join(f"{owner.config} ({owner.config.account})" for owner in hosts)
        raise errors.UnknownVM(
            f"no VM answers to {selector!r}; asked: {accounts or 'no hosts'}. Each account of a"
            " host has its own VMs: is it another account's?"
        )

    def _candidates(
        self,
        selector: str,
        hosts: Sequence[VirtualBoxHost],
        down: dict[str, errors.Error],
        deadline: Deadline,
        *,
        refresh: bool,
    ) -> list[tuple[VirtualBoxHost, VMSettings]]:
        def ask(owner: VirtualBoxHost) -> tuple[list[VMSettings], errors.Error | None]:
            try:
                if refresh and self._may_refresh(owner):
                    machines = owner.state.settings(deadline, max_age=0.0)
                else:
                    machines = owner.state.settings(deadline)
            except errors.Error as error:
                return failed(owner, error)
            self.vm_hosts.record_poll(owner.config, machines, owner.state.settings_began)
            return matching(selector, machines.values()), None

        def failed(
            owner: VirtualBoxHost, error: errors.Error
        ) -> tuple[list[VMSettings], errors.Error | None]:
            self.vm_hosts.record_failure(owner.config)
            return matching(selector, owner.state.latest_settings().values()), error

        found: list[tuple[VirtualBoxHost, VMSettings]] = []
        answers = self._ask_all(hosts, ask, failed, deadline)
        for owner, (machines, error) in zip(hosts, answers, strict=True):
            if error is not None:
                down[owner.config.name] = error
            found += [(owner, machine) for machine in machines]
        uuid = settings_xml.normalise_uuid(selector)
        exact = [pair for pair in found if pair[1].uuid == uuid]
        # A VM whose name looks like a UUID must not stand in for the VM of a host that is down.
        return exact if uuid and down else exact or found

    def _record(self, result: HostState | FailedPoll) -> None:
        if isinstance(result, FailedPoll):
            self.vm_hosts.record_failure(result.host, result.began)
        else:
            self.vm_hosts.record_poll(result.host, result.settings, result.began)

    # -- Which host a VM belongs to -----------------------------------------------------------

    def _poll(self, owner: VirtualBoxHost, deadline: Deadline, *, exact: bool = False) -> list[VM]:
        """Return a host's VMs as they are now, and record that it lists them."""
        began = time.monotonic()
        try:
            vms = owner.vms(exact=exact, timeout=deadline.remaining)
        except errors.Error:
            self.vm_hosts.record_failure(owner.config, began)
            raise
        self.vm_hosts.record_poll(owner.config, (vm.uuid for vm in vms), began)
        return vms

    def _on_first_host(
        self, uuid: str, hosts: Sequence[VirtualBoxHost], deadline: Deadline
    ) -> tuple[VirtualBoxHost, VMSettings] | None:
        """Return a VM on the host that it belongs to, asking no other; None if that one is not
        known, not among these hosts, or no longer lists the VM.

        Raises:
            VMUnreachable: the host is down, and was never up.
        """
        first = self.vm_hosts.host_of(uuid) if uuid else None
        owner = next((owner for owner in hosts if owner.config is first), None)
        if owner is None:
            return None
        try:
            machines = {vm.uuid: vm.settings for vm in self._poll(owner, deadline)}
        except errors.Error as error:
            machines = owner.state.latest_settings()
            if uuid not in machines:
                raise belongs_to_down_host(uuid, owner.config, error) from error
        return (owner, machines[uuid]) if uuid in machines else None

    def _poll_first_hosts(
        self,
        asked: Sequence[VirtualBoxHost],
        listed: Iterable[tuple[VirtualBoxHost, str]],
        deadline: Deadline,
    ) -> dict[str, errors.Error]:
        """Poll the hosts to which VMs belong that others list, as far as they were not asked: a VM
        may have moved. Returns why they cannot be asked, by name."""
        firsts = {
            first.name
            for owner, uuid in listed
            if not self.vm_hosts.can_answer(owner.config, uuid)
            and (first := self.vm_hosts.host_of(uuid)) is not None
        }
        others = [owner for owner in self.hosts if owner.config.name in firsts]
        others = [owner for owner in others if owner not in asked]

        def ask(owner: VirtualBoxHost) -> errors.Error | None:
            try:
                self._poll(owner, deadline)
            except errors.Error as error:
                return error
            return None

        answers = self._ask_all(others, ask, lambda _, error: error, deadline)
        return {
            owner.config.name: error for owner, error in zip(others, answers, strict=True) if error
        }

    def _contested(
        self, owner: VirtualBoxHost, vm: VMSettings, down: Mapping[str, errors.Error]
    ) -> errors.Error:
        """Return the error for a VM that belongs to another host."""
        first = self.vm_hosts.host_of(vm.uuid)
        if first is not None and (error := down.get(first.name)):
            return belongs_to_down_host(vm.uuid, first, error)
        return errors.ContestedVM(
            f"VM {vm.uuid} on {owner.config} belongs to {first or 'another host'}, which is"
            " down or lists it too; unregister it on one of them, or decide: maas-virtualbox"
            f" trust-vm {vm.uuid} --host {owner.config}",
            candidates=[f"{host}/{{{vm.uuid}}}" for host in (first, owner.config) if host],
        )

    # -- Asking -------------------------------------------------------------------------------

    def _may_refresh(self, owner: VirtualBoxHost) -> bool:
        """Whether to read a host's inventory for a selector that fits nothing; seldom, so that a
        flood of unknown names is no load on it."""
        now = time.monotonic()
        with self._lock:
            if now - self._refreshed.get(owner.config.name, float("-inf")) < _REFRESH_PAUSE_S:
                return False
            self._refreshed[owner.config.name] = now
            return True

    def _ask_all(
        self,
        hosts: Sequence[VirtualBoxHost],
        ask: Callable[[VirtualBoxHost], _T],
        failed: Callable[[VirtualBoxHost, errors.Error], _T],
        deadline: Deadline,
    ) -> list[_T]:
        """Ask each host on a thread of its own; `failed` makes the answer of one whose threads
        all wait for it, so that nobody got to ask in time."""
        if len(hosts) == 1:
            return [ask(hosts[0])]
        try:
            jobs = [self._threads[owner.config.name].submit(ask, owner) for owner in hosts]
        except RuntimeError:
            raise errors.Closed("all hosts", "this fleet was closed") from None
        answers: list[_T] = []
        for owner, job in zip(hosts, jobs, strict=True):
            concurrent.futures.wait([job], timeout=deadline.remaining + _ANSWER_GRACE_S)
            if job.done():
                answers.append(job.result())
            else:
                job.cancel()
                late = errors.CommandTimeout(
                    str(owner.config), "too many calls wait for it already"
                )
                answers.append(failed(owner, late))
        return answers


def _macs(owner: VirtualBoxHost, deadline: Deadline) -> list[str]:
    """The MACs of a host's VMs; those last seen where it cannot be asked."""
    try:
        machines = owner.state.settings(deadline)
    except errors.Error as error:
        log.warning("%s; whether its VMs have the new VMs' MACs is not known", error)
        return _known_macs(owner)
    return [mac for machine in machines.values() for mac in machine.macs]


def _known_macs(owner: VirtualBoxHost) -> list[str]:
    return [mac for vm in owner.state.latest_settings().values() for mac in vm.macs]


def belongs_to_down_host(uuid: str, host: HostConfig, error: errors.Error) -> errors.VMUnreachable:
    """Return the error for a VM whose host is down, and was never up."""
    reason = error.reason if isinstance(error, errors.HostError) else str(error)
    return errors.VMUnreachable(
        host.name,
        f"VM {uuid} belongs to host {host}, which is unreachable: {reason}",
        retry=error.retry,
    )


def ambiguous(
    selector: str, found: Sequence[tuple[VirtualBoxHost, VMSettings]]
) -> errors.AmbiguousVM:
    """Return the error for a selector that fits several VMs."""
    candidates = [f"{owner.config}/{vm.name} {{{vm.uuid}}}" for owner, vm in found]
    shown = ", ".join(candidates[:_MAX_CANDIDATES])
    more = len(candidates) - _MAX_CANDIDATES
    hint = "use a UUID, or say which host or zone"
    if len({vm.uuid for _, vm in found}) == 1:
        hint = (
            "which host had it first is not known: decide with `maas-virtualbox trust-vm"
            f" {found[0][1].uuid} --host NAME`"
        )
    return errors.AmbiguousVM(
        f"{selector!r} fits {len(candidates)} VMs: {shown}"
        + (f" and {more} more" if more > 0 else "")
        + f"; {hint}",
        candidates=candidates,
    )


def matching(selector: str, machines: Iterable[VMSettings]) -> list[VMSettings]:
    """Return the VMs a selector fits: by UUID if any does, else by MAC, UUID tail or name."""
    machines = list(machines)
    uuid = settings_xml.normalise_uuid(selector)
    if by_uuid := [machine for machine in machines if uuid and machine.uuid == uuid]:
        return by_uuid
    mac = settings_xml.parse_mac(selector)
    return [
        machine
        for machine in machines
        if (machine.accessible and machine.name == selector)
        or (mac and (mac in machine.macs or machine.uuid.endswith(mac.replace(":", ""))))
    ]


def _transports(
    hosts: Iterable[HostConfig],
    identity: Path | str | paramiko.PKey | None,
    known_hosts: Path | str | None,
) -> Iterator[tuple[HostConfig, Transport]]:
    # paramiko takes a tenth of a second to load, and who reads host lists needs none of it.
    from maas_virtualbox.transport import host_keys, local, ssh, ssh_login  # noqa: PLC0415

    key = ssh_login.load_identity(identity) if isinstance(identity, str | Path) else identity
    pins = host_keys.KnownHosts(known_hosts)
    for host in hosts:
        if host.is_local:
            yield host, local.LocalTransport(host.name)
        else:
            yield host, ssh.SSHTransport(host, pins, key)
