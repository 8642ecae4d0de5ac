# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which host a VM belongs to, and what the state file keeps of it."""

from __future__ import annotations

import fcntl
import json
import logging
import threading
import time
import uuid as uuids
from concurrent import futures
from typing import TYPE_CHECKING, Any

import pytest

from maas_virtualbox import errors
from maas_virtualbox.config.host_list import HostConfig, parse_hosts
from maas_virtualbox.fleet import vm_hosts
from maas_virtualbox.fleet.vm_hosts import Verdict, VMHosts, judge
from maas_virtualbox.fleet.vm_hosts_file import VMHostsFile

if TYPE_CHECKING:
    from pathlib import Path

VM = "95581d29-3e5e-472e-8f12-f452e8095714"
OTHER = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"
A, B, C = parse_hosts("ivan@10.0.0.5 name=a, ivan@10.0.0.6 name=b, ivan@10.0.0.7 name=c")


def verdict(host: str | None, claims: str = "") -> Verdict:
    """A verdict; each letter of `claims` is a host."""
    return Verdict(host, frozenset(claims))


# -- The rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "listing", "unknown", "expected"),
    [
        # The first host is up and lists the VM.
        ("a", "a", "", verdict("a")),
        ("a", "ab", "", verdict("a", "b")),
        ("a", "abc", "", verdict("a", "bc")),
        ("a", "ab", "c", verdict("a", "b")),
        # It is down, or was not polled yet.
        ("a", "", "a", verdict("a")),
        ("a", "b", "a", verdict("a", "b")),
        ("a", "bc", "a", verdict("a", "bc")),
        ("a", "", "abc", verdict("a")),
        # It is up and no longer lists the VM: the VM has moved, or is gone.
        ("a", "b", "", verdict("b")),
        ("a", "b", "c", verdict("b")),
        ("a", "", "", verdict(None)),
        ("a", "bc", "", verdict(None, "bc")),
        # No host is remembered.
        (None, "b", "", verdict("b")),
        (None, "b", "ac", verdict("b")),
        (None, "ab", "", verdict(None, "ab")),
        (None, "ab", "c", verdict(None, "ab")),
        (None, "", "abc", verdict(None)),
    ],
)
def test_judge(first: str | None, listing: str, unknown: str, expected: Verdict) -> None:
    assert judge(first, listing, unknown) == expected


@pytest.mark.parametrize(
    ("first", "listing", "unknown", "expected"),
    [
        (None, "b", "a", verdict(None)),
        ("c", "b", "a", verdict(None)),
        ("a", "b", "a", verdict("a", "b")),
        ("b", "b", "a", verdict("b")),
        (None, "ab", "c", verdict(None, "ab")),
    ],
)
def test_judge_while_a_host_is_awaited(
    first: str | None, listing: str, unknown: str, expected: Verdict
) -> None:
    assert judge(first, listing, unknown, awaited=True) == expected


# -- One fleet --------------------------------------------------------------------------------


def settled(path: Path | None = None, *hosts: HostConfig) -> VMHosts:
    """A memory of hosts that were all polled, and list nothing."""
    made = VMHosts(hosts or (A, B, C), path, timings=vm_hosts.Timings(collect=0.05))
    for host in hosts or (A, B, C):
        made.record_poll(host, [])
    return made


def wait_until_written(path: Path) -> None:
    """Wait for the thread that writes."""
    while not path.exists():
        time.sleep(0.01)


def stored(path: Path) -> dict[str, list[str]]:
    """The UUIDs in a state file, by account."""
    return {each["account"]: each["vms"] for each in json.loads(path.read_text())["hosts"]}


@pytest.mark.parametrize("order", [(A, B, C), (C, B, A), (B, A, C)])
def test_first_polls_in_any_order_are_a_conflict(
    order: tuple[HostConfig, ...],
) -> None:
    made = VMHosts((A, B, C))

    for host in order:
        made.record_poll(host, [] if host is C else [VM])

    assert made.host_of(VM) is None
    assert [(claim.host, claim.first) for claim in made.claims()] == [(A, None), (B, None)]
    assert made.can_answer(A, VM)
    assert made.can_answer(B, VM)


def test_late_host_is_no_longer_awaited() -> None:
    made = VMHosts((A, B, C))
    made.record_poll(B, [VM])
    made.record_failure(C)
    assert made.host_of(VM) is None

    made.record_delay(A)

    assert made.host_of(VM) is B
    assert not made.can_answer(A, VM)


def test_claim_starts_and_ends_with_the_listing() -> None:
    made = settled()
    made.record_poll(A, [VM])

    made.record_poll(B, [VM])
    assert [(claim.host, claim.first) for claim in made.claims()] == [(B, A)]
    made.record_failure(A)
    assert made.host_of(VM) is A
    assert not made.can_answer(B, VM)
    made.record_poll(B, [])
    assert made.claims() == []
    assert made.claims_made(B) == 1


def test_vm_moves_when_its_first_host_no_longer_lists_it() -> None:
    made = settled()
    made.record_poll(A, [VM])
    made.record_poll(B, [VM])

    made.record_poll(A, [])

    assert made.host_of(VM) is B
    assert made.claims() == []


def test_vm_that_moved_belongs_to_a_host_that_is_down() -> None:
    made = settled()
    made.record_poll(A, [VM])
    made.record_failure(A)
    made.record_poll(B, [VM])
    assert made.host_of(VM) is A

    made.record_poll(A, [OTHER])

    assert made.host_of(VM) is B


def test_trust_decides_a_conflict() -> None:
    made = VMHosts((A, B))
    made.record_poll(A, [VM])
    made.record_poll(B, [VM])

    made.trust(VM, B)

    assert made.host_of(VM) is B
    assert [(claim.host, claim.first) for claim in made.claims()] == [(A, B)]


def test_close_waits_for_a_write_in_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "vm-hosts.json"
    made = settled(path)
    begun, update = threading.Event(), VMHostsFile.update

    def slow(*arguments: Any) -> None:
        begun.set()
        time.sleep(0.2)
        update(*arguments)

    monkeypatch.setattr(VMHostsFile, "update", slow)
    made.record_poll(A, [VM])
    begun.wait()

    made.close()

    assert stored(path) == {A.account: [VM]}


def test_vms_beyond_the_limit_are_not_stored(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    made = settled(path)
    made.record_poll(A, [VM])
    for _ in range(3):
        made.record_poll(B, [str(uuids.uuid4()) for _ in range(20_000)])
    last = [str(uuids.uuid4()) for _ in range(20_000)]
    made.record_poll(B, last)
    made.close()

    assert {account: len(vms) for account, vms in stored(path).items()} == {
        A.account: 1,
        B.account: vm_hosts.MAX_VMS_PER_HOST,
    }
    assert all(made.can_answer(B, uuid) for uuid in last)
    assert not made.can_answer(B, VM)
    assert path.stat().st_size < 500_000


# -- Logging ----------------------------------------------------------------------------------


def test_claims_are_logged_once_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    made = settled()
    vms = [str(uuids.uuid4()) for _ in range(1000)]
    made.record_poll(A, vms)

    for _ in range(5):
        made.record_poll(B, vms)
        made.record_poll(B, vms[1:])

    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("b lists VMs that are not known to be its own: ")
    assert "(belongs to a)" in line
    assert "and 997 more" in line
    assert "trust-vm" in line
    assert len(line) < 500


def test_vm_that_moved_during_a_stop_is_not_a_claim(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = settled(tmp_path / "vm-hosts.json")
    before.record_poll(A, [VM])
    before.close()

    made = VMHosts((A, B, C), tmp_path / "vm-hosts.json")
    for host, listed in ((B, [VM]), (A, []), (C, [])):
        made.record_poll(host, listed)

    assert made.host_of(VM) is B
    assert not caplog.records
    assert made.claims_made(B) == 0


# -- The state file ---------------------------------------------------------------------------


def test_file_survives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state" / "vm-hosts.json"
    before = settled(path)
    before.record_poll(A, [VM])
    before.close()
    assert path.stat().st_mode & 0o777 == 0o600

    made = VMHosts((A, B, C), path)
    made.record_poll(B, [VM])

    assert made.host_of(VM) is A
    assert not made.can_answer(B, VM)


def test_file_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    made = settled(path)
    made.record_poll(A, [VM])

    wait_until_written(path)

    assert stored(path) == {A.account: [VM]}


def test_file_is_written_seldom(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    made = settled(path)
    made.record_poll(A, [VM])
    wait_until_written(path)
    first = path.stat().st_ino

    for _ in range(100):
        made.record_poll(A, [VM, str(uuids.uuid4())])
        time.sleep(0.01)

    assert path.stat().st_ino == first
    made.close()
    assert len(stored(path)[A.account]) == 2


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("ivan@10.0.0.5 name=renamed, ivan@10.0.0.6 name=b", "renamed"),
        ("ivan@10.0.0.99 name=a, ivan@10.0.0.6 name=b", "a"),
        ("ivan@10.0.0.5 name=b, ivan@10.0.0.6 name=a", "b"),
        ("eve@10.0.0.5 name=a, ivan@10.0.0.6 name=b", None),
        ("ivan@10.0.0.99 name=new, ivan@10.0.0.6 name=b", None),
        ("ivan@10.0.0.5:2222 name=x, ivan@10.0.0.6 name=b", None),
        ("ivan@10.0.0.6 name=a", None),
        ("ivan@10.0.0.6 name=b", None),
    ],
    ids=[
        "another-name",
        "another-address",
        "names-swapped",
        "another-user",
        "another-name-and-address",
        "another-port-and-name",
        "name-of-a-host-that-has-its-own-vms",
        "removed",
    ],
)
def test_host_is_identified_by_its_account(tmp_path: Path, now: str, expected: str | None) -> None:
    path = tmp_path / "vm-hosts.json"
    before = settled(path, A, B)
    before.record_poll(A, [VM])
    before.record_poll(B, [OTHER])
    before.close()

    host = VMHosts(parse_hosts(now), path).host_of(VM)

    assert (host and host.name) == expected


def test_host_with_a_new_address_keeps_its_vms(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    before = settled(path, A)
    before.record_poll(A, [VM])
    before.close()

    VMHosts(parse_hosts("ivan@10.0.0.99 name=a"), path).close()

    assert stored(path) == {"ivan@10.0.0.99": [VM]}


def test_removed_host_loses_a_vm_that_another_host_lists(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    before = settled(path)
    before.record_poll(A, [VM, OTHER])
    before.close()

    without = settled(path, B, C)
    without.record_poll(B, [VM])
    assert without.host_of(VM) is B
    without.close()

    assert stored(path) == {A.account: [OTHER], B.account: [VM]}


def test_trust_is_not_undone_by_an_earlier_poll(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    service = settled(path)
    service.record_poll(A, [VM])
    wait_until_written(path)

    VMHosts((A, B, C), path).trust(VM, B)

    assert service.host_of(VM) is B
    service.record_poll(A, [VM])
    assert service.host_of(VM) is B
    service.record_poll(B, [VM])
    assert service.host_of(VM) is B
    service.record_poll(B, [])
    assert service.host_of(VM) is A


def test_trust_of_another_process_takes_effect(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    service = settled(path)
    service.record_poll(A, [VM])
    service.record_poll(B, [VM])
    wait_until_written(path)

    VMHosts((A, B, C), path).trust(VM, B)

    assert service.host_of(VM) is B
    assert service.can_answer(B, VM)
    assert not service.can_answer(A, VM)
    service.close()
    assert stored(path) == {B.account: [VM]}


def test_trust_is_not_undone_by_an_unwritten_change(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    service = settled(path)
    service.record_poll(A, [VM])
    service.record_poll(B, [VM])
    VMHosts((A, B, C), path).trust(VM, B)

    service.close()

    assert stored(path) == {B.account: [VM]}
    assert service.host_of(VM) is B


def test_trust_by_many_processes_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    vms = [str(uuids.uuid4()) for _ in range(40)]

    def trust(uuid: str) -> None:
        VMHosts((A, B), path).trust(uuid, B)

    with futures.ThreadPoolExecutor(len(vms)) as threads:
        list(threads.map(trust, vms))

    assert stored(path) == {B.account: sorted(vms)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"version": 2, "hosts": []}',
        b'{"version": 1, "hosts": [{"account": "a", "name": "a", "vms": ["../x"]}]}',
        b"[" * 100_000,
        b'{"version": 1, "hosts": ' + b"9" * 10_000 + b"}",
    ],
    ids=["empty", "no-utf-8", "list", "version", "uuid", "deep", "number"],
)
def test_broken_file_is_copied_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    path = tmp_path / "vm-hosts.json"
    path.write_bytes(content)

    made = settled(path)
    made.record_poll(A, [VM])
    made.close()

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: broken, copied to vm-hosts.json.broken: " in record.getMessage()
    assert (tmp_path / "vm-hosts.json.broken").read_bytes() == content
    assert stored(path) == {A.account: [VM]}


@pytest.mark.parametrize("how", ["removed", "broken"])
def test_deleted_file_is_written_again(tmp_path: Path, how: str) -> None:
    path = tmp_path / "vm-hosts.json"
    made = settled(path)
    made.record_poll(A, [VM])
    wait_until_written(path)
    if how == "removed":
        path.unlink()
    else:
        path.write_text("{")

    made.record_poll(B, [VM])

    assert made.host_of(VM) is A
    made.close()
    assert stored(path) == {A.account: [VM]}


def test_unusable_file_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "vm-hosts.json"
    path.mkdir()

    made = settled(path)
    made.record_poll(A, [VM])
    made.record_poll(B, [VM])
    made.close()

    assert made.host_of(VM) is A
    problems = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    (problem,) = problems
    assert problem.startswith(f"vm-hosts-file: {path}: cannot be read: it is a folder; ")
    with pytest.raises(errors.ConfigError, match="cannot be"):
        made.trust(VM, B)
    assert made.host_of(VM) is A


def test_lock_that_is_never_released_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "vm-hosts.json"
    VMHosts((A, B), path).trust(VM, A)
    with path.open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(errors.ConfigError, match="another program has locked it"):
            VMHosts((A, B), path, timings=vm_hosts.Timings(lock=0.1)).trust(VM, B)

    assert stored(path) == {A.account: [VM]}
