# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The temporary machine: systemd enforces its sandbox, and no files stay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import pytest

from tests.charm.juju import Juju
from tests.charm.machine import Machine, unsupported
from tests.conftest import unavailable
from tools import packing

if TYPE_CHECKING:
    from collections.abc import Generator

EMPTY = Path(__file__).with_name("empty")
TEMPLATES = Path(__file__).parents[2] / "templates"

PROGRAM = r"""#!/usr/bin/python3
import ctypes, json, mmap, os, pathlib, socket, time

def tried(call):
    try:
        call()
    except OSError as error:
        return error.strerror
    return "done"

status = dict(
    line.split(":\t", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines()
)
libc = ctypes.CDLL(None, use_errno=True)

def system_call(number, *arguments):
    if libc.syscall(number, *arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

report = {
    "user": os.getuid(),
    "capabilities": status["CapBnd"] + status["CapEff"],
    "no new privileges": status["NoNewPrivs"],
    "files": os.sysconf("SC_OPEN_MAX"),
    "mask": status["Umask"],
    "write /etc": tried(lambda: pathlib.Path("/etc/x").touch()),
    "write /opt": tried(lambda: pathlib.Path("/opt/x").touch()),
    "write state": tried(lambda: pathlib.Path("/var/lib/maas-virtualbox/x").touch()),
    "write run": tried(lambda: pathlib.Path("/run/maas-virtualbox/x").touch()),
    "/tmp": sorted(os.listdir("/tmp")),
    "/home": tried(lambda: os.listdir("/root")),
    "/dev": sorted(name for name in os.listdir("/dev") if name in ("kmsg", "null", "vda")),
    "processes": sorted({"1", str(os.getpid())} & set(os.listdir("/proc"))),
    "/proc/cpuinfo": os.path.exists("/proc/cpuinfo"),
    "users": pathlib.Path("/proc/self/uid_map").read_text().split()[-1] != "4294967295",
    "executable memory": tried(lambda: mmap.mmap(-1, 4096, prot=7)),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    "TCP": tried(lambda: socket.socket(socket.AF_INET).bind(("127.0.0.1", 0))),
    "name spaces": tried(lambda: system_call(272, 0x10000000)),
    "mount": tried(lambda: system_call(165, 0, 0, 0, 0, 0)),
    "host name": tried(lambda: socket.sethostname("x")),
    "set-user-id": tried(lambda: os.chmod("/run/maas-virtualbox", 0o4755)),
    "cgroups": tried(lambda: os.mkdir("/sys/fs/cgroup/systemd/x")),
    "tunables": tried(lambda: open("/proc/sys/net/core/somaxconn", "w")),
}
pathlib.Path("/var/lib/maas-virtualbox/report").write_text(json.dumps(report))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\0"))
notify.send(b"READY=1\nSTATUS=here")
while True:
    notify.send(b"WATCHDOG=1")
    time.sleep(1)
"""


@pytest.fixture
def machine(tmp_path: Path) -> Generator[Machine]:
    if (reason := unsupported()) is not None:
        unavailable(reason)
    with Machine(tmp_path) as made:
        yield made


def must(machine: Machine, *argv: str) -> str:
    """Run a program in the machine. It must succeed."""
    done = machine.run(argv)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


def sandboxed_report(machine: Machine) -> dict[str, Any]:
    """Start a program with the service's unit. Return what it may do."""
    must(machine, "useradd", "--system", "--no-create-home", "--user-group", "mv")
    program = machine.path("/opt/maas-virtualbox/bin/maas-virtualbox")
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM)
    program.chmod(0o755)
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    machine.path("/etc/systemd/system/maas-virtualbox.service").write_text(
        templates.get_template("maas-virtualbox.service.j2").render(
            program=machine.inner("/opt/maas-virtualbox/bin/maas-virtualbox"),
            config_file="/etc/maas-virtualbox/config.yaml",
            user="mv",
            group="mv",
        )
    )
    must(machine, "systemctl", "daemon-reload")
    must(machine, "systemctl", "enable", "--now", "maas-virtualbox.service")
    return json.loads(machine.path("/var/lib/maas-virtualbox/report").read_text())


def test_machine_enforces_the_sandbox_of_the_service(machine: Machine) -> None:
    report = sandboxed_report(machine)

    status = must(machine, "systemctl", "show", "-P", "StatusText", "maas-virtualbox.service")
    assert status == "here\n"
    main = must(machine, "systemctl", "show", "-P", "MainPID", "maas-virtualbox.service").strip()
    denied, read_only = "Operation not permitted", "Read-only file system"
    assert report == {
        "user": int(must(machine, "id", "-u", "mv")),
        "capabilities": "0" * 32,
        "no new privileges": "1",
        "files": 8192,
        "mask": "0077",
        "write /etc": read_only,
        "write /opt": read_only,
        "write state": "done",
        "write run": "done",
        "/tmp": [],
        "/home": "Permission denied",
        "/dev": ["null"],
        "processes": [main],
        "/proc/cpuinfo": False,
        "users": True,
        "executable memory": denied,
        "netlink": "Address family not supported by protocol",
        "TCP": "done",
        "name spaces": denied,
        "mount": denied,
        "host name": denied,
        "set-user-id": denied,
        "cgroups": read_only,
        "tunables": "No such file or directory",
    }


def test_changes_ignores_what_was_reverted(machine: Machine) -> None:
    assert machine.changes() == {}
    sandboxed_report(machine)
    mode = f"{Path('/etc/hosts').stat().st_mode & 0o7777:o}"
    must(machine, "chmod", "0751", "/etc/hosts")
    must(machine, "mv", "/etc/debian_version", "/etc/moved")
    changed = machine.changes()
    assert {"/opt/maas-virtualbox", "/etc/passwd", "/etc/hosts", "/etc/moved"} <= changed.keys()
    assert changed["/etc/debian_version"] == ""
    assert changed["/etc/hosts"].startswith("-rwxr-x--x 0:0 ")

    must(machine, "systemctl", "disable", "--now", "maas-virtualbox.service")
    must(machine, "rm", "-r", "/etc/systemd/system/maas-virtualbox.service")
    must(machine, "rm", "-r", "/opt/maas-virtualbox", "/var/lib/maas-virtualbox")
    must(machine, "systemctl", "daemon-reload")
    must(machine, "userdel", "mv")
    must(machine, "chmod", mode, "/etc/hosts")
    must(machine, "mv", "/etc/moved", "/etc/debian_version")
    assert machine.changes() == {}


def test_changes_shows_lost_files_of_a_recreated_folder(machine: Machine) -> None:
    must(machine, "touch", "/run/made")
    must(machine, "rm", "-r", "/etc/apt")
    must(machine, "mkdir", "/etc/apt")
    changed = machine.changes()
    assert "/run/made" in changed
    gone = {path for path, now in changed.items() if not now}
    assert {"/etc/apt/apt.conf.d", "/etc/apt/sources.list.d"} <= gone


def test_machine_does_not_change_this_machine(tmp_path: Path) -> None:
    if (reason := unsupported()) is not None:
        unavailable(reason)
    with Machine(tmp_path) as machine:
        inside = machine.path("/etc/made-inside")
        inside.touch()
        assert must(machine, "ls", "/etc/made-inside")
        assert not Path("/etc/made-inside").exists()
    assert not inside.exists()
    assert not any(path for folder in tmp_path.glob("machine-*/") for path in folder.iterdir())
    assert not [cgroup for cgroup in machine.cgroups if cgroup.exists()]
    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def test_run_ends_all_processes_after_its_timeout(machine: Machine) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        machine.run(["sh", "-c", "sleep 4711 & sleep 4711"], timeout=0.5)
    while machine.run(["pgrep", "-f", "sleep 4711"]).returncode == 0:
        time.sleep(0.02)


def test_machine_ends_when_the_test_is_killed(tmp_path: Path) -> None:
    if (reason := unsupported()) is not None:
        unavailable(reason)
    code = (
        "import sys, time; from pathlib import Path; from tests.charm.machine import Machine\n"
        "with Machine(Path(sys.argv[1])) as machine:\n"
        "    print(machine.path('/'), flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as test:
        assert test.stdout
        first = Path(test.stdout.readline().strip()).parent
        assert (first / "comm").read_text() == "systemd\n"
        os.kill(test.pid, signal.SIGKILL)
    while first.exists():
        time.sleep(0.02)
    with Machine(tmp_path / "next"):
        left = Path("/sys/fs/cgroup").glob(f"*/maas-virtualbox-{test.pid}-*")
        assert list(left) == []


def test_packed_charms_leave_nothing_on_machines(machine: Machine, tmp_path: Path) -> None:
    if (reason := packing.unsupported()) is not None:
        unavailable(reason)
    charm = packing.pack(EMPTY, tmp_path)
    assert "pip-check: [OK]" in packing.analyse(charm)
    folder = packing.unpack(charm, tmp_path / "empty")
    with Machine(tmp_path) as other, Juju(tmp_path) as juju:
        app = juju.deploy(folder, "empty", on=[machine, other])
        juju.settle()
        for unit in app.units:
            names = [name for name, _ in unit.hook_seconds]
            leads = ["leader-elected"] if unit.is_leader else []
            assert names == ["install", *leads, "config-changed", "start"]
            assert "/var/lib/juju/agents" in (machine if unit.is_leader else other).changes()
        app.remove()
        juju.settle()
        assert juju.units == []
        assert machine.changes() == other.changes() == {}
