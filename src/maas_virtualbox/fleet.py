# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Many hosts as one: which host a VM is on, and all hosts asked at once.

The front doors (command line, web service, templates) talk to `Fleet` and to nothing to its right.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import creation, deletion, errors, observer, settings
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host import VM, PowerPolicy, VirtualBoxHost

if TYPE_CHECKING:
    import types
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import paramiko
    from typing_extensions import Self

    from maas_virtualbox.blueprint import VMSpec
    from maas_virtualbox.creation import Creation
    from maas_virtualbox.hosts import Host
    from maas_virtualbox.settings import Machine
    from maas_virtualbox.transport import Transport

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

    host: Host
    """The host."""

    vms: tuple[VM, ...]
    """Its VMs in VirtualBox's order; empty when it is down."""

    error: errors.Error | None
    """Why the host could not be asked; None if it answered."""

    seconds: float
    """How long the answer took."""


class Fleet:
    """All hosts of a host list. A context manager; may be shared between threads.

    Nothing is asked before the first call that needs an answer, and each host is asked on a
    thread of its own, so that a dead one never delays another.
    """

    def __init__(
        self,
        hosts: Iterable[Host],
        *,
        identity: Path | str | paramiko.PKey | None = None,
        known_hosts: Path | str | None = None,
        policy: PowerPolicy | None = None,
    ) -> None:
        """Prepare the hosts; connects to none.

        Args:
            hosts: as `parse_hosts` returns them.
            identity: the private key for all hosts, or its file. None: ssh-agent's keys, then the
                usual files in `~/.ssh`.
            known_hosts: the file that pins host keys, in OpenSSH's format. None: pins are kept in
                memory and forgotten at the end.
            policy: what on and off mean.

        Raises:
            IdentityError: the key file cannot be used.
            ConfigError: the known_hosts file cannot be used.
        """
        self.policy = policy or PowerPolicy()
        self.hosts: tuple[VirtualBoxHost, ...] = tuple(
            VirtualBoxHost(host, transport, self.policy)
            for host, transport in _transports(hosts, identity, known_hosts)
        )
        self._lock = threading.Lock()
        self._refreshed: dict[str, float] = {}
        # Threads of its own for each host: however many wait for a dead one, they are not lacking
        # elsewhere.
        self._threads = {
            owner.host.name: concurrent.futures.ThreadPoolExecutor(
                _THREADS_PER_HOST, f"fleet {owner.host}"
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

    def create_vm(
        self, spec: VMSpec, *, host: str = "", timeout: float = creation.TIMEOUT_S
    ) -> VM:
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
        timeout: float = creation.TIMEOUT_S,
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
            HostDown: the host cannot be asked; nothing was made.
        """
        owners = self.scope(host=host)
        if len(owners) != 1:
            names = ", ".join(str(owner.host) for owner in owners) or "no hosts"
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
        return creation.create(owners[0], specs, macs=macs, progress=progress, timeout=timeout)

    def delete_vm(
        self, vm: VM | str, *, power_off: bool = False, timeout: float | None = None
    ) -> None:
        """Delete a VM, given a VM or a selector; see `deletion.delete`."""
        deadline = self._action_deadline(timeout)
        owner, uuid = self._owner(vm, deadline)
        deletion.delete(owner, uuid, power_off=power_off, timeout=deadline.remaining)

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
            HostDown: none does, but a host is down that may have it; or its own host is down.
        """
        deadline = Deadline.after(observer.CALL_TIMEOUT_S if timeout is None else timeout)
        owner, machine = self._resolve(selector, deadline, host=host, zone=zone)
        return owner.vm(machine.uuid, timeout=deadline.remaining)

    def host_of(self, vm: VM) -> VirtualBoxHost:
        """Return the host a VM of this fleet is on."""
        return next(host for host in self.hosts if host.host == vm.host)

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
        began = time.monotonic()
        deadline = Deadline.after(observer.CALL_TIMEOUT_S if timeout is None else timeout)

        def ask(owner: VirtualBoxHost) -> HostReport:
            try:
                vms = tuple(owner.vms(exact=exact, timeout=deadline.remaining))
            except errors.Error as error:
                return failed(owner, error)
            return HostReport(owner.host, vms, None, time.monotonic() - began)

        def failed(owner: VirtualBoxHost, error: errors.Error) -> HostReport:
            return HostReport(owner.host, (), error, time.monotonic() - began)

        return self._ask_all(self.scope(host=host, zone=zone), ask, failed, deadline)

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
            if (not host or owner.host.name == host) and (not zone or owner.host.zone == zone)
        ]
        if not found and (host or zone):
            wish = " and ".join(
                f"{what} {name!r}" for what, name in (("host", host), ("zone", zone)) if name
            )
            names = ", ".join(
                f"{owner.host}" + (f" (zone {owner.host.zone})" if owner.host.zone else "")
                for owner in self.hosts
            )
            raise errors.UnknownVM(f"no {wish} in the host list; it has {names or 'no hosts'}")
        return found

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
    ) -> tuple[VirtualBoxHost, Machine]:
        hosts = self.scope(host=host, zone=zone)
        down: dict[str, errors.Error] = {}
        found = self._candidates(selector, hosts, down, deadline, refresh=False)
        if not found:
            found = self._candidates(selector, hosts, down, deadline, refresh=True)
        if len(found) == 1:
            return found[0]
        if len(found) > 1:
            raise ambiguous(selector, found)
        if down:
            name, error = next(iter(down.items()))
            reason = error.reason if isinstance(error, errors.HostDown) else str(error)
            retry = errors.VMOutOfReach(
                name, f"{selector!r} is on no host in reach and may be on this one: {reason}"
            )
            retry.retry = any(problem.retry for problem in down.values())
            raise retry from error
        accounts = ", ".join(f"{owner.host} ({owner.host.account})" for owner in hosts)
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
    ) -> list[tuple[VirtualBoxHost, Machine]]:
        def ask(owner: VirtualBoxHost) -> tuple[list[Machine], errors.Error | None]:
            try:
                if refresh and self._may_refresh(owner):
                    machines = owner.observer.inventory(max_age=0.0, deadline=deadline)
                else:
                    machines = owner.observer.inventory(deadline=deadline)
            except errors.Error as error:
                return failed(owner, error)
            return matching(selector, machines.values()), None

        def failed(
            owner: VirtualBoxHost, error: errors.Error
        ) -> tuple[list[Machine], errors.Error | None]:
            return matching(selector, owner.observer.remembered().values()), error

        found: list[tuple[VirtualBoxHost, Machine]] = []
        answers = self._ask_all(hosts, ask, failed, deadline)
        for owner, (machines, error) in zip(hosts, answers, strict=True):
            if error is not None:
                down[owner.host.name] = error
            found += [(owner, machine) for machine in machines]
        exact = [pair for pair in found if pair[1].uuid == settings.normalise_uuid(selector)]
        return exact or found

    def _may_refresh(self, owner: VirtualBoxHost) -> bool:
        """Whether to read a host's inventory for a selector that fits nothing; seldom, so that a
        flood of unknown names is no load on it."""
        now = time.monotonic()
        with self._lock:
            if now - self._refreshed.get(owner.host.name, float("-inf")) < _REFRESH_PAUSE_S:
                return False
            self._refreshed[owner.host.name] = now
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
            jobs = [self._threads[owner.host.name].submit(ask, owner) for owner in hosts]
        except RuntimeError:
            raise errors.Closed("all hosts", "this fleet was closed") from None
        answers: list[_T] = []
        for owner, job in zip(hosts, jobs, strict=True):
            concurrent.futures.wait([job], timeout=deadline.remaining + _ANSWER_GRACE_S)
            if job.done():
                answers.append(job.result())
            else:
                job.cancel()
                late = errors.CommandTimeout(str(owner.host), "too many calls wait for it already")
                answers.append(failed(owner, late))
        return answers


def _macs(owner: VirtualBoxHost, deadline: Deadline) -> list[str]:
    """The MACs of a host's VMs; those last seen where it cannot be asked."""
    try:
        machines = owner.observer.inventory(deadline=deadline)
    except errors.Error as error:
        log.warning("%s; whether its VMs have the new VMs' MACs is not known", error)
        return _known_macs(owner)
    return [mac for machine in machines.values() for mac in machine.macs]


def _known_macs(owner: VirtualBoxHost) -> list[str]:
    return [mac for vm in owner.observer.remembered().values() for mac in vm.macs]


def ambiguous(
    selector: str, found: Sequence[tuple[VirtualBoxHost, Machine]]
) -> errors.AmbiguousVM:
    """Return the error for a selector that fits several VMs."""
    candidates = [f"{owner.host}/{vm.name} {{{vm.uuid}}}" for owner, vm in found]
    shown = ", ".join(candidates[:_MAX_CANDIDATES])
    more = len(candidates) - _MAX_CANDIDATES
    return errors.AmbiguousVM(
        f"{selector!r} fits {len(candidates)} VMs: {shown}"
        + (f" and {more} more" if more > 0 else "")
        + "; use a UUID, or say which host or zone",
        candidates=candidates,
    )


def matching(selector: str, machines: Iterable[Machine]) -> list[Machine]:
    """Return the VMs a selector fits: by UUID if any does, else by MAC, UUID tail or name."""
    machines = list(machines)
    uuid = settings.normalise_uuid(selector)
    if by_uuid := [machine for machine in machines if uuid and machine.uuid == uuid]:
        return by_uuid
    mac = settings.parse_mac(selector)
    return [
        machine
        for machine in machines
        if (machine.accessible and machine.name == selector)
        or (mac and (mac in machine.macs or machine.uuid.endswith(mac.replace(":", ""))))
    ]


def _transports(
    hosts: Iterable[Host],
    identity: Path | str | paramiko.PKey | None,
    known_hosts: Path | str | None,
) -> Iterator[tuple[Host, Transport]]:
    # paramiko takes a tenth of a second to load, and who reads host lists needs none of it.
    from maas_virtualbox.transport import host_keys, local, ssh  # noqa: PLC0415

    key = ssh.load_identity(identity) if isinstance(identity, str | Path) else identity
    pins = host_keys.KnownHosts(known_hosts)
    for host in hosts:
        if host.is_local:
            yield host, local.LocalTransport(host.name)
        else:
            yield host, ssh.SSHTransport(host, pins, key)
