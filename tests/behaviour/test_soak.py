# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Short runs of the long tests, and that these notice what they are there for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.soak import benches
from tests.soak.truth import Answer, Truth

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

HOSTS = [
    pytest.param(False, id="simulator"),
    pytest.param(True, id="virtualbox", marks=pytest.mark.real),
]


@pytest.mark.parametrize("real", HOSTS)
def test_starvation_leaves_no_query_unknown(tmp_path: Path, *, real: bool) -> None:
    report = benches.starve(tmp_path, real=real, seconds=10.0)

    assert report.is_good, report


@pytest.mark.timeout(300)
@pytest.mark.parametrize("real", HOSTS)
def test_faults_cause_no_wrong_answer(tmp_path: Path, *, real: bool) -> None:
    report = benches.fail(tmp_path, real=real, cycles=60, seed=2)

    assert report.is_good, report
    assert len(report.faults) == 12


OFF: set[int] = set()


@pytest.mark.parametrize(
    ("ran", "power", "is_wrong"),
    [
        ([{1}, {1}, {1}], "off", True),
        ([{1}, {1}, {1}], "on", False),
        ([OFF, OFF, OFF], "on", True),
        ([OFF, OFF, OFF], "off", False),
        ([OFF, {1}, {1}], "off", False),
        ([{1}, OFF, OFF], "on", False),
        # Switched off and on again between two samples: it was off for a moment.
        ([{1}, {2}, {2}], "off", False),
    ],
)
def test_truth_disproves_an_answer(
    ran: list[set[int]], power: Literal["on", "off"], *, is_wrong: bool
) -> None:
    truth = Truth(dict, max_age=10.0)
    began = time.monotonic()
    for pids in ran:
        truth.add({"vm": pids})

    assert truth.disproves(Answer("vm", power, began, time.monotonic())) is is_wrong


def test_truth_notices_a_duplicate_process() -> None:
    truth = Truth(dict, max_age=10.0)

    truth.add({"vm": {1, 2}})
    assert not truth.duplicates  # one of them may just be ending
    truth.add({"vm": {1, 2}})

    assert truth.duplicates == ["vm: [1, 2]"]
