# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which host each VM belongs to: the one on which it was first seen.

UUIDs are not secret, and a hostile host can list any UUID. So a VM belongs to its first host until
that host is up, has been polled and no longer lists the VM: then the VM has moved. While the first
host still lists the VM, or is down, another host that lists it makes a claim. That host neither
answers for the VM nor receives actions on it, and a person must decide (`trust-vm`).

If no first host is stored and several hosts list a VM, nobody can know which of them had it first,
and the first to answer may be the hostile one. A person must decide here too. If no first host is
stored and only one host lists the VM, it belongs to this host as soon as every host was polled or
is late.

The account of a host, `user@address:port`, identifies it: each account has its own VirtualBox, so
two accounts on one machine are two hosts, and a changed `name=` makes no difference. If the
account is no longer in the host list, a host with the same user and name is the same host at a new
address. The VMs of a host that left the list belong to no host. They belong to it again if it
comes back before another host lists them.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import logging
import threading
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.fleet.vm_hosts_file import Remembered, VMHostsFile
from maas_virtualbox.host.state import FailedPoll

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.host.state import HostState

log = logging.getLogger(__name__)

MAX_VMS_PER_HOST = 5000
"""The limit of VMs that are stored for one host: a hostile host can list 20,000 new UUIDs in each
poll. VMs beyond the limit are served, but another host that lists one of them makes a conflict."""

_MAX_LOGGED = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """How long `VMHosts` delays its writes and log lines, in seconds."""

    collect: float = 0.5
    """Before the first write, so that it has the answers of many hosts."""

    lock: float = 5.0
    """For the lock of the file. Other processes hold it for milliseconds: if it takes longer, one
    of them was stopped."""

    log_pause: float = 60.0
    """Between log lines about the claims of one host."""

    write_pause: float = 30.0
    """Between writes: a hostile host can cause changes in each poll. The next process reads from
    the hosts what a killed process had not yet written."""


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """The result of `judge` for one VM."""

    host: str | None
    """The host that it belongs to; None: no host lists it, or its host is not known."""
    claims: frozenset[str] = frozenset()
    """The hosts that list it and are not known to be its host."""


def judge(
    first: str | None,
    listing: Collection[str],
    unknown: Collection[str | None],
    *,
    awaited: bool = False,
) -> Verdict:
    """Return which host a VM belongs to. A pure function; any strings can identify hosts.

    Args:
        first: the stored host; None: there is none, or it left the host list.
        listing: the hosts that are up and list the VM.
        unknown: the hosts that are down or were not polled yet.
        awaited: whether some host has not been polled yet and is not late.
    """
    if first is not None and (first in listing or first in unknown):
        return Verdict(first, frozenset(listing) - {first})
    if len(listing) == 1:
        return Verdict(None if awaited else next(iter(listing)))
    return Verdict(None, frozenset(listing))


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
    """A VM that a host lists, but that is not known to belong to this host."""

    uuid: str
    """The VM's UUID."""
    host: HostConfig
    """The host that lists it."""
    first: HostConfig | None
    """The host that the VM belongs to; None: it is not known which of several had it first."""


class VMHosts:
    """Which hosts the VMs of one fleet belong to. Created by `Fleet`; shared between threads.

    Concurrency. `_lock` guards all fields. The file is read while `_lock` is held, so that no
    thread replaces newer content by older, and written while it is not held. `host_of` and
    `can_answer` take the lock only if the file has changed: a host that lists 20,000 VMs must not
    delay queries of other hosts.
    """

    def __init__(
        self,
        hosts: Iterable[HostConfig],
        path: Path | str | None = None,
        *,
        timings: Timings | None = None,
    ) -> None:
        """Read the state file.

        Args:
            hosts: the host list.
            path: the state file. None: memory only, lost when the program ends.
            timings: for tests.
        """
        self._timings = timings or Timings()
        self._hosts = {_account(host): host for host in hosts}
        self._file = (
            VMHostsFile(Path(path), lock_timeout=self._timings.lock) if path is not None else None
        )
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        """Held while the file is written; acquired before `_lock`."""
        self._first: dict[str, str] = {}
        """The accounts of the hosts that VMs belong to, by the VMs' UUIDs."""
        self._own: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
        """The inverse of `_first`."""
        self._configs: dict[str, HostConfig] = {}
        """`_first` with host list entries instead of accounts."""
        self._first_hosts: Mapping[str, HostConfig] = types.MappingProxyType(self._configs)
        self._polled: dict[str, frozenset[str]] = {}
        """The VMs that the hosts which are up list, by account."""
        self._listing: dict[str, set[str]] = {}
        """The inverse of `_polled`."""
        self._began: dict[str, float] = {}
        """The monotonic times at which the last polls began, by account."""
        self._awaited = set(self._hosts)
        self._postponed: set[str] = set()
        """The VMs to judge again when no host is awaited any more."""
        self._claims: dict[str, frozenset[str]] = {}
        self._claims_made: collections.Counter[str] = collections.Counter()
        self._reported: dict[str, frozenset[str]] = {}
        self._unlogged: collections.defaultdict[str, dict[str, None]]
        self._unlogged = collections.defaultdict(dict)
        self._logged_at: dict[str, float] = {}
        self._changes: dict[str, tuple[str | None, str | None]] = {}
        """The changes that are not written yet: the accounts before and after, by UUID."""
        self._timer: threading.Timer | None = None
        self._written_at = float("-inf")
        self._is_closed = False
        self._is_failing = False
        self._refresh()

    def can_answer(self, host: HostConfig, uuid: str) -> bool:
        """Return whether a host may answer for a VM that it lists, and receive actions on it. This
        is true for several hosts if it is not known which one the VM belongs to."""
        return self._first.get(uuid) in (None, _account(host))

    def claims(self) -> list[Claim]:
        """Return all claims as of the last polls."""
        with self._lock:
            claims = dict(self._claims)
        return [
            Claim(uuid, self._hosts[account], self._host(self._first.get(uuid)))
            for uuid, accounts in sorted(claims.items())
            for account in sorted(accounts)
        ]

    def claims_made(self, host: HostConfig) -> int:
        """Return how many claims a host has made, including those that have ended."""
        return self._claims_made[_account(host)]

    def close(self) -> None:
        """Write the changes that are not written yet."""
        with self._lock:
            self._is_closed = True
            pending = self._timer is not None
            if self._timer is not None:
                self._timer.cancel()
        if pending:
            self._write()
        with self._writing:
            pass  # Wait until another thread has written its changes.

    def first_hosts(self) -> Mapping[str, HostConfig]:
        """Return the hosts that VMs belong to, by the VMs' UUIDs; a view that stays current."""
        self._refresh()
        return self._first_hosts

    def host_of(self, uuid: str) -> HostConfig | None:
        """Return the host that a VM belongs to; None if there is none, or it is not known."""
        self._refresh()
        return self._host(self._first.get(uuid))

    def record(self, result: HostState | FailedPoll) -> None:
        """Record the result of a poll."""
        if isinstance(result, FailedPoll):
            self.record_failure(result.host, result.began)
        else:
            self.record_poll(result.host, result.settings, result.began)

    def record_delay(self, host: HostConfig) -> None:
        """Record that a host does not answer its first poll in time; it is no longer awaited."""
        with self._lock:
            self._judge(self._stop_awaiting(_account(host)))
        self._log_claims()

    def record_failure(self, host: HostConfig, began: float | None = None) -> None:
        """Record that a host is down: its VMs still belong to it, and its claims end.

        Args:
            host: which host.
            began: monotonic time at which the poll began (default: now). Polls may overlap: the
                result of one that began later is kept.
        """
        with self._lock:
            self._record(_account(host), None, began)
        self._log_claims()

    def record_poll(
        self, host: HostConfig, uuids: Iterable[str], began: float | None = None
    ) -> None:
        """Record that a host is up, and which VMs it lists; see `record_failure`."""
        self._refresh()
        with self._lock:
            self._record(_account(host), frozenset(uuids), began)
        self._log_claims()

    def trust(self, uuid: str, host: HostConfig) -> None:
        """Make a VM belong to a host, because a person decided so.

        Another process with the same file reads this at its next poll or query.

        Raises:
            ConfigError: the state file cannot be used; nothing was changed.
        """
        account = _account(host)

        def decide(remembered: Remembered) -> Remembered:
            merged = self._merged(remembered, {})
            names = {**merged.names, account: host.name}
            return Remembered(names, {**merged.hosts, uuid: account})

        if self._file is not None:
            self._file.update(decide)
        with self._lock:
            self._changes.pop(uuid, None)
            self._decide(uuid, account)

    def _host(self, account: str | None) -> HostConfig | None:
        return None if account is None else self._hosts.get(account)

    # -- Deciding; `_lock` is held -------------------------------------------------------------

    def _record(self, account: str, listed: frozenset[str] | None, began: float | None) -> None:
        """Record a poll, and judge the VMs that it affects; `listed` is None if the host is
        down."""
        began = time.monotonic() if began is None else began
        if began < self._began.get(account, float("-inf")):
            return
        self._began[account] = began
        before = self._polled.pop(account, frozenset())
        listed = None if listed is None else self._limited(listed)
        now = frozenset[str]() if listed is None else listed
        for uuid in now - before:
            self._listing.setdefault(uuid, set()).add(account)
        for uuid in before - now:
            self._listing[uuid].discard(account)
            if not self._listing[uuid]:
                del self._listing[uuid]
        if listed is not None:
            self._polled[account] = listed
        gone = (before | self._own[account]) - now if listed is not None else before
        # First the VMs that are gone, so that others fit into the limit.
        self._judge([*gone, *(now - before), *self._stop_awaiting(account)])

    def _limited(self, listed: frozenset[str]) -> frozenset[str]:
        """Return which of the VMs that a host lists are judged: all that belong to some host, and
        a limited number of others."""
        if len(listed) <= MAX_VMS_PER_HOST:
            return listed
        known = listed & self._first.keys()
        return known | frozenset(itertools.islice(listed - known, MAX_VMS_PER_HOST))

    def _stop_awaiting(self, account: str) -> set[str]:
        """Record that a host is no longer awaited. Return the VMs to judge if it was the last."""
        if not self._awaited:
            return set()
        self._awaited.discard(account)
        if self._awaited:
            return set()
        postponed, self._postponed = self._postponed, set()
        return postponed

    def _judge(self, uuids: Iterable[str], *, decided: bool = False) -> None:
        """Judge VMs by the last polls. With `decided`, a person or another process has decided
        since the poll of the VM's host, which may list the VM only now: that poll does not
        count."""
        for uuid in uuids:
            first, listing = self._first.get(uuid), self._listing.get(uuid, set[str]())
            unknown = {first} if decided or first not in self._polled else set[str | None]()
            verdict = judge(first, listing, unknown, awaited=bool(self._awaited))
            host = verdict.host
            if host not in (None, first) and len(self._own[host]) >= MAX_VMS_PER_HOST:
                host = None
            if host != first:
                self._assign(uuid, host)
                self._schedule_change(uuid, first, host)
            if verdict.claims:
                self._claims[uuid] = verdict.claims
            else:
                self._claims.pop(uuid, None)
            if self._awaited:
                self._postponed.add(uuid)
            else:
                self._report(uuid, verdict.claims)

    def _decide(self, uuid: str, account: str | None) -> None:
        """Apply a decision of a person or another process. A poll of the host that began earlier
        does not undo it: the host may list the VM only now."""
        self._assign(uuid, account)
        if account is not None:
            self._began[account] = time.monotonic()
        self._judge([uuid], decided=True)

    def _assign(self, uuid: str, account: str | None) -> None:
        before = self._first.get(uuid)
        if before is not None:
            self._own[before].discard(uuid)
        if account is None:
            self._first.pop(uuid, None)
            self._configs.pop(uuid, None)
        else:
            self._first[uuid] = account
            self._configs[uuid] = self._hosts[account]
            self._own[account].add(uuid)

    # -- Counting and logging ------------------------------------------------------------------

    def _report(self, uuid: str, claims: frozenset[str]) -> None:
        """Count each claim once, and queue it for the log; `_lock` is held."""
        before = self._reported.pop(uuid, frozenset())
        if claims:
            self._reported[uuid] = claims
        for account in claims - before:
            self._claims_made[account] += 1
            self._unlogged[account][uuid] = None
        for account in before - claims:
            self._unlogged[account].pop(uuid, None)

    def _log_claims(self) -> None:
        """Log each claim once, and at most one line a minute for each host."""
        now = time.monotonic()
        due: list[tuple[HostConfig, list[str]]] = []
        with self._lock:
            for account, uuids in self._unlogged.items():
                logged_at = self._logged_at.get(account, float("-inf"))
                if uuids and now - logged_at > self._timings.log_pause:
                    self._logged_at[account] = now
                    due.append((self._hosts[account], list(uuids)))
                    uuids.clear()
        for host, uuids in due:
            more = len(uuids) - _MAX_LOGGED
            log.warning(
                "%s lists VMs that are not known to be its own: %s%s; until a person decides, it"
                " neither answers for them nor receives actions on them: maas-virtualbox trust-vm",
                host,
                ", ".join(self._describe(uuid) for uuid in uuids[:_MAX_LOGGED]),
                f" and {more} more" if more > 0 else "",
            )

    def _describe(self, uuid: str) -> str:
        first = self._host(self._first.get(uuid))
        return f"{uuid} ({f'belongs to {first}' if first else 'other hosts list it too'})"

    # -- The state file ------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Read the file if it has changed."""
        if self._file is None or not self._file.has_changed():
            return
        with self._lock:
            try:
                self._adopt(self._file.read())
                self._is_failing = False
            except errors.ConfigError as error:
                self._log_failure(error)

    def _adopt(self, remembered: Remembered | None) -> None:
        """Use the content of the file, except where a later change is not written yet; `_lock` is
        held."""
        if remembered is None:
            # The file is missing or broken: write again what is in memory.
            self._changes = {uuid: (None, account) for uuid, account in self._first.items()}
            if self._changes:
                self._schedule()
            return
        merged = self._merged(remembered, self._changes)
        listed = {uuid: host for uuid, host in merged.hosts.items() if host in self._hosts}
        differing = {uuid for uuid, _ in listed.items() ^ self._first.items()}
        for uuid in differing:
            self._decide(uuid, listed.get(uuid))
        if merged != remembered:
            self._schedule()

    def _merged(
        self,
        before: Remembered,
        changes: Mapping[str, tuple[str | None, str | None]],
    ) -> Remembered:
        """Return the new content of the file. It keeps the decisions of other processes, and hosts
        that are not in this host list."""
        moved = {account: self._account_now(account, before.names) for account in before.names}
        hosts = {uuid: moved[account] for uuid, account in before.hosts.items()}
        for uuid, (old, new) in changes.items():
            present = hosts.get(uuid)
            if (present if present in self._hosts else None) != old:
                continue  # another process has decided in the meantime
            hosts.pop(uuid, None)
            if new is not None:
                hosts[uuid] = new
        names = {moved[account]: name for account, name in before.names.items()}
        names |= {account: host.name for account, host in self._hosts.items()}
        used = set(hosts.values())
        return Remembered({account: names[account] for account in names if account in used}, hosts)

    def _account_now(self, account: str, names: Mapping[str, str]) -> str:
        """Return the present account of a host whose address has changed since the file was
        written."""
        if account in self._hosts:
            return account
        user = account.rpartition("@")[0]
        for other, host in self._hosts.items():
            if (host.user, host.name) == (user, names[account]) and other not in names:
                return other
        return account

    def _schedule_change(self, uuid: str, before: str | None, after: str | None) -> None:
        if self._file is None:
            return
        if uuid in self._changes:
            before = self._changes[uuid][0]
        self._changes[uuid] = before, after
        self._schedule()

    def _schedule(self) -> None:
        """Write the file soon, on a thread; `_lock` is held."""
        if self._timer is not None or self._is_closed:
            return
        next_write = self._written_at + self._timings.write_pause
        pause = max(self._timings.collect, next_write - time.monotonic())
        self._timer = threading.Timer(pause, self._write)
        self._timer.daemon = True
        self._timer.start()

    def _write(self) -> None:
        with self._writing:
            self._write_changes()
        self._refresh()

    def _write_changes(self) -> None:
        assert self._file is not None
        with self._lock:
            self._timer = None
            self._written_at = time.monotonic()
            changes = dict(self._changes)
        try:
            self._file.update(functools.partial(self._merged, changes=changes))
        except errors.ConfigError as error:
            with self._lock:
                self._log_failure(error)
                self._schedule()
            return
        with self._lock:
            for uuid, (_, account) in changes.items():
                later = self._changes.pop(uuid, (None, account))[1]
                if later != account:
                    self._changes[uuid] = account, later

    def _log_failure(self, error: errors.ConfigError) -> None:
        """Log once that the file cannot be used. The service continues with what is in memory."""
        if not self._is_failing:
            self._is_failing = True
            log.error("vm-hosts-file: %s; the hosts of VMs are lost when the program ends", error)


def _account(host: HostConfig) -> str:
    user, at, address = host.account.rpartition("@")
    return f"{user}{at}{address.lower()}"
