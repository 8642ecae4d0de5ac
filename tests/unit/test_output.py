# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the command line prints: errors, and progress where there is no terminal."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.cli import output

if TYPE_CHECKING:
    from collections.abc import Sequence


def lines(
    capsys: pytest.CaptureFixture[str], total: int, step_s: float, *rest: output.Format
) -> Sequence[str]:
    """Return the lines printed while `total` items are done, one every `step_s`."""
    clock = itertools.count(0, step_s)
    with output.count_progress("enlisting", total, *rest, clock=lambda: next(clock)) as tick:
        for _ in range(total):
            tick()
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_count_progress_in_a_pipe_prints_a_line_every_30_s(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed = lines(capsys, 1000, 1.0)

    assert len(printed) == 33
    assert printed[0] == "maas-virtualbox: enlisting: 30 of 1000, about 16 min left"
    assert printed[-1] == "maas-virtualbox: enlisting: 990 of 1000, about 10 s left"


@pytest.mark.parametrize(
    ("total", "step_s", "as_format"),
    [
        (1000, 0.01, output.Format.TABLE),
        (1, 100.0, output.Format.TABLE),
        (99, 9.0, output.Format.JSON),
    ],
)
def test_count_progress_is_silent_if_quick_or_json(
    capsys: pytest.CaptureFixture[str], total: int, step_s: float, as_format: output.Format
) -> None:
    assert lines(capsys, total, step_s, as_format) == []


def test_print_error_lets_no_newline_forge_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.print_error("demo/a\nmaas-virtualbox: demo: all VMs are off\r\nx: failed")

    _, err = capsys.readouterr()
    first, *rest = err.splitlines()
    assert first == "maas-virtualbox: demo/a"
    assert rest == [r"  maas-virtualbox: demo: all VMs are off\r", "  x: failed"]
