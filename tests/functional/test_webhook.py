# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The requests of MAAS's webhook power type, sent to a real service."""

from __future__ import annotations

import base64
import itertools
import json
import re
import statistics
import time
from concurrent import futures
from typing import TYPE_CHECKING

import pytest

from maas_virtualbox.config import host_list
from maas_virtualbox.host.state import CALL_TIMEOUT_S
from maas_virtualbox.maas import power_parameters
from maas_virtualbox.service.dispatcher import Timings as DispatcherTimings
from maas_virtualbox.simulator import Action, Fault, Simulator, Timings, maas
from maas_virtualbox.virtualbox.states import VMState

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

STATE_MAX_AGE_S = 0.3
QUERY_S = DispatcherTimings().query
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def simulator() -> Generator[Simulator]:
    """A host with many VMs. Each test changes only the VM that it is given."""
    with Simulator(vms=40) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def service(
    simulator: Simulator, tmp_path_factory: pytest.TempPathFactory
) -> Generator[ServiceProcess]:
    """A service for the host with many VMs."""
    entry = f"{simulator.host_entry} name=alpha zone=lab"
    folder = tmp_path_factory.mktemp("service")
    with ServiceProcess(folder, [entry], simulator.key_file) as service:
        yield service


@pytest.fixture(scope="module")
def numbers() -> Iterator[int]:
    """The numbers of VMs that no test has used."""
    return itertools.count(1)


@pytest.fixture
def uuid(simulator: Simulator, numbers: Iterator[int]) -> str:
    """The UUID of a VM that no other test is given."""
    return simulator.virtualbox.vms[next(numbers)].uuid


@pytest.fixture
def own_simulator() -> Generator[Simulator]:
    """A host with four VMs that a test may disturb."""
    with Simulator(vms=4) as simulator:
        yield simulator


@pytest.fixture
def own_service(own_simulator: Simulator, tmp_path: Path) -> Generator[ServiceProcess]:
    """A service for that host, with a short state-max-age."""
    entry = f"{own_simulator.host_entry} name=alpha zone=lab"
    with ServiceProcess(
        tmp_path, [entry], own_simulator.key_file, state_max_age=STATE_MAX_AGE_S
    ) as service:
        yield service


@pytest.fixture
def own_uuid(own_simulator: Simulator) -> str:
    """The UUID of that host's VM node01."""
    return own_simulator.virtualbox.vm("node01").uuid


def at_once(_seconds: float) -> None:
    """Sleep a tenth of the time, for MAAS's driver."""


def head_and_body(answer: bytes) -> tuple[list[str], bytes]:
    """Split a response into the lines of its head, and its body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().split("\r\n"), body


def test_query_of_maas_has_the_recorded_headers(service: ServiceProcess, uuid: str) -> None:
    token = service.secrets.vm_token(uuid)
    request = (
        f"GET /vm/{uuid}/query HTTP/1.1\r\n"
        "Connection: close\r\n"
        f"Host: 127.0.0.1:{service.port}\r\n"
        "User-Agent: MAAS 3.7.3-17604-g.5d1a1b2c3\r\n"
        "Accept: application/json\r\n"
        "System_id: abc123\r\n"
        f"Authorization: Bearer {token}\r\n"
        "\r\n"
    )
    sent = maas.request("GET", service.uri(f"/vm/{uuid}/query"), token=token, system_id="abc123")
    assert sent == request.encode()

    head, body = head_and_body(service.exchange(sent))

    assert head[0] == "HTTP/1.1 200 OK"
    assert "connection: close" in head
    assert "content-type: application/json" in head
    assert body == b'{"status": "stopped"}'


def test_action_of_maas_has_the_recorded_headers(
    service: ServiceProcess, simulator: Simulator, uuid: str
) -> None:
    token = service.secrets.vm_token(uuid)
    request = (
        f"POST /vm/{uuid}/on HTTP/1.1\r\n"
        "Connection: close\r\n"
        "Content-Length: 0\r\n"
        f"Host: 127.0.0.1:{service.port}\r\n"
        "User-Agent: MAAS 3.7.3-17604-g.5d1a1b2c3\r\n"
        "Accept: application/json\r\n"
        f"Authorization: Bearer {token}\r\n"
        "\r\n"
    )
    sent = maas.request("POST", service.uri(f"/vm/{uuid}/on"), token=token)
    assert sent == request.encode()

    head, body = head_and_body(service.exchange(sent))

    assert head[0] == "HTTP/1.1 200 OK"
    assert body == b'{"status": "running"}'
    assert simulator.virtualbox.vm(uuid).state is VMState.RUNNING


@pytest.mark.parametrize("user", ["", "maas"], ids=["bearer", "basic"])
def test_maas_can_power_on_query_power_off_and_cycle(
    service: ServiceProcess, simulator: Simulator, uuid: str, user: str
) -> None:
    pauses: list[float] = []
    driver = service.driver(uuid, user=user, sleep=pauses.append)
    vm = simulator.virtualbox.vm(uuid)

    assert driver.query() == "off"
    driver.power_on()
    assert driver.query() == "on"
    driver.cycle()
    assert vm.starts == 2
    driver.power_off()
    assert driver.query() == "off"

    assert pauses == [1.0] * 4  # no change was repeated
    assert [(each.method, each.uri.rpartition("/")[2]) for each in driver.exchanges] == [
        ("GET", "query"),
        *[("POST", "on"), ("GET", "query")],
        ("GET", "query"),
        ("GET", "query"),
        *[("POST", "off"), ("GET", "query")],
        *[("POST", "on"), ("GET", "query")],
        *[("POST", "off"), ("GET", "query")],
        ("GET", "query"),
    ]
    assert {each.code for each in driver.exchanges} == {200}


def test_answers_match_the_regular_expressions_of_maas() -> None:
    for status, state in (("running", "on"), ("stopped", "off"), ("unknown", None)):
        body = f'{{"status": "{status}"}}'
        found = [
            name
            for name, regex in (
                ("on", power_parameters.ON_REGEX),
                ("off", power_parameters.OFF_REGEX),
            )
            if re.search(regex, body)
        ]
        assert found == ([state] if state else [])


def test_actions_are_idempotent(service: ServiceProcess, simulator: Simulator, uuid: str) -> None:
    driver = service.driver(uuid, sleep=at_once)
    vm = simulator.virtualbox.vm(uuid)

    driver.power_off()
    driver.power_on()
    driver.power_on()
    assert vm.starts == 1
    driver.power_off()
    driver.power_off()
    assert vm.state is VMState.POWEROFF


@pytest.mark.parametrize("slashes", ["", "/", "//"])
def test_trailing_slash_is_the_same_route(
    service: ServiceProcess, uuid: str, slashes: str
) -> None:
    token = service.secrets.vm_token(uuid)
    assert service.request("POST", f"/vm/{uuid}/on{slashes}", token)[0] == 200
    assert service.get(f"/vm/{uuid}/query{slashes}", token) == (200, '{"status": "running"}')


def test_unknown_vm_is_410_which_maas_treats_as_a_failure(
    service: ServiceProcess,
) -> None:
    driver = service.driver(NOBODY, sleep=at_once)
    for _ in range(2):
        with pytest.raises(maas.PowerFailed, match="410"):
            driver.power_on()
    with pytest.raises(maas.PowerFailed, match="410"):
        driver.query()
    code, body = service.request("POST", f"/vm/{NOBODY}/off", service.secrets.vm_token(NOBODY))
    assert code == 410
    assert "no VM matches" in json.loads(body)["error"]


@pytest.mark.parametrize(
    "path",
    [
        "/vm/",
        "/vm//on",
        "/vm/on",
        "/vm/x",
        "/vm/x/reset",
        "/vm/a%0Ab/on",
        "/vm/a/b/on",
        "/vm/%2e%2e/on",
        "/vms/x/on",
        "/",
        "/vm",
    ],
)
def test_power_routes_never_answer_404_or_a_redirect(service: ServiceProcess, path: str) -> None:
    admin = service.secrets.admin_token()
    for uri in (path, path + "/"):
        for token in ("", admin):
            code, body = service.request("POST", uri, token)
            assert code in (400, 401, 405, 410), (uri, code, body)
            assert json.loads(body)["error"]
    if path.startswith("/vm/"):
        assert service.get(path, admin)[0] in (400, 405)


@pytest.mark.parametrize(
    ("method", "verb"), [("GET", "on"), ("PUT", "off"), ("POST", "query"), ("DELETE", "query")]
)
def test_wrong_method_changes_nothing(
    service: ServiceProcess, simulator: Simulator, uuid: str, method: str, verb: str
) -> None:
    token = service.secrets.vm_token(uuid)
    assert service.request(method, f"/vm/{uuid}/{verb}", token)[0] == 405
    assert simulator.virtualbox.vm(uuid).starts == 0


def test_vm_token_gives_access_to_its_vm_only(
    own_service: ServiceProcess, own_simulator: Simulator, own_uuid: str
) -> None:
    other = own_simulator.virtualbox.vm("node02").uuid
    token = own_service.secrets.vm_token(other)
    basic = base64.b64encode(f"x:{token}".encode()).decode()
    wrong = [
        "",
        f"Authorization: Bearer {token}\r\n",
        f"Authorization: Basic {basic}\r\n",
        "Authorization: Basic %%%\r\n",
        "Authorization: Bearer \xff\r\n",
        "Authorization: Digest x\r\n",
        f"Authorization: Bearer {own_service.secrets.vm_token(own_uuid)}x\r\n",
    ]
    for line in wrong:
        request = f"POST /vm/{own_uuid}/on HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{line}\r\n"
        head, body = head_and_body(own_service.exchange(request.encode("latin-1")))
        assert head[0] == "HTTP/1.1 401 Unauthorized", line
        assert 'www-authenticate: Bearer realm="maas-virtualbox"' in head
        assert "this VM's token" in json.loads(body)["error"]
    assert own_simulator.virtualbox.vm(own_uuid).starts == 0
    assert own_service.metric("maas_virtualbox_failed_logins_total") == len(wrong)
    assert "login refused: 127.0.0.1" in own_service.log
    assert token not in own_service.log


def test_admin_token_gives_access_by_any_selector(
    service: ServiceProcess, simulator: Simulator
) -> None:
    vm = simulator.virtualbox.vm("node03")
    for selector in (vm.uuid, vm.uuid.upper(), f"%7B{vm.uuid}%7D", "node03", vm.macs[0]):
        assert service.get(f"/vm/{selector}/query", service.secrets.admin_token())[0] == 200
    code, _ = service.get("/vm/node03/query", service.secrets.vm_token(vm.uuid))
    assert code == 401  # a VM's token is for its UUID


def test_ambiguous_selector_is_a_conflict(
    own_service: ServiceProcess, own_simulator: Simulator
) -> None:
    own_simulator.virtualbox.add_vm("node01")
    time.sleep(2 * STATE_MAX_AGE_S)
    code, body = own_service.request("POST", "/vm/node01/on", own_service.secrets.admin_token())
    assert code == 409
    assert "matches 2 VMs" in json.loads(body)["error"]
    assert own_simulator.count("startvm") == 0


def test_host_down_is_unknown_for_queries_and_503_for_actions(
    own_service: ServiceProcess, own_simulator: Simulator, own_uuid: str
) -> None:
    driver = own_service.driver(own_uuid, sleep=at_once)
    token = own_service.secrets.vm_token(own_uuid)
    own_simulator.close_port()
    time.sleep(2 * STATE_MAX_AGE_S)

    assert driver.query() == "unknown"
    began = time.monotonic()
    assert [driver.query() for _ in range(20)] == ["unknown"] * 20
    assert time.monotonic() - began < 20 * QUERY_S / 4  # no query waits for the host
    code, body = own_service.request("POST", f"/vm/{own_uuid}/on", token)
    assert code == 503
    assert "alpha" in json.loads(body)["error"]
    # A VM that was never listed may be on that host.
    assert own_service.driver(NOBODY).query() == "unknown"
    assert (
        own_service.request("POST", f"/vm/{NOBODY}/on", own_service.secrets.vm_token(NOBODY))[0]
        == 503
    )


def test_maas_retries_succeed_when_the_host_comes_back(
    own_service: ServiceProcess, own_simulator: Simulator, own_uuid: str
) -> None:
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            own_simulator.restart_sshd()
        time.sleep(min(seconds, 2.0))

    own_simulator.close_port()
    driver = own_service.driver(own_uuid, sleep=sleep)
    driver.power_on()

    codes = [each.code for each in driver.exchanges]
    assert codes[:3] == [503, 503, 503]
    assert codes[-2:] == [200, 200]
    assert pauses[:4] == list(maas.PAUSES_S[:4])
    assert own_simulator.virtualbox.vm(own_uuid).starts == 1


def test_repeated_posts_join_the_action_in_progress(tmp_path: Path) -> None:
    with (
        Simulator(vms=1, timings=Timings(start=1.0)) as simulator,
        ServiceProcess(tmp_path, [simulator.host_entry], simulator.key_file) as service,
    ):
        vm = simulator.virtualbox.vm("node01")
        token = service.secrets.vm_token(vm.uuid)
        with futures.ThreadPoolExecutor(10) as threads:
            posts = [
                threads.submit(service.request, "POST", f"/vm/{vm.uuid}/on", token)
                for _ in range(10)
            ]
            assert {post.result()[0] for post in posts} == {200}
        assert vm.starts == 1
        assert simulator.count("startvm") == 1
        assert service.metric("maas_virtualbox_power_actions_total") == 1
        assert "asked 10 times" in service.log


def test_hanging_host_delays_no_query_of_another(tmp_path: Path) -> None:
    with (
        Simulator(vms=20, user="good") as good,
        Simulator(vms=20, user="bad", key_file=good.key_file) as bad,
    ):
        entries = [
            f"{each.host_entry} name={each.user}"
            f" host-key={host_list.key_fingerprint(each.host_key)}"
            for each in (good, bad)
        ]
        with ServiceProcess(tmp_path, entries, good.key_file) as service:
            bad.inject(Fault(Action.HANG, times=1000))
            time.sleep(2.1)  # until the state is too old

            def query(uuid: str) -> tuple[str, float]:
                began = time.monotonic()
                return service.driver(uuid).query(), time.monotonic() - began

            uuids = [f"node{number:02}" for number in range(1, 21)]
            with futures.ThreadPoolExecutor(40) as threads:
                of_bad = [threads.submit(query, bad.virtualbox.vm(name).uuid) for name in uuids]
                of_good = [threads.submit(query, good.virtualbox.vm(name).uuid) for name in uuids]
                assert {job.result()[0] for job in of_good} == {"off"}
                assert statistics.median(job.result()[1] for job in of_good) < QUERY_S
                assert {job.result()[0] for job in of_bad} == {"unknown"}
                assert max(job.result()[1] for job in of_bad) < CALL_TIMEOUT_S
            # From now on, the service knows that the host hangs, until that is too long ago.
            uuid = bad.virtualbox.vm("node01").uuid
            assert min(query(uuid)[1] for _ in range(3)) < QUERY_S
            # A new VM on the other host is found nevertheless, at the next poll.
            assert query(good.virtualbox.vm("node01").uuid)[0] == "off"


def test_action_logs_one_line_without_the_token(
    own_simulator: Simulator, tmp_path: Path, own_uuid: str
) -> None:
    entry = f"{own_simulator.host_entry} name=alpha"
    with ServiceProcess(tmp_path, [entry], own_simulator.key_file, log_format="json") as service:
        service.driver(own_uuid, system_id="abc123", sleep=at_once).power_on()
        service.driver(NOBODY).exchanges.clear()
        service.request("POST", f"/vm/{NOBODY}/on", service.secrets.vm_token(NOBODY))
        lines = [json.loads(line) for line in service.log.splitlines()]

    done, refused = [line for line in lines if line["logger"] == "maas_virtualbox.power"]
    assert done | {"time": "", "message": "", "milliseconds": 0} == {
        "time": "",
        "level": "info",
        "logger": "maas_virtualbox.power",
        "message": "",
        "change": "on",
        "vm": f"alpha/node01 {{{own_uuid}}}",
        "host": "alpha",
        "uuid": own_uuid,
        "client": "127.0.0.1",
        "token": "vm",
        "system-id": "abc123",
        "asked": 1,
        "result": "done",
        "milliseconds": 0,
        "reason": "",
    }
    assert refused["result"] == "unknown-vm"
    assert NOBODY in refused["reason"]
    assert service.secrets.vm_token(own_uuid) not in service.log
    assert service.secrets.master.get_secret_value() not in service.log
