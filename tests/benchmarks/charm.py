# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How long a hook of the packed charm takes that brings nothing new, beside an empty ops charm.

The empty one is measured twice: with the packages of ours, tracing among them, and with ops alone.
All run, in turns, on one machine with a systemd of its own; ours has a service that runs, and a
simulated host.
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
_MOST = 1.5


def run() -> list[tuple[str, str, str, str, str, str]]:
    """Measure; returns the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-") as temporary:
        folder = Path(temporary)
        ours = packing.unpack(packing.pack(_ROOT, folder / "ours"), folder / "ours/charm")
        empty = packing.unpack(packing.pack(_EMPTY, folder / "empty"), folder / "empty/charm")
        alike = Path(shutil.copytree(empty, folder / "alike"))
        shutil.rmtree(alike / "venv")
        shutil.copytree(ours / "venv", alike / "venv", symlinks=True)
        with (
            Simulator(vms=10, timings=Timings.real()) as simulator,
            Machine(folder) as machine,
            Juju(folder / "juju") as juju,
        ):
            key = juju.add_secret({"private-key": simulator.key_file.read_text()})
            app = juju.deploy(ours, "ours", on=[machine])
            juju.grant_secret(key, app.name)
            hosts = f"{simulator.host_entry} name=alpha"
            app.config({"hosts": hosts, "listen-port": free_port(), "ssh-private-key": key})
            juju.deploy(alike, "alike", on=[machine])
            juju.deploy(empty, "empty", on=[machine])
            juju.settle()
            (unit, *_) = juju.units
            assert unit.status[0] == "active", unit.status
            for _ in range(_TURNS):
                for each in juju.units:
                    each.fire("config-changed")
            mine, same, alone = (
                statistics.median([seconds for _, seconds in each.hook_seconds[-_TURNS:]])
                for each in juju.units
            )
    what = "config-changed without a change, beside an empty charm"
    return [
        _row(f"{what} with the same packages", mine, same, _MOST),
        _row(f"{what} with ops alone", mine, alone, None),
    ]


def _row(
    what: str, ours: float, beside: float, most: float | None
) -> tuple[str, str, str, str, str, str]:
    ratio = ours / beside
    mark = "" if most is None else f"at most {most}"
    result = "" if most is None else "ok" if ratio <= most else "failed"
    return what, f"{ours * 1000:.0f} ms", f"{beside * 1000:.0f} ms", f"{ratio:.2f}", mark, result
