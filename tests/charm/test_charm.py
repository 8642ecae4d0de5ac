# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm's events: their effects on a machine, and the status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ops
import pytest
import yaml
from ops import testing

import workload
from maas_virtualbox.version import VERSION

from tests.charm.conftest import answer_network_get, host, state

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]

STARTED = [
    "daemon-reload",
    "enable maas-virtualbox.service",
    "restart maas-virtualbox.service",
]
RELOADED = ["reload maas-virtualbox.service"]
RESTARTED = STARTED[1:]


def service_config(machine: ScratchMachine) -> dict[str, Any]:
    """Return the content of the power service's configuration file."""
    return yaml.safe_load(machine.text(workload.CONFIG_FILE))


def test_install_without_hosts_is_blocked_with_the_command(
    context: Context, machine: ScratchMachine
) -> None:
    out = context.run(context.on.install(), state(hosts=""))

    assert out.unit_status == ops.BlockedStatus("no hosts: juju config power hosts='user@address'")
    assert out.workload_version == VERSION
    assert len(machine.installed) == 1
    assert machine.systemctl_calls() == []


def test_config_changed_starts_the_service(context: Context, machine: ScratchMachine) -> None:
    out = context.run(context.on.config_changed(), state(off_mode="acpi", log_level="debug"))

    assert out.unit_status == ops.ActiveStatus("3 VMs on 1 host, 1 running")
    assert out.opened_ports == {testing.TCPPort(5307)}
    assert machine.systemctl_calls() == STARTED
    assert service_config(machine) == {
        "hosts": [{"address": "10.0.0.5", "user": "ivan", "name": "alpha"}],
        "maas-url": "",
        "off-mode": "acpi",
        "off-timeout": 10.0,
        "saved-state": "discard",
        "log-level": "debug",
        "listen": "0.0.0.0:5307",
        "known-hosts-file": str(machine.root / "var/lib/maas-virtualbox/known_hosts"),
        "vm-hosts-file": str(machine.root / "var/lib/maas-virtualbox/vm-hosts.json"),
        "socket-file": str(machine.root / "run/maas-virtualbox/power.sock"),
        "ssh-private-key-file": str(machine.root / "etc/maas-virtualbox/ssh-private-key"),
        "secrets-file": str(machine.root / "etc/maas-virtualbox/secrets.yaml"),
    }


def test_secret_files_are_readable_only_by_the_service_user(
    context: Context, machine: ScratchMachine
) -> None:
    context.run(context.on.config_changed(), state())

    assert set(machine.modes().values()) == {0o600}
    assert (machine.root / workload.CONFIG).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("event", ["config_changed", "update_status", "start", "upgrade_charm"])
def test_event_without_a_change_does_not_restart_the_service(
    context: Context, machine: ScratchMachine, event: str
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()
    before = {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")}

    out = context.run(getattr(context.on, event)(), first)

    assert out.unit_status == first.unit_status
    assert machine.systemctl_calls() == []
    if event != "upgrade_charm":
        assert {path: path.stat().st_mtime_ns for path in machine.root.rglob("*")} == before


@pytest.mark.parametrize(
    ("changed", "calls"),
    [
        ({"off_mode": "acpi"}, RELOADED),
        ({"hosts": "ivan@10.0.0.6"}, RELOADED),
        ({"log_level": "error"}, RELOADED),
        ({"listen_port": 5400}, RESTARTED),
        ({"maas_url": "http://10.0.0.2:5240/MAAS"}, RELOADED),
    ],
)
def test_service_restarts_only_if_a_reload_is_not_enough(
    context: Context, machine: ScratchMachine, changed: dict[str, Any], calls: list[str]
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()

    context.run(context.on.config_changed(), state_after(first, **changed))

    assert machine.systemctl_calls() == calls


def state_after(before: testing.State, **config: Any) -> testing.State:
    """Return the state of the unit with changed options. None resets an option."""
    changed = {name.replace("_", "-"): value for name, value in config.items()}
    options: dict[str, Any] = {**before.config, **changed}
    kept = {name: value for name, value in options.items() if value is not None}
    return replaced(before, config=kept)


def replaced(before: testing.State, **fields: Any) -> testing.State:
    """Return the state of the unit with changed fields."""
    known = {name: getattr(before, name) for name in before.__dataclass_fields__}
    return testing.State(**{**known, **fields})


def test_changed_port_is_opened_and_the_old_one_closed(context: Context) -> None:
    first = context.run(context.on.config_changed(), state())

    out = context.run(context.on.config_changed(), state_after(first, listen_port=5400))

    assert out.opened_ports == {testing.TCPPort(5400)}


def test_service_stops_without_hosts(context: Context, machine: ScratchMachine) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()

    out = context.run(context.on.config_changed(), state_after(first, hosts=""))

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert machine.systemctl_calls() == ["disable --now maas-virtualbox.service"]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        (
            {"hosts": "ivan at laptop"},
            "hosts: expected a host list: entry 1 'ivan at laptop': expected option",
        ),
        (
            {"hosts": "- user: x\n  colour: red"},
            "hosts: expected a host list: entry 1: unknown option 'colour'",
        ),
        ({"hosts": "a@x, a@x"}, "hosts: expected a host list: a@x is named twice"),
        ({"hosts": "local"}, "hosts: expected user@address, also for VMs on this machine"),
        ({"hosts": "a@x; touch /tmp/pwned"}, "hosts: expected a host list: entry 1"),
        (
            {"hosts": "from-zones"},
            "hosts: expected maas-url and maas-api-key to be set for from-zones",
        ),
        ({"off_mode": "gently"}, "off-mode: expected hard or acpi"),
        ({"off_timeout": 0.5}, "off-timeout: expected at least 1"),
        ({"off_timeout": 21.0}, "off-timeout: expected at most 20"),
        ({"saved_state": "keep"}, "saved-state: expected discard or resume"),
        ({"listen_port": 0}, "listen-port: expected at least 1"),
        ({"listen_port": 65536}, "listen-port: expected at most 65535"),
        ({"listen_subnet": "10.0.0.1/24"}, "listen-subnet: expected a subnet such as 10.0.0.0/24"),
        (
            {"listen_subnet": "10.9.0.0/24"},
            "listen-subnet: expected a subnet of this machine (10.0.0.2), not 10.9.0.0/24",
        ),
        ({"power_template": "maybe"}, "power-template: expected auto, on or off"),
        ({"power_template": "on"}, "power-template: expected auto or off, because this machine"),
        ({"log_level": "loud"}, "log-level: expected debug, info, warning or error"),
    ],
)
def test_invalid_option_is_one_sentence_and_changes_nothing(
    context: Context, machine: ScratchMachine, changed: dict[str, Any], sentence: str
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()
    before = service_config(machine)

    out = context.run(context.on.config_changed(), state_after(first, off_mode="acpi"))
    machine.systemctl_calls()
    out = context.run(context.on.config_changed(), state_after(first, **changed))

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message.startswith(sentence)
    assert "\n" not in out.unit_status.message
    assert machine.systemctl_calls() == []
    assert service_config(machine) == {**before, "off-mode": "acpi"}


def test_service_that_does_not_start_blocks_and_is_retried(
    context: Context, machine: ScratchMachine
) -> None:
    machine.break_service()

    out = context.run(context.on.config_changed(), state())
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "journalctl -u maas-virtualbox" in out.unit_status.message

    (machine.systemd / "broken").unlink()
    machine.systemctl_calls()
    out = context.run(context.on.update_status(), out)
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert machine.systemctl_calls() == RESTARTED


def test_update_status_starts_a_service_that_died(
    context: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()
    (machine.systemd / "active").unlink()

    out = context.run(context.on.update_status(), first)

    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert machine.systemctl_calls() == RESTARTED


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (
            [host("alpha", vms=20, running=7), host("beta", vms=1, running=1), host("c", vms=3)],
            ops.ActiveStatus("24 VMs on 3 hosts, 8 running"),
        ),
        ([host("alpha", vms=1)], ops.ActiveStatus("1 VM on 1 host, 0 running")),
        (
            [host("a", vms=1), host("b", vms=1), host("izMBP15", code="login-refused")],
            ops.WaitingStatus(
                "1 of 3 hosts unreachable: izMBP15 (login refused: add the public key, see"
                " get-public-key)"
            ),
        ),
        (
            [host("attic", code="host-key-changed"), host("b", code="vboxmanage-missing")],
            ops.WaitingStatus(
                "2 of 2 hosts unreachable: attic (host key changed: see trust-host), b"
                " (VBoxManage not found: see check-hosts)"
            ),
        ),
        (
            [host("a", vms=3), host("attic", vms=1, claims=2), host("b", claims=1)],
            ops.WaitingStatus("3 VMs of other hosts listed by attic, b: see check-hosts"),
        ),
        (
            [host("attic", vms=1, claims=1), host("b", code="host-down")],
            ops.WaitingStatus("1 of 2 hosts unreachable: b (no answer: see check-hosts)"),
        ),
        (
            [host(name, code="host-down") for name in "abcde"],
            ops.WaitingStatus(
                "5 of 5 hosts unreachable: a (no answer: see check-hosts), b (no answer: see"
                " check-hosts), c (no answer: see check-hosts), 2 more"
            ),
        ),
    ],
)
def test_status_names_unreachable_hosts(
    context: Context, machine: ScratchMachine, hosts: list[Any], status: ops.StatusBase
) -> None:
    machine.hosts = hosts

    assert context.run(context.on.config_changed(), state()).unit_status == status


def test_address_is_in_listen_subnet(context: Context) -> None:
    with context(
        context.on.config_changed(),
        state(addresses=("192.168.1.2", "10.0.0.2"), listen_subnet="10.0.0.0/24"),
    ) as manager:
        assert manager.charm.configuration.address() == "10.0.0.2"
    with context(
        context.on.config_changed(), state(addresses=("192.168.1.2", "10.0.0.2"))
    ) as manager:
        assert manager.charm.configuration.address() == "192.168.1.2"


def test_unit_with_an_ipv6_address_listens_on_ipv6(
    context: Context, machine: ScratchMachine
) -> None:
    context.run(context.on.config_changed(), state(addresses=("2001:db8::2",)))

    assert service_config(machine)["listen"] == "[::]:5307"


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([], id="none"),
        pytest.param([{"value": "laptop.lan", "cidr": ""}], id="host name"),
        pytest.param([{"value": "", "hostname": "laptop"}], id="empty"),
        pytest.param([{"hostname": "laptop"}], id="no value"),
        pytest.param([{"value": "fe80::1", "cidr": "fe80::/64"}], id="link-local"),
    ],
)
def test_unit_without_an_address_waits(
    context: Context,
    machine: ScratchMachine,
    monkeypatch: pytest.MonkeyPatch,
    addresses: list[dict[str, str]],
) -> None:
    answer_network_get(monkeypatch, *addresses)

    out = context.run(context.on.config_changed(), state())

    assert out.unit_status == ops.WaitingStatus("waiting for an IP address from Juju")
    assert machine.systemctl_calls() == []


def test_service_runs_on_without_an_address(
    context: Context, machine: ScratchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()
    answer_network_get(monkeypatch)

    for event in (context.on.config_changed(), context.on.update_status()):
        out = context.run(event, first)

        assert isinstance(out.unit_status, ops.WaitingStatus)
        assert machine.systemctl_calls() == []


def test_address_is_the_first_usable_one(
    context: Context, machine: ScratchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_network_get(
        monkeypatch,
        {"hostname": "laptop"},
        {"value": "fe80::1", "cidr": "fe80::/64"},
        {"value": "2001:db8::2", "cidr": "2001:db8::/64"},
        {"value": "10.0.0.2", "cidr": "10.0.0.0/24"},
    )

    with context(context.on.config_changed(), state()) as manager:
        assert manager.charm.configuration.address() == "2001:db8::2"
        manager.run()
    assert service_config(machine)["listen"] == "[::]:5307"
    with context(context.on.config_changed(), state(listen_subnet="10.0.0.0/8")) as manager:
        assert manager.charm.configuration.address() == "10.0.0.2"


def test_stop_and_remove_leave_no_files(context: Context, machine: ScratchMachine) -> None:
    before = set(machine.root.rglob("*"))
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()

    stopped = context.run(context.on.stop(), first)
    assert machine.systemctl_calls() == ["disable --now maas-virtualbox.service"]
    context.run(context.on.remove(), stopped)

    assert set(machine.root.rglob("*")) == before
    assert machine.accounts == set()
    assert machine.systemctl_calls()[-1] == "daemon-reload"


def test_upgrade_installs_the_new_code_and_keeps_secrets(
    context: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.install(), state())
    before = machine.text("etc/maas-virtualbox/secrets.yaml")

    out = context.run(context.on.upgrade_charm(), first)

    assert len(machine.installed) == 2
    assert out.workload_version == VERSION
    assert machine.text("etc/maas-virtualbox/secrets.yaml") == before


def test_charm_tracing_can_be_related(context: Context) -> None:
    relation = testing.Relation("charm-tracing")

    out = context.run(context.on.relation_created(relation), state(relations=[relation]))

    assert out.get_relation(relation.id).local_app_data
