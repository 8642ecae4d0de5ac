# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Both packed charms, related, each on its own machine with a real systemd and a real VirtualBox.

The key is authorised, the VMs can be controlled, and both end with the relation.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.charm import machine as machines
from tests.charm.conftest import ROOT
from tests.charm.juju import Juju
from tests.charm.machine import Machine
from tests.charm.test_juju_run import block
from tests.charm.test_packed import wait_for
from tests.conftest import unavailable
from tests.service import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.virtualbox.lab.lab import Lab

KEYS = "/etc/virtualbox-host/authorized_keys"
CHROOT = "/usr/local/lib/lab-chroot"
VBOXMANAGE = f"""#!/bin/sh
exec {CHROOT} /lab /usr/lib/virtualbox/VBoxManage "$@"
"""
CAP_SYS_CHROOT = struct.pack("<5I", 0x02000001, 1 << 18, 0, 0, 0)
"""The attribute that setcap writes for cap_sys_chroot=ep (linux/capability.h)."""
ENGINE = "VBoxInternal/HM/FallbackToIEM"
"""The lab has no kernel module. Its VMs are interpreted."""
OWN_FILES = re.compile("virtualbox-host|VBox_host_extensions")
MOUNT = """
set -eu
mkdir /lab
mount --bind "$1" /lab
for shared in /dev /home /proc /tmp /etc/passwd /etc/group; do
  mount --rbind $shared /lab$shared
done
mkdir -p /run/sshd
systemctl start ssh.service
"""


def install_virtualbox(machine: Machine, lab: Lab, port: int) -> None:
    """Add the lab's VirtualBox and a listening SSH server to a machine.

    VirtualBox stays in the lab's root, which this machine sees below its own layer; home folders,
    processes and accounts are the machine's. Who calls VBoxManage is allowed to go there.
    """
    drop_in = machine.path("/etc/ssh/sshd_config.d/10-here.conf")
    drop_in.write_text(f"Port {port}\nListenAddress 127.0.0.1\n")
    chroot = machine.path(CHROOT)
    chroot.write_bytes(machine.path("/usr/sbin/chroot").read_bytes())
    chroot.chmod(0o755)
    os.setxattr(chroot, "security.capability", CAP_SYS_CHROOT)
    program = machine.path("/usr/local/bin/VBoxManage")
    program.write_text(VBOXMANAGE)
    program.chmod(0o755)
    done = machine.run(["sh", "-c", MOUNT, "sh", str(lab.path("/"))])
    assert done.returncode == 0, done.stderr


def as_vbox(machine: Machine, *command: str) -> str:
    """Run a program as the account that owns the VMs."""
    done = machine.run(["runuser", "-u", "vbox", "--", "env", "HOME=/home/vbox", *command])
    assert done.returncode == 0, done.stderr
    return done.stdout


def login(identity: Path, port: int) -> str:
    """Return the output of a login that requests a shell."""
    options = ("BatchMode=yes", "IdentitiesOnly=yes", "StrictHostKeyChecking=no")
    command = ["ssh", "-i", identity, "-p", str(port), "-o", "UserKnownHostsFile=/dev/null"]
    command += [word for option in options for word in ("-o", option)]
    command += ["vbox@127.0.0.1", "id"]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30, check=False
    )
    assert done.returncode != 0
    return done.stderr


@pytest.mark.real
def test_packed_charms_related(pack: Callable[[Path], Path], lab: Lab, tmp_path: Path) -> None:
    if (reason := machines.unsupported()) is not None:
        unavailable(reason)
    with (
        Machine(tmp_path) as maas,
        Machine(tmp_path) as laptop,
        Juju(tmp_path / "juju") as juju,
    ):
        port = free_port()
        install_virtualbox(laptop, lab, port)
        config = {
            "install": "never",
            "vm-count": 2,
            "memory": 16,
            "disk": 1,
            "attachment": "none",
            "name-prefix": "laptop",
        }
        boxes = juju.deploy(pack(ROOT / "virtualbox-host"), "laptop", on=[laptop], config=config)
        power = juju.deploy(pack(ROOT), "power", on=[maas], config={"listen-port": free_port()})
        (host,), (unit,) = boxes.units, power.units
        juju.settle()
        idle = "2 VMs of vbox, 0 running"
        wait_for(host, ("active", f"{idle}; not related to maas-virtualbox: juju integrate"))
        assert unit.status == ("blocked", "no hosts: juju config power hosts='user@address'")

        juju.relate("power:virtualbox-hosts", "laptop:virtualbox-hosts")
        juju.settle()
        wait_for(unit, ("active", "2 VMs on 1 host, 0 running"))
        wait_for(host, ("active", idle))
        key = block(unit.run("get-public-key"), "public-key")
        bare = " ".join(key.split()[:2])
        gate = 'restrict,command="/home/vbox/VBox_host_extensions/gate"'
        assert laptop.path(KEYS).read_text() == f"{gate} {bare} maas-virtualbox\n"
        assert "PRIVATE" not in str(juju.state.relations)

        identity = tmp_path / "key"
        identity.touch(mode=0o600)
        (secret,) = (s for s in juju.state.secrets.values() if s.owner == "power")
        identity.write_text(secret.revisions[secret.latest]["private-key"])
        assert "gate: refused" in login(identity, port)

        as_vbox(laptop, "VBoxManage", "setextradata", "global", ENGINE, "1")
        unit.run_action("power", {"vm": "laptop0-01", "change": "on"})
        assert '"laptop0-01"' in as_vbox(laptop, "VBoxManage", "list", "runningvms")

        juju.remove_relation("power:virtualbox-hosts", "laptop:virtualbox-hosts")
        juju.settle()
        assert laptop.path(KEYS).read_text() == ""
        assert unit.status == ("blocked", "no hosts: juju config power hosts='user@address'")
        assert "Permission denied" in login(identity, port)

        boxes.remove()
        juju.settle()
        assert '"laptop0-01"' in as_vbox(laptop, "VBoxManage", "list", "runningvms")
        assert [path for path in laptop.changes() if OWN_FILES.search(path)] == []
