# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""`make test` prepares the machine first: what it installs, and what it says where it cannot."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
OS_RELEASE = Path("/etc/os-release")
SCRIPTS = ("fresh.sh", "prepare.sh")
USED = ("awk", "cut", "dirname", "env", "grep", "mktemp", "rm", "sed", "sh", "sort", "tr", "uname")
"""All that prepare.sh needs, which every Debian has."""
TABLE = """\
# requirement | package | what needs it
python3       | python3 | make
frobnicate    | frob    | functional: frobs
{file}        | frob    | functional: more frobs
quux          | libquux | charm: quuxes
"""


class Machine:
    """A machine with a table of its own, and no programs but those it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = folder / "bin"
        self.programs.mkdir()
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        shutil.copy(TESTS / "prepare.sh", folder)
        (folder / "packages").write_text(TABLE.format(file=folder / "frob.h"))
        for program in USED:
            found = shutil.which(program)
            assert found
            (self.programs / program).symlink_to(found)
        self.add("id", "echo 1000")
        self.add("python3")

    def add(self, program: str, does: str = ":") -> None:
        """Give it a program, or another one of that name."""
        path = self.programs / program
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)

    def become_root_with_apt(self) -> None:
        """Give it root and an apt-get that installs all of the table."""
        bin_, calls = self.programs, self.folder / "calls"
        self.add("id", "echo 0")
        self.add(
            "apt-get",
            f'echo "$*" >> {calls}\n[ "$1" = install ] || exit 0\n: > {self.folder}/frob.h\n'
            f"for name in frobnicate quux; do : > {bin_}/$name; /bin/chmod +x {bin_}/$name; done",
        )

    @property
    def apt_calls(self) -> list[str]:
        """What apt-get was called with."""
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []

    def prepare(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run prepare.sh with a command; by default that shows its environment."""
        return subprocess.run(
            ["/bin/sh", self.folder / "prepare.sh", *(command or ("env",))],
            env={"PATH": str(self.programs), "TMPDIR": str(self.temporary), **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has none of what the tests need but Python."""
    return Machine(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(script: str) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [shellcheck, TESTS / script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_root_with_apt_installs_what_is_missing_and_says_so(machine: Machine) -> None:
    machine.become_root_with_apt()

    done = machine.prepare()

    assert done.returncode == 0, done.stderr
    assert machine.apt_calls == [
        "update -qq",
        "install -y -qq --no-install-recommends frob libquux",
    ]
    assert "  frob               functional: frobs\n" in done.stdout
    assert "  libquux            charm: quuxes\n" in done.stdout


def test_nothing_missing_installs_nothing(machine: Machine) -> None:
    machine.become_root_with_apt()
    machine.prepare()
    calls = machine.apt_calls

    done = machine.prepare()

    assert machine.apt_calls == calls
    assert "installing" not in done.stdout


def test_a_package_that_does_not_help_is_an_error(machine: Machine) -> None:
    machine.become_root_with_apt()
    machine.add("apt-get")

    done = machine.prepare()

    assert done.returncode == 1
    assert "still missing after apt-get install:\nfrobnicate|frob|functional: frobs" in done.stderr
    assert "PATH=" not in done.stdout


def test_another_user_is_shown_one_table_of_what_is_skipped(machine: Machine) -> None:
    done = machine.prepare("true")

    assert done.returncode == 0, done.stderr
    heading, *rows = done.stdout.splitlines()
    assert heading == "These tests will be skipped here:"
    assert [row.split("  ")[1] for row in rows] == [
        "functional: frobs",
        "functional: more frobs",
        "charm: quuxes",
        "charm: nearly all",
        "virtualbox, behaviour: a real VirtualBox",
        "charm: the module with Terraform itself",
        "unit: the fake MAAS against a recording",
    ]
    assert (
        "frobnicate is missing (package frob; these packages are for Debian and Ubuntu" in rows[0]
    )


def test_skips_are_errors_where_nothing_may_be_skipped(machine: Machine) -> None:
    done = machine.prepare(MAAS_VIRTUALBOX_REQUIRE_REAL="1")

    assert done.returncode == 1
    assert "nothing may be skipped" in done.stderr
    assert "PATH=" not in done.stdout


def test_nothing_missing_makes_every_skip_an_error(machine: Machine) -> None:
    machine.become_root_with_apt()

    has_lab = platform.machine() == "x86_64" and bool(
        {"ID=debian", "ID=ubuntu"} & {*OS_RELEASE.read_text().splitlines()}
    )
    assert ("MAAS_VIRTUALBOX_REQUIRE_REAL=1\n" in machine.prepare().stdout) is has_lab


def test_without_python_nothing_runs(machine: Machine) -> None:
    (machine.programs / "python3").unlink()

    done = machine.prepare()

    assert done.returncode == 1
    assert "install these packages first: python3" in done.stderr


def test_the_command_gets_a_temporary_folder_that_goes_with_it(machine: Machine) -> None:
    done = machine.prepare("sh", "-c", ': > "$TMPDIR/left"; echo "$TMPDIR"')

    folder = Path(done.stdout.splitlines()[-1])
    assert folder.parent == machine.temporary
    assert not folder.exists()


def test_prepare_of_a_failing_command_keeps_its_files_and_code(machine: Machine) -> None:
    done = machine.prepare("sh", "-c", ': > "$TMPDIR/left"; exit 7')

    assert done.returncode == 7
    assert [path.name for path in machine.temporary.glob("*/*")] == ["left"]
    assert str(machine.temporary) in done.stderr
