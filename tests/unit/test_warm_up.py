# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How parallel commands wait for the one that starts VBoxSVC."""

from __future__ import annotations

import threading
from concurrent import futures

from maas_virtualbox.virtualbox.warm_up import WarmUp


def most_at_once(warm_up: WarmUp) -> tuple[int, int]:
    """Run ten commands; return how many ran while the first did, and at most."""
    lock = threading.Lock()
    all_run = threading.Barrier(9)
    running: list[int] = []
    counts: list[int] = []

    def run(number: int) -> None:
        with warm_up.turn(10.0):
            with lock:
                running.append(number)
                counts.append(len(running))
                is_first = len(counts) == 1
            if not is_first:
                all_run.wait(10.0)
            with lock:
                running.remove(number)

    with futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(run, range(10)))
    return counts[1], max(counts)


def test_first_command_runs_alone_and_the_others_in_parallel() -> None:
    assert most_at_once(WarmUp()) == (1, 9)


def test_first_command_after_a_reset_runs_alone() -> None:
    warm_up = WarmUp()
    with warm_up.turn(10.0):
        pass

    warm_up.reset()

    assert most_at_once(warm_up) == (1, 9)


def test_command_that_stalls_holds_up_no_other() -> None:
    warm_up = WarmUp()
    ran = threading.Event()

    def run() -> None:
        with warm_up.turn(0.05):
            ran.set()

    with warm_up.turn(10.0):
        thread = threading.Thread(target=run)
        thread.start()
        assert ran.wait(10.0)
        thread.join()
