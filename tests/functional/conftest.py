# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What functional tests share: the program, run in this process, and a fleet."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

import pytest

import maas_virtualbox as mv
from maas_virtualbox.cli import main

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox.simulator import Simulator


class Run(Protocol):
    """Runs the program in this process: exit code, standard output, standard error."""

    def __call__(self, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The program, in this process."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["maas-virtualbox", *arguments])
        with pytest.raises(SystemExit) as left:
            main.main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "PRIVATE KEY" not in out + err
        code = left.value.code
        return code if isinstance(code, int) else 0, out, err

    return run


@pytest.fixture
def fleet(simulator: Simulator) -> Generator[mv.Fleet]:
    """A fleet that knows the VMs of the module's fixture `simulator`."""
    hosts = mv.parse_hosts(f"{simulator.host_entry} name=demo")
    with mv.Fleet(hosts, identity=simulator.key_file) as fleet:
        fleet.vms()
        yield fleet
