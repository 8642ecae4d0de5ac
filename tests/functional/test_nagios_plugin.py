# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The monitoring plugin against simulated hosts."""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, Protocol

import pytest

from maas_virtualbox.cli import nagios_plugin
from maas_virtualbox.simulator import Action, Fault, Simulator
from maas_virtualbox.virtualbox.states import VMState

from tests import hanging_host

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

DEAD = "x@127.0.0.1:1 name=dead"


class Run(Protocol):
    """Runs the plugin in this process: exit code, and the lines on standard output."""

    def __call__(self, *arguments: str) -> tuple[int, list[str]]: ...


@pytest.fixture
def simulator() -> Generator[Simulator]:
    """A host with three VMs: one on, one off, one that cannot be read."""
    with Simulator(vms=3) as simulator:
        simulator.vboxmanage("startvm", "node01")
        simulator.virtualbox.vm("node03").accessible = False
        yield simulator


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Run:
    """The plugin, in this process."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        pins = ["--known-hosts", str(tmp_path / "pins")]
        monkeypatch.setattr(sys, "argv", [nagios_plugin.NAME, *pins, *arguments])
        with pytest.raises(SystemExit) as left:
            nagios_plugin.main()
        out, err = capsys.readouterr()
        assert err == ""
        code = left.value.code
        assert isinstance(code, int)
        return code, out.splitlines()

    return run


def hosts(simulator: Simulator, *others: str) -> tuple[str, ...]:
    """The options that name the simulated host, and others."""
    entries = ", ".join((f"{simulator.host_entry} name=demo", *others))
    return ("--hosts", entries, "--key", str(simulator.key_file))


def test_check_of_healthy_hosts_prints_one_line(run: Run, simulator: Simulator) -> None:
    code, lines = run(*hosts(simulator))

    (line,) = lines
    text, _, data = line.partition(" | ")
    assert (code, text) == (nagios_plugin.OK, "VBOX OK - 3 VMs on 1 host, 1 running")
    assert re.fullmatch(
        r"running=1;;;0;3 off=1;;;0;3 unknown=1;;;0;3 vms=3 hosts_up=1;;;0;1"
        r" hosts_down=0;0;0;0;1 slowest=[0-9]+\.[0-9]{2}s",
        data,
    )


def test_check_counts_a_crashed_vm_as_running(run: Run, simulator: Simulator) -> None:
    simulator.virtualbox.crash_vm("node01")

    assert "1 running" in run(*hosts(simulator))[1][0]


def test_check_polls_each_host_once(run: Run, simulator: Simulator) -> None:
    run(*hosts(simulator))

    assert simulator.count("poll") == 1


@pytest.mark.parametrize(
    ("others", "thresholds", "code"),
    [
        ((DEAD,), (), nagios_plugin.WARNING),
        ((DEAD, "x@127.0.0.1:2 name=gone"), (), nagios_plugin.CRITICAL),
        ((DEAD,), ("-c", "0"), nagios_plugin.CRITICAL),
        ((DEAD,), ("-w", "1"), nagios_plugin.OK),
        ((DEAD,), ("-w", "~:5", "-c", "@1:2"), nagios_plugin.CRITICAL),
        ((), ("-w", "1:"), nagios_plugin.WARNING),
    ],
)
def test_thresholds_apply_to_hosts_that_are_down(
    run: Run, simulator: Simulator, others: tuple[str, ...], thresholds: tuple[str, ...], code: int
) -> None:
    assert run(*hosts(simulator, *others), *thresholds)[0] == code


def test_warning_names_the_host_and_the_reason(run: Run, simulator: Simulator) -> None:
    _, (line,) = run(*hosts(simulator, DEAD))

    text, _, data = line.partition(" | ")
    assert text.startswith("VBOX WARNING - 1 of 2 hosts down: dead: cannot connect")
    assert len(text) < 80
    assert "hosts_up=1;;;0;2 hosts_down=1;0;1;0;2" in data


def test_only_host_down_is_critical(run: Run, simulator: Simulator) -> None:
    simulator.close_port()

    code, (line,) = run(*hosts(simulator))

    assert (code, line.endswith("slowest=U")) == (nagios_plugin.CRITICAL, True)


def test_refused_login_is_critical(run: Run, simulator: Simulator) -> None:
    simulator.refuse_logins()

    assert run(*hosts(simulator))[0] == nagios_plugin.CRITICAL


@pytest.mark.parametrize("point", hanging_host.POINTS)
def test_check_of_a_hanging_host_ends_in_time(run: Run, point: str) -> None:
    with hanging_host.hanging_host(point) as (simulator, entry):
        began = time.monotonic()
        code, _ = run("--hosts", entry, "--key", str(simulator.key_file), "-t", "1")
        seconds = time.monotonic() - began

    assert code == nagios_plugin.CRITICAL
    assert seconds < hanging_host.LIBRARY_TIMEOUT_S


def test_check_polls_a_slow_host_once(run: Run, simulator: Simulator) -> None:
    simulator.inject(Fault(Action.DELAY, on="poll", times=9, seconds=2.5))

    code, (line,) = run(*hosts(simulator), "-t", "5")

    assert (code, simulator.count("poll")) == (nagios_plugin.OK, 1)
    assert "slowest=2." in line


def test_verbose_adds_a_line_for_each_host(run: Run, simulator: Simulator) -> None:
    _, (_, *lines) = run(*hosts(simulator, DEAD), "-v")

    assert lines[0].startswith("up demo: 3 VMs, 1 running, ")
    assert lines[1].startswith("DOWN dead: cannot connect")


def test_bar_in_an_error_is_replaced(run: Run) -> None:
    code, (line,) = run("--hosts", "a@h x|y=1")

    assert (code, "unknown option 'x/y'" in line) == (nagios_plugin.UNKNOWN, True)
    assert "|" not in line


def test_config_file_replaces_options(run: Run, simulator: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"hosts: {simulator.host_entry}\nssh-private-key-file: {simulator.key_file}\n")
    simulator.virtualbox.vm("node01").state = VMState.PAUSED

    code, (line,) = run("--config", str(file))

    assert (code, "1 running" in line) == (nagios_plugin.OK, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments --config --hosts is required"),
        (("--hosts", "a@h", "--config", "c"), "not allowed with argument"),
        (("--hosts", ""), "no hosts: use --hosts user@address"),
        (("--hosts", "a@h bogus=1"), "unknown option 'bogus'"),
        (("--hosts", "a@h", "-w", "ten"), "expected a range"),
        (("--hosts", "a@h", "-t", "0"), "the timeout must be more than 0"),
        (("--hosts", "a@h", "-t", "nan"), "the timeout must be more than 0"),
        (("--hosts", "a@h", "--key", "/nosuch"), "the private key /nosuch cannot be used"),
        (("--config", "/nosuch"), "/nosuch: cannot be read"),
    ],
)
def test_wrong_usage_is_unknown(run: Run, arguments: tuple[str, ...], message: str) -> None:
    code, (line,) = run(*arguments)

    assert code == nagios_plugin.UNKNOWN
    assert line.startswith("VBOX UNKNOWN - ")
    assert message in line
    assert len(line) < 80


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
def test_help_and_version_exit_with_unknown(run: Run, option: str) -> None:
    code, lines = run(option)

    assert code == nagios_plugin.UNKNOWN
    assert nagios_plugin.NAME in lines[0]


@pytest.mark.parametrize(
    ("text", "alerts", "silent"),
    [
        ("10", (-1, 10.5, 11), (0, 5, 10)),
        ("10:", (9, -1), (10, 99)),
        ("~:10", (11,), (-99, 0, 10)),
        ("10:20", (9, 21), (10, 15, 20)),
        ("@10:20", (10, 15, 20), (9, 21)),
        ("-5:-1.5", (0, -6), (-5, -1.5)),
        (":3", (-1, 4), (0, 3)),
    ],
)
def test_range_alerts_outside_or_inside(
    text: str, alerts: tuple[float, ...], silent: tuple[float, ...]
) -> None:
    threshold = nagios_plugin.Range.parse(text)

    assert all(threshold.alerts(value) for value in alerts)
    assert not any(threshold.alerts(value) for value in silent)


@pytest.mark.parametrize("text", ["", "@", "~", "a", "20:10", "1:2:3", "~5", "1e3", "10 ", "nan"])
def test_range_refuses_invalid_text(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a range"):
        nagios_plugin.Range.parse(text)
