# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Measures the time of a hook without changes, compared with an empty ops charm.

The empty charm is measured twice: with the packages of the packed charm, which include tracing,
and with ops alone. All run in turns on one machine with its own systemd. The packed charm has a
running service and a simulated host.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from pathlib import Path

from maas_virtualbox.simulator import Simulator, Timings

from tests.charm.juju import Juju
from tests.charm.machine import Machine
from tests.service import free_port
from tools import packing

_ROOT = Path(__file__).parents[2]
_EMPTY = _ROOT / "tests/charm/empty"
_TURNS = 15
_MAX_RATIO = 1.5


def run() -> list[tuple[str, str, str, str, str, str]]:
    """Measure. Return the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-") as temporary:
        folder = Path(temporary)
        packed = packing.unpack(packing.pack(_ROOT, folder / "packed"), folder / "packed/charm")
        empty = packing.unpack(packing.pack(_EMPTY, folder / "empty"), folder / "empty/charm")
        same_packages = Path(shutil.copytree(empty, folder / "same-packages"))
        shutil.rmtree(same_packages / "venv")
        shutil.copytree(packed / "venv", same_packages / "venv", symlinks=True)
        with (
            Simulator(vms=10, timings=Timings.real()) as simulator,
            Machine(folder) as machine,
            Juju(folder / "juju") as juju,
        ):
            key = juju.add_secret({"private-key": simulator.key_file.read_text()})
            app = juju.deploy(packed, "packed", on=[machine])
            juju.grant_secret(key, app.name)
            hosts = f"{simulator.host_entry} name=alpha"
            app.config({"hosts": hosts, "listen-port": free_port(), "ssh-private-key": key})
            juju.deploy(same_packages, "same-packages", on=[machine])
            juju.deploy(empty, "empty", on=[machine])
            juju.settle()
            (unit, *_) = juju.units
            assert unit.status[0] == "active", unit.status
            for _ in range(_TURNS):
                for charm_unit in juju.units:
                    charm_unit.fire("config-changed")
            packed_s, same_packages_s, ops_alone_s = (
                statistics.median([seconds for _, seconds in charm_unit.hook_seconds[-_TURNS:]])
                for charm_unit in juju.units
            )
    name = "config-changed without a change, compared with an empty charm"
    return [
        _row(f"{name} with the same packages", packed_s, same_packages_s, _MAX_RATIO),
        _row(f"{name} with ops alone", packed_s, ops_alone_s, None),
    ]


def _row(
    name: str, packed_s: float, empty_s: float, max_ratio: float | None
) -> tuple[str, str, str, str, str, str]:
    ratio = packed_s / empty_s
    limit = "" if max_ratio is None else f"at most {max_ratio}"
    result = "" if max_ratio is None else "ok" if ratio <= max_ratio else "failed"
    times = (f"{packed_s * 1000:.0f} ms", f"{empty_s * 1000:.0f} ms")
    return name, *times, f"{ratio:.2f}", limit, result
