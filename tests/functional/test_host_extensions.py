# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The scripts for VirtualBox hosts under every shell they may meet: what the gate lets through."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maas_virtualbox.host import scripts
from maas_virtualbox.virtualbox import shells

from tests.conftest import unavailable

SHELLS = {
    "dash": ["dash"],
    "bash": ["bash", "--posix"],
    "busybox": ["busybox", "sh"],
}
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
UUID = "3a1cf0a1-8d3e-4a0c-9b57-0123456789ab"
OTHER = "3a1cf0a1-8d3e-4a0c-9b57-0123456789ac"
NONCE = "0123456789abcdef"
GUARDS: tuple[shells.StartGuard, ...] = ("any", "readable", "unsaved")
LIST = f"""\
"node01" {{{UUID}}}
"node 02 'x' $(touch pwned)" {{{OTHER}}}
"twin" {{3a1cf0a1-8d3e-4a0c-9b57-000000000001}}
"twin" {{3a1cf0a1-8d3e-4a0c-9b57-000000000002}}
"0800270000aa" {{3a1cf0a1-8d3e-4a0c-9b57-000000000003}}
"<inaccessible>" {{3a1cf0a1-8d3e-4a0c-9b57-000000000004}}
"""


class Machine:
    """An account with the scripts and a fake VBoxManage that records its arguments."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        self.folder = folder
        self.shell = shell
        self.vboxmanage = folder / "VBoxManage"
        self.calls_file = folder / "calls"
        (folder / "list").write_text(LIST)
        self.vboxmanage.write_text(
            "#!/bin/sh\n"
            f'echo "$*" >> {self.calls_file}\n'
            'case "$*" in\n'
            f'  "-q list vms") cat {folder}/list ;;\n'
            f'  "-q list runningvms") grep node01 {folder}/list ;;\n'
            "  --version) echo 7.2.22r1 ;;\n"
            "esac\n"
        )
        self.vboxmanage.chmod(0o755)
        for name, text in scripts.scripts((str(self.vboxmanage),)).items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)

    def run(
        self, name: str, *arguments: str, command: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the scripts, as the gate with SSH_ORIGINAL_COMMAND."""
        return subprocess.run(
            [*self.shell, str(self.folder / name), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            cwd=self.folder,
            env={
                "HOME": str(self.folder),
                "PATH": "/usr/bin:/bin",
                **({"SSH_ORIGINAL_COMMAND": command} if command else {}),
            },
        )

    @property
    def calls(self) -> list[str]:
        """What VBoxManage was called with."""
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A machine with one of the shells."""
    shell = SHELLS[request.param]
    if not shutil.which(shell[0]):
        unavailable(f"no {shell[0]}")
    return Machine(tmp_path, shell)


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, ["sh"])
    files = [machine.folder / name for name in scripts.SCRIPTS]
    done = subprocess.run(
        [SHELLCHECK, "--shell=sh", "--severity=style", *files],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# -- The legacy scripts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "selector",
    ["node01", UUID, UUID.upper(), f"{{{UUID}}}", "01:23:45:67:89:ab", "01-23-45-67-89-AB"],
)
def test_a_vm_is_found_by_name_uuid_and_uuid_tail(machine: Machine, selector: str) -> None:
    for name, call in (
        ("startvm", f"-q startvm {UUID} --type headless"),
        ("stopvm", f"-q controlvm {UUID} acpipowerbutton"),
        ("killvm", f"-q controlvm {UUID} poweroff"),
    ):
        done = machine.run(name, selector)
        assert done.returncode == 0, done.stderr
        assert machine.calls[-1] == call
    assert machine.run("checkvm", selector).stdout == "on\n"


def test_a_hostile_name_is_a_name(machine: Machine) -> None:
    assert machine.run("startvm", "node 02 'x' $(touch pwned)").returncode == 0
    assert machine.calls[-1] == f"-q startvm {OTHER} --type headless"
    assert machine.run("checkvm", "node 02 'x' $(touch pwned)").stdout == "off\n"
    assert not (machine.folder / "pwned").exists()


@pytest.mark.parametrize(
    ("selector", "words"),
    [
        ("node0", "no VM matches node0"),
        ("", "no VM matches"),
        ("89:ab", "no VM matches 89:ab"),
        ("$(touch pwned)", "no VM matches $(touch pwned)"),
        ("twin", "several VMs match twin"),
        (".*", "no VM matches .*"),
    ],
)
def test_what_fits_no_vm_or_several_starts_nothing(
    machine: Machine, selector: str, words: str
) -> None:
    for name in ("startvm", "stopvm", "killvm", "checkvm"):
        done = machine.run(name, selector)
        assert done.returncode == 1
        assert f"{name}: {words}" in done.stderr
        assert done.stdout == ""
    assert set(machine.calls) == {"-q list vms"}
    assert not (machine.folder / "pwned").exists()


def test_the_number_of_arguments_is_one(machine: Machine) -> None:
    for arguments in ((), ("node01", "twin")):
        done = machine.run("startvm", *arguments)
        assert done.returncode == 1
        assert "expected one VM" in done.stderr
    assert machine.calls == []


# -- The gate ---------------------------------------------------------------------------------


def allowed(program: str) -> list[str]:
    """Command lines the library sends."""
    lines: list[str] = []
    for locale in ("C.UTF-8", "en_US.UTF-8"):
        shell = shells.Posix(locale)
        lines += [
            shell.probe(NONCE, ""),
            shell.probe(NONCE, program),
            *(
                shell.poll(NONCE, program, settings=read, long=long)
                for read in ("heads", "all")
                for long in (False, True)
            ),
            shell.inspect(NONCE, program, "/"),
            shell.inspect(NONCE, program, "/home/x/VirtualBox VMs"),
            shell.run(program, ["list", "vms"]),
            shell.run(program, ["list", "--long", "vms"]),
            shell.run(program, ["showvminfo", UUID, "--machinereadable"]),
            *(shell.start(NONCE, program, UUID, guard) for guard in GUARDS),
            shell.power_off(NONCE, program, UUID),
            shell.run(program, ["discardstate", UUID]),
            *(
                shell.run(program, ["controlvm", UUID, verb])
                for verb in ("acpipowerbutton", "reset", "resume")
            ),
        ]
    return [
        *lines,
        shells.Posix().tail("/home/x/VirtualBox VMs/node01/Logs/VBox.log", 15),
        shells.Posix().tail("/srv/vms/a/Logs/VBox.log", 200),
        shells.Posix().tail("/srv/vms/ěšč/Logs/VBox.log", 1),
    ]


def refused(program: str) -> list[str]:
    """Command lines nobody may send through the gate."""
    plain = shells.Posix().run(program, ["startvm", UUID, "--type", "headless"])
    discard = shells.Posix().run(program, ["discardstate", UUID])
    start = shells.Posix().start(NONCE, program, UUID, "any")
    off = shells.Posix().power_off(NONCE, program, UUID)
    poll = shells.Posix().poll(NONCE, program, settings="heads", long=False)
    probe = shells.Posix().probe(NONCE, "")
    tail = shells.Posix().tail("/srv/vms/a/Logs/VBox.log", 15)
    inspect = shells.Posix().inspect(NONCE, program, "/srv")
    evil = "touch pwned"
    return [
        "",
        "true",
        "id",
        "sh",
        "/bin/sh -c 'touch pwned'",
        evil,
        *(
            f"{line}{glue}{evil}"
            for line in (start, off, discard, probe, tail, inspect)
            for glue in ("; ", " | ", " && ", " & ", "\n")
        ),
        *(
            f"{evil}{glue}{line}"
            for line in (start, discard)
            for glue in ("; ", " && ", "\n", " | ")
        ),
        *(f"{line} $({evil})" for line in (start, off, discard, poll, probe, tail, inspect)),
        *(f"{line} `{evil}`" for line in (start, tail, inspect)),
        *(f"{line} > pwned" for line in (start, tail, inspect)),
        *(f"{line} " for line in (start, off, discard, poll, probe)),
        f" {start}",
        plain,
        shells.Posix().run(program, ["controlvm", UUID, "poweroff"]),
        *(
            line.replace(UUID, text)
            for line in (start, off, discard)
            for text in (
                "node01",
                UUID[:-1],
                UUID + "0",
                UUID.upper(),
                f"{UUID} {OTHER}",
                f"{UUID};{evil}",
                f"$({evil})",
                "@UUID@",
            )
        ),
        *(
            line.replace(program, "/bin/echo").replace("LC_ALL=C.UTF-8", locale)
            for line in (start, off, discard)
            for locale in ("LC_ALL=C.UTF-8", "LC_ALL=C")
        ),
        *(
            line.replace("exec env", f"env {shlex.quote('X=;' + evil)}")
            for line in (start, off, discard)
        ),
        *(
            line.replace("LC_ALL=C.UTF-8", text)
            for line in (start, off, discard)
            for text in ("LD_PRELOAD=/tmp/x.so", f"LC_ALL=C.UTF-8 HOME=$({evil})")
        ),
        start.replace(" any ", " all "),
        start.replace(" any ", " "),
        start.replace("--type headless", "--type gui"),
        start.replace("startvm", "unregistervm"),
        start.replace("--type headless", "--delete"),
        start.replace(NONCE, NONCE[:-1]),
        start.replace("function hex", f'BEGIN {{ system("{evil}") }} function hex'),
        off.replace("poweroff", "savestate"),
        off.replace("sleep 1", evil),
        off.replace("function hex", f'BEGIN {{ system("{evil}") }} function hex'),
        plain.replace("headless", "gui"),
        plain.replace("startvm", "unregistervm"),
        shells.Posix().run(program, ["controlvm", UUID, "savestate"]),
        shells.Posix().run(program, ["guestcontrol", UUID, "run", "/bin/sh"]),
        shells.Posix().run(program, ["list", "hdds"]),
        shells.Posix().run(program, ["modifyvm", UUID, "--memory", "4"]),
        shells.Posix().run(program, ["unregistervm", UUID, "--delete"]),
        shells.Posix().run(program, ["createvm", "--name", "x", "--uuid", UUID, "--register"]),
        shells.Posix().run(program, ["createmedium", "disk", "--filename", "/x", "--size", "1"]),
        shells.Posix().run(program, ["closemedium", "disk", "/x", "--delete"]),
        shells.Posix().run(program, ["storagectl", UUID, "--name", "SATA", "--add", "sata"]),
        shells.Posix().run(program, ["setextradata", UUID, "maas-virtualbox/made", UUID]),
        shells.Posix().run(program, ["getextradata", UUID, "maas-virtualbox/made"]),
        shells.Posix().run(program, ["list", "--long", "hdds"]),
        shells.Posix().run(program, ["list", "bridgedifs"]),
        poll.replace(NONCE, "@NONCE@"),
        poll.replace(NONCE, NONCE[:-1]),
        poll.replace(NONCE, NONCE + "0"),
        poll.replace(NONCE, f"$({evil})"),
        poll.replace("heads", "tails"),
        poll.replace("runningvms", f"runningvms; {evil}"),
        probe.replace("uname -s", evil),
        inspect.replace(" /srv", f" '/srv'; {evil}"),
        inspect.replace(" /srv", f" '/srv' '{evil}'"),
        inspect.replace(" /srv", f" /srv;{evil}"),
        inspect.replace(" /srv", f" '/srv'\"'\"'$({evil})'\"'\"''"),
        shells.Posix().tail("/home/x/.ssh/id_ed25519", 15),
        shells.Posix().tail("/etc/passwd", 15),
        shells.Posix().tail("/srv/../etc/Logs/VBox.log", 15),
        shells.Posix().tail("/srv/it's/Logs/VBox.log", 15),
        shells.Posix().tail("relative/Logs/VBox.log", 15),
        tail.replace("15", "-f"),
        tail.replace("15", "99999"),
        tail.replace("15", "15 /etc/passwd"),
        f"exec tail -n 15 /etc/passwd /Logs/VBox.log; {evil} #/Logs/VBox.log",
        f"exec tail -n 15 '/x'; {evil} '/Logs/VBox.log'",
        f"exec tail -n 15 /x$({evil})/Logs/VBox.log",
        f"exec tail -n 15 '/x/{'y' * 5}\n{evil}'/Logs/VBox.log",
        "exec tail -n 15 ~/Logs/VBox.log",
        "scp -t .",
        "rsync --server . /",
        "internal-sftp",
        "powershell -EncodedCommand AAAA",
        "\x1b]0;x\x07",
        "\xff\xfe",
        "x" * 100_000,
    ]


def test_the_table_is_long_enough() -> None:
    assert len(allowed("/x")) + len(refused("/x")) >= 100


def test_the_gate_lets_through_what_the_library_sends(machine: Machine) -> None:
    for line in allowed(str(machine.vboxmanage)):
        done = machine.run("gate", command=line)
        assert done.returncode != 77, f"refused: {line}"
        assert "gate: refused" not in done.stderr
    # Without a settings file, only the guard "any" allows a start.
    assert machine.calls.count(f"-q startvm {UUID} --type headless") == 2
    assert machine.calls.count(f"-q controlvm {UUID} reset") == 2


def test_the_gate_refuses_all_else_and_runs_none_of_it(machine: Machine) -> None:
    for line in refused(str(machine.vboxmanage)):
        done = machine.run("gate", command=line)
        assert done.returncode == 77, f"let through: {line!r}"
        assert "gate: refused" in done.stderr
        assert done.stdout == ""
    assert machine.calls == []
    assert not (machine.folder / "pwned").exists()
