# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How creation and deletion call a host: retries, and slots for calls that change VMs."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.host import state

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.host.host import VirtualBoxHost

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 0.4

RESTRICTED_KEY = (
    "the key may only control power, and cannot create or delete VMs: use another key with --key"
)


class RetriesExhausted(Exception):
    """A call failed with transient errors until its deadline. The text is the last error's."""


def retry(deadline: Deadline, call: Callable[[Deadline], _T]) -> _T:
    """Repeat a call while it fails with a transient error, with growing pauses.

    Args:
        deadline: no attempt begins later.
        call: the call, given the deadline of one attempt.

    Raises:
        RetriesExhausted: the deadline passed.
        VBoxManageError, HostError: the call failed, and it is not a transient error.
    """
    pause = _FIRST_PAUSE_S
    message = "it could not be completed in time: try again with more time"
    while not deadline.is_past:
        try:
            return call(deadline.within(state.CALL_TIMEOUT_S))
        except (errors.VBoxManageError, errors.HostError) as error:
            if not is_transient(error):
                raise
            message = str(error)
            log.info("%s; retrying", error)
        time.sleep(min(pause, deadline.remaining))
        pause = min(_LONGEST_PAUSE_S, pause * 2)
    raise RetriesExhausted(message)


def is_transient(error: errors.VBoxManageError | errors.HostError) -> bool:
    """Return whether a call should be retried on a host that has answered before.

    VirtualBox's service restarts on such a host. When the connections of its clients break, it may
    fail for a moment with a code that otherwise means a damaged VirtualBox.xml (measured).
    """
    return error.retry or error.code == ErrorCode.SERVICE


def is_restricted_key(error: BaseException) -> bool:
    """Return whether a restricted key's forced command refused the call."""
    return isinstance(error, errors.VBoxManageError) and error.code == ErrorCode.RESTRICTED_KEY


@contextlib.contextmanager
def change_slot(host: VirtualBoxHost, deadline: Deadline) -> Generator[float]:
    """Reserve one of the host's slots for calls that change VMs, and invalidate its state after
    the call. Yields the timeout of the call in seconds."""
    if not host.changing.acquire(timeout=deadline.remaining):
        raise errors.CommandTimeout(str(host.config), "the host is busy with other VMs")
    try:
        yield max(0.1, deadline.within(state.CALL_TIMEOUT_S).remaining)
    finally:
        host.changing.release()
        host.state.invalidate()
