# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Making VMs on one host, many at once, each whole or not at all.

What can be told before is told before the first VM is made: a name or MAC that is taken, a network
that is not there. Then each VM is made in steps, under a name that says that it is being made and
by which process; it gets its own name with the last step. A step that fails takes the VM back, and
if the failure was one that passes the VM is made anew. What a killed process left is removed when
the next VMs are made (`deletion.clear_abandoned`).
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import secrets
import threading
import time
import uuid as uuids
from concurrent import futures
from typing import TYPE_CHECKING, Literal, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.provisioning import delete, ownership
from maas_virtualbox.provisioning.spec import NIC_TYPES
from maas_virtualbox.transport import MAX_PARALLEL
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from maas_virtualbox.host.host import VM, VirtualBoxHost
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_T = TypeVar("_T")

TIMEOUT_S = 60.0
"""Seconds for one VM, its repetitions included: 0.3 s, or 10 s more for each call that stalls."""

_LOOK_S = 18.0
_CONTROLLER = "SATA"
_ORACLE = "080027"
"""How MACs begin that VirtualBox makes up."""


@dataclasses.dataclass(frozen=True, slots=True)
class Creation:
    """What became of one wish for a VM."""

    spec: VMSpec
    """The wish."""

    vm: VM | None
    """The VM as it is now; None if it was not made."""

    error: errors.Error | None
    """Why it was not made; None if it was."""

    seconds: float
    """How long it took."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """All that is known before the first step."""

    spec: VMSpec
    options: Mapping[str, str]
    """Of `modifyvm`."""


def create(
    owner: VirtualBoxHost,
    specs: Sequence[VMSpec],
    *,
    macs: Iterable[str] = (),
    progress: Callable[[VMSpec, errors.Error | None], None] | None = None,
    timeout: float = TIMEOUT_S,
) -> list[Creation]:
    """Make VMs on a host, side by side, each whole or not at all; what an interrupted call left
    half made is removed before. Needs a key that is not bound to the gate.

    Args:
        owner: the host.
        specs: what to make.
        macs: MACs that no VM may get, besides those of the host's VMs.
        progress: called on this thread with each VM that is made, or why it is not.
        timeout: seconds for each VM, its repetitions included.

    Returns:
        What became of each, in the order of `specs`.

    Raises:
        CreationError: they do not fit the host; nothing was made.
        HostError: the host cannot be asked; nothing was made.
    """
    plans = _plan(owner, specs, delete.clear_abandoned(owner), frozenset(macs))
    stop = threading.Event()
    makings = [_Making(owner, plan, timeout, stop) for plan in plans]
    with futures.ThreadPoolExecutor(MAX_PARALLEL, f"make {owner.config}") as threads:
        jobs = {threads.submit(making.run): making for making in makings}
        try:
            for job in futures.as_completed(jobs):
                job.result()
                if progress is not None:
                    progress(jobs[job].plan.spec, jobs[job].error)
        except BaseException:
            # Interrupted: what is half made is taken back, what has not begun does not begin.
            stop.set()
            raise
    made: dict[str, VM] = {}
    reason = "it was made, and is gone again"
    try:
        # A killed process's last step may have taken effect meanwhile.
        delete.clear_abandoned(owner)
        made = {vm.uuid: vm for vm in owner.vms()}
    except (errors.VBoxManageError, errors.HostError) as error:
        reason = f"it was made, but cannot be looked at: {error}"
    return [making.outcome(made.get(making.uuid), reason) for making in makings]


def _plan(
    owner: VirtualBoxHost,
    specs: Sequence[VMSpec],
    machines: Mapping[str, VMSettings],
    macs: frozenset[str],
) -> list[_Plan]:
    """See to it that all the VMs can be made."""
    there = {machine.name for machine in machines.values()}
    names = collections.Counter(spec.name for spec in specs)
    asked = collections.Counter(spec.mac for spec in specs if spec.mac)
    owners = {mac: machine.name for machine in machines.values() for mac in machine.macs}
    for spec in specs:
        if spec.name in there:
            raise _refused(owner, spec, "the host has a VM of that name already")
        if names[spec.name] > 1:
            raise _refused(owner, spec, "several VMs shall have that name")
        if spec.mac in owners:
            raise _refused(owner, spec, f"its MAC {spec.mac} belongs to {owners[spec.mac]}")
        if spec.mac in macs:
            raise _refused(owner, spec, f"its MAC {spec.mac} belongs to a VM of another host")
        if asked[spec.mac] > 1:
            raise _refused(owner, spec, f"several VMs shall have the MAC {spec.mac}")
    taken = {*owners, *macs, *asked}
    networks = _Networks(owner)
    plans: list[_Plan] = []
    for spec in specs:
        mac = spec.mac or random_mac()
        while not spec.mac and mac in taken:
            mac = random_mac()
        taken.add(mac)
        plans.append(_Plan(spec, _options(spec, mac, networks.options(spec))))
    return plans


def random_mac() -> str:
    """Return a MAC of VirtualBox's range."""
    return settings_xml.format_mac(_ORACLE + secrets.token_hex(3))


def _options(spec: VMSpec, mac: str, network: Mapping[str, str]) -> dict[str, str]:
    # The spellings of VirtualBox 6, which 7.2 understands too (measured).
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
    """What the NICs of a host's VMs can be attached to, asked for once."""

    def __init__(self, owner: VirtualBoxHost) -> None:
        self._owner = owner
        self._known: dict[str, list[str]] = {}

    def options(self, spec: VMSpec) -> dict[str, str]:
        """Return the options that attach a VM's NIC. Raises `CreationError` if there is no such
        network: VBoxManage would only warn, and the VM never start (measured)."""
        if spec.attachment == "none":
            return {"--nic1": "null"}
        if spec.attachment == "nat":
            return {"--nic1": "nat"}
        if spec.attachment == "bridged":
            name = self._choose(spec, self._names("bridgedifs"), "list bridgedifs")
            return {"--nic1": "bridged", "--bridgeadapter1": name}
        where = self._owner.vboxmanage.installation(timeout=_LOOK_S)
        if where.system == "Darwin" and where.release >= (7, 0):
            # macOS has host-only networks instead of adapters since VirtualBox 7.
            name = self._choose(spec, self._names("hostonlynets"), "hostonlynet add")
            return {"--nic1": "hostonlynet", "--host-only-net1": name}
        name = self._choose(spec, self._names("hostonlyifs"), "hostonlyif create")
        return {"--nic1": "hostonly", "--hostonlyadapter1": name}

    def _names(self, kind: Literal["bridgedifs", "hostonlyifs", "hostonlynets"]) -> list[str]:
        if kind not in self._known:
            self._known[kind] = _explained(
                self._owner,
                lambda: self._owner.vboxmanage.list_networks(kind, timeout=_LOOK_S),
            )
        return self._known[kind]

    def _choose(self, spec: VMSpec, names: list[str], verb: str) -> str:
        # macOS lists "en0: Wi-Fi", and people call it en0.
        fitting = [name for name in names if spec.network in ("", name, name.partition(": ")[0])]
        if len(fitting) == 1:
            return fitting[0]
        what = "host-only network" if spec.attachment == "hostonly" else "interface to bridge"
        if not names:
            reason = f"the host has no {what}; on the host: VBoxManage {verb}"
        elif fitting:
            reason = f"say which {what}: {', '.join(names)}"
        else:
            reason = f"the host has no {what} {spec.network!r}; it has {', '.join(names)}"
        raise _refused(self._owner, spec, reason)


class _StoppedError(Exception):
    """Whoever asked for the VMs was interrupted."""


class _Making:
    """One VM on its way."""

    def __init__(
        self, owner: VirtualBoxHost, plan: _Plan, timeout: float, stop: threading.Event
    ) -> None:
        self.plan = plan
        self.uuid = ""
        """The VM's, once it is made."""
        self.error: errors.Error | None = None
        self._owner = owner
        self._timeout = timeout
        self._deadline = Deadline(0.0)
        self._stop = stop
        self._began = self._ended = 0.0

    def outcome(self, vm: VM | None, reason: str) -> Creation:
        """What became of it, given the VM as it is seen now, or why it is not seen."""
        error = self.error
        if vm is None and error is None:
            error = errors.CreationError(f"{self._owner.config}/{self.plan.spec.name}: {reason}")
        return Creation(self.plan.spec, vm, error, self._ended - self._began)

    def run(self) -> None:
        """Make it, again while that fails in a way that passes; never raises an `Error`."""
        self._began = time.monotonic()
        self._deadline = Deadline.after(self._timeout)
        self.error = _refused(self._owner, self.plan.spec, "no time was given for it", retry=True)
        for _ in delete.attempts(self._deadline):
            try:
                self._go_on()
                self.uuid = self._make()
                self.error = None
                break
            except _StoppedError:
                self.error = _refused(self._owner, self.plan.spec, "interrupted", retry=True)
                break
            except (errors.VBoxManageError, errors.HostError) as error:
                self.error = _failed(self._owner, self.plan.spec, error)
                if not delete.passes(error):
                    break
                log.info("%s; making it anew", self.error)
            except errors.Error as error:
                self.error = error
                break
        self._ended = time.monotonic()

    def _make(self) -> str:
        """Make it once; returns its UUID. Whatever fails, what was made is taken back."""
        spec = self.plan.spec
        uuid = str(uuids.uuid4())
        name = ownership.begin(uuid, spec.name)
        manage = self._owner.vboxmanage
        try:
            file = self._step(
                lambda seconds: manage.createvm(name, uuid, spec.os_type, timeout=seconds)
            )
            disk = ownership.disk_file(file, spec.name)
            self._step(
                lambda s: manage.setextradata(uuid, settings_xml.MANAGED_KEY, uuid, timeout=s)
            )
            self._step(lambda s: manage.modifyvm(uuid, self.plan.options, timeout=s))
            self._step(lambda s: manage.createmedium(disk, spec.disk * 1024, timeout=s))
            self._step(lambda s: manage.storagectl(uuid, _CONTROLLER, timeout=s))
            self._step(lambda s: manage.storageattach(uuid, _CONTROLLER, disk, timeout=s))
            self._step(lambda s: manage.modifyvm(uuid, {"--name": spec.name}, timeout=s))
        except BaseException as error:
            if _is_gated(error) or self._took_back(uuid, error):
                raise
        finally:
            ownership.end(uuid)
        return uuid

    def _step(self, call: Callable[[float], _T]) -> _T:
        self._go_on()
        with delete.turn(self._owner, self._deadline) as seconds:
            return call(seconds)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _StoppedError

    def _took_back(self, uuid: str, cause: BaseException) -> bool:
        """Remove what a failed attempt left; false if it turns out that the VM is made, and only
        the answer to the last step was lost."""
        try:
            machine = self._as_it_is(uuid)
            if machine is not None and machine.name == self.plan.spec.name:
                return False
            if machine is not None:
                delete.clear(self._owner, machine)
        except errors.Error as error:
            raise errors.CreationError(
                f"{_failed(self._owner, self.plan.spec, cause)}; and what is left of it cannot be"
                f" removed now: {error}; the next create removes it",
                retry=True,
            ) from cause
        return True

    def _as_it_is(self, uuid: str) -> VMSettings | None:
        trouble: errors.Error | None = None
        for deadline in delete.attempts(Deadline.after(_LOOK_S)):
            try:
                machines = self._owner.state.settings(deadline, max_age=0.0)
                return machines.get(uuid)
            except (errors.VBoxManageError, errors.HostError) as error:
                if not delete.passes(error):
                    raise
                trouble = error
        assert trouble
        raise trouble


def _explained(owner: VirtualBoxHost, call: Callable[[], _T]) -> _T:
    """Make a call, and say what to do where the gate refuses it."""
    try:
        return call()
    except errors.VBoxManageError as error:
        if _is_gated(error):
            raise errors.CreationError(f"{owner.config}: {delete.GATED}") from error
        raise


def _is_gated(error: BaseException) -> bool:
    return isinstance(error, errors.VBoxManageError) and error.code == ErrorCode.RESTRICTED_KEY


def _failed(owner: VirtualBoxHost, spec: VMSpec, cause: BaseException) -> errors.CreationError:
    if _is_gated(cause):
        return _refused(owner, spec, delete.GATED)
    retry = isinstance(cause, errors.Error) and cause.retry
    return _refused(owner, spec, str(cause).removeprefix(f"{owner.config}: "), retry=retry)


def _refused(
    owner: VirtualBoxHost, spec: VMSpec, reason: str, *, retry: bool = False
) -> errors.CreationError:
    return errors.CreationError(f"{owner.config}/{spec.name}: not made: {reason}", retry=retry)
