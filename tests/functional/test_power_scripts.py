# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The guarded start and power-off under every shell that a host may have."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.virtualbox import parsers, shells

from tests.conftest import unavailable

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

UUID = "3a1cf0a1-8d3e-4a0c-9b57-0123456789ab"
OTHER = "3a1cf0a1-8d3e-4a0c-9b57-0123456789ac"
NONCE = "0123456789abcdef"
SHELLS = {"dash": ["dash"], "bash": ["bash", "--posix"], "busybox": ["busybox", "sh"]}
HEAD = f'<Machine uuid="{{{UUID}}}" name="node &quot;1&quot;" OSType="Linux_64"'

VBOXMANAGE = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 9
echo "$*" >> calls
case "$*" in
  "-q startvm"*) [ -e refuse ] && { cat refuse >&2; exit 1; }
    [ -e ends ] || ./VBoxHeadless --comment node1 --startvm "$3" >/dev/null 2>&1 &
    [ -e ends ] || while ! [ -e pid ]; do sleep 0.01; done ;;
  "-q controlvm"*) [ -e refuse ] && { cat refuse >&2; exit 1; }
    [ -e lingers ] || kill "$(cat pid)" ;;
esac
echo "output of $2"
"""
HEADLESS = """\
#!/bin/sh
trap 'kill $!; exit' TERM
sleep 60 &
echo $$ > pid
wait
"""


class Host:
    """An account with a fake VBoxManage that records its arguments and starts processes."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder = folder
        self.shell = shell
        for name, text in (("VBoxManage", VBOXMANAGE), ("VBoxHeadless", HEADLESS)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "VirtualBox.xml").write_text(
            f'<MachineEntry uuid="{{{OTHER}}}" src="other.vbox"/>\n'
            f'<MachineEntry uuid="{{{UUID}}}" src="n&#xF3;de.vbox"/>\n'
        )
        (folder / "other.vbox").write_text(f'{HEAD} stateFile="s.sav">\n')
        self.describe()

    def describe(self, attributes: str = "") -> None:
        """Write the VM's settings file."""
        (self.folder / "n\xf3de.vbox").write_text(f"<?xml?>\n{HEAD}{attributes}>\n")

    def touch(self, name: str, text: str = "") -> None:
        """Change how the fake VBoxManage behaves."""
        (self.folder / name).write_text(text)

    def start(self, guard: shells.StartGuard = "unsaved") -> dict[str, str]:
        """Run the guarded start."""
        return self.run(shells.Posix().start(NONCE, str(self.folder / "VBoxManage"), UUID, guard))

    def power_off(self) -> dict[str, str]:
        """Run the guarded power-off."""
        return self.run(shells.Posix().power_off(NONCE, str(self.folder / "VBoxManage"), UUID))

    def run(self, command: str) -> dict[str, str]:
        """Run a script; return its sections' bodies by name and detail."""
        words = shlex.split(command)
        assert words[3:5] == ["/bin/sh", "-c"]
        done = subprocess.run(
            [*self.shell, *words[4:]],
            capture_output=True,
            timeout=60,
            check=True,
            env={"PATH": "/usr/bin:/bin", "VBOX_USER_HOME": str(self.folder), "U": "x", "A": "x"},
        )
        parts = parsers.parse_sections(NONCE, done.stdout)
        assert parts is not None, done
        return {f"{part.name} {part.detail}".strip(): part.text for part in parts}

    @property
    def calls(self) -> list[str]:
        """What VBoxManage was called with, its polls aside."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if "list" not in line]

    @property
    def pid(self) -> int:
        """The process that runs the VM."""
        return int((self.folder / "pid").read_text())


@pytest.fixture(params=SHELLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Host]:
    """A host with one of the shells; its VM is off."""
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        unavailable(f"no {shell[0]}")
    host = Host(tmp_path, shell)
    yield host
    if (tmp_path / "pid").exists():
        try:
            os.kill(host.pid, signal.SIGTERM)
        except ProcessLookupError:
            return


def test_start_is_one_call_and_a_check(host: Host) -> None:
    sections = host.start()

    assert list(sections) == ["call", "called 0", "done", "end 0"]
    assert sections["call"] == "output of startvm\n"
    assert host.calls == [f"-q startvm {UUID} --type headless"]


@pytest.mark.parametrize("guard", ["any", "readable", "unsaved"])
def test_start_refuses_while_a_process_runs(host: Host, guard: shells.StartGuard) -> None:
    host.start()

    sections = host.start(guard)

    assert list(sections)[:3] == ["running", "processes", "registry"]
    assert f"--startvm {UUID}" in sections["processes"]
    assert len(host.calls) == 1


@pytest.mark.parametrize(
    ("attributes", "allowed"),
    [
        ("", {"any", "readable", "unsaved"}),
        (' aborted="true"', {"any", "readable", "unsaved"}),
        (' stateFile="Snapshots/1.sav"', {"any", "readable"}),
        (' description="x stateFile="', {"any", "readable", "unsaved"}),
        (None, {"any"}),
    ],
)
def test_start_obeys_its_guard(host: Host, attributes: str | None, allowed: set[str]) -> None:
    if attributes is None:
        (host.folder / "n\xf3de.vbox").unlink()
    else:
        host.describe(attributes)
    host.touch("ends")

    started = set[str]()
    for guard in ("any", "readable", "unsaved"):
        before = len(host.calls)
        host.start(guard)
        started |= {guard} if len(host.calls) > before else set()

    assert started == allowed


def test_start_of_an_unknown_vm_is_refused_with_the_state(host: Host) -> None:
    (host.folder / "VirtualBox.xml").write_text("")

    sections = host.start("readable")

    assert sections["registry"] == str(host.folder)
    assert host.calls == []


def test_start_without_settings_files_is_refused(host: Host) -> None:
    (host.folder / "VirtualBox.xml").unlink()

    sections = host.start()

    assert sections["registry"] == "/nowhere"
    assert host.calls == []


def test_start_while_virtualbox_xml_is_replaced_is_refused(host: Host) -> None:
    (host.folder / "VirtualBox.xml").rename(host.folder / "VirtualBox.xml-prev")

    sections = host.start()

    assert sections["registry"] == str(host.folder)
    assert "unreadable" in sections
    assert host.calls == []


def test_poll_sees_all_vms_while_virtualbox_xml_is_replaced(host: Host) -> None:
    replace = "while cp V T; do mv VirtualBox.xml VirtualBox.xml-prev; mv T VirtualBox.xml; done"
    shutil.copy(host.folder / "VirtualBox.xml", host.folder / "V")
    command = shells.Posix().poll(
        NONCE, str(host.folder / "VBoxManage"), settings="all", long=False
    )
    with subprocess.Popen(["/bin/sh", "-c", replace], cwd=host.folder) as replacing:
        try:
            answers = [host.run(command) for _ in range(40)]
        finally:
            replacing.kill()

    readable = [answer for answer in answers if "unreadable" not in answer]
    assert readable
    assert all(answer["registry"] == str(host.folder) for answer in answers)
    assert all(f"machine {{{UUID}}} n&#xF3;de.vbox" in answer for answer in readable)


def test_start_that_fails_gives_exit_code_and_error(host: Host) -> None:
    host.touch("refuse", "VBoxManage: error: no\n")

    sections = host.start()

    assert sections == {"call": "VBoxManage: error: no\n", "called 1": "", "end 1": ""}


def test_start_of_a_vm_that_ends_at_once_gives_the_state(host: Host) -> None:
    host.touch("ends")

    sections = host.start()

    assert "done" not in sections
    assert list(sections)[:3] == ["call", "called 0", "running"]


def test_the_name_of_another_vm_does_not_refuse_a_start(host: Host) -> None:
    name = ["--comment", f"--startvm {UUID}", "--startvm", OTHER]
    other = subprocess.Popen(["/bin/sh", "-c", "sleep 60; exit", "VBoxHeadless", *name])
    try:
        sections = host.start()
    finally:
        other.kill()
        other.wait()

    assert "done" in sections


def test_power_off_waits_until_the_process_is_gone(host: Host) -> None:
    host.start()

    sections = host.power_off()

    assert list(sections) == ["call", "called 0", "done", "end 0"]
    assert host.calls[1:] == [f"-q controlvm {UUID} poweroff"]
    processes = subprocess.run(
        ["ps", "-e", "-ww", "-o", "args="], capture_output=True, text=True, timeout=30, check=True
    )
    assert f"--startvm {UUID}" not in processes.stdout


def test_power_off_without_a_process_is_only_a_poll(host: Host) -> None:
    sections = host.power_off()

    assert list(sections)[:3] == ["running", "processes", "registry"]
    assert host.calls == []


def test_power_off_gives_up_on_a_process_that_lingers(host: Host) -> None:
    host.start()
    host.touch("lingers")

    sections = host.power_off()

    assert "done" not in sections
    assert f"--startvm {UUID}" in sections["processes"]
    assert 10 < len(sections["called 0"].strip()) <= 100


def test_power_off_ends_when_its_connection_is_gone(host: Host) -> None:
    host.start()
    host.touch("lingers")
    words = shlex.split(shells.Posix().power_off(NONCE, str(host.folder / "VBoxManage"), UUID))
    script = subprocess.Popen(
        [*host.shell, *words[4:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert script.stdout
    while b"called 0" not in script.stdout.readline():
        assert script.poll() is None
    script.stdout.close()

    assert script.wait(timeout=30) != 0


@pytest.mark.parametrize("uuid", ["", "node1", UUID.upper(), f"{UUID};id", f"$(id){UUID}"])
@pytest.mark.parametrize("shell", [shells.Posix(), shells.Windows()])
def test_scripts_take_nothing_but_a_uuid(shell: shells.Shell, uuid: str) -> None:
    with pytest.raises(ValueError, match="not a UUID"):
        shell.start(NONCE, "/x", uuid, "any")
    with pytest.raises(ValueError, match="not a UUID"):
        shell.power_off(NONCE, "/x", uuid)


def test_a_sleep_of_whole_seconds_ends_in_time(host: Host) -> None:
    host.start()
    host.touch("lingers")
    sleep = host.folder / "sleep"
    sleep.write_text('#!/bin/sh\ncase $1 in *.*) exit 1 ;; esac\nexec /bin/sleep "$1"\n')
    sleep.chmod(0o755)
    command = shells.Posix().power_off(NONCE, str(host.folder / "VBoxManage"), UUID)
    words = shlex.split(command)
    words[5] = f"PATH={host.folder}:$PATH; {words[5]}"
    began = time.monotonic()

    host.run(shlex.join(words))

    assert time.monotonic() - began < 30  # 3 s if nothing else runs
