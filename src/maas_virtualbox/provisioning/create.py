# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Creation of VMs on one host, several in parallel.

All specifications are validated before the first VM is created (`plan`). Each VM is then created
in steps, under a temporary name (`ownership`); the last step gives it its own name. If a step
fails, the VM is rolled back, and created again if the error is transient. `delete` removes the
incomplete VMs of a process that was killed when the next VMs are created.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import uuid as uuids
from concurrent import futures
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.provisioning import delete, ownership, plan, retries
from maas_virtualbox.transport import MAX_PARALLEL
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from maas_virtualbox.host.host import VirtualBoxHost
    from maas_virtualbox.host.vm import VM
    from maas_virtualbox.provisioning.plan import VMPlan
    from maas_virtualbox.provisioning.spec import VMSpec
    from maas_virtualbox.virtualbox.settings_xml import VMSettings

log = logging.getLogger(__name__)

_T = TypeVar("_T")

TIMEOUT_S = 60.0
"""Default timeout of one VM. A VM takes 0.3 s, and 10 s more for each call that stalls."""

_ROLL_BACK_SHARE = 1 / 3
"""The part of the timeout that is reserved for the roll-back."""

_CONTROLLER = "SATA"


@dataclasses.dataclass(frozen=True, slots=True)
class Creation:
    """The result of creating one VM."""

    spec: VMSpec
    """The specification."""

    vm: VM | None
    """The new VM; None if it was not created."""

    error: errors.Error | None
    """Why it was not created; None if it was."""

    seconds: float
    """The duration in seconds."""


def create(
    host: VirtualBoxHost,
    specs: Sequence[VMSpec],
    *,
    macs: Iterable[str] = (),
    progress: Callable[[VMSpec, errors.Error | None], None] | None = None,
    timeout: float = TIMEOUT_S,
) -> list[Creation]:
    """Create VMs on a host in parallel. Nothing is left of a VM that cannot be created.

    Incomplete VMs of interrupted calls are removed first. A restricted key cannot create VMs.

    Args:
        host: the host.
        specs: the specifications of the VMs.
        macs: MACs that no new VM may have, besides those of the host's VMs.
        progress: called in this thread after each VM, with the error if it was not created.
        timeout: seconds for each VM, including the validation, all retries and the roll-back.

    Returns:
        The results, in the order of `specs`.

    Raises:
        CreationError: the host cannot satisfy a specification; no VM was created.
        VBoxManageError, HostError: the host cannot be asked; no VM was created.
    """
    deadline = Deadline.after(timeout)
    plans = _validate(host, specs, frozenset(macs), deadline)
    interrupted = threading.Event()
    tasks = [_Task(host, plan, deadline.remaining, interrupted) for plan in plans]
    with futures.ThreadPoolExecutor(MAX_PARALLEL, f"create {host.config}") as threads:
        running = {threads.submit(task.run): task for task in tasks}
        try:
            for future in futures.as_completed(running):
                future.result()
                if progress is not None:
                    progress(running[future].spec, running[future].error)
        except BaseException:
            # Tasks in progress roll back, and the others do not begin.
            interrupted.set()
            raise
    return _read_results(host, tasks)


def _validate(
    host: VirtualBoxHost, specs: Sequence[VMSpec], macs: frozenset[str], deadline: Deadline
) -> list[VMPlan]:
    try:
        existing = delete.remove_abandoned(host, deadline)
        return plan.plan_vms(host, specs, existing.values(), macs, deadline)
    except errors.VBoxManageError as error:
        if retries.is_restricted_key(error):
            raise errors.CreationError(f"{host.config}: {retries.RESTRICTED_KEY}") from error
        raise


def _read_results(host: VirtualBoxHost, tasks: Sequence[_Task]) -> list[Creation]:
    """Read the new VMs."""
    deadline = Deadline(max((task.deadline.at for task in tasks), default=0.0))
    vms: dict[str, VM] = {}
    reason = "it was created, but no longer exists"
    try:
        # The last step of a killed process may have taken effect in the meantime.
        delete.remove_abandoned(host, deadline)
        vms = {vm.uuid: vm for vm in host.vms(timeout=deadline.remaining)}
    except (errors.VBoxManageError, errors.HostError) as error:
        reason = f"it was created, but its state cannot be read: {error}"
    return [task.result(vms.get(task.uuid), reason) for task in tasks]


class _Interrupted(Exception):
    """The caller was interrupted, so that no further step may begin."""


class _Task:
    """The creation of one VM."""

    def __init__(
        self, host: VirtualBoxHost, plan: VMPlan, timeout: float, interrupted: threading.Event
    ) -> None:
        self.spec = plan.spec
        self.uuid = ""
        """The UUID of the VM; empty until it is complete."""
        self.error: errors.Error | None = None
        self.deadline = Deadline(0.0)
        """When the roll-back must end."""
        self._host = host
        self._plan = plan
        self._timeout = timeout
        self._interrupted = interrupted
        self._steps_deadline = Deadline(0.0)
        self._seconds = 0.0

    def result(self, vm: VM | None, reason: str) -> Creation:
        """Return the result, given the VM as it is now, or the reason why it cannot be read."""
        error = self.error
        if vm is None and error is None:
            error = errors.CreationError(f"{self._host.config}/{self.spec.name}: {reason}")
        return Creation(self.spec, vm, error, self._seconds)

    def run(self) -> None:
        """Create the VM, or set `error`. Raises no `Error`."""
        began = time.monotonic()
        self.deadline = Deadline.after(self._timeout)
        self._steps_deadline = self.deadline.within(self._timeout * (1 - _ROLL_BACK_SHARE))
        try:
            self.uuid = retries.retry(self._steps_deadline, lambda _: self._create())
        except _Interrupted:
            self.error = plan.creation_error(self._host, self.spec, "interrupted", retry=True)
        except retries.RetriesExhausted as error:
            self.error = self._explain(error, retry=True)
        except errors.CreationError as error:
            self.error = error
        except errors.Error as error:
            self.error = self._explain(error, retry=error.retry)
        self._seconds = time.monotonic() - began

    def _create(self) -> str:
        """Create the VM once and return its UUID. A failure is rolled back."""
        self._check_interrupted()
        uuid = str(uuids.uuid4())
        name = ownership.begin_creation(uuid, self.spec.name)
        try:
            self._run_steps(uuid, name)
        except BaseException as error:
            if retries.is_restricted_key(error) or self._roll_back(uuid, error):
                raise
        finally:
            ownership.end_creation(uuid)
        return uuid

    def _run_steps(self, uuid: str, temporary_name: str) -> None:
        spec, vboxmanage = self.spec, self._host.vboxmanage
        file = self._run_step(
            lambda s: vboxmanage.createvm(temporary_name, uuid, spec.os_type, timeout=s)
        )
        disk = ownership.disk_path(file, spec.name)
        steps: tuple[Callable[[float], None], ...] = (
            lambda s: vboxmanage.setextradata(uuid, settings_xml.MANAGED_KEY, uuid, timeout=s),
            lambda s: vboxmanage.modifyvm(uuid, self._plan.options, timeout=s),
            lambda s: vboxmanage.createmedium(disk, spec.disk * 1024, timeout=s),
            lambda s: vboxmanage.storagectl(uuid, _CONTROLLER, timeout=s),
            lambda s: vboxmanage.storageattach(uuid, _CONTROLLER, disk, timeout=s),
            lambda s: vboxmanage.modifyvm(uuid, {"--name": spec.name}, timeout=s),
        )
        for step in steps:
            self._run_step(step)

    def _run_step(self, step: Callable[[float], _T]) -> _T:
        self._check_interrupted()
        with retries.change_slot(self._host, self._steps_deadline) as timeout:
            return step(timeout)

    def _check_interrupted(self) -> None:
        if self._interrupted.is_set():
            raise _Interrupted

    def _roll_back(self, uuid: str, cause: BaseException) -> bool:
        """Remove what a failed attempt has created.

        Returns:
            False if the VM is complete: only the answer to the last step was lost.

        Raises:
            CreationError: the VM cannot be removed now.
        """
        try:
            settings = retries.retry(self.deadline, lambda attempt: self._read(uuid, attempt))
            if settings is not None and settings.name == self.spec.name:
                return False
            if settings is not None:
                delete.remove_incomplete(self._host, settings, self.deadline)
        except (errors.Error, retries.RetriesExhausted) as error:
            raise errors.CreationError(
                f"{self._explain(cause)}; the incomplete VM cannot be removed now: {error}; the"
                " next create removes it",
                retry=True,
            ) from cause
        return True

    def _read(self, uuid: str, deadline: Deadline) -> VMSettings | None:
        return self._host.state.settings(deadline, max_age=0.0).get(uuid)

    def _explain(self, cause: BaseException, *, retry: bool = False) -> errors.CreationError:
        reason = str(cause).removeprefix(f"{self._host.config}: ")
        if retries.is_restricted_key(cause):
            reason = retries.RESTRICTED_KEY
        return plan.creation_error(self._host, self.spec, reason, retry=retry)
