# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How fast this library is beside plain VBoxManage and fence_vbox, on the same real VirtualBox.

Machines are noisy, so each pair is measured turn by turn in one run, and what counts is the ratio
of the medians. Needs root on Debian 12; the lab's 200 VMs are made at the first run.
"""

from __future__ import annotations

import dataclasses
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import maas_virtualbox as mv
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.maas import power_template

from tests.legacy_maas import LegacyMAAS
from tests.service import ServiceProcess
from tests.virtualbox.lab.lab import leased

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.virtualbox.lab.lab import Lab

_VBOXMANAGE = "/usr/lib/virtualbox/VBoxManage"
_FENCE_VBOX = "/usr/sbin/fence_vbox"


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two ways to the same thing, measured side by side."""

    what: str
    ours_s: float
    theirs: str
    theirs_s: float
    good: bool
    mark: str

    @property
    def ratio(self) -> float:
        """Their time divided by ours: how many times as fast we are."""
        return self.theirs_s / self.ours_s


def side_by_side(
    rounds: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> tuple[float, float]:
    """Return the medians in seconds of two things done in turn; the first round warms up."""
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds + 1):
        for kept, work in zip(times, (ours, theirs), strict=True):
            began = time.perf_counter()
            work()
            kept.append(time.perf_counter() - began)
    return statistics.median(times[0][1:]), statistics.median(times[1][1:])


def in_lab(lab: Lab, account: str, command: str) -> subprocess.CompletedProcess[str]:
    """Run a command line on the host itself, without SSH."""
    return lab.run(account, ["/bin/sh", "-c", command], timeout=120)


def measure(lab: Lab) -> list[Pair]:
    """Measure all pairs."""
    accounts = ("vbox10", "vbox200")
    entries = "\n".join(f"{lab.host_entry(name)} name={name}" for name in accounts)
    pairs: list[Pair] = []
    with mv.Fleet(mv.parse_hosts(entries), identity=lab.key_file) as fleet:
        small, large = fleet.hosts
        fleet.vms()
        where = small.vboxmanage.installation(timeout=20)

        for host, account in ((small, "vbox10"), (large, "vbox200")):
            command = where.shell.poll("0" * 16, _VBOXMANAGE, settings="heads", long=False)
            ours, theirs = side_by_side(
                40,
                lambda host=host: host.state.poll(Deadline.after(20.0), max_age=0.0),
                lambda account=account, command=command: in_lab(lab, account, command),
            )
            vms = len(host.vms())
            pairs.append(
                Pair(
                    f"snapshot of {vms} VMs",
                    ours,
                    "the same command on the host",
                    theirs,
                    ours <= 1.4 * theirs,
                    "at most 1.4 x",
                )
            )

        uuids = [vm.uuid for vm in large.vms()]
        loop = (
            f"for u in {shlex.join(uuids)}; do {_VBOXMANAGE} showvminfo $u --machinereadable"
            " >/dev/null; done"
        )
        ours, theirs = side_by_side(
            1,
            lambda: large.state.settings(Deadline.after(20.0), max_age=0.0),
            lambda: in_lab(lab, "vbox200", loop),
        )
        pairs.append(
            Pair(
                f"inventory with MACs of {len(uuids)} VMs",
                ours,
                f"{len(uuids)} x showvminfo",
                theirs,
                ours * 10 <= theirs,
                "10 times as fast",
            )
        )

        pairs.append(_power_check(lab))

        status, listing = (
            _fence(lab, "vbox10", "status", "--plug=node01"),
            _fence(lab, "vbox200", "list"),
        )
        ours, theirs = side_by_side(
            10, lambda: (small.state.invalidate(), fleet.find("node01", host="vbox10")), status
        )
        pairs.append(
            Pair(
                "status, nothing fresh",
                ours,
                "fence_vbox status",
                theirs,
                ours * 10 <= theirs,
                "10 times as fast",
            )
        )
        ours, theirs = side_by_side(
            10, lambda: (large.state.invalidate(), fleet.vms(host="vbox200")), listing
        )
        pairs.append(
            Pair(
                "list of 200 VMs",
                ours,
                "fence_vbox list",
                theirs,
                ours * 3 <= theirs,
                "3 times as fast",
            )
        )
    return pairs


def measure_power(lab: Lab, account: str, rounds: int = 20) -> list[Pair]:
    """Measure a verified power-on and power-off beside `startvm` and `controlvm poweroff` on the
    host, in turn."""
    entry = f"{lab.host_entry(account)} name={account}"
    times: tuple[list[float], ...] = ([], [], [], [])
    with mv.Fleet(mv.parse_hosts(entry), identity=lab.key_file) as fleet:
        host = fleet.hosts[0]
        vm = fleet.vms()[0]

        def on_the_host(*arguments: str) -> None:
            lab.vboxmanage(account, *arguments)

        def power_off_on_the_host() -> None:
            on_the_host("controlvm", vm.uuid, "poweroff")
            while vm.uuid in lab.vm_processes(account):
                pass

        works = (
            lambda: host.power_on(vm.uuid),
            lambda: host.power_off(vm.uuid),
            lambda: on_the_host("startvm", vm.uuid, "--type", "headless"),
            power_off_on_the_host,
        )
        commands = lab.commands_run(account)
        for _ in range(rounds + 1):
            for kept, work in zip(times, works, strict=True):
                began = time.perf_counter()
                work()
                kept.append(time.perf_counter() - began)
        each = (lab.commands_run(account) - commands) / (2 * (rounds + 1))
    on, off, startvm, poweroff = (statistics.median(kept[1:]) for kept in times)
    note = f" ({each:.2f} commands)"
    return [
        Pair(
            "verified power-on" + note,
            on,
            "startvm on the host",
            startvm,
            on <= 1.08 * startvm + 0.020 and each == 1,
            "at most 1.08 x + 20 ms",
        ),
        Pair(
            "verified power-off" + note,
            off,
            "poweroff on the host, until the process is gone",
            poweroff,
            off <= 1.3 * poweroff + 0.020 and each == 1,
            "at most 1.3 x + 20 ms",
        ),
    ]


def _power_check(lab: Lab) -> Pair:
    """The extension script of MAAS 1.4 to 1.9 with the service running, beside a fresh login."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        entry = f"{lab.host_entry('vbox10')} name=vbox10"
        sockets = str(folder / "power.sock")
        with ServiceProcess(folder, [entry], lab.key_file, socket_file=sockets) as service:
            maas = LegacyMAAS(folder / "root", service.config_file, folder / "power.sock")
            power_template.install(maas.root, maas.settings)
            script = maas.home / power_template.EXTENSIONS / "power_check"
            mac = service.api("/api/v1/vms")["vms"][0]["macs"][0]
            login = ["ssh", "-F", str(lab.ssh_config_file), "vbox10"]

            def run(argv: Sequence[str | Path]) -> None:
                subprocess.run(argv, check=True, capture_output=True, timeout=60)

            ours, theirs = side_by_side(
                30,
                lambda: run([script, mac]),
                lambda: run([*login, f"{_VBOXMANAGE} list runningvms"]),
            )
    return Pair(
        "power_check, the service running",
        ours,
        "ssh host VBoxManage list runningvms",
        theirs,
        ours * 5 <= theirs,
        "5 times as fast",
    )


def _fence(lab: Lab, account: str, action: str, *options: str) -> Callable[[], object]:
    argv = [
        _FENCE_VBOX,
        f"--ip={lab.address}",
        f"--ipport={lab.port}",
        f"--username={account}",
        f"--identity-file={lab.key_file}",
        "--ssh",
        f"--action={action}",
        *options,
    ]

    def run() -> None:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode not in (0, 2):
            raise RuntimeError(f"{shlex.join(argv)}: {done.returncode}: {done.stderr}")

    return run


def run() -> list[tuple[str, ...]]:
    """Set the lab up and measure; a row a pair, as `__main__` shows them."""
    if not shutil.which(_FENCE_VBOX):
        install = "apt-get install -y -qq --no-install-recommends fence-agents"
        subprocess.run(shlex.split(install), check=True, timeout=600, stdout=sys.stderr)
    with leased() as lab:
        lab.up(scale=True)
        pairs = measure(lab)
    return _rows(pairs)


def run_power() -> list[tuple[str, ...]]:
    """Set the lab up and measure power-on and power-off."""
    with leased() as lab:
        lab.up()
        lab.start_sshd()
        lab.reset("vbox10")
        pairs = measure_power(lab, "vbox10")
    return _rows(pairs)


def _rows(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    return [
        (
            pair.what,
            f"{pair.ours_s * 1000:.1f} ms",
            f"{pair.theirs}: {pair.theirs_s * 1000:.1f} ms",
            f"{pair.ratio:.2f}",
            pair.mark,
            "ok" if pair.good else "failed",
        )
        for pair in pairs
    ]
