# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What all tests share: in the gate the real parts are needed, not hoped for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn

import hypothesis
import pytest

from tests.virtualbox.lab import lab as real

if TYPE_CHECKING:
    from collections.abc import Generator

# A busy machine is no reason to fail; and the gate tries the same examples every time, so that
# what it finds is new because the code is.
hypothesis.settings.register_profile("ours", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("ours")


def unavailable(reason: str) -> NoReturn:
    """Skip a test whose real part this machine cannot have; fail where it has to have it."""
    if os.environ.get("MAAS_VIRTUALBOX_REQUIRE_REAL"):
        pytest.fail(f"needed here, but unavailable: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def lab() -> Generator[real.Lab]:
    """A real VirtualBox behind a real sshd; it stays up after the tests, for the next ones."""
    if (reason := real.unsupported()) is not None:
        unavailable(reason)
    with real.leased() as lab:
        lab.up()
        yield lab
