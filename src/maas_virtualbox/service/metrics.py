# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What the service counts, for Prometheus. Reading it asks no host anything."""

from __future__ import annotations

import collections
import time
from typing import TYPE_CHECKING, Literal, get_args

import prometheus_client
from prometheus_client import core, registry

from maas_virtualbox import errors
from maas_virtualbox.host.state import HostState
from maas_virtualbox.transport import ssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from maas_virtualbox.fleet.fleet import Fleet

CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST

_ACTION_BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 20.0, 25.0, 60.0)
_QUERY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0)


CloseReason = Literal["address", "handshake", "idle", "shortage", "total"]
"""Why the service has closed a client's connection: its address had more than its share; its TLS
handshake failed; the client kept the service waiting; there were no file descriptors left; there
was no room for all."""


class Metrics:
    """The service's counters, and the latest states of the hosts."""

    def __init__(self, fleet: Callable[[], Fleet | None]) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._actions = prometheus_client.Counter(
            "maas_virtualbox_power_actions",
            "Power actions that ended, repetitions counted once.",
            ("host", "change", "result"),
            registry=self._registry,
        )
        self._action_seconds = prometheus_client.Histogram(
            "maas_virtualbox_power_action_seconds",
            "How long power actions took.",
            ("change",),
            buckets=_ACTION_BUCKETS_S,
            registry=self._registry,
        )
        self._queries = prometheus_client.Counter(
            "maas_virtualbox_power_queries",
            "Power queries answered.",
            ("result",),
            registry=self._registry,
        )
        self._query_seconds = prometheus_client.Histogram(
            "maas_virtualbox_power_query_seconds",
            "How long answers to power queries took.",
            buckets=_QUERY_BUCKETS_S,
            registry=self._registry,
        )
        self.failed_logins = prometheus_client.Counter(
            "maas_virtualbox_failed_logins",
            "Requests with a wrong token or none.",
            registry=self._registry,
        )
        self.delayed_refusals = prometheus_client.Counter(
            "maas_virtualbox_failed_logins_delayed",
            "Failed logins whose sender had to wait for the answer.",
            registry=self._registry,
        )
        self._connections = prometheus_client.Gauge(
            "maas_virtualbox_client_connections",
            "Open connections of clients; authenticated: with a right token.",
            ("socket", "state"),
            registry=self._registry,
        )
        self.connection_limit = prometheus_client.Gauge(
            "maas_virtualbox_client_connections_limit",
            "How many connections of clients there may be.",
            ("socket",),
            registry=self._registry,
        )
        self.closed_connections = prometheus_client.Counter(
            "maas_virtualbox_client_connections_closed",
            "Connections of clients that the service did not wait for or had no room for.",
            ("reason",),
            registry=self._registry,
        )
        for reason in get_args(CloseReason):
            self.closed_connections.labels(reason)
        self._registry.register(_Hosts(fleet))

    def count_action(
        self, host: str, change: str, error: errors.Error | None, seconds: float
    ) -> None:
        """Count a power action that ended."""
        self._actions.labels(host, str(change), error.code if error else "done").inc()
        self._action_seconds.labels(str(change)).observe(seconds)

    def count_query(self, result: str, seconds: float) -> None:
        """Count a power query that was answered."""
        self._queries.labels(result).inc()
        self._query_seconds.observe(seconds)

    def watch_connections(self, socket: str, state: str, count: Callable[[], int]) -> None:
        """Show how many connections of clients there are, as `count` says when it is read."""
        self._connections.labels(socket, state).set_function(count)

    def text(self) -> bytes:
        """Return all of it in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)


class _Hosts(registry.Collector):
    """What the newest poll of each host showed."""

    def __init__(self, fleet: Callable[[], Fleet | None]) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[core.Metric]:
        up = core.GaugeMetricFamily(
            "maas_virtualbox_host_up", "Whether the last poll succeeded.", labels=("host", "zone")
        )
        age = core.GaugeMetricFamily(
            "maas_virtualbox_host_state_age_seconds",
            "Age of the last known state of the host.",
            labels=("host",),
        )
        vms = core.GaugeMetricFamily(
            "maas_virtualbox_vms", "VMs by state.", labels=("host", "state")
        )
        connections = core.CounterMetricFamily(
            "maas_virtualbox_ssh_connections",
            "SSH logins; all but a host's first are reconnects.",
            labels=("host",),
        )
        second_copies = core.CounterMetricFamily(
            "maas_virtualbox_orphaned_process_refusals",
            "Starts refused because a process ran the VM behind VirtualBox's back.",
            labels=("host",),
        )
        claims = core.GaugeMetricFamily(
            "maas_virtualbox_vm_claims",
            "VMs that a host lists and that are not known to be its own.",
            labels=("host",),
        )
        claims_made = core.CounterMetricFamily(
            "maas_virtualbox_vm_claims_made",
            "How often a host began to list a VM that is not known to be its own.",
            labels=("host",),
        )
        if (fleet := self._fleet()) is None:
            return
        claimed = collections.Counter(claim.host.name for claim in fleet.vm_hosts.claims())
        for host in fleet.hosts:
            name = str(host.config)
            claims.add_metric((name,), claimed[host.config.name])
            claims_made.add_metric((name,), fleet.vm_hosts.claims_made(host.config))
            second_copies.add_metric((name,), host.second_copies_refused)
            if isinstance(host.transport, ssh.SSHTransport):
                connections.add_metric((name,), host.transport.connections_made)
            if (state := host.state.latest()) is None:
                continue
            is_up = isinstance(state, HostState)
            up.add_metric((name, host.config.zone), float(is_up))
            age.add_metric((name,), time.monotonic() - state.began)
            found = host.vms_of(state) if is_up else []
            for word, count in sorted(collections.Counter(vm.state.value for vm in found).items()):
                vms.add_metric((name, word), count)
        yield from (up, age, vms, connections, second_copies, claims, claims_made)
