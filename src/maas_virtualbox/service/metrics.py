# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The service's metrics, for Prometheus. Reading them polls no host."""

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
"""Why the service closed a client's connection: its address had too many; its TLS handshake
failed; it took too long; the service ran out of file descriptors; there were too many in total."""


class Metrics:
    """The service's counters, and the latest states of the hosts."""

    def __init__(self, fleet: Callable[[], Fleet | None]) -> None:
        self._registry = prometheus_client.CollectorRegistry()
        self._actions = prometheus_client.Counter(
            "maas_virtualbox_power_actions",
            "Power actions that have ended. Requests that joined an action are not counted.",
            ("host", "change", "result"),
            registry=self._registry,
        )
        self._action_seconds = prometheus_client.Histogram(
            "maas_virtualbox_power_action_seconds",
            "Duration of power actions.",
            ("change",),
            buckets=_ACTION_BUCKETS_S,
            registry=self._registry,
        )
        self._queries = prometheus_client.Counter(
            "maas_virtualbox_power_queries",
            "Answered power queries.",
            ("result",),
            registry=self._registry,
        )
        self._query_seconds = prometheus_client.Histogram(
            "maas_virtualbox_power_query_seconds",
            "Time to the answer of power queries.",
            buckets=_QUERY_BUCKETS_S,
            registry=self._registry,
        )
        self.failed_logins = prometheus_client.Counter(
            "maas_virtualbox_failed_logins",
            "Requests with a wrong token or without a token.",
            registry=self._registry,
        )
        self.delayed_refusals = prometheus_client.Counter(
            "maas_virtualbox_failed_logins_delayed",
            "Failed logins that were answered with a delay.",
            registry=self._registry,
        )
        self._connections = prometheus_client.Gauge(
            "maas_virtualbox_client_connections",
            "Open connections of clients; authenticated: with a valid token.",
            ("socket", "state"),
            registry=self._registry,
        )
        self.connection_limit = prometheus_client.Gauge(
            "maas_virtualbox_client_connections_limit",
            "How many connections of clients may be open.",
            ("socket",),
            registry=self._registry,
        )
        self.closed_connections = prometheus_client.Counter(
            "maas_virtualbox_client_connections_closed",
            "Connections of clients that the service has closed.",
            ("reason",),
            registry=self._registry,
        )
        for reason in get_args(CloseReason):
            self.closed_connections.labels(reason)
        self._registry.register(_Hosts(fleet))

    def count_action(
        self, host: str, change: str, error: errors.Error | None, seconds: float
    ) -> None:
        """Count a power action that has ended."""
        self._actions.labels(host, str(change), error.code if error else "done").inc()
        self._action_seconds.labels(str(change)).observe(seconds)

    def count_query(self, result: str, seconds: float) -> None:
        """Count an answered power query."""
        self._queries.labels(result).inc()
        self._query_seconds.observe(seconds)

    def watch_connections(self, socket: str, state: str, count: Callable[[], int]) -> None:
        """Show how many connections of clients are open, which `count` returns."""
        self._connections.labels(socket, state).set_function(count)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)


class _Hosts(registry.Collector):
    """The newest poll of each host, and what is counted for each host."""

    def __init__(self, fleet: Callable[[], Fleet | None]) -> None:
        self._fleet = fleet

    def collect(self) -> Iterator[core.Metric]:
        fleet = self._fleet()
        if fleet is not None:
            yield from self._states(fleet)
            yield from self._counters(fleet)
            yield from self._claims(fleet)

    def _states(self, fleet: Fleet) -> Iterator[core.Metric]:
        up = core.GaugeMetricFamily(
            "maas_virtualbox_host_up", "Whether the last poll succeeded.", labels=("host", "zone")
        )
        age = core.GaugeMetricFamily(
            "maas_virtualbox_host_state_age_seconds",
            "Time since the last poll of the host began.",
            labels=("host",),
        )
        vms = core.GaugeMetricFamily(
            "maas_virtualbox_vms", "VMs by state.", labels=("host", "state")
        )
        for host in fleet.hosts:
            name, state = str(host.config), host.state.latest()
            if state is None:
                continue
            is_up = isinstance(state, HostState)
            up.add_metric((name, host.config.zone), float(is_up))
            age.add_metric((name,), time.monotonic() - state.began)
            states = collections.Counter(
                vm.state.value for vm in (host.vms_of(state) if is_up else ())
            )
            for vm_state, count in sorted(states.items()):
                vms.add_metric((name, vm_state), count)
        yield from (up, age, vms)

    def _counters(self, fleet: Fleet) -> Iterator[core.Metric]:
        connections = core.CounterMetricFamily(
            "maas_virtualbox_ssh_connections",
            "SSH logins. All but the first of a host are reconnects.",
            labels=("host",),
        )
        refusals = core.CounterMetricFamily(
            "maas_virtualbox_orphaned_process_refusals",
            "Starts that were refused because an orphaned process runs the VM.",
            labels=("host",),
        )
        for host in fleet.hosts:
            refusals.add_metric((str(host.config),), host.orphaned_process_refusals)
            if isinstance(host.transport, ssh.SSHTransport):
                connections.add_metric((str(host.config),), host.transport.connections_made)
        yield from (connections, refusals)

    def _claims(self, fleet: Fleet) -> Iterator[core.Metric]:
        claims = core.GaugeMetricFamily(
            "maas_virtualbox_vm_claims",
            "VMs that the host lists, but that do not belong to it as far as is known.",
            labels=("host",),
        )
        claims_made = core.CounterMetricFamily(
            "maas_virtualbox_vm_claims_made",
            "How often the host began to list a VM that does not belong to it as far as is known.",
            labels=("host",),
        )
        claimed = collections.Counter(claim.host.name for claim in fleet.vm_hosts.claims())
        for host in fleet.hosts:
            claims.add_metric((str(host.config),), claimed[host.config.name])
            claims_made.add_metric((str(host.config),), fleet.vm_hosts.claims_made(host.config))
        yield from (claims, claims_made)
