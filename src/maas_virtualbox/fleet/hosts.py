# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The live hosts of a host list, and calls to many of them in parallel."""

from __future__ import annotations

import concurrent.futures
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.host.host import VirtualBoxHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import paramiko

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.config.policy import PowerPolicy
    from maas_virtualbox.deadline import Deadline

_T = TypeVar("_T")

_GRACE_S = 0.25
"""So long after its deadline, a call may still report its own error."""

_THREADS_PER_HOST = 16


def create_hosts(
    configs: Iterable[HostConfig],
    policy: PowerPolicy,
    *,
    identity: Path | str | paramiko.PKey | None,
    known_hosts: Path | str | None,
) -> Iterator[VirtualBoxHost]:
    """Yield the live host of each entry of a host list; see `Fleet`. Connects to none."""
    # Loading paramiko takes 0.1 s, and programs that only read host lists do not need it.
    from maas_virtualbox.transport import host_keys, local, ssh, ssh_login  # noqa: PLC0415

    key = ssh_login.load_identity(identity) if isinstance(identity, str | Path) else identity
    pins = host_keys.KnownHosts(known_hosts)
    for config in configs:
        if config.is_local:
            yield VirtualBoxHost(config, local.LocalTransport(config.name), policy)
        else:
            yield VirtualBoxHost(config, ssh.SSHTransport(config, pins, key), policy)


class HostThreads:
    """Threads that call the hosts of one fleet. Created by `Fleet`; shared between threads.

    Each host has threads of its own: calls that wait for a host which hangs do not take threads
    from other hosts.
    """

    def __init__(self, hosts: Iterable[VirtualBoxHost]) -> None:
        self._executors = {
            host: concurrent.futures.ThreadPoolExecutor(_THREADS_PER_HOST, f"fleet {host.config}")
            for host in hosts
        }

    def close(self) -> None:
        """Start no more calls."""
        for executor in self._executors.values():
            executor.shutdown(wait=False, cancel_futures=True)

    def call_all(
        self,
        hosts: Sequence[VirtualBoxHost],
        function: Callable[[VirtualBoxHost], _T],
        deadline: Deadline,
    ) -> tuple[dict[VirtualBoxHost, _T], dict[VirtualBoxHost, errors.Error]]:
        """Call a function with each host in parallel. Return the results and the errors.

        Args:
            hosts: which hosts.
            function: must end by itself at the deadline.
            deadline: a host for which all threads still wait by then has failed.

        Raises:
            Closed: the fleet is closed.
        """
        results: dict[VirtualBoxHost, _T] = {}
        failures: dict[VirtualBoxHost, errors.Error] = {}
        for host, call in self._start_all(hosts, function).items():
            try:
                results[host] = call.result(deadline.remaining + _GRACE_S)
            except errors.Error as error:
                failures[host] = error
            except concurrent.futures.TimeoutError:
                call.cancel()
                failures[host] = errors.CommandTimeout(
                    str(host.config), "too many calls already wait for it"
                )
        return results, failures

    def _start_all(
        self, hosts: Sequence[VirtualBoxHost], function: Callable[[VirtualBoxHost], _T]
    ) -> dict[VirtualBoxHost, concurrent.futures.Future[_T]]:
        try:
            return {host: self._executors[host].submit(function, host) for host in hosts}
        except RuntimeError:
            raise errors.Closed("all hosts", "this fleet was closed") from None
