# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent and ClusterLabs' fence_vbox, on the same VMs of a real VirtualBox."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.behaviour import benches
from tests.conftest import unavailable
from tests.virtualbox import test_real
from tests.virtualbox.lab import lab as real

if TYPE_CHECKING:
    from tests.virtualbox.lab.lab import Lab

pytestmark = pytest.mark.real

FENCE_VBOX = "/usr/sbin/fence_vbox"
OURS = (sys.executable, "-c", "from maas_virtualbox.cli import fence_agent; fence_agent.main()")


class Agent(Protocol):
    """Runs a fence agent as a process. Returns its exit code and standard output."""

    def __call__(self, action: str, plug: str = "") -> tuple[int, str]: ...


@pytest.fixture
def bench(lab: Lab) -> benches.RealBench:
    """Account vbox10, all off."""
    lab.start_sshd()
    lab.reset("vbox10")
    return benches.RealBench(lab)


@pytest.fixture
def ours(lab: Lab, bench: benches.RealBench, tmp_path: Path) -> Agent:
    """The agent of this project, for account vbox10."""
    return agent(lab, bench.account, *OURS, f"--known-hosts={tmp_path / 'pins'}")


@pytest.fixture
def theirs(lab: Lab, bench: benches.RealBench) -> Agent:
    """fence_vbox, for account vbox10."""
    return fence_vbox(lab, bench.account)


def agent(lab: Lab, account: str, *argv: str) -> Agent:
    """Return a fence agent with the options that both accept."""
    reach = (f"--ip={lab.address}", f"--ipport={lab.port}", f"--username={account}")

    def run(action: str, plug: str = "") -> tuple[int, str]:
        done = subprocess.run(
            [
                *argv,
                *reach,
                f"--identity-file={lab.key_file}",
                f"--action={action}",
                *([f"--plug={plug}"] if plug else []),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        print(argv[0], action, done.returncode, done.stdout, done.stderr)  # for a test that fails
        return done.returncode, done.stdout

    return run


def fence_vbox(lab: Lab, account: str) -> Agent:
    """Return ClusterLabs' agent."""
    if not Path(FENCE_VBOX).exists():
        unavailable(f"{FENCE_VBOX} is missing: apt-get install fence-agents")
    # Its default of 3 s is too short for a call that VirtualBox stalls, which happens.
    return agent(lab, account, FENCE_VBOX, "--ssh", "--shell-timeout=20")


def uuid_of(bench: benches.RealBench, name: str) -> str:
    """Return a VM's UUID."""
    with benches.fleet_of(bench) as fleet:
        return fleet.find(name).uuid


def test_actions_give_the_codes_of_fence_vbox(
    bench: benches.RealBench, ours: Agent, theirs: Agent
) -> None:
    uuid = uuid_of(bench, "node01")
    life = ("status", "on", "status", "on", "reboot", "status", "off", "status", "off", "monitor")

    def live(fence: Agent) -> list[tuple[str, int, int]]:
        return [(action, fence(action, uuid)[0], bench.processes(uuid)) for action in life]

    assert live(ours) == live(theirs)
    assert live(ours) == [
        ("status", 2, 0),
        ("on", 0, 1),
        ("status", 0, 1),
        ("on", 0, 1),
        ("reboot", 0, 1),
        ("status", 0, 1),
        ("off", 0, 0),
        ("status", 2, 0),
        ("off", 0, 0),
        ("monitor", 0, 0),
    ]


def test_status_agrees_after_actions_of_fence_vbox(
    bench: benches.RealBench, ours: Agent, theirs: Agent
) -> None:
    uuid = uuid_of(bench, "node02")

    assert (theirs("on", uuid)[0], ours("status", uuid)) == (0, (0, "Status: ON\n"))
    assert (ours("off", uuid)[0], theirs("status", uuid)) == (0, (2, "Status: OFF\n"))
    assert (ours("on", uuid)[0], theirs("status", uuid)) == (0, (0, "Status: ON\n"))
    assert (theirs("off", uuid)[0], ours("status", uuid)) == (0, (2, "Status: OFF\n"))


def test_list_gives_the_vms_of_fence_vbox(
    bench: benches.RealBench, ours: Agent, theirs: Agent
) -> None:
    ours("on", uuid_of(bench, "node03"))

    for action in ("list", "list-status"):
        (code, out), (their_code, their_out) = ours(action), theirs(action)
        rows = [line.split(",") for line in out.splitlines()]
        their_rows = [line.split(",") for line in their_out.splitlines()]
        # fence_vbox prints the name first, and the state in lower case.
        reordered = [[uuid, name, *map(str.upper, state)] for name, uuid, *state in their_rows]
        assert (code, rows) == (their_code, reordered)
        assert len(rows) == len(benches.NAMES)


def test_reboot_discards_a_saved_state_unlike_fence_vbox(
    bench: benches.RealBench, ours: Agent, theirs: Agent
) -> None:
    uuid = uuid_of(bench, "node01")

    def reboot_saved(fence: Agent) -> tuple[int, bool]:
        assert ours("on", uuid)[0] == 0
        assert bench.vboxmanage("controlvm", uuid, "savestate").returncode == 0
        assert (ours("status", uuid)[0], theirs("status", uuid)[0]) == (2, 2)
        return fence("reboot", uuid)[0], bench.resumed(uuid)

    assert reboot_saved(theirs) == (0, True)
    ours("off", uuid)
    assert reboot_saved(ours) == (0, False)


def test_on_resumes_a_paused_vm_unlike_fence_vbox(
    lab: Lab, bench: benches.RealBench, ours: Agent, theirs: Agent
) -> None:
    uuid = uuid_of(bench, "node01")
    ours("on", uuid)
    assert bench.vboxmanage("controlvm", uuid, "pause").returncode == 0

    assert (ours("status", uuid)[0], theirs("status", uuid)[0]) == (0, 0)
    assert (theirs("on", uuid)[0], lab.state(bench.account, uuid)) == (0, "paused")
    assert (ours("on", uuid)[0], lab.state(bench.account, uuid)) == (0, "running")


def test_off_ends_a_crashed_vm_unlike_fence_vbox(lab: Lab, tmp_path: Path) -> None:
    lab.start_sshd()
    lab.reset("vbox")
    bench = benches.RealBench(lab, "vbox")
    ours = agent(lab, "vbox", *OURS, f"--known-hosts={tmp_path / 'pins'}")
    theirs = fence_vbox(lab, "vbox")
    crash(bench, "node1")
    uuid = uuid_of(bench, "node1")

    assert theirs("status", uuid) == (2, "Status: OFF\n")
    assert (theirs("off", uuid)[0], bench.processes(uuid)) == (0, 1)
    assert ours("status", uuid) == (0, "Status: ON\n")
    assert (ours("off", uuid)[0], bench.processes(uuid)) == (0, 0)


def crash(bench: benches.RealBench, vm: str) -> None:
    """Boot a VM of account vbox into Guru Meditation."""
    image = bench.lab.home("vbox") / "crash.img"
    image.write_bytes(real.disk_image(test_real.TRIPLE_FAULT))
    image.chmod(0o644)
    slot = ("--storagectl", "IDE", "--port", "0", "--device", "0", "--type", "hdd")
    for command in (
        ("convertfromraw", "crash.img", "crash.vdi", "--format", "VDI"),
        ("storageattach", vm, *slot, "--medium", "crash.vdi"),
        ("modifyvm", vm, "--boot1", "disk"),
        ("startvm", vm, "--type", "headless"),
    ):
        done = bench.vboxmanage(*command)
        assert done.returncode == 0, done.stderr
    while bench.lab.state("vbox", vm) != "gurumeditation":
        time.sleep(0.5)
