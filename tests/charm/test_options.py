# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The status for invalid values of every option of both charms."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

from maas_virtualbox.transport import ssh_keys

from tests.charm import charmcraft
from tests.charm.conftest import state
from tests.charm.test_charm import service_config, state_after
from tests.charm.test_virtualbox_host import box, laptop, laptop_state

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm
    from virtualbox_host.charm import VirtualBoxHostCharm

    from tests.charm.conftest import ScratchMachine
    from tests.charm.test_virtualbox_host import Box

__all__ = ["box", "laptop"]

WRONG: dict[str, list[Any]] = {
    "hosts": [
        "10.0.0.5 10.0.0.6",
        "ivan@10.0.0.5; ivan@10.0.0.6",
        "ivan@10.0.0.5:ssh",
        "@10.0.0.5",
        "ivan@10.0.0.5 zone=",
        "ivan@10.0.0.5 zone='lab",
        "ivan@10.0.0.5 hostkey=SHA256:x",
        "ivan@10.0.0.5 host-key=SHA256:x",
        "ivan@10.0.0.5, ivan@10.0.0.5",
        "- ivan@10.0.0.5\n user: ivan",
        "{hosts: 3}",
        "from-zones",
        "local",
    ],
    "ssh-private-key": [
        "MARKER",
        ssh_keys.public_key(ssh_keys.new_private_key()),
        ssh_keys.new_private_key()[:100],
    ],
    "off-mode": ["", "Hard", "soft", "hard "],
    "off-timeout": [0.0, -1.0, 30.0],
    "saved-state": ["", "delete"],
    "listen-port": [0, -1, 65536],
    "listen-subnet": ["10.0.0.2/24", "10.0.0.0/33", "eth0", "10.0.0.0-10.0.0.255", "10.9.0.0/24"],
    "maas-url": [
        "10.0.0.2:5240/MAAS",
        "10.0.0.2",
        "http://",
        "http://admin:MARKER@10.0.0.2:5240/MAAS",
        "http://10.0.0.2:port/MAAS",
        "http://10.0.0.2:5240/MAAS http://10.0.0.3:5240/MAAS",
        "https:/10.0.0.2:5240/MAAS",
    ],
    "maas-api-key": ["MARKER", "MARKER:b", "MARKER::c", "MARKER:b:c:d"],
    "auto-enlist": ["", "on", "true", "adopt,all"],
    "power-template": ["", "yes", "on"],
    "log-level": ["", "INFO", "warn", "trace"],
}
"""Values by option. For an option with a secret, the value is the content of the secret."""
SECRET_FIELDS = {"ssh-private-key": "private-key", "maas-api-key": "api-key"}

WRONG_OF_HOST: dict[str, list[Any]] = {
    "install": ["", "yes", "Auto"],
    "package": ["", "virtualbox virtualbox-dkms", "--purge", "Virtualbox"],
    "version": ["7.2 22", "7.2;id"],
    "user": ["", "root", "Ivan", "ivan@10.0.0.5", "0day"],
    "zone": ["rack/1", "-lab", "a\nb"],
    "vm-count": [-1, 201],
    "name-prefix": ["node/", "-n", "a'b", "node\n"],
    "cpus": [0, 65, -1],
    "memory": [0, 3, 2097153],
    "disk": [0, -20, 4097],
    "nic-model": ["", "E1000", "e1000e"],
    "attachment": ["", "bridge", "host-only"],
    "network": ["'eth0'", "-eth0", "$(id)"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in WRONG for value in WRONG[option]]
)
def test_invalid_option_names_what_is_expected(
    context: testing.Context[MAASVirtualBoxCharm],
    machine: ScratchMachine,
    option: str,
    value: Any,
) -> None:
    first = context.run(context.on.config_changed(), state(off_mode="acpi"))
    before = service_config(machine)
    secret = testing.Secret({SECRET_FIELDS.get(option, "any"): str(value) or "x"})
    given = secret.id if option in SECRET_FIELDS else value
    wrong = state_after(first, off_mode="hard", **{option: given})

    out = context.run(
        context.on.config_changed(), dataclasses.replace(wrong, secrets={*wrong.secrets, secret})
    )

    assert_says_what_is_expected(out.unit_status, option)
    assert service_config(machine) == before


@pytest.mark.parametrize(
    ("option", "value"),
    [(option, value) for option in WRONG_OF_HOST for value in WRONG_OF_HOST[option]],
)
def test_invalid_option_of_virtualbox_host_names_the_expected(
    laptop: testing.Context[VirtualBoxHostCharm], box: Box, option: str, value: Any
) -> None:
    out = laptop.run(laptop.on.config_changed(), laptop_state(**{option: value}))

    assert_says_what_is_expected(out.unit_status, option)
    assert box.calls == []


def test_option_tables_are_complete() -> None:
    assert list(WRONG) == list(charmcraft.read()["config"]["options"])
    assert list(WRONG_OF_HOST) == list(charmcraft.read("virtualbox-host")["config"]["options"])


def assert_says_what_is_expected(status: object, option: str) -> None:
    """Assert that a status is one sentence about an option, without secret content."""
    assert isinstance(status, ops.BlockedStatus)
    assert status.message.startswith(f"{option}: expected ")
    assert status.message.isprintable()
    assert "MARKER" not in status.message
