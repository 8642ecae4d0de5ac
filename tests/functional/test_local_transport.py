# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The transport for this machine."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent import futures

import pytest

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.transport.local import LocalTransport


def test_output_and_exit_code_are_unchanged() -> None:
    done = LocalTransport().run(
        r"printf 'a\377b'; printf c >&2; exit 7", deadline=Deadline.after(10)
    )

    assert (done.stdout, done.stderr, done.exit_code) == (b"a\xffb", b"c", 7)


def test_command_ended_by_a_signal_exits_above_128() -> None:
    assert LocalTransport().run("kill -9 $$", deadline=Deadline.after(10)).exit_code == 128 + 9


def test_deadline_ends_the_command_and_its_children() -> None:
    unique = f"87.{os.getpid()}"  # another process may run this test too
    began = time.monotonic()

    with pytest.raises(mv.CommandTimeout, match="it was ended"):
        LocalTransport().run(f"sleep {unique} & sleep {unique}", deadline=Deadline.after(0.5))

    assert time.monotonic() - began < 87.0
    # The kernel may take a moment to end the processes.
    while subprocess.run(["pgrep", "-f", rf"^sleep {unique}"], check=False).returncode == 0:
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("command", "message"),
    [("yes", "over 100000 bytes"), ("yes >&2", "over 1048576 bytes of errors")],
)
def test_endless_output_is_ended(command: str, message: str) -> None:
    with pytest.raises(mv.OversizedOutput, match=message):
        LocalTransport().run(command, deadline=Deadline.after(20), max_output=100_000)


def test_more_commands_than_slots_take_turns() -> None:
    local = LocalTransport()

    with futures.ThreadPoolExecutor(20) as threads:
        asked = [
            threads.submit(local.run, f"echo {n}", deadline=Deadline.after(20)) for n in range(20)
        ]

    assert [one.result().stdout for one in asked] == [f"{n}\n".encode() for n in range(20)]


def test_run_after_close_raises_closed() -> None:
    local = LocalTransport()
    local.close()

    with pytest.raises(mv.Closed, match="closed"):
        local.run("true", deadline=Deadline.after(10))


def test_fleet_reports_a_machine_without_virtualbox() -> None:
    with mv.Fleet(mv.parse_hosts("local vboxmanage=/nosuch/VBoxManage")) as fleet:
        (report,) = fleet.reports()

    assert isinstance(report.error, mv.VBoxManageMissing)
    assert "no VBoxManage at /nosuch/VBoxManage" in str(report.error)
