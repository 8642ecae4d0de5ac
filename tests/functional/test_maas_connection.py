# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Connections to the configured MAAS."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox import errors
from maas_virtualbox.config.config_file import Config
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.maas import connection

from tests import fake_maas

if TYPE_CHECKING:
    from pathlib import Path


def config(key_file: Path, **options: object) -> Config:
    """Return a configuration with a readable key file."""
    key_file.write_text(f"{fake_maas.KEY}\n")
    return Config.model_validate({"maas-api-key-file": key_file, **options})


def test_find_hosts_with_a_host_list_does_not_ask_maas(tmp_path: Path) -> None:
    loaded = config(tmp_path / "key", hosts="ivan@10.0.0.5 name=one")

    found = connection.find_hosts(loaded, Deadline.after(0))

    assert [host.name for host in found] == ["one"]


def test_find_hosts_from_a_hanging_maas_ends_at_the_deadline(tmp_path: Path) -> None:
    with fake_maas.served() as region:
        region.answers.clear()
        loaded = config(tmp_path / "key", hosts="from-zones", **{"maas-url": region.url})
        began = time.monotonic()

        with pytest.raises(errors.MAASError, match=r"no response from MAAS within 0\.3 s"):
            connection.find_hosts(loaded, Deadline.after(0.3))

        assert time.monotonic() - began < 30
        region.answers.set()


def test_find_hosts_after_the_deadline_sends_nothing(tmp_path: Path) -> None:
    with fake_maas.served() as region:
        loaded = config(tmp_path / "key", hosts="from-zones", **{"maas-url": region.url})

        with pytest.raises(errors.MAASError):
            connection.find_hosts(loaded, Deadline.after(0))

        assert region.calls == []


@pytest.mark.parametrize("module", ["connection", "planner", "power_parameters", "power_template"])
def test_import_without_the_extra_succeeds(module: str) -> None:
    code = f"import sys, maas_virtualbox.maas.{module}; sys.exit('requests' in sys.modules)"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
