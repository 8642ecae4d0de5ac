# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What unit tests share: a fake region of MAAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fake_maas import Region

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture
def region() -> Generator[Region]:
    """A region. The test fails if it receives an unexpected call."""
    made = Region()
    yield made
    assert not made.unexpected
