# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Actions on many VMs in parallel, and their results."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.host.host import VM


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
