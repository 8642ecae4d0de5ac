# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Gives every test of the suite a simulated host, and the same test a real VirtualBox, once with a
key that may do all and once with a restricted key.

`-m "not real"` and `-m real` choose one of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.behaviour import benches

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from maas_virtualbox import Fleet

    from tests.virtualbox.lab.lab import Lab


@pytest.fixture(
    params=[
        "simulator",
        pytest.param("virtualbox", marks=pytest.mark.real),
        pytest.param("restricted", marks=pytest.mark.real),
    ]
)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[benches.Bench]:
    """A host with ten VMs, all off, simulated or real."""
    if request.param == "simulator":
        with benches.simulated() as bench:
            yield bench
        return
    lab: Lab = request.getfixturevalue("lab")
    lab.start_sshd()
    lab.reset("vbox10")
    if request.param == "restricted":
        yield benches.GatedBench(lab, "vbox10", tmp_path)
        lab.authorize()
    else:
        yield benches.RealBench(lab)


@pytest.fixture
def fleet(bench: benches.Bench) -> Generator[Fleet]:
    """A fleet of the bench's one host."""
    with benches.fleet_of(bench) as fleet:
        yield fleet
