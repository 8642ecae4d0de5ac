# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How long a hook of the packed charm takes that brings nothing new, beside an empty ops charm.

Both are packed by charmcraft and run, in turns, on one machine with a systemd of its own; ours has
a service that runs and a simulated host.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from maas_virtualbox.simulator import Simulator, Timings

from tests.charm import packing
from tests.charm.juju import Juju, Unit
from tests.charm.machine import Machine
from tests.service import free_port

_ROOT = Path(__file__).parents[2]
_EMPTY = _ROOT / "tests/charm/empty"
_TURNS = 15
_MOST = 1.5


def run() -> list[tuple[str, str, str, str, str, str]]:
    """Measure; returns the rows of the table."""
    with tempfile.TemporaryDirectory(prefix="maas-virtualbox-") as temporary:
        folder = Path(temporary)
        with (
            Simulator(vms=10, timings=Timings.real()) as simulator,
            Machine(folder) as machine,
            Juju(folder / "juju") as juju,
        ):
            ours, empty = (_deploy(juju, machine, each, folder) for each in (_ROOT, _EMPTY))
            key = juju.add_secret({"private-key": simulator.key_file.read_text()})
            juju.grant_secret(key, ours.application.name)
            ours.application.config(
                {
                    "hosts": f"{simulator.host_entry} name=alpha",
                    "listen-port": free_port(),
                    "ssh-private-key": key,
                }
            )
            juju.settle()
            assert ours.status[0] == "active", ours.status
            for _ in range(_TURNS):
                for unit in (ours, empty):
                    unit.fire("config-changed")
            medians = [
                statistics.median([seconds for _, seconds in unit.hook_seconds[-_TURNS:]])
                for unit in (ours, empty)
            ]
    ratio = medians[0] / medians[1]
    return [
        (
            "config-changed without a change, beside an empty charm",
            f"{medians[0] * 1000:.0f} ms",
            f"{medians[1] * 1000:.0f} ms",
            f"{ratio:.2f}",
            f"at most {_MOST}",
            "ok" if ratio <= _MOST else "failed",
        )
    ]


def _deploy(juju: Juju, machine: Machine, project: Path, temporary: Path) -> Unit:
    folder = Path(tempfile.mkdtemp(dir=temporary))
    charm = packing.unpack(packing.pack(project, folder), folder / "charm")
    (unit,) = juju.deploy(charm, f"charm-{len(juju.applications)}", on=[machine]).units
    juju.settle()
    return unit
