# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A hostile host beside a good one: the VMs of the good one are served, whatever it sends.

`python -m tests.benchmarks hostile` also compares the slowest answers. That needs an idle machine.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import pytest

from tests import hostile_host
from tests.benchmarks import hostile
from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_QUIET_S, _ATTACK_S = 1.0, 3.0
_OFF = b'{"status": "stopped"}'
_MOST_TIMES_AS_LONG = 2.0
_MOST_PROCESSOR = 0.7
"""The share of a processor for the service: its own work, and the share of one host."""


@pytest.fixture(scope="module")
def two() -> Generator[hostile_host.TwoHosts]:
    """A good host and a hostile one."""
    with hostile_host.TwoHosts() as two:
        yield two


@pytest.fixture(scope="module")
def service(
    two: hostile_host.TwoHosts, tmp_path_factory: pytest.TempPathFactory
) -> Generator[ServiceProcess]:
    """The power service for both hosts."""
    folder = tmp_path_factory.mktemp("service")
    two.attack(hostile_host.QUIET)
    with ServiceProcess(folder, two.entries, two.key_file) as service:
        yield service


quiet, attacked = hostile.Phase(), hostile.Phase()


@pytest.mark.parametrize("attack", hostile_host.ATTACKS)
def test_vms_of_other_hosts_are_served(
    two: hostile_host.TwoHosts, service: ServiceProcess, attack: str
) -> None:
    two.attack(hostile_host.QUIET)
    quiet.add(hostile.query(service, two.uuids, _QUIET_S))
    two.attack(attack)

    during = hostile.query(service, two.uuids, _ATTACK_S)

    attacked.add(during)
    assert during.answers == {_OFF}
    assert during.processor_s / during.seconds < _MOST_PROCESSOR
    assert during.memory_kib < hostile.memory_max_kib() / 4
    assert service.process.poll() is None


def test_answers_take_no_longer_than_without_attacks() -> None:
    if not attacked.latencies:
        pytest.skip("nothing was measured")
    ratio = statistics.median(attacked.latencies) / statistics.median(quiet.latencies)

    assert ratio < _MOST_TIMES_AS_LONG


def test_hostile_output_logs_no_traceback(service: ServiceProcess) -> None:
    assert "Traceback" not in service.log
    assert len(service.log) < 200_000


@pytest.mark.parametrize(
    "attack", ["exponential quoting", "ignored packets", "2,000 other VMs each time", "slow drip"]
)
def test_sigterm_stops_the_service_during_attacks(
    two: hostile_host.TwoHosts, tmp_path: Path, attack: str
) -> None:
    two.attack(hostile_host.QUIET)
    with ServiceProcess(tmp_path, two.entries, two.key_file) as service:
        two.attack(attack)
        hostile.query(service, two.uuids, _ATTACK_S)
        began = time.monotonic()

        assert service.stop(60) == 0
        assert time.monotonic() - began < hostile.STOP_S
