# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment in the fake region, as the unit tests of its parts need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_virtualbox.config import tokens
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.enlistment import EnlistmentSettings

from tests import fake_maas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maas_virtualbox.host.vm import VM

    from tests.fake_maas import Region

SECRETS = tokens.Secrets.new()
HERE = EnlistmentSettings(SECRETS, "10.0.0.2", 5307)


def plan(
    region: Region, vms: Sequence[VM], settings: EnlistmentSettings = HERE
) -> enlistment.Plan:
    """Read the region and plan."""
    with fake_maas.client(region) as client:
        return enlistment.plan(vms, enlistment.read(client), settings)


def enlist(
    region: Region, vms: Sequence[VM], settings: EnlistmentSettings = HERE
) -> enlistment.Outcome:
    """Read the region, plan, clear the recorded calls, and apply the plan."""
    with fake_maas.client(region) as client:
        made = enlistment.plan(vms, enlistment.read(client), settings)
        region.clear_calls()
        return enlistment.apply(client, made)
