# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The systemd unit: systemd itself reads it and rates its exposure."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from tests.conftest import unavailable

TEMPLATES = Path(__file__).parents[2] / "templates"


@pytest.fixture
def unit_file(tmp_path: Path) -> Path:
    """The unit as it is installed, with a program that exists."""
    if not shutil.which("systemd-analyze"):
        unavailable("no systemd-analyze")
    templates = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    path = tmp_path / "maas-virtualbox.service"
    path.write_text(
        templates.get_template("maas-virtualbox.service.j2").render(
            program=Path(sys.executable).with_name("maas-virtualbox"),
            config_file="/etc/maas-virtualbox/config.yaml",
            user="daemon",
            group="daemon",
        )
    )
    return path


def analyze(*arguments: str | Path) -> str:
    """Run systemd-analyze, which must report no problem."""
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_unit_is_valid_for_systemd(unit_file: Path) -> None:
    assert analyze("verify", unit_file) == ""


def test_unit_has_an_exposure_below_three(unit_file: Path) -> None:
    judged = analyze("security", "--offline=true", "--threshold=30", unit_file)
    level = re.search(r"Overall exposure level .*: ([0-9.]+)", judged)
    assert level
    assert float(level[1]) < 3.0


def test_unit_limits_memory_and_threads(unit_file: Path) -> None:
    options = dict(
        line.split("=", 1) for line in unit_file.read_text().splitlines() if "=" in line
    )
    assert options["MemoryMax"] == "1024M"
    assert options["TasksMax"] == "4096"
    # Beyond the limit, the kernel ends the service, and systemd starts it again.
    assert options["Restart"] == "always"


def test_service_notifies_systemd_and_reloads_by_sighup(unit_file: Path) -> None:
    lines = unit_file.read_text().splitlines()
    for line in ("Type=notify", "ExecReload=/bin/kill -HUP $MAINPID", "WatchdogSec=30"):
        assert line in lines
