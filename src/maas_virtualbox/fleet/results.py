# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The results of a poll of all hosts, and of an action on many VMs in parallel."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.host.vm import VM


@dataclasses.dataclass(frozen=True, slots=True)
class HostReport:
    """The VMs of one host, or why they are not known."""

    host: HostConfig
    """The host."""

    vms: tuple[VM, ...]
    """Its VMs in VirtualBox's order; empty when it is down."""

    error: errors.Error | None
    """Why the host is down; None if it answered."""

    seconds: float
    """How long the answer took."""

    claims: tuple[VM, ...] = ()
    """VMs that it lists, but that belong to another host; see `Fleet.trust_vm`."""

    def __repr__(self) -> str:
        vms = f"{len(self.vms)} VM{'' if len(self.vms) == 1 else 's'}"
        return f"<HostReport {self.host}: {repr(self.error) if self.error else vms}>"


class HostsDown(errors.Error):
    """Some hosts are down, so that not all VMs are known; the text names the hosts. `vms` are
    those of the other hosts. Retry later if `retry` is true."""

    code = errors.ErrorCode.HOST_DOWN

    def __init__(self, reports: Sequence[HostReport]) -> None:
        failures = [report.error for report in reports if report.error]
        super().__init__("; ".join(str(error) for error in failures))
        self.retry = any(error.retry for error in failures)
        self.reports = tuple(reports)
        """What `Fleet.reports` returned: a report for each host, with its error if it is down."""

    @property
    def vms(self) -> list[VM]:
        """The VMs of the hosts that are up."""
        return [vm for report in self.reports for vm in report.vms]


@dataclasses.dataclass(frozen=True, slots=True)
class VMResult:
    """The result of an action on one of many VMs."""

    vm: VM | str
    """The VM or the selector, as the caller passed it."""

    error: errors.Error | None
    """Why the action failed; None if it succeeded."""

    seconds: float
    """How long it took."""

    def __repr__(self) -> str:
        result = repr(self.error) if self.error else "done"
        return f"<VMResult {self.vm}: {result} in {self.seconds:.1f} s>"


def act_on_all(
    vms: Sequence[VM | str],
    action: Callable[[VM | str], None],
    progress: Callable[[VMResult], None] | None,
) -> list[VMResult]:
    """Act on VMs in parallel. Each has a thread: a host that hangs delays only its own VMs."""

    def act(vm: VM | str) -> VMResult:
        began = time.monotonic()
        try:
            action(vm)
        except errors.Error as error:
            return VMResult(vm, error, time.monotonic() - began)
        return VMResult(vm, None, time.monotonic() - began)

    with concurrent.futures.ThreadPoolExecutor(max(1, len(vms)), "power") as threads:
        calls = [threads.submit(act, vm) for vm in vms]
        for call in concurrent.futures.as_completed(calls):
            if progress is not None:
                progress(call.result())
        return [call.result() for call in calls]
