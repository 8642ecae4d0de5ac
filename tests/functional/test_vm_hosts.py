# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A VM belongs to the host on which it was first seen: hosts that list others' VMs."""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid as uuids
from concurrent import futures
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from maas_virtualbox import Fleet, HostsDown, PowerPolicy, errors, parse_hosts
from maas_virtualbox.cli import fence_agent, main, nagios_plugin
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.virtualbox.states import VMState

from tests.service import ServiceProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.functional.conftest import Run

STATE_MAX_AGE_S = 0.2
WAIT_S = 30.0


@pytest.fixture
def laptop() -> Generator[Simulator]:
    """The host that has the VMs node01 and node02."""
    with Simulator(vms=2, user="laptop") as simulator:
        yield simulator


@pytest.fixture
def hostile(laptop: Simulator) -> Generator[Simulator]:
    """A host that will list the VMs of another one."""
    with Simulator(user="hostile", key_file=laptop.key_file) as simulator:
        yield simulator


@pytest.fixture
def uuid(laptop: Simulator) -> str:
    """The UUID of the laptop's node01."""
    return laptop.virtualbox.vm("node01").uuid


def entries(laptop: Simulator, hostile: Simulator) -> list[str]:
    """The host list."""
    return [f"{hostile.host_entry} name=hostile", f"{laptop.host_entry} name=laptop"]


@pytest.fixture
def service(laptop: Simulator, hostile: Simulator, tmp_path: Path) -> Generator[ServiceProcess]:
    """A service that has seen both hosts before one of them became hostile."""
    with ServiceProcess(
        tmp_path, entries(laptop, hostile), laptop.key_file, state_max_age=STATE_MAX_AGE_S
    ) as service:
        yield service


@pytest.fixture
def config_file(laptop: Simulator, hostile: Simulator, tmp_path: Path) -> Path:
    """A configuration file with both hosts."""
    content = {
        "hosts": entries(laptop, hostile),
        "ssh-private-key-file": str(laptop.key_file),
        "known-hosts-file": str(tmp_path / "known_hosts"),
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def steal(hostile: Simulator, uuid: str, name: str = "stolen") -> None:
    """Let the hostile host list another host's VM, and say that it runs."""
    hostile.virtualbox.add_vm(name, uuid=uuid)
    hostile.vboxmanage("startvm", uuid)


def query(service: ServiceProcess, uuid: str) -> tuple[int, str]:
    """Query a VM's power as MAAS does."""
    return service.get(f"/vm/{uuid}/query", service.secrets.vm_token(uuid))


def start_again(service: ServiceProcess) -> None:
    """Start a service that has ended; another program may have its port by now."""
    service.port = free_port()
    service.options["listen"] = f"127.0.0.1:{service.port}"
    service.start()


def switch(service: ServiceProcess, uuid: str, verb: str) -> tuple[int, str]:
    """Switch a VM as MAAS does."""
    return service.request("POST", f"/vm/{uuid}/{verb}", service.secrets.vm_token(uuid))


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what has to happen."""
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


RUNNING, STOPPED, UNKNOWN = (
    (200, f'{{"status": "{status}"}}') for status in ("running", "stopped", "unknown")
)


# -- The service ------------------------------------------------------------------------------


def test_service_ignores_a_claim(
    service: ServiceProcess, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    assert query(service, uuid) == STOPPED
    steal(hostile, uuid)
    wait_until(lambda: service.api("/api/v1/vms")["claims"])

    for _ in range(3):
        assert query(service, uuid) == STOPPED
        assert switch(service, uuid, "on") == RUNNING
        assert switch(service, uuid, "off") == STOPPED
        time.sleep(STATE_MAX_AGE_S)

    assert laptop.virtualbox.vm(uuid).starts == 3
    assert hostile.count("startvm") == hostile.count("poweroff") == 0
    assert hostile.virtualbox.vm(uuid).state is VMState.RUNNING


def test_service_logs_counts_and_shows_a_claim(
    service: ServiceProcess, hostile: Simulator, uuid: str
) -> None:
    query(service, uuid)
    steal(hostile, uuid)
    wait_until(lambda: service.api("/api/v1/vms")["claims"])
    for _ in range(3):
        time.sleep(STATE_MAX_AGE_S)
        service.api("/api/v1/vms")

    shown: dict[str, list[dict[str, Any]]] = service.api("/api/v1/vms")
    assert shown["claims"] == [{"uuid": uuid, "host": "hostile", "first": "laptop"}]
    assert [vm["host"] for vm in shown["vms"] if vm["uuid"] == uuid] == ["laptop"]
    hosts = {host["name"]: host for host in service.api("/api/v1/hosts")["hosts"]}
    assert (hosts["hostile"]["claims"], hosts["hostile"]["vms"]) == (1, 0)
    assert (hosts["laptop"]["claims"], hosts["laptop"]["vms"]) == (0, 2)
    assert service.metric('maas_virtualbox_vm_claims{host="hostile"}') == 1
    assert service.metric('maas_virtualbox_vm_claims{host="laptop"}') == 0
    assert service.metric('maas_virtualbox_vm_claims_made_total{host="hostile"}') == 1
    assert service.log.count(f"hostile lists VMs that are not known to be its own: {uuid}") == 1


def test_service_keeps_vms_of_a_host_that_is_down(
    service: ServiceProcess, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    assert query(service, uuid) == STOPPED
    laptop.close_port()
    steal(hostile, uuid)

    for restarted in (False, True):
        if restarted:
            service.stop()
            start_again(service)
        time.sleep(STATE_MAX_AGE_S)
        assert query(service, uuid) == UNKNOWN
        code, body = switch(service, uuid, "off")
        assert (code, "laptop" in body, "hostile" in body) == (503, True, False)
    assert hostile.count("poweroff") == 0

    laptop.restart_sshd()
    wait_until(lambda: query(service, uuid) == STOPPED)


def test_service_remembers_hosts_after_sigkill(
    service: ServiceProcess, tmp_path: Path, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    wait_until((tmp_path / "vm-hosts.json").exists)
    service.kill()
    laptop.close_port()
    steal(hostile, uuid)

    start_again(service)

    assert query(service, uuid) == UNKNOWN


def test_service_follows_a_vm_that_moved(
    service: ServiceProcess, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    assert query(service, uuid) == STOPPED
    laptop.vboxmanage("unregistervm", uuid, "--delete")
    hostile.virtualbox.add_vm("node01", uuid=uuid)
    time.sleep(STATE_MAX_AGE_S)

    assert switch(service, uuid, "on") == RUNNING
    assert query(service, uuid) == RUNNING
    assert hostile.virtualbox.vm(uuid).state is VMState.RUNNING
    assert "not known to be its own" not in service.log


def test_service_ignores_a_copied_name_and_mac_by_uuid(
    service: ServiceProcess, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    vm = laptop.virtualbox.vm(uuid)
    hostile.virtualbox.add_vm(vm.name, macs=[":".join(vm.macs)])
    hostile.virtualbox.add_vm(uuid)
    time.sleep(STATE_MAX_AGE_S)

    assert query(service, uuid) == STOPPED
    assert switch(service, uuid, "on") == RUNNING
    admin = service.secrets.admin_token()
    code, body = service.get(f"/vm/{vm.name}/query", admin)
    assert (code, json.loads(body)["code"]) == (409, "ambiguous-vm")
    laptop.close_port()
    wait_until(lambda: query(service, uuid) == UNKNOWN)


def test_service_waits_for_a_decision_at_first_sight(
    laptop: Simulator, hostile: Simulator, uuid: str, tmp_path: Path, run: Run
) -> None:
    steal(hostile, uuid)
    with ServiceProcess(
        tmp_path, entries(laptop, hostile), laptop.key_file, state_max_age=STATE_MAX_AGE_S
    ) as service:
        assert query(service, uuid) == UNKNOWN
        code, body = switch(service, uuid, "off")
        assert (code, f"trust-vm {uuid} --host" in body) == (409, True)
        assert {claim["host"] for claim in service.api("/api/v1/vms")["claims"]} == {
            "hostile",
            "laptop",
        }

        options = ("--config", str(service.config_file), "trust-vm", uuid)
        assert run(*options, "--host", "laptop")[0] == 0

        assert query(service, uuid) == STOPPED
        assert switch(service, uuid, "on") == RUNNING
        assert laptop.virtualbox.vm(uuid).state is VMState.RUNNING
        service.signal(signal.SIGHUP)
        service.wait_for_log("reloaded")
        assert query(service, uuid) == RUNNING


def test_trust_vm_takes_effect_in_a_running_service(
    service: ServiceProcess, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    other = laptop.virtualbox.vm("node02").uuid
    assert query(service, uuid) == STOPPED
    for vm in (uuid, other):
        steal(hostile, vm, f"stolen {vm}")

    def trust(vm: str) -> None:
        with Fleet(
            parse_hosts("\n".join(entries(laptop, hostile))),
            identity=laptop.key_file,
            vm_hosts=service.config_file.with_name("vm-hosts.json"),
        ) as fleet:
            fleet.trust_vm(vm, host="hostile")

    with futures.ThreadPoolExecutor() as threads:
        list(threads.map(trust, [uuid, other]))

    assert query(service, uuid) == RUNNING
    assert query(service, other) == RUNNING
    time.sleep(STATE_MAX_AGE_S)
    assert query(service, uuid) == RUNNING


def test_service_limits_the_file_of_a_host_with_changing_vms(
    service: ServiceProcess, hostile: Simulator, uuid: str, tmp_path: Path
) -> None:
    assert query(service, uuid) == STOPPED
    steal(hostile, uuid)
    for _ in range(3):
        listed = [str(uuids.uuid4()) for _ in range(1_000)]
        for vm in listed:
            hostile.virtualbox.add_vm(vm[:8], uuid=vm)
        wait_until(lambda: len(service.api("/api/v1/vms")["vms"]) > 1_000)
        for _ in range(5):
            assert query(service, uuid) == STOPPED
        for vm in listed:
            hostile.vboxmanage("unregistervm", vm)
        wait_until(lambda: len(service.api("/api/v1/vms")["vms"]) == 2)

    assert service.stop() == 0
    assert (tmp_path / "vm-hosts.json").stat().st_size < 500_000
    assert len(service.log) < 20_000


def test_service_starts_with_a_broken_file(
    service: ServiceProcess, tmp_path: Path, uuid: str
) -> None:
    service.stop()
    (tmp_path / "vm-hosts.json").write_text("{")

    start_again(service)

    assert query(service, uuid) == STOPPED
    assert service.log.count("vm-hosts.json: broken, copied to vm-hosts.json.broken") == 1


# -- The library ------------------------------------------------------------------------------


def fleet(laptop: Simulator, hostile: Simulator, path: Path | None = None) -> Fleet:
    """A fleet of both hosts."""
    listed = parse_hosts("\n".join(entries(laptop, hostile)))
    policy = PowerPolicy(state_max_age=0.0)
    return Fleet(listed, identity=laptop.key_file, vm_hosts=path, policy=policy)


def test_fleet_remembers_hosts_in_memory(laptop: Simulator, hostile: Simulator, uuid: str) -> None:
    with fleet(laptop, hostile) as first:
        assert first.find(uuid).host.name == "laptop"
        steal(hostile, uuid)
        assert first.find(uuid).host.name == "laptop"
        reports = {report.host.name: report for report in first.reports()}
        assert (reports["hostile"].vms, len(reports["hostile"].claims)) == ((), 1)
        assert len(reports["laptop"].vms) == 2
        with pytest.raises(errors.ContestedVM, match="belongs to laptop, which"):
            first.find(uuid, host="hostile")
        with pytest.raises(errors.ContestedVM, match=f"trust-vm {uuid} --host hostile"):
            first.find("stolen")
        laptop.close_port()
        with pytest.raises(errors.HostDown, match="laptop"):
            first.find(uuid)
        with pytest.raises(errors.ContestedVM):
            first.find("stolen")

    laptop.restart_sshd()
    with (
        fleet(laptop, hostile) as second,
        pytest.raises(errors.AmbiguousVM, match=f"trust-vm {uuid} --host NAME"),
    ):
        second.find(uuid)


def test_fleet_remembers_hosts_in_a_file(
    laptop: Simulator, hostile: Simulator, uuid: str, tmp_path: Path
) -> None:
    path = tmp_path / "vm-hosts.json"
    with fleet(laptop, hostile, path) as first:
        first.vms()
    steal(hostile, uuid)
    laptop.close_port()

    with fleet(laptop, hostile, path) as second:
        with pytest.raises(errors.HostUnreachable, match=r"^laptop: "):
            second.power_off(uuid)
        with pytest.raises(HostsDown, match=r"^laptop: ") as caught:
            second.vms()
        assert caught.value.vms == []


def test_fleet_finds_a_vm_that_moved_into_the_scope(
    laptop: Simulator, hostile: Simulator, uuid: str, tmp_path: Path
) -> None:
    path = tmp_path / "vm-hosts.json"
    with fleet(laptop, hostile, path) as first:
        first.vms()
    laptop.vboxmanage("unregistervm", uuid, "--delete")
    hostile.virtualbox.add_vm("node01", uuid=uuid)

    before = path.read_text()

    for selector in (uuid, "node01", ""):
        path.write_text(before)
        with fleet(laptop, hostile, path) as second:
            found = (
                [second.find(selector, host="hostile")] if selector else second.vms(host="hostile")
            )
        assert [vm.uuid for vm in found] == [uuid]


def test_fleet_does_not_find_a_vm_named_like_a_uuid(
    laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    hostile.virtualbox.add_vm(uuid)
    laptop.close_port()

    with fleet(laptop, hostile) as first, pytest.raises(errors.VMUnreachable):
        first.find(uuid)


# -- The command line, the fence agent and the plugin -----------------------------------------


def test_cli_omits_claims_with_a_message(
    run: Run, config_file: Path, laptop: Simulator, hostile: Simulator, uuid: str
) -> None:
    options = ("--config", str(config_file))
    assert run(*options, "list")[0] == 0
    steal(hostile, uuid)

    code, out, err = run(*options, "list", "--format", "json")
    assert [vm["host"] for vm in json.loads(out)] == ["laptop", "laptop"]
    assert (code, f"stolen {{{uuid}}}" in err) == (0, True)
    assert run(*options, "on", uuid)[0] == 0
    assert laptop.virtualbox.vm(uuid).state is VMState.RUNNING
    code, _, err = run(*options, "off", "stolen")
    assert (code, "belongs to laptop" in err) == (main.EXIT_FAILED, True)
    laptop.close_port()
    code, _, err = run(*options, "off", uuid)
    assert (code, "laptop" in err) == (main.EXIT_HOST_DOWN, True)
    assert hostile.count("poweroff") == 0


def test_check_shows_claims(run: Run, config_file: Path, hostile: Simulator, uuid: str) -> None:
    options = ("--config", str(config_file), "check", "--format", "json")
    assert "belongs to" not in run(*options)[1]
    steal(hostile, uuid)

    for hosts in ([], ["hostile"]):
        code, out, _ = run(*options, *hosts)
        (finding,) = [item for item in json.loads(out) if item["check"] == "host"]
        assert code == main.EXIT_FAILED
        assert (finding["host"], finding["vm"], finding["level"]) == ("hostile", uuid, "error")
        assert finding["text"] == "the VM belongs to laptop, which is down or lists it too"
        assert f"trust-vm {uuid} --host" in finding["hint"]
    assert "belongs to laptop" not in run(*options, "laptop")[1]


def test_trust_vm_shows_and_decides(
    run: Run, config_file: Path, hostile: Simulator, uuid: str
) -> None:
    options = ("--config", str(config_file), "trust-vm", uuid, "--format", "json")

    def shown(*arguments: str) -> dict[str, Any]:
        code, out, err = run(*options, *arguments)
        assert code == 0, err
        return json.loads(out)

    assert shown()["host"] == "laptop"
    code, _, err = run(*options, "--host", "hostile")
    assert (code, "lists no VM" in err) == (main.EXIT_FAILED, True)
    steal(hostile, uuid)
    assert shown() == {
        "uuid": uuid,
        "host": "laptop",
        "listed_by": ["hostile", "laptop"],
        "unreachable": [],
    }
    assert shown("--host", "hostile")["host"] == "hostile"
    assert shown()["host"] == "hostile"
    assert shown("--host", "laptop")["host"] == "laptop"


def test_trust_vm_for_a_host_that_is_down(
    run: Run,
    config_file: Path,
    laptop: Simulator,
    hostile: Simulator,
    uuid: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    steal(hostile, uuid)
    laptop.close_port()
    options = ("--config", str(config_file), "trust-vm", uuid, "--format", "json")
    assert json.loads(run(*options)[1])["host"] == "hostile"

    code, out, _ = run(*options, "--host", "laptop")

    assert (code, json.loads(out)["host"], json.loads(out)["unreachable"]) == (
        0,
        "laptop",
        ["laptop"],
    )
    assert "whether it lists the VM is not known" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("node01",), "expected a UUID"),
        (("00000000-0000-4000-8000-000000000000",), "no host lists it"),
        (("00000000-0000-4000-8000-000000000000", "--host", "nosuch"), "no host 'nosuch'"),
        (("00000000-0000-4000-8000-000000000000", "--hosts", "a@127.0.0.1:1"), "omit it"),
    ],
)
def test_trust_vm_refuses_wrong_usage(
    run: Run, config_file: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = run("--config", str(config_file), "trust-vm", *arguments)

    assert (code != 0, out, message in err) == (True, "", True)


def test_fence_agent_ignores_a_claim(
    run: Run,
    config_file: Path,
    laptop: Simulator,
    hostile: Simulator,
    uuid: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("--config", str(config_file), "list")[0] == 0
    steal(hostile, uuid)
    laptop.close_port()

    arguments = ["--config", str(config_file), "--plug", uuid, "--action", "off"]
    monkeypatch.setattr(sys, "argv", [fence_agent.NAME, *arguments])
    with pytest.raises(SystemExit) as left:
        fence_agent.main()

    assert left.value.code == fence_agent.EXIT_FAILED
    assert hostile.count("poweroff") == 0


def test_nagios_plugin_ignores_claims(
    run: Run,
    config_file: Path,
    hostile: Simulator,
    uuid: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--config", str(config_file), "list")[0] == 0
    steal(hostile, uuid)

    monkeypatch.setattr(sys, "argv", [nagios_plugin.NAME, "--config", str(config_file)])
    with pytest.raises(SystemExit):
        nagios_plugin.main()

    assert "2 VMs on 2 hosts, 0 running" in capsys.readouterr().out
