# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One command starts VBoxSVC, VirtualBox's service, before others run in parallel."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_IDLE_S = 5.0
"""VBoxSVC ends 6 to 7 s after its last client (measured)."""

_WAIT_S = 1.0
"""How long to wait for the command that starts VBoxSVC: four times as long as a start takes."""


class WarmUp:
    """Keeps commands from starting VBoxSVC in parallel, which can fail or leave a second one
    (measured). One for each account of a host; shared between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = float("-inf")

    @contextlib.contextmanager
    def turn(self, timeout: float) -> Generator[None]:
        """Wait until VBoxSVC runs or this command may start it, but at most `timeout` seconds and
        not long: a command that stalls does not hold up the others."""
        wait_s = max(0.0, min(_WAIT_S, timeout))
        is_first = not self._is_warm() and self._lock.acquire(timeout=wait_s)
        if is_first and self._is_warm():
            self._lock.release()
            is_first = False
        try:
            yield
            self._used = time.monotonic()
        finally:
            if is_first:
                self._lock.release()

    def reset(self) -> None:
        """Forget that VBoxSVC runs, because it has died: one command starts it again."""
        self._used = float("-inf")

    def _is_warm(self) -> bool:
        return time.monotonic() - self._used < _IDLE_S
