# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent against a simulated host."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from maas_virtualbox.cli import fence_agent
from maas_virtualbox.config import host_list
from maas_virtualbox.simulator import Action, Fault, Simulator
from maas_virtualbox.virtualbox.states import VMState

from tests import hanging_host
from tests.conftest import unavailable

if TYPE_CHECKING:
    from collections.abc import Generator

RNG = Path("/usr/share/cluster/relaxng/metadata.rng")
"""Of Debian's fence-agents."""


class Run(Protocol):
    """Runs the agent in this process: exit code, standard output, standard error."""

    def __call__(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]: ...


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with two VMs."""
    with Simulator(vms=2) as simulator:
        yield simulator


@pytest.fixture
def options(simulator: Simulator, tmp_path: Path) -> list[str]:
    """The options that reach the simulated host."""
    return options_of(simulator.host_entry, simulator, tmp_path)


def options_of(host_entry: str, simulator: Simulator, tmp_path: Path) -> list[str]:
    """Return the options that reach a host."""
    user, _, address = host_entry.partition("@")
    ip, _, port = address.partition(":")
    pins = tmp_path / "known_hosts"
    key = simulator.key_file
    return ["-a", ip, "-u", port, "-l", user, "-k", str(key), f"--known-hosts={pins}"]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The agent, in this process."""

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [fence_agent.NAME, *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as left:
            fence_agent.main()
        out, err = capsys.readouterr()
        assert err.count("\n") <= 1, err
        code = left.value.code
        return code if isinstance(code, int) else 0, out, err

    return run


def test_actions_on_status_off_give_their_codes(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")

    assert run(*options, "-n", "node01", "-o", "status") == (
        fence_agent.EXIT_OFF,
        "Status: OFF\n",
        "",
    )
    assert run(*options, "-n", vm.macs[0], "-o", "on") == (0, "Success: Powered ON\n", "")
    assert run(*options, "-n", vm.uuid, "-o", "status") == (0, "Status: ON\n", "")
    assert run(*options, "-n", "node01", "-o", "off") == (0, "Success: Powered OFF\n", "")
    assert (vm.state, vm.starts, vm.pids) == (VMState.POWEROFF, 1, [])


def test_standard_input_replaces_options(run: Run, simulator: Simulator, tmp_path: Path) -> None:
    user, _, address = simulator.host_entry.partition("@")
    ip, _, port = address.partition(":")
    lines = (
        "# from the cluster\nnodename=node01\naction=on\n"
        f"ip={ip}\nipport={port}\nusername={user}\n"
        f"identity_file={simulator.key_file}\nplug=node01\nknown_hosts={tmp_path / 'pins'}\n"
    )

    code, _, _ = run(stdin=lines)

    assert (code, simulator.virtualbox.vm("node01").state) == (0, VMState.RUNNING)


def test_reboot_is_the_default_and_starts_the_vm_again(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")
    run(*options, "-n", "node01", "-o", "on")

    code, out, _ = run(*options, "-n", "node01")

    assert (code, out) == (0, "Success: Rebooted\n")
    assert (vm.state, vm.starts) == (VMState.RUNNING, 2)


def test_reboot_of_a_vm_that_does_not_start_succeeds(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")
    run(*options, "-n", "node01", "-o", "on")
    vm.start_error = "Out of everything (VERR_NO_MEMORY)"

    code, _, err = run(*options, "-n", "node01", "-o", "reboot")

    assert (code, vm.state) == (0, VMState.POWEROFF)
    assert "the VM is off, as required, but it does not start" in err
    assert "VERR_NO_MEMORY" in err
    assert "VBox.log" not in err


def test_reboot_without_verified_power_off_starts_nothing(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")
    run(*options, "-n", "node01", "-o", "on")
    simulator.inject(Fault(Action.HANG, on="poweroff", times=9))

    code, _, err = run(*options, "-n", "node01", "-o", "reboot", "--power-timeout=1")

    assert (code, vm.state, vm.starts) == (fence_agent.EXIT_FAILED, VMState.RUNNING, 1)
    assert "power off is not done in time" in err


@pytest.mark.parametrize(
    ("state", "code", "shown"),
    [
        (VMState.PAUSED, 0, "ON"),
        (VMState.GURU_MEDITATION, 0, "ON"),
        (VMState.SAVED, fence_agent.EXIT_OFF, "OFF"),
    ],
)
def test_status_of_a_paused_or_crashed_vm_is_on(
    run: Run, options: list[str], simulator: Simulator, state: VMState, code: int, shown: str
) -> None:
    vm = simulator.virtualbox.vm("node01")
    run(*options, "-n", "node01", "-o", "on")
    if state is VMState.SAVED:
        simulator.vboxmanage("controlvm", vm.uuid, "savestate")
    vm.state = state

    assert run(*options, "-n", "node01", "-o", "status")[:2] == (code, f"Status: {shown}\n")


@pytest.mark.parametrize("state", [VMState.PAUSED, VMState.GURU_MEDITATION])
def test_off_ends_a_paused_or_crashed_vm(
    run: Run, options: list[str], simulator: Simulator, state: VMState
) -> None:
    vm = simulator.virtualbox.vm("node01")
    run(*options, "-n", "node01", "-o", "on")
    vm.state = state

    code, _, _ = run(*options, "-n", "node01", "-o", "off")

    assert (code, vm.pids) == (0, [])


def test_reboot_discards_a_saved_state_despite_the_config(
    run: Run, simulator: Simulator, tmp_path: Path
) -> None:
    vm = simulator.virtualbox.vm("node01")
    vm.state = VMState.SAVED
    file = tmp_path / "config.yaml"
    file.write_text(
        f"hosts: {simulator.host_entry}\nssh-private-key-file: {simulator.key_file}\n"
        f"known-hosts-file: {tmp_path / 'pins'}\nsaved-state: resume\noff-mode: acpi\n"
    )

    code, _, _ = run("--config", str(file), "--plug", "node01", "--action", "reboot")

    assert (code, vm.state, vm.last_start_resumed) == (0, VMState.RUNNING, False)


def test_off_fails_while_an_orphaned_process_runs(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    run(*options, "-n", "node01", "-o", "on")
    simulator.virtualbox.remove_ipc_folder()

    code, _, err = run(*options, "-n", "node01", "-o", "off", "--power-timeout=2")

    assert code == fence_agent.EXIT_FAILED
    assert "node01" in err


def test_list_and_list_status_print_all_vms(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    first, second = simulator.virtualbox.vms
    broken = simulator.virtualbox.add_vm("a,b\nc")
    second.accessible = False
    run(*options, "-n", "node01", "-o", "on")

    assert run(*options, "-o", "list")[1].splitlines() == [
        f"{first.uuid},node01",
        f"{second.uuid},<inaccessible>",
        rf"{broken.uuid},a,b\nc",
    ]
    assert run(*options, "-o", "list-status")[1].splitlines() == [
        f"{first.uuid},node01,ON",
        f"{second.uuid},<inaccessible>,UNKNOWN",
        rf"{broken.uuid},a,b\nc,OFF",
    ]


def test_status_of_an_inaccessible_vm_fails(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node01")
    vm.accessible = False

    code, out, err = run(*options, "-n", vm.uuid, "-o", "status")

    assert (code, out) == (fence_agent.EXIT_FAILED, "")
    assert "cannot determine whether it is on: it is inaccessible" in err


def test_monitor_of_a_host_that_answers_prints_nothing(run: Run, options: list[str]) -> None:
    assert run(*options, "-o", "monitor") == (0, "", "")


@pytest.mark.parametrize("action", ["monitor", "list", "status", "on", "off", "reboot"])
def test_any_action_fails_if_the_host_is_down(
    run: Run, options: list[str], simulator: Simulator, action: str
) -> None:
    simulator.close_port()

    code, _, err = run(*options, "-n", "node01", "-o", action)

    assert code == fence_agent.EXIT_FAILED
    assert "Connection refused" in err


@pytest.mark.parametrize("action", ["status", "list", "reboot"])
@pytest.mark.parametrize("point", hanging_host.POINTS)
def test_action_on_a_hanging_host_ends_in_time(
    run: Run, tmp_path: Path, point: str, action: str
) -> None:
    timeouts = ("--login-timeout=0.5", "--shell-timeout=0.5", "--power-timeout=0.5")
    with hanging_host.hanging_host(point) as (simulator, entry):
        began = time.monotonic()
        code, _, _ = run(
            *options_of(entry, simulator, tmp_path), *timeouts, "-n", "node01", "-o", action
        )
        seconds = time.monotonic() - began

    assert code == fence_agent.EXIT_FAILED
    assert seconds < hanging_host.LIBRARY_TIMEOUT_S


def test_status_reads_a_slow_host_once(run: Run, options: list[str], simulator: Simulator) -> None:
    simulator.inject(Fault(Action.DELAY, on="poll", times=9, seconds=2.5))

    code, _, _ = run(*options, "-n", "node01", "-o", "status")

    assert (code, simulator.count("poll")) == (fence_agent.EXIT_OFF, 1)


def test_status_answers_while_another_host_is_down(
    run: Run, simulator: Simulator, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"hosts: {simulator.host_entry}, x@127.0.0.1:1 name=dead\n"
        f"ssh-private-key-file: {simulator.key_file}\nknown-hosts-file: {tmp_path / 'pins'}\n"
    )

    assert run("--config", str(file), "-n", "node01", "-o", "status")[0] == fence_agent.EXIT_OFF
    code, out, err = run("--config", str(file), "-o", "list")

    assert (code, len(out.splitlines())) == (fence_agent.EXIT_FAILED, 2)
    assert "dead: cannot connect" in err
    assert "dead" in run("--config", str(file), "-n", "elsewhere", "-o", "status")[2]


@pytest.mark.parametrize("plug", ["nosuch", "twin"])
def test_off_of_an_unknown_or_ambiguous_vm_fails(
    run: Run, options: list[str], simulator: Simulator, plug: str
) -> None:
    one = simulator.virtualbox.add_vm("twin")
    other = simulator.virtualbox.add_vm("other")
    other.name = "twin"

    code, out, err = run(*options, "-n", plug, "-o", "off")

    assert (code, out) == (fence_agent.EXIT_FAILED, "")
    assert "no VM matches 'nosuch'" in err or (one.uuid in err and other.uuid in err)


def test_monitor_refuses_a_changed_host_key(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    run(*options, "-o", "monitor")
    simulator.change_host_key()

    code, _, err = run(*options, "-o", "monitor")

    assert code == fence_agent.EXIT_FAILED
    assert err.count("SHA256:") == 2


def test_host_key_option_is_the_only_valid_key(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    right = host_list.key_fingerprint(simulator.host_key)

    assert run(*options, "--host-key", right, "-o", "monitor")[0] == 0
    simulator.change_host_key()
    assert run(*options, "--host-key", right, "-o", "monitor")[0] == fence_agent.EXIT_FAILED


def test_delay_applies_to_off_and_reboot_only(run: Run, options: list[str]) -> None:
    began = time.monotonic()
    run(*options, "-n", "node01", "-o", "status", "--delay=60")
    without = time.monotonic() - began
    began = time.monotonic()
    run(*options, "-n", "node01", "-o", "off", "--delay=2")

    assert without < 60
    assert time.monotonic() - began > 2


def test_metadata_needs_no_host(run: Run) -> None:
    code, out, _ = run(stdin="action=metadata\n")

    assert code == 0
    assert '<resource-agent name="fence_maas_virtualbox"' in out


def test_validate_all_connects_to_no_host(
    run: Run, options: list[str], simulator: Simulator
) -> None:
    assert run(*options, "-o", "validate-all")[0] == 0
    options[options.index("-k") + 1] = "/nosuch"
    code, _, err = run(*options, "-o", "validate-all")

    assert (code, simulator.count()) == (fence_agent.EXIT_FAILED, 0)
    assert "the private key /nosuch cannot be used" in err


@pytest.mark.parametrize(
    "stdin", ["", "action=status\n", "password=hunter2\n", "ipport=hunter\nip=h\n"]
)
def test_wrong_usage_is_1_because_2_means_off(run: Run, stdin: str) -> None:
    code, out, err = run(stdin=stdin)

    assert (code, out) == (fence_agent.EXIT_FAILED, "")
    assert err.startswith("fence_maas_virtualbox: ")
    assert "hunter2" not in err


def test_unexpected_error_is_one_line(
    run: Run, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(fence_agent, "_act", fail)

    assert run(*options, "-n", "node01") == (
        fence_agent.EXIT_FAILED,
        "",
        "fence_maas_virtualbox: division by zero\n",
    )


def test_metadata_fits_the_schema_of_fence_agents() -> None:
    xmllint = shutil.which("xmllint")
    if not RNG.exists():
        unavailable(f"{RNG} is missing: apt-get install fence-agents")
    if xmllint is None:
        unavailable("xmllint is missing: apt-get install libxml2-utils")

    done = subprocess.run(
        [xmllint, "--noout", "--relaxng", RNG, "-"],
        input=fence_agent.metadata(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
