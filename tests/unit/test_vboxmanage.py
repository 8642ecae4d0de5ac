# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The calls that make and delete VMs, as each kind of host gets them."""

from __future__ import annotations

import base64
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox import HostConfig
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.virtualbox import shells, vboxmanage

if TYPE_CHECKING:
    from collections.abc import Callable

    from maas_virtualbox.deadline import Deadline

UUID = "0c06ecdf-282e-4a3b-8cfb-b50f570662a8"
NAME = "výměna (1) (being made by maas-virtualbox on h process 7)"
POSIX = f"/home/vbox/VirtualBox VMs/{NAME}/{NAME}.vbox"
WINDOWS = f"C:\\Users\\O'Neil\\VirtualBox VMs\\{NAME}\\{NAME}.vbox"

CALLS: dict[str, Callable[[vboxmanage.VBoxManage, str], object]] = {
    f"createvm --name '{NAME}' --uuid {UUID} --ostype Ubuntu_64 --register": lambda manage, _: (
        manage.createvm(NAME, UUID, "Ubuntu_64", timeout=9)
    ),
    "createmedium disk --filename PATH --size 20480": lambda manage, path: manage.createmedium(
        path, 20480, timeout=9
    ),
    "closemedium disk PATH --delete": lambda manage, path: manage.closemedium(path, timeout=9),
    f"modifyvm {UUID} --memory 2048 --name 'my node'": lambda manage, _: manage.modifyvm(
        UUID, {"--memory": "2048", "--name": "my node"}, timeout=9
    ),
    f"storagectl {UUID} --name SATA --add sata --portcount 1 --bootable on": lambda manage, _: (
        manage.storagectl(UUID, "SATA", timeout=9)
    ),
    f"storageattach {UUID} --storagectl SATA --port 0 --device 0 --type hdd --medium PATH": (
        lambda manage, path: manage.storageattach(UUID, "SATA", path, timeout=9)
    ),
    f"setextradata {UUID} a/b {UUID}": lambda manage, _: manage.setextradata(
        UUID, "a/b", UUID, timeout=9
    ),
    f"getextradata {UUID} a/b": lambda manage, _: manage.getextradata(UUID, "a/b", timeout=9),
    f"unregistervm {UUID} --delete": lambda manage, _: manage.unregistervm(UUID, timeout=9),
    "list --long hdds": lambda manage, _: manage.list_hard_disks(timeout=9),
    "list hostonlynets": lambda manage, _: manage.list_networks("hostonlynets", timeout=9),
}


class Recorder:
    """A transport that keeps the last command and always answers alike."""

    def __init__(self, answer: str = "") -> None:
        self.command = ""
        self._answer = answer

    def close(self) -> None: ...

    def run(self, command: str, *, deadline: Deadline, max_output: int = 0) -> CommandResult:
        del deadline, max_output
        self.command = command
        return CommandResult(0, self._answer.encode(), b"", 0.1)


def created(settings_file: str) -> str:
    """What `createvm` prints."""
    return f"Virtual machine is created and registered.\r\nSettings file: '{settings_file}'\r\n"


class Known(vboxmanage.VBoxManage):
    """The VBoxManage of a host that need not be asked what it is."""

    def __init__(self, recorder: Recorder, shell: shells.Shell, system: str) -> None:
        super().__init__(HostConfig(user="u", address="h"), recorder)
        self._known = vboxmanage.Installation(system, "u", "/x/VBoxManage", "7.2", shell)

    def installation(self, *, timeout: float) -> vboxmanage.Installation:
        del timeout
        return self._known


@pytest.mark.parametrize("expected", CALLS)
def test_posix_hosts_get_the_words_as_they_are(expected: str) -> None:
    recorder = Recorder(created(POSIX) if expected.startswith("createvm") else "")

    CALLS[expected](Known(recorder, shells.Posix(), "Linux"), POSIX)

    words = [POSIX if word == "PATH" else word for word in shlex.split(expected)]
    assert shlex.split(recorder.command)[3:] == ["/x/VBoxManage", "-q", *words]


@pytest.mark.parametrize("expected", CALLS)
def test_windows_hosts_get_the_words_as_they_are(expected: str) -> None:
    recorder = Recorder(created(WINDOWS) if expected.startswith("createvm") else "")

    CALLS[expected](Known(recorder, shells.Windows(), "Windows"), WINDOWS)

    script = base64.b64decode(recorder.command.rpartition(" ")[2]).decode("utf-16-le")
    call = script.partition("& $P ")[2].removesuffix(";exit $LASTEXITCODE")
    words = [WINDOWS if word == "PATH" else word for word in shlex.split(expected)]
    literals = [found.replace("''", "'") for found in re.findall("'((?:[^']|'')*)'", call)]
    assert literals == ["-q", *words]
    assert len(recorder.command) < 8191


@pytest.mark.parametrize(("shell", "file"), [(shells.Posix(), POSIX), (shells.Windows(), WINDOWS)])
def test_createvm_returns_where_the_vm_is(shell: shells.Shell, file: str) -> None:
    manage = Known(Recorder(created(file)), shell, "any")

    assert manage.createvm(NAME, UUID, "Ubuntu_64", timeout=9) == file
