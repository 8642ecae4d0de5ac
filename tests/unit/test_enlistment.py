# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Enlistment of a fleet in which a host lists VMs of another host."""

from __future__ import annotations

import dataclasses

from maas_virtualbox import errors
from maas_virtualbox.config import tokens
from maas_virtualbox.fleet.results import HostReport
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.enlistment import EnlistmentSettings, Kind, MAASInventory

from tests import vms
from tests.vms import A, B

NOTHING = MAASInventory([], [], {})
SETTINGS = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.2", 5307)
OWN = vms.vm("node1", vms.mac(1))
STOLEN = dataclasses.replace(vms.vm("stolen", vms.mac(1), uuid=OWN.uuid), host=B)


def test_plan_fleet_skips_claims() -> None:
    reports = [
        HostReport(A, (OWN,), None, 0.1),
        HostReport(B, (), None, 0.1, claims=(STOLEN,)),
    ]

    plan = enlistment.plan_fleet(reports, NOTHING, SETTINGS)

    (create,) = plan.writing
    assert (create.kind, create.host, create.uuid) == (Kind.CREATE, "a", OWN.uuid)
    (claim,) = plan.of(Kind.SKIP).changes
    assert (claim.host, claim.vm) == ("b", "stolen")
    assert f"trust-vm {OWN.uuid}" in claim.hint
    assert plan.summary() == "1 create, 1 skip"


def test_plan_fleet_skips_claims_of_unreachable_hosts() -> None:
    reports = [
        HostReport(A, (), errors.HostUnreachable("a", "no route"), 0.1),
        HostReport(B, (), None, 0.1, claims=(STOLEN,)),
    ]

    plan = enlistment.plan_fleet(reports, NOTHING, SETTINGS)

    assert plan.writing == ()
    assert [change.kind for change in plan.changes] == [Kind.SKIP]


def test_plan_fleet_filters_claims() -> None:
    reports = [HostReport(B, (), None, 0.1, claims=(STOLEN,))]

    settings = dataclasses.replace(SETTINGS, name="node*")

    assert enlistment.plan_fleet(reports, NOTHING, settings).changes == ()
