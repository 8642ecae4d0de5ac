# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists from the zones of MAAS."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pydantic

from maas_virtualbox.maas.client import MAAS
from maas_virtualbox.maas.models import Zone
from maas_virtualbox.maas.zones import hosts_from_zones
from maas_virtualbox.simulator import Simulator

from tests import fake_maas
from tests.fake_maas import KEY
from tests.service import PROGRAM

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_zones_of_maas_1_are_read() -> None:
    with fake_maas.served() as region:
        region.is_old = True
        region.zones["a"] = "x@10.0.0.5"
        with MAAS(f"{region.url}/api/1.0/", pydantic.SecretStr(KEY)) as client:
            assert client.zones() == [Zone("a", "x@10.0.0.5"), Zone("default", "")]
        assert not region.unexpected


def test_hosts_from_zones_skips_invalid_descriptions(caplog: pytest.LogCaptureFixture) -> None:
    found = hosts_from_zones(
        [
            Zone("default", ""),
            Zone("rack", "the old rack, ask Ivan"),
            Zone("izMBP13", " ivan@10.0.0.5\n"),
            Zone("izMBP15", "ivan@10.0.0.6:2222 vboxmanage=/opt/VBoxManage"),
            Zone("evil", "x@y; touch /tmp/pwned"),
            Zone("evil2", "$(touch pwned)@y"),
            Zone("two", "a@b, c@d"),
            Zone("bad\nname", "a@b"),
        ]
    )
    assert [(host.account, host.zone, host.name) for host in found] == [
        ("ivan@10.0.0.5", "izMBP13", "izMBP13"),
        ("ivan@10.0.0.6:2222", "izMBP15", "izMBP15"),
    ]
    for name in ("evil", "evil2", "two"):
        assert f"zone {name}: " in caplog.text


def test_list_from_zones_runs_no_description(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    with Simulator(vms=2) as simulator, fake_maas.served() as region:
        region.zones |= {"izMBP13": simulator.host_entry, "evil": f"x@y; touch {pwned}"}
        key_file = tmp_path / "key"
        key_file.write_text(f"{KEY}\n")
        config = tmp_path / "config.yaml"
        config.write_text(
            f"hosts: from-zones\nmaas-url: {region.url}\nmaas-api-key-file: {key_file}\n"
            f"ssh-private-key-file: {simulator.key_file}\n"
            f"known-hosts-file: {tmp_path / 'pins'}\n"
        )
        done = subprocess.run(
            [PROGRAM, "--config", config, "list", "--format", "json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert {vm["zone"] for vm in json.loads(done.stdout)} == {"izMBP13"}
    assert "zone evil: " in done.stderr
    assert not pwned.exists()
