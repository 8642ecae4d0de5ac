# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command line against a simulated host."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maas_virtualbox.cli import main
from maas_virtualbox.simulator import Action, Fault, Simulator, maas
from maas_virtualbox.version import VERSION
from maas_virtualbox.virtualbox.states import VMState

from tests import hanging_host
from tests.service import interruptible

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.functional.conftest import Run

PROGRAM = Path(sys.executable).with_name("maas-virtualbox")


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with three VMs."""
    with Simulator(vms=3) as simulator:
        yield simulator


@pytest.fixture
def options(simulator: Simulator, tmp_path: Path) -> list[str]:
    """The options that reach the simulated host."""
    hosts = f"{simulator.host_entry} name=demo zone=lab"
    pins = tmp_path / "known_hosts"
    return ["--hosts", hosts, "--key", str(simulator.key_file), "--known-hosts", str(pins)]


def objects(text: str) -> list[dict[str, Any]]:
    """What `--format json` printed."""
    return json.loads(text)


# -- help, version, completion ----------------------------------------------------------------


def test_version_option_prints_the_version(run: Run) -> None:
    assert run("--version") == (0, f"maas-virtualbox {VERSION}\n", "")


def help_lines(run: Run, *arguments: str) -> list[str]:
    """Return what --help prints, without colours."""
    _, out, _ = run(*arguments, "--help")
    return re.sub(r"\x1b\[[0-9;]*m", "", out).splitlines()


def test_help_lists_the_commands_in_groups(run: Run) -> None:
    groups: dict[str, list[str]] = {}
    for line in help_lines(run):
        if heading := re.match(r"╭─ ([\w ]+) ─", line):
            groups[heading[1]] = []
        elif command := re.match(r"│ ([a-z-]+) ", line):
            groups[list(groups)[-1]].append(command[1])
    del groups["Options"]
    assert list(groups.items()) == [
        ("VMs", ["list", "status", "on", "off", "reset", "create", "delete"]),
        ("Service", ["serve", "parameters", "admin-token", "rotate-tokens"]),
        ("MAAS", ["install-template", "remove-template", "maas"]),
        ("Hosts", ["check", "host-setup", "trust", "trust-vm"]),
        ("Try it", ["demo", "simulate"]),
    ]


@pytest.mark.parametrize("command", ["on", "status", "create", "check", "delete"])
def test_usage_has_one_ellipsis_for_many_arguments(run: Run, command: str) -> None:
    usage = next(line for line in help_lines(run, command) if "Usage:" in line)

    assert usage.count("...") == 1
    assert "…" not in usage


def complete(shell: str, words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask the program, as a shell does, what may follow; its last line lists loaded modules."""
    check = (
        "import atexit, sys; sys.argv = ['maas-virtualbox'];"
        "atexit.register(lambda: print('paramiko' in sys.modules, file=sys.stderr));"
        "from maas_virtualbox.cli import main; main.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", check],
        capture_output=True,
        text=True,
        check=False,
        env={
            **{key: value for key, value in os.environ.items() if key != "MAAS_VIRTUALBOX_HOSTS"},
            "_MAAS_VIRTUALBOX_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": words,
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
            **environment,
        },
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_answers_without_a_host_list(shell: str) -> None:
    done = complete(shell, "maas-virtualbox o")

    assert re.findall(r"\bo[nf]+\b", done.stdout)[:1] == ["on"]
    assert done.stderr == "False\n"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("maas-virtualbox maas e", ["enlist"]),
        ("maas-virtualbox list --format j", ["json"]),
        ("maas-virtualbox --format p", ["plain"]),
        ("maas-virtualbox off --ac", ["--acpi"]),
        ("maas-virtualbox on n", [""]),
    ],
)
def test_completion_connects_to_no_host(words: str, answer: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as host:
        host.setblocking(False)
        done = complete(
            "bash", words, MAAS_VIRTUALBOX_HOSTS=f"x@127.0.0.1:{host.getsockname()[1]}"
        )

        with pytest.raises(BlockingIOError):
            host.accept()
    assert done.stdout.rstrip("\n").split("\n") == answer
    assert done.stderr == "False\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_calls_the_program(shell: str) -> None:
    done = complete(shell, "", _MAAS_VIRTUALBOX_COMPLETE=f"source_{shell}")

    assert f"_MAAS_VIRTUALBOX_COMPLETE=complete_{shell}" in done.stdout


def test_show_completion_names_the_program(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("zsh", "/bin/zsh"))

    code, out, _ = run("--show-completion")

    assert (code, out.splitlines()[0]) == (0, "#compdef maas-virtualbox")


# -- VMs --------------------------------------------------------------------------------------


def test_list_as_json_has_the_documented_fields(run: Run, options: list[str]) -> None:
    code, out, _ = run(*options, "list", "--format", "json")

    assert code == 0
    assert [vm["name"] for vm in objects(out)] == ["node01", "node02", "node03"]
    first = objects(out)[0]
    assert first == {
        "host": "demo",
        "zone": "lab",
        "name": "node01",
        "uuid": first["uuid"],
        "macs": ["08:00:27:00:00:01"],
        "state": "poweroff",
        "power": "off",
    }


def test_list_in_a_pipe_prints_a_plain_table(run: Run, options: list[str]) -> None:
    code, out, _ = run("list", *options)

    heading, *rows = out.splitlines()
    assert code == 0
    assert heading.split() == ["HOST", "ZONE", "NAME", "POWER", "STATE", "UUID", "MACS"]
    assert len(rows) == 3
    assert "\x1b" not in out
    assert rows[0].rstrip().endswith("08:00:27:00:00:01")


def test_list_as_plain_separates_cells_by_tabs(run: Run, options: list[str]) -> None:
    _, out, _ = run("--format=plain", "list", *options)

    assert out.splitlines()[0].split("\t")[:5] == ["demo", "lab", "node01", "off", "poweroff"]


def test_on_status_reset_off_act_on_one_vm(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")

    assert run(*options, "on", "node01", vm.macs[0])[0] == 0
    assert objects(run(*options, "status", vm.uuid, "--format", "json")[1])[0]["power"] == "on"
    assert run(*options, "reset", "node01", "--timeout", "5")[0] == 0
    assert run(*options, "off", "node01")[0] == 0
    assert (vm.state, vm.starts) == (VMState.POWEROFF, 1)


def test_off_with_acpi_presses_the_power_button(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.virtualbox.vm("node01").acpi_reaction = 0.1
    run(*options, "on", "node01")

    code, out, _ = run(*options, "off", "--acpi", "node01", "--format", "json")

    assert (code, objects(out)[0]["result"]) == (0, "off")
    assert simulator.count("acpipowerbutton") == 1
    assert simulator.count("poweroff") == 0


def test_on_powers_the_vms_beside_an_unknown_one(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    code, out, err = run(*options, "on", "node01", "nosuch", "node02", "--format", "json")

    assert code == main.EXIT_FAILED
    assert [result["result"] for result in objects(out)] == ["on", "on"]
    assert "no VM matches 'nosuch'" in err
    assert simulator.virtualbox.vm("node02").state is VMState.RUNNING


def test_on_shows_why_a_start_failed(run: Run, options: list[str], simulator: Simulator) -> None:
    simulator.virtualbox.vm("node01").start_error = "Out of everything (VERR_NO_MEMORY)"

    code, out, err = run(*options, "on", "node01")

    assert code == main.EXIT_FAILED
    assert "failed" in out
    assert "Out of everything (VERR_NO_MEMORY)" in err
    assert "VBox.log ends:" in err


@pytest.mark.parametrize("verb", ["list", "status", "on"])
def test_command_on_a_down_host_exits_with_3(run: Run, simulator: Simulator, verb: str) -> None:
    hosts = f"{simulator.host_entry} name=down"
    simulator.close_port()

    vms = [] if verb == "list" else ["node01"]
    code, _, err = run("--hosts", hosts, "--key", str(simulator.key_file), verb, *vms)

    assert code == main.EXIT_HOST_DOWN
    assert "down" in err
    assert "Connection refused" in err


def test_list_shows_hosts_beside_one_that_is_down(run: Run, options: list[str]) -> None:
    options[1] += ", x@127.0.0.1:1 name=dead"

    code, out, err = run(*options, "list", "--format", "json")

    assert code == main.EXIT_HOST_DOWN
    assert len(objects(out)) == 3
    assert "dead: cannot connect" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list",), "no hosts: use --hosts user@address"),
        (("--hosts", "a@h bogus=1", "list"), "unknown option 'bogus'"),
        (("--hosts", "a@h", "--key", "/nosuch", "list"), "the private key /nosuch cannot be used"),
        (("--config", "/nosuch", "list"), "/nosuch: cannot be read"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, _, err = run(*arguments)

    assert code == main.EXIT_USAGE
    assert message in err


def test_config_file_replaces_options(run: Run, simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"hosts: {simulator.host_entry}\nssh-private-key-file: {simulator.key_file}\n"
        f"known-hosts-file: {tmp_path / 'pins'}\n"
    )

    code, out, _ = run("list", "--config", str(file), "--format", "json")

    assert (code, len(objects(out))) == (0, 3)
    assert (tmp_path / "pins").exists()


def test_changed_host_key_is_refused(run: Run, options: list[str], simulator: Simulator) -> None:
    run(*options, "list")
    simulator.change_host_key()

    code, out, err = run(*options, "list", "--format", "json")

    assert (code, objects(out)) == (main.EXIT_HOST_DOWN, [])
    assert err.count("SHA256:") == 2


def test_trust_pins_a_key_by_its_fingerprint_only(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    run(*options, "list")
    simulator.change_host_key()

    _, out, _ = run(*options, "trust", "demo", "--format", "json")
    shown = json.loads(out)
    wrong, _, err = run(*options, "trust", "demo", "--fingerprint", shown["pinned"][0])
    still_refused, _, _ = run(*options, "list")
    trusted, _, _ = run(*options, "trust", "demo", "--fingerprint", shown["presented"])

    assert shown["trusted"] is False
    assert (wrong, still_refused, trusted) == (main.EXIT_HOST_DOWN, main.EXIT_HOST_DOWN, 0)
    assert "nothing was changed" in err
    assert run(*options, "list")[0] == 0


def test_trust_refuses_unlisted_and_listed_pins(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    pinned = ["--hosts", f"{simulator.host_entry} name=demo host-key=SHA256:{'A' * 43}"]

    unknown, _, err = run(*options, "trust", "attic")
    _, out, _ = run(*pinned, "trust", "demo", "--format", "json")
    presented = json.loads(out)["presented"]
    in_the_list, _, other = run(*pinned, "trust", "demo", "--fingerprint", presented)

    assert (unknown, in_the_list) == (main.EXIT_USAGE, main.EXIT_USAGE)
    assert "it has demo" in err
    assert f"change its host-key= to {presented}" in other


def test_list_escapes_hostile_names(run: Run, options: list[str], simulator: Simulator) -> None:
    simulator.virtualbox.add_vm("a\nb\x9b31m[red]x[/red]")

    _, out, _ = run(*options, "list")

    assert r"a\nb\x9b31m[red]x[/red]" in out
    assert "\x9b" not in out


def test_on_accepts_a_name_that_begins_with_a_dash(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.add_vm("--hosts")

    code, _, _ = run(*options, "on", "--", "--hosts")

    assert (code, vm.state) == (0, VMState.RUNNING)


def test_check_reports_wrong_settings(run: Run, options: list[str], simulator: Simulator) -> None:
    bad = simulator.virtualbox.vm("node02")
    bad.boot_order = ("disk", "net", "none", "none")
    simulator.virtualbox.vm("node01").attachment = "hostonly"
    simulator.virtualbox.vm("node03").macs = list(bad.macs)
    simulator.virtualbox.dhcp_networks.append("HostInterfaceNetworking-vboxnet0")

    code, out, _ = run(*options, "check", "demo", "--format", "json")

    found = {(finding["vm"], finding["check"]): finding["level"] for finding in objects(out)}
    assert code == main.EXIT_FAILED
    assert found["", "connection"] == "ok"
    assert found["node02", "boot order"] == "error"
    assert found["node01", "DHCP"] == "error"
    assert found["node03", "MAC"] == "error"


def test_check_reports_a_refused_login(run: Run, options: list[str], simulator: Simulator) -> None:
    simulator.refuse_logins()

    code, out, _ = run(*options, "check", "--format", "json")

    (finding,) = objects(out)
    assert (code, finding["check"]) == (main.EXIT_FAILED, "login")
    assert "authorized_keys" in finding["hint"]


def test_check_of_an_unknown_host_lists_the_hosts(run: Run, options: list[str]) -> None:
    code, _, err = run(*options, "check", "nosuch")

    assert code == main.EXIT_FAILED
    assert "no host 'nosuch' in the host list; it has demo (zone lab)" in err


def test_interrupt_exits_with_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupt)

    assert run("list")[0] == main.EXIT_INTERRUPTED


@pytest.mark.parametrize("command", ["on", "off", "reset"])
@pytest.mark.parametrize("point", hanging_host.POINTS)
def test_action_on_a_hanging_host_ends_in_time(
    run: Run, tmp_path: Path, point: str, command: str
) -> None:
    with hanging_host.hanging_host(point) as (simulator, entry):
        key = ("--key", str(simulator.key_file), "--known-hosts", str(tmp_path / "pins"))
        began = time.monotonic()
        code, _, _ = run("--hosts", entry, *key, command, "node01", "--timeout", "1")
        seconds = time.monotonic() - began

    assert code == main.EXIT_HOST_DOWN
    assert seconds < hanging_host.LIBRARY_TIMEOUT_S


def test_on_powers_a_vm_while_another_host_hangs(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    with hanging_host.hanging_host(hanging_host.BANNER) as (_, entry):
        options[1] += f", {entry} name=hanging"
        code, out, _ = run(*options, "on", "node01", "--timeout", "3", "--format", "json")

    assert (code, objects(out)[0]["result"]) == (0, "on")
    assert simulator.virtualbox.vm("node01").state is VMState.RUNNING


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """MAAS's driver pauses less, and tries twice only."""
    monkeypatch.setattr(maas, "PAUSES_S", (0.1, 0.5))


@pytest.mark.usefixtures("short_pauses")
def test_demo_prints_the_time_of_each_step(run: Run, options: list[str]) -> None:
    code, out, _ = run(*options, "demo")

    assert code == 0
    expected = "3 VMs on, verified, off, verified by MAAS's webhook driver in 18 requests: on "
    assert re.match(rf"{expected}\d+\.", out.splitlines()[-1])


@pytest.mark.usefixtures("short_pauses")
def test_demo_that_fails_leaves_no_vm_on(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.virtualbox.vm("node02").start_error = "broken"

    code, out, _ = run(*options, "demo")

    assert code == main.EXIT_FAILED
    assert "tried, with errors" in out
    assert {vm.state for vm in simulator.virtualbox.vms} == {VMState.POWEROFF}


@pytest.mark.usefixtures("short_pauses")
def test_demo_skips_vms_that_are_on(run: Run, options: list[str], simulator: Simulator) -> None:
    run(*options, "on", "node02")

    code, out, _ = run(*options, "demo")

    assert code == 0
    assert "1 VMs are not off and are skipped" in out
    assert simulator.virtualbox.vm("node02").state is VMState.RUNNING


def test_demo_without_hosts_simulates_one(run: Run) -> None:
    code, out, _ = run("demo", "--vms", "2")

    assert code == 0
    assert "2 VMs on, verified, off, verified" in out


def test_simulate_prints_working_options(tmp_path: Path) -> None:
    with subprocess.Popen(
        interruptible(PROGRAM, "simulate", "--vms", "4"), stdout=subprocess.PIPE, text=True
    ) as simulator:
        try:
            assert simulator.stdout
            options = shlex.split(simulator.stdout.readline())
            listed = subprocess.run(
                [PROGRAM, *options, "--known-hosts", tmp_path / "pins", "list", "--format=plain"],
                capture_output=True,
                text=True,
                check=True,
            )
            simulator.send_signal(signal.SIGINT)
            code = simulator.wait()
        finally:
            simulator.kill()

    assert len(listed.stdout.splitlines()) == 4
    assert code == main.EXIT_INTERRUPTED
    assert not Path(options[options.index("--key") + 1]).exists()


# -- create, delete ---------------------------------------------------------------------------


def test_create_numbers_vms_and_prints_them(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    code, out, _ = run("create", "extra", "--count", "3", "--prefix", "maas-", *options)

    heading, *rows = out.splitlines()
    assert code == 0
    assert heading.split() == ["HOST", "NAME", "RESULT", "SECONDS", "MACS", "UUID"]
    assert [row.split()[:3] for row in rows] == [
        ["demo", name, "created"] for name in ("extra", "maas-01", "maas-02", "maas-03")
    ]
    assert simulator.virtualbox.vm("maas-03").boot_order == ("net", "disk", "none", "none")


def test_create_as_json_has_the_documented_fields(run: Run, options: list[str]) -> None:
    arguments = ("new", "--mac", "0200.5e00.5301", "--memory", "4096", "--nic-model", "virtio")

    code, out, _ = run(*options, "create", *arguments, "--format", "json")

    (made,) = objects(out)
    assert code == 0
    assert made == {
        "host": "demo",
        "name": "new",
        "uuid": made["uuid"],
        "macs": ["02:00:5e:00:53:01"],
        "result": "created",
        "error": None,
        "seconds": made["seconds"],
    }


def test_create_that_fails_exits_with_1(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.inject(
        Fault(Action.FAIL, on="createmedium", stderr="VBoxManage: error: (VERR_DISK_FULL)\n")
    )

    code, out, err = run(*options, "create", "new", "--format", "json")

    assert code == main.EXIT_FAILED
    assert (objects(out)[0]["result"], objects(out)[0]["uuid"]) == ("failed", None)
    assert "demo/new: not created: (VERR_DISK_FULL): free some space on the host" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no VM to create: give names"),
        (("a", "b", "--mac", "08:00:27:00:00:99"), "is for a single VM"),
        (("a;b",), "the name 'a;b' is not allowed"),
        (("--", "-dash"), "the name '-dash' is not allowed"),
        (("a", "--cpus", "0"), "cpus: "),
        (("a", "--attachment", "nat", "--network", "x"), "cannot be used with attachment nat"),
    ],
)
def test_create_validates_before_connecting(
    run: Run, options: list[str], simulator: Simulator, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = run(*options, "create", *arguments)

    assert (code, simulator.count()) == (main.EXIT_USAGE, 0)
    assert message in err


def test_delete_in_a_pipe_requires_yes(
    run: Run, options: list[str], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(*options, "create", "new")
    monkeypatch.setattr(sys, "stdin", io.StringIO())

    code, out, err = run(*options, "delete", "new")
    left = [vm.name for vm in simulator.virtualbox.vms]
    done = run(*options, "delete", "new", "--yes", "--format", "json")

    assert (code, out) == (main.EXIT_USAGE, "")
    assert "use --yes to delete demo/new and the data on their disks" in err
    assert "new" in left
    assert (done[0], objects(done[1])[0]["result"]) == (0, "deleted")
    assert "new" not in [vm.name for vm in simulator.virtualbox.vms]


@pytest.mark.parametrize(("answer", "deleted"), [("y\n", True), ("n\n", False), ("\n", False)])
def test_delete_on_a_terminal_asks(
    run: Run,
    options: list[str],
    simulator: Simulator,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    deleted: bool,
) -> None:
    run(*options, "create", "new")
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)

    code, out, err = run(*options, "delete", "new")

    assert "Delete demo/new and the data on their disks?" in out + err
    assert (code == 0) is deleted
    assert ("new" not in [vm.name for vm in simulator.virtualbox.vms]) is deleted


def test_delete_refuses_unmanaged_vms(run: Run, options: list[str], simulator: Simulator) -> None:
    run(*options, "create", "new")
    run(*options, "on", "new")

    code, out, err = run(
        *options, "delete", "new", "node01", "--yes", "--power-off", "--format=json"
    )

    assert code == main.EXIT_FAILED
    assert [result["result"] for result in objects(out)] == ["deleted", "failed"]
    assert "demo/node01: not deleted: maas-virtualbox did not create it" in err
    assert [vm.name for vm in simulator.virtualbox.vms] == ["node01", "node02", "node03"]
