# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command line against a simulated host."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from maas_virtualbox import cli
from maas_virtualbox.simulator import Simulator, maas
from maas_virtualbox.states import VMState

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


def test_list_as_a_table_in_a_pipe_is_plain_and_whole(run: Run, options: list[str]) -> None:
    code, out, _ = run("list", *options)

    heading, *rows = out.splitlines()
    assert code == 0
    assert heading.split() == ["HOST", "ZONE", "NAME", "POWER", "STATE", "UUID", "MACS"]
    assert len(rows) == 3
    assert "\x1b" not in out
    assert rows[0].rstrip().endswith("08:00:27:00:00:01")


def test_plain_is_cells_apart_by_tabs(run: Run, options: list[str]) -> None:
    _, out, _ = run("--format=plain", "list", *options)

    assert out.splitlines()[0].split("\t")[:5] == ["demo", "lab", "node01", "off", "poweroff"]


def test_on_status_reset_off(run: Run, options: list[str], simulator: Simulator) -> None:
    vm = simulator.virtualbox.vm("node01")

    assert run(*options, "on", "node01", vm.macs[0])[0] == 0
    assert objects(run(*options, "status", vm.uuid, "--format", "json")[1])[0]["power"] == "on"
    assert run(*options, "reset", "node01", "--timeout", "5")[0] == 0
    assert run(*options, "off", "node01")[0] == 0
    assert (vm.state, vm.starts) == (VMState.POWEROFF, 1)


def test_off_by_the_power_button(run: Run, options: list[str], simulator: Simulator) -> None:
    simulator.virtualbox.vm("node01").acpi_reaction = 0.1
    run(*options, "on", "node01")

    code, out, _ = run(*options, "off", "--acpi", "node01", "--format", "json")

    assert (code, objects(out)[0]["result"]) == (0, "off")
    assert simulator.count("acpipowerbutton") == 1
    assert simulator.count("poweroff") == 0


def test_one_unknown_vm_does_not_stop_the_others(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    code, out, err = run(*options, "on", "node01", "nosuch", "node02", "--format", "json")

    assert code == cli.EXIT_FAILED
    assert [result["result"] for result in objects(out)] == ["on", "on"]
    assert "no VM answers to 'nosuch'" in err
    assert simulator.virtualbox.vm("node02").state is VMState.RUNNING


def test_a_start_that_fails_is_shown_with_its_reason_and_log(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.virtualbox.vm("node01").start_error = "Out of everything (VERR_NO_MEMORY)"

    code, out, err = run(*options, "on", "node01")

    assert code == cli.EXIT_FAILED
    assert "failed" in out
    assert "Out of everything (VERR_NO_MEMORY)" in err
    assert "VBox.log ends:" in err


@pytest.mark.parametrize("verb", ["list", "status", "on"])
def test_a_host_that_is_down_is_exit_3(run: Run, simulator: Simulator, verb: str) -> None:
    hosts = f"{simulator.host_entry} name=down"
    simulator.close_port()

    vms = [] if verb == "list" else ["node01"]
    code, _, err = run("--hosts", hosts, "--key", str(simulator.key_file), verb, *vms)

    assert code == cli.EXIT_HOST_DOWN
    assert "down" in err
    assert "Connection refused" in err


def test_the_vms_of_a_good_host_are_listed_beside_a_dead_one(run: Run, options: list[str]) -> None:
    options[1] += ", x@127.0.0.1:1 name=dead"

    code, out, err = run(*options, "list", "--format", "json")

    assert code == cli.EXIT_HOST_DOWN
    assert len(objects(out)) == 3
    assert "dead: cannot connect" in err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("list",), "no hosts: say --hosts user@address"),
        (("--hosts", "a@h bogus=1", "list"), "unknown option 'bogus'"),
        (("--hosts", "a@h", "--key", "/nosuch", "list"), "the private key /nosuch cannot be used"),
        (("--config", "/nosuch", "list"), "/nosuch: cannot be read"),
    ],
)
def test_wrong_usage_is_exit_2_and_a_sentence(
    run: Run, arguments: tuple[str, ...], complaint: str
) -> None:
    code, _, err = run(*arguments)

    assert code == cli.EXIT_USAGE
    assert complaint in err


def test_a_configuration_file_says_the_same_as_options(
    run: Run, simulator: Simulator, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"hosts: {simulator.host_entry}\nssh-private-key-file: {simulator.key_file}\n"
        f"known-hosts-file: {tmp_path / 'pins'}\n"
    )

    code, out, _ = run("list", "--config", str(file), "--format", "json")

    assert (code, len(objects(out))) == (0, 3)
    assert (tmp_path / "pins").exists()


def test_a_changed_host_key_is_refused_with_both_fingerprints(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    run(*options, "list")
    simulator.change_host_key()

    code, out, err = run(*options, "list", "--format", "json")

    assert (code, objects(out)) == (cli.EXIT_HOST_DOWN, [])
    assert err.count("SHA256:") == 2


def test_hostile_names_are_shown_on_one_line_and_reach_no_terminal(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.virtualbox.add_vm("a\nb\x9b31m[red]x[/red]")

    _, out, _ = run(*options, "list")

    assert r"a\nb\x9b31m[red]x[/red]" in out
    assert "\x9b" not in out


def test_a_vm_whose_name_begins_with_a_dash(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.add_vm("--hosts")

    code, _, _ = run(*options, "on", "--", "--hosts")

    assert (code, vm.state) == (0, VMState.RUNNING)


def test_check_finds_what_is_wrong(run: Run, options: list[str], simulator: Simulator) -> None:
    bad = simulator.virtualbox.vm("node02")
    bad.boot_order = ("disk", "net", "none", "none")
    simulator.virtualbox.vm("node01").attachment = "hostonly"
    simulator.virtualbox.vm("node03").macs = list(bad.macs)
    simulator.virtualbox.dhcp_networks.append("HostInterfaceNetworking-vboxnet0")

    code, out, _ = run(*options, "check", "demo", "--format", "json")

    found = {(finding["vm"], finding["check"]): finding["level"] for finding in objects(out)}
    assert code == cli.EXIT_FAILED
    assert found["", "connection"] == "ok"
    assert found["node02", "boot order"] == "error"
    assert found["node01", "DHCP"] == "error"
    assert found["node03", "MAC"] == "error"


def test_check_of_a_host_that_refuses_the_login(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    simulator.refuse_logins()

    code, out, _ = run(*options, "check", "--format", "json")

    (finding,) = objects(out)
    assert (code, finding["check"]) == (cli.EXIT_FAILED, "login")
    assert "authorized_keys" in finding["remedy"]


def test_check_of_an_unknown_host_says_which_there_are(run: Run, options: list[str]) -> None:
    code, _, err = run(*options, "check", "nosuch")

    assert code == cli.EXIT_FAILED
    assert "no host 'nosuch' in the host list; it has demo (zone lab)" in err


def test_interrupted_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupt)

    assert run("list")[0] == cli.EXIT_INTERRUPTED


def test_demo_says_how_long_each_step_took(run: Run, options: list[str]) -> None:
    code, out, _ = run(*options, "demo")

    assert code == 0
    assert out.splitlines()[-1].startswith(
        "3 VMs on, verified, off, verified by MAAS's webhook driver in 18 requests: list 0."
    )


def test_a_demo_that_fails_leaves_no_vm_on(
    run: Run, options: list[str], simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maas, "PAUSES_S", (0.5, 0.5))
    simulator.virtualbox.vm("node02").start_error = "broken"

    code, out, _ = run(*options, "demo")

    assert code == cli.EXIT_FAILED
    assert "NOT all well" in out
    assert {vm.state for vm in simulator.virtualbox.vms} == {VMState.POWEROFF}


def test_a_demo_leaves_vms_alone_that_were_on(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    run(*options, "on", "node02")

    code, out, _ = run(*options, "demo")

    assert code == 0
    assert "1 VMs are not off and are left alone" in out
    assert simulator.virtualbox.vm("node02").state is VMState.RUNNING


def test_demo_without_hosts_simulates_one(run: Run) -> None:
    code, out, _ = run("demo", "--vms", "2")

    assert code == 0
    assert "2 VMs on, verified, off, verified" in out


def test_simulate_prints_options_that_work_and_ends_when_interrupted(tmp_path: Path) -> None:
    with subprocess.Popen(
        [PROGRAM, "simulate", "--vms", "4"], stdout=subprocess.PIPE, text=True
    ) as simulator:
        assert simulator.stdout
        options = shlex.split(simulator.stdout.readline())
        listed = subprocess.run(
            [PROGRAM, *options, "--known-hosts", tmp_path / "pins", "list", "--format=plain"],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        simulator.send_signal(signal.SIGINT)
        code = simulator.wait(timeout=10)

    assert len(listed.stdout.splitlines()) == 4
    assert code == cli.EXIT_INTERRUPTED
    assert not Path(options[options.index("--key") + 1]).exists()
