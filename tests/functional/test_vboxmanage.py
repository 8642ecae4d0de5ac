# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The limits of VBoxManage's output: large settings files, many VMs, missing sections."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.config.host_list import HostConfig
from maas_virtualbox.errors import BadOutput, OversizedOutput
from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.transport.local import LocalTransport
from maas_virtualbox.virtualbox import parsers, settings_xml, vboxmanage
from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from maas_virtualbox.deadline import Deadline

SMALL = "95581d29-3e5e-472e-8f12-f452e8095714"
LARGE = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"


def settings_text(uuid: str, padding: str = "") -> str:
    """Return a settings file with padding before its hardware."""
    vm = SimulatedVM(uuid, f"vm {uuid[:4]}", ["080027AABB01"])
    return texts.render_settings(vm, whole=True).replace("<Hardware>", f"{padding}<Hardware>", 1)


class Account:
    """An account on this machine with two VMs and a VBoxManage that lists none as running."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []
        self._folder = folder
        program = folder / "VBoxManage"
        program.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 7.2.22\nexit 0\n')
        program.chmod(0o755)
        entries = "".join(
            f'<MachineEntry uuid="{{{uuid}}}" src="{folder}/{uuid}.vbox"/>\n'
            for uuid in (LARGE, SMALL)
        )
        (folder / "VirtualBox.xml").write_text(entries)
        monkeypatch.setenv("VBOX_USER_HOME", str(folder))
        self.write(SMALL, settings_text(SMALL))
        self.manage = vboxmanage.VBoxManage(
            HostConfig(user="u", address="h", name="attic", vboxmanage=str(program)), self
        )
        self._local = LocalTransport()

    def write(self, uuid: str, text: str) -> None:
        """Write a VM's settings file."""
        (self._folder / f"{uuid}.vbox").write_text(text)

    def close(self) -> None: ...

    def run(self, command: str, *, deadline: Deadline, max_output: int = 0) -> CommandResult:
        """Run a command on this machine, and record the size of its output."""
        result = self._local.run(command, deadline=deadline, max_output=max_output or 10_000)
        self.sizes.append(len(result.stdout))
        return result


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """An account with a small settings file."""
    return Account(tmp_path, monkeypatch)


PADDINGS: dict[str, Callable[[], str]] = {
    "many lines": lambda: "<Snapshot/>\n" * 5_000_000,
    "one line": lambda: f"<Description>{'x' * 10_000_000}</Description>\n",
}


@pytest.mark.parametrize("padding", PADDINGS)
def test_settings_file_above_the_limit_is_not_sent(
    account: Account, padding: str, caplog: pytest.LogCaptureFixture
) -> None:
    account.write(LARGE, settings_text(LARGE, PADDINGS[padding]()))

    with caplog.at_level(logging.WARNING):
        account.manage.poll(settings_read="all", timeout=60)
        machines = account.manage.poll(settings_read="all", timeout=60).machines

    assert machines
    assert (machines[SMALL].accessible, machines[SMALL].limit_exceeded) == (True, "")
    assert (machines[LARGE].accessible, machines[LARGE].off_state) == (False, VMState.INACCESSIBLE)
    assert machines[LARGE].limit_exceeded == "it is larger than 2 MiB"
    assert max(account.sizes) < settings_xml.MAX_FILE + 20_000
    assert len(caplog.messages) == 1
    assert f"{LARGE}.vbox is not read: it is larger than 2 MiB" in caplog.messages[0]


def test_first_line_of_a_large_settings_file_is_read(account: Account) -> None:
    account.write(LARGE, settings_text(LARGE, "<Snapshot/>\n" * 500_000))

    machines = account.manage.poll(settings_read="heads", timeout=60).machines

    assert machines
    assert machines[LARGE].accessible
    assert max(account.sizes) < 10_000


@pytest.mark.parametrize(
    ("padding", "reason"),
    [
        ("<a/>" * 60_000, "it has more than 50000 XML elements"),
        ("<a>" * 2000 + "</a>" * 2000, "its XML is nested more than 1000 deep"),
        (f'<ExtraData><a name="{"x" * 100_000}"/></ExtraData>', ""),
    ],
)
def test_settings_limit_affects_only_its_vm(account: Account, padding: str, reason: str) -> None:
    account.write(LARGE, settings_text(LARGE, padding))

    machines = account.manage.poll(settings_read="all", timeout=60).machines

    assert machines
    assert machines[SMALL].accessible
    assert machines[LARGE].limit_exceeded == reason
    assert machines[LARGE].accessible is not bool(reason)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name="vm f9fb"', f'name="{"x" * 1_000_000}"', "its name has 1000000 characters"),
        ('type="82540EM"', f'type="{"x" * 2000}"', "its type has 2000 characters"),
        ("<Hardware>", "<!DOCTYPE x><Hardware>", "it has a DTD"),
    ],
)
def test_settings_value_above_the_limit_is_named(
    account: Account, old: str, new: str, reason: str
) -> None:
    account.write(LARGE, settings_text(LARGE).replace(old, new, 1))

    machines = account.manage.poll(settings_read="all", timeout=60).machines

    assert machines
    assert machines[LARGE].limit_exceeded == reason


def test_poll_of_too_many_vms_is_an_error(account: Account, tmp_path: Path) -> None:
    entries = "".join(
        f'<MachineEntry uuid="{{{n:08x}-0000-0000-0000-000000000000}}" src="n.vbox"/>\n'
        for n in range(parsers.MAX_VMS + 20)
    )
    (tmp_path / "VirtualBox.xml").write_text(entries)

    with pytest.raises(OversizedOutput, match="attic: it has more than 2000 VMs") as caught:
        account.manage.poll(timeout=60)

    assert not caught.value.retry


def test_poll_without_virtualbox_xml_knows_no_machines(account: Account, tmp_path: Path) -> None:
    (tmp_path / "VirtualBox.xml").rename(tmp_path / "VirtualBox.xml-prev")

    answer = account.manage.poll(settings_read="all", timeout=60)

    assert answer.machines is None


class Scripted:
    """A transport that answers with the nonce of each command."""

    def __init__(self, **answers: str) -> None:
        self._answers = answers

    def close(self) -> None: ...

    def run(self, command: str, *, deadline: Deadline, max_output: int = 0) -> CommandResult:
        del deadline, max_output
        words = shlex.split(command)
        nonce = words[words.index("-c") + 3] if "-c" in words else ""
        kind = "probe" if "uname" in command else "poll"
        text = self._answers[kind].replace("\nN ", f"\n{nonce} ")
        return CommandResult(0, text.encode(), b"", 0.1)


PROBED = "\nN system\nLinux\nN user\nu\nN program\n/x\nN version\n7.2\nN end 0\n"


@pytest.mark.parametrize(
    "observed",
    [
        "\nN end 0\n",
        "\nN running\n\nN end 0\n",
        "\nN running\n\nN processes\n\nN end 0\n",
        "\nN running\n\nN processes\n\nN registry\n\nN end x\n",
        f"\nN running\n\nN processes\n\nN registry\n\nN end {'1' * 5000}\n",
        '\nN running\n"x" {\n\nN processes\n\nN registry\n\nN end 0\n',
    ],
)
def test_poll_with_a_missing_section_is_bad_output(observed: str) -> None:
    scripted = Scripted(probe=PROBED, poll=observed)
    manage = vboxmanage.VBoxManage(HostConfig(user="u", address="h"), scripted)

    with pytest.raises(BadOutput):
        manage.poll(timeout=9)


@pytest.mark.parametrize("name", ["system", "user", "program", "version"])
def test_probe_with_a_missing_section_is_an_error(name: str) -> None:
    probed = PROBED.replace(f"N {name}\n", "N other\n")
    manage = vboxmanage.VBoxManage(HostConfig(user="u", address="h"), Scripted(probe=probed))

    with pytest.raises((BadOutput, vboxmanage.errors.VBoxManageMissing)):
        manage.installation(timeout=9)
