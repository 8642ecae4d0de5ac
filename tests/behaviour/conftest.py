# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Gives every test of the suite a simulated host, and the same test a real VirtualBox.

`-m "not real"` and `-m real` choose one of the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.behaviour import benches

if TYPE_CHECKING:
    from collections.abc import Generator

    from maas_virtualbox import Fleet

    from tests.virtualbox.lab.lab import Lab


@pytest.fixture(params=["simulator", pytest.param("virtualbox", marks=pytest.mark.real)])
def bench(request: pytest.FixtureRequest) -> Generator[benches.Bench]:
    """A host with ten VMs, all off, simulated or real."""
    if request.param == "simulator":
        with benches.simulated() as bench:
            yield bench
        return
    lab: Lab = request.getfixturevalue("lab")
    lab.start_sshd()
    lab.reset("vbox10")
    yield benches.RealBench(lab)


@pytest.fixture
def fleet(bench: benches.Bench) -> Generator[Fleet]:
    """A fleet of the bench's one host."""
    with benches.fleet_of(bench) as fleet:
        yield fleet
