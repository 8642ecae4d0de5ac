# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS switches VMs through the power service."""

from __future__ import annotations

import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox import parse_hosts
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.simulator import maas

from tests.behaviour import benches
from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path


SNAPSHOT_AGE_S = 0.3


@pytest.fixture
def service(bench: benches.Bench, tmp_path: Path) -> Generator[ServiceProcess]:
    """A power service for the bench's host, which soon forgets what it has seen."""
    entry = f"{bench.host_entry} name=bench zone=lab"
    with ServiceProcess(
        tmp_path, [entry], bench.key_file, state_max_age=SNAPSHOT_AGE_S
    ) as service:
        yield service


@pytest.fixture
def uuids(bench: benches.Bench) -> list[str]:
    """The UUIDs of the bench's VMs."""
    with Fleet(parse_hosts(bench.host_entry), identity=bench.key_file) as fleet:
        return [vm.uuid for vm in fleet.vms()]


def test_on_query_off_and_cycle(
    service: ServiceProcess, bench: benches.Bench, uuids: list[str]
) -> None:
    driver = service.driver(uuids[0], system_id="abc123")

    assert driver.query() == "off"
    driver.power_on()
    assert driver.query() == "on"
    assert bench.processes(uuids[0]) == 1
    driver.cycle()
    assert driver.query() == "on"
    assert bench.processes(uuids[0]) == 1
    driver.power_off()
    assert driver.query() == "off"
    assert bench.processes(uuids[0]) == 0

    assert {each.code for each in driver.exchanges} == {200}
    posts = [each for each in driver.exchanges if each.method == "POST"]
    assert len(posts) == 4  # no change needed a second try


def test_ten_vms_at_once(service: ServiceProcess, uuids: list[str]) -> None:
    drivers = [service.driver(uuid) for uuid in uuids]
    with futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(maas.Driver.power_on, drivers))
        assert set(threads.map(maas.Driver.query, drivers)) == {"on"}
        list(threads.map(maas.Driver.power_off, drivers))
        assert set(threads.map(maas.Driver.query, drivers)) == {"off"}


def test_service_killed_during_ten_starts_runs_no_vm_twice(
    service: ServiceProcess, bench: benches.Bench, uuids: list[str]
) -> None:
    with futures.ThreadPoolExecutor(10) as threads:
        for uuid in uuids:
            threads.submit(
                service.request, "POST", f"/vm/{uuid}/on", service.secrets.vm_token(uuid)
            )
        while not any(bench.processes(uuid) for uuid in uuids):
            time.sleep(0.01)
        service.kill()
    service.start()

    # The last that is asked for is: the first five on, the others off.
    on, off = uuids[:5], uuids[5:]
    with futures.ThreadPoolExecutor(10) as threads:
        jobs = [threads.submit(service.driver(uuid).power_on) for uuid in on]
        jobs += [threads.submit(service.driver(uuid).power_off) for uuid in off]
        for job in jobs:
            job.result()

    assert [bench.processes(uuid) for uuid in uuids] == [1] * 5 + [0] * 5


def test_what_others_change_is_seen(
    service: ServiceProcess, bench: benches.Bench, uuids: list[str]
) -> None:
    driver = service.driver(uuids[0])
    assert driver.query() == "off"
    bench.vboxmanage("startvm", uuids[0], "--type", "headless")
    while driver.query() != "on":
        time.sleep(SNAPSHOT_AGE_S)
    bench.kill_vm(uuids[0])
    while driver.query() != "off":
        time.sleep(SNAPSHOT_AGE_S)
