# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The cache of a host's state, with a fake host that answers when the test says so."""

from __future__ import annotations

import dataclasses
import queue
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any, cast

import pytest

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.host.state import MAX_POLLS, FailedPoll, HostState, StateCache, Timings
from maas_virtualbox.virtualbox.settings_xml import VMSettings
from maas_virtualbox.virtualbox.states import VMState
from maas_virtualbox.virtualbox.vboxmanage import PollAnswer

from tests.vms import A

if TYPE_CHECKING:
    from collections.abc import Generator

SOON_S = 30.0
"""Limits only tests that would otherwise wait without end."""

ONE, TWO = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


@dataclasses.dataclass
class Command:
    """A command that the fake host has received."""

    settings_read: str
    long: bool
    began: float
    reply: futures.Future[dict[str, str]]
    """UUID → name of its VMs, or the error."""

    def answer(self, **names: str) -> None:
        """Answer with VMs, which are off; names are given as `one=…` and `two=…`."""
        uuids = {"one": ONE, "two": TWO}
        self.reply.set_result({uuids[word]: name for word, name in names.items()})

    def fail(self, error: Exception) -> None:
        self.reply.set_exception(error)


class FakeVBoxManage:
    """Hands each command to the test, which answers it."""

    def __init__(self) -> None:
        self.received: queue.Queue[Command] = queue.Queue()

    def poll(self, *, settings_read: str, long: bool, timeout: float) -> PollAnswer:
        del timeout
        command = Command(settings_read, long, time.monotonic(), futures.Future())
        self.received.put(command)
        machines = {
            uuid: VMSettings(uuid, name, f"/{name}.vbox", VMState.POWEROFF)
            for uuid, name in command.reply.result(SOON_S).items()
        }
        seconds = time.monotonic() - command.began
        return PollAnswer({}, {}, machines, long, command.began, seconds)

    def next_command(self) -> Command:
        return self.received.get(timeout=SOON_S)


@pytest.fixture
def host() -> FakeVBoxManage:
    """A host that answers nothing by itself."""
    return FakeVBoxManage()


def cache_of(host: FakeVBoxManage, *, max_age: float = 1000.0, **timings: float) -> StateCache:
    """A cache that considers no poll stalled unless the timings say so."""
    options: dict[str, Any] = {"hedge_after": 1000.0, **timings}
    return StateCache(A, cast("Any", host), max_age, Timings(**options))


@pytest.fixture
def cache(host: FakeVBoxManage) -> Generator[StateCache]:
    """A cache whose host has answered once, with the VM `node01`."""
    cache = cache_of(host)
    first = cache.request()
    host.next_command().answer(one="node01")
    first.result(SOON_S)
    yield cache
    cache.close()


def test_latest_is_none_before_the_first_poll(host: FakeVBoxManage) -> None:
    assert cache_of(host).latest() is None
    assert host.received.empty()


def test_first_poll_reads_all_settings(host: FakeVBoxManage) -> None:
    cache = cache_of(host)

    state = cache.request()
    command = host.next_command()
    command.answer(one="node01")

    assert command.settings_read == "all"
    assert state.result(SOON_S).settings[ONE].name == "node01"
    assert cache.latest() is state.result()


def test_later_poll_reads_the_heads_only(host: FakeVBoxManage, cache: StateCache) -> None:
    state = cache.request(max_age=0.0, since=time.monotonic())
    command = host.next_command()
    command.answer(one="node01")

    assert command.settings_read == "heads"
    assert state.result(SOON_S).settings[ONE].name == "node01"


@pytest.mark.parametrize("vms", [{"one": "renamed"}, {"one": "node01", "two": "new"}, {}])
def test_poll_that_shows_other_vms_reads_all_settings(
    host: FakeVBoxManage, cache: StateCache, vms: dict[str, str]
) -> None:
    state = cache.request(since=time.monotonic())
    host.next_command().answer(**vms)
    command = host.next_command()
    command.answer(**vms)

    assert command.settings_read == "all"
    assert [vm.name for vm in state.result(SOON_S).settings.values()] == list(vms.values())
    assert cache.latest_settings() == state.result().settings


def test_callers_share_one_command(host: FakeVBoxManage) -> None:
    cache = cache_of(host)

    states = [cache.request(max_age=0.0) for _ in range(10)]
    host.next_command().answer(one="node01")

    assert len({id(state.result(SOON_S)) for state in states}) == 1
    assert host.received.empty()


def test_fresh_state_answers_at_once(host: FakeVBoxManage, cache: StateCache) -> None:
    assert cache.request().done()
    assert host.received.empty()


def test_state_is_polled_again_when_it_is_old(host: FakeVBoxManage, cache: StateCache) -> None:
    assert not cache.request(max_age=0.0).done()
    host.next_command().answer(one="node01")


def test_exact_state_answers_callers_of_both(host: FakeVBoxManage, cache: StateCache) -> None:
    since = time.monotonic()
    exact, other = cache.request(exact=True, since=since), cache.request(since=since)
    command = host.next_command()
    command.answer(one="node01")

    assert command.long
    assert exact.result(SOON_S) is other.result(SOON_S)


def test_invalidation_makes_a_state_stale(host: FakeVBoxManage, cache: StateCache) -> None:
    changed = cache.invalidate(ONE)

    state = cache.request()
    host.next_command().answer(one="node01")

    assert state.result(SOON_S).began >= changed


def test_invalidation_of_a_vm_keeps_the_state_of_others(cache: StateCache) -> None:
    cache.invalidate(ONE)

    assert cache.request(since=cache.stale_before(TWO)).done()
    assert not cache.request(since=cache.stale_before(ONE)).done()


def test_poll_from_before_a_change_is_not_joined(host: FakeVBoxManage, cache: StateCache) -> None:
    before = cache.request(max_age=0.0)
    old = host.next_command()
    changed = cache.invalidate(ONE)
    after = cache.request()
    new = host.next_command()
    old.answer(one="node01")

    assert before.result(SOON_S).began < changed
    assert not after.done()
    new.answer(one="node01")
    assert after.result(SOON_S).began >= changed


def test_stalled_poll_gets_another_one_beside_it(host: FakeVBoxManage) -> None:
    cache = cache_of(host, hedge_after=0.05)
    first = cache.request()
    host.next_command().answer(one="node01")
    first.result(SOON_S)

    state = cache.request(max_age=0.0)
    stalled, second = host.next_command(), host.next_command()
    second.answer(one="node01")

    assert state.result(SOON_S).began == second.began
    stalled.answer(one="node01")


def test_host_never_runs_more_than_three_polls(host: FakeVBoxManage, cache: StateCache) -> None:
    states = [cache.request(since=cache.invalidate()) for _ in range(10)]
    commands = [host.next_command() for _ in range(MAX_POLLS)]

    assert host.received.empty()
    commands[0].answer(one="node01")
    last = host.next_command()
    for command in (*commands[1:], last):
        command.answer(one="node01")
    assert all(state.result(SOON_S) for state in states)


def test_first_poll_runs_alone(host: FakeVBoxManage) -> None:
    # It may have to wake VBoxSVC up, which a burst of calls breaks.
    cache = cache_of(host, hedge_after=0.01)
    states = [cache.request(since=cache.invalidate()) for _ in range(2)]
    first = host.next_command()
    time.sleep(0.1)  # for a second one, which must not come

    assert host.received.empty()
    first.answer(one="node01")
    assert states[0].result(SOON_S).began == first.began
    host.next_command().answer(one="node01")
    assert states[1].result(SOON_S).began > first.began


def test_failed_poll_is_a_state_that_the_cache_knows(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    state = cache.request(max_age=0.0)
    host.next_command().fail(errors.HostUnreachable("a", "no route"))

    with pytest.raises(errors.HostUnreachable):
        state.result(SOON_S)
    latest = cache.latest()
    assert isinstance(latest, FailedPoll)
    assert isinstance(latest.error, errors.HostUnreachable)
    assert ONE in cache.latest_settings()


def test_failed_poll_answers_only_who_accepts_it(host: FakeVBoxManage, cache: StateCache) -> None:
    failed = cache.request(max_age=0.0)
    host.next_command().fail(errors.HostUnreachable("a", "no route"))
    assert isinstance(failed.exception(SOON_S), errors.HostUnreachable)

    again = cache.request(max_age=0.0, failure_max_age=SOON_S)
    assert again.done()
    assert isinstance(again.exception(), errors.HostUnreachable)
    assert not cache.request(max_age=0.0).done()
    host.next_command().answer(one="node01")


def test_failed_poll_waits_for_another_in_progress(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    first = cache.request(max_age=0.0)
    old = host.next_command()
    second = cache.request(since=cache.invalidate())
    new = host.next_command()

    old.fail(errors.HostUnreachable("a", "no route"))
    new.answer(one="node01")

    assert isinstance(first.result(SOON_S), HostState)
    assert isinstance(second.result(SOON_S), HostState)


@pytest.mark.parametrize("error", [errors.ConnectionLost("a", "x"), errors.BadOutput("a", "x")])
def test_poll_is_repeated_once_after_a_passing_error(
    host: FakeVBoxManage, cache: StateCache, error: errors.Error
) -> None:
    state = cache.request(max_age=0.0)
    host.next_command().fail(error)
    host.next_command().answer(one="node01")

    assert ONE in state.result(SOON_S).settings


def test_unexpected_exception_is_an_error_of_the_host(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    state = cache.request(max_age=0.0)
    host.next_command().fail(ZeroDivisionError())

    with pytest.raises(errors.BadOutput, match="ZeroDivisionError"):
        state.result(SOON_S)


def test_deadline_limits_the_wait_and_not_the_poll(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    cache.invalidate()
    with pytest.raises(errors.CommandTimeout):
        cache.poll(Deadline.after(0.05))

    state = cache.request()
    host.next_command().answer(one="node01")

    assert ONE in state.result(SOON_S).settings
    assert host.received.empty()


def test_host_hangs_until_a_later_poll_succeeds(host: FakeVBoxManage, cache: StateCache) -> None:
    assert cache.hanging_since(0.0) is None
    hanging = cache.request(max_age=0.0)
    command = host.next_command()
    time.sleep(0.01)
    assert cache.hanging_since(0.0) is not None
    assert cache.hanging_since(SOON_S) is None

    later = cache.request(since=cache.invalidate())
    host.next_command().answer(one="node01")
    later.result(SOON_S)

    assert cache.hanging_since(0.0) is None
    assert hanging.done()
    command.answer(one="node01")


def test_settings_are_not_read_again_while_they_are_young(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    cache.invalidate()

    assert ONE in cache.settings(Deadline.after(SOON_S))
    assert host.received.empty()


def test_settings_that_are_too_old_are_read_again(host: FakeVBoxManage, cache: StateCache) -> None:
    with futures.ThreadPoolExecutor(1) as threads:
        settings = threads.submit(cache.settings, Deadline.after(SOON_S), max_age=0.0)
        command = host.next_command()
        command.answer(one="node01", two="node02")

    assert command.settings_read == "all"
    assert set(settings.result()) == {ONE, TWO}


def test_listener_receives_each_result_before_the_callers(
    host: FakeVBoxManage, cache: StateCache
) -> None:
    results: list[tuple[HostState | FailedPoll, bool]] = []
    state = cache.request(max_age=0.0)
    cache.subscribe(lambda result: results.append((result, state.done())))

    host.next_command().answer(one="node01")

    assert results == [(state.result(SOON_S), False)]


def test_listener_that_fails_does_not_matter(host: FakeVBoxManage, cache: StateCache) -> None:
    def fail(result: HostState | FailedPoll) -> None:
        raise ZeroDivisionError(result)

    cache.subscribe(fail)
    state = cache.request(max_age=0.0)
    host.next_command().answer(one="node01")

    assert ONE in state.result(SOON_S).settings


def test_close_ends_the_wait_of_all_callers(host: FakeVBoxManage, cache: StateCache) -> None:
    state = cache.request(max_age=0.0)
    command = host.next_command()

    cache.close()

    assert isinstance(state.exception(SOON_S), errors.Closed)
    assert isinstance(cache.request(max_age=0.0).exception(SOON_S), errors.Closed)
    command.answer(one="node01")
