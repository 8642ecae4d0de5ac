# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Secrets: shared by all units, set by users, changed, removed, and never shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ops
import pytest
from ops import testing

import credentials
import workload
from maas_virtualbox.config import tokens
from maas_virtualbox.transport import ssh_keys

from tests.charm.conftest import state
from tests.charm.test_charm import RELOADED, replaced, service_config, state_after

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]

KEY_FILE = "etc/maas-virtualbox/ssh-private-key"
TOKENS_FILE = "etc/maas-virtualbox/secrets.yaml"
GIVEN_KEY = ssh_keys.new_private_key()


def shared_secret(out: testing.State) -> testing.Secret:
    """Return the application's own secret."""
    (secret,) = (secret for secret in out.secrets if secret.owner == "app")
    return secret


def test_leader_creates_credentials_and_notifies_peers(
    context: Context, machine: ScratchMachine
) -> None:
    out = context.run(context.on.leader_elected(), state())

    secret = shared_secret(out)
    (peers,) = out.relations
    assert peers.local_app_data == {"credentials": "created"}
    assert secret.latest_content is not None
    made = credentials.Credentials.from_content(secret.latest_content)
    assert machine.text(KEY_FILE) == made.ssh_private_key
    assert machine.text(TOKENS_FILE) == made.tokens.to_yaml()


def test_credentials_can_be_read_from_their_content() -> None:
    made = credentials.Credentials.new()
    content = made.content()

    assert credentials.Credentials.from_content(content).content() == content
    assert set(content) == {"private-key", "master"}


def test_credentials_ignore_keys_of_a_newer_leader() -> None:
    made = credentials.Credentials.new()

    read = credentials.Credentials.from_content({**made.content(), "what-is-new": "unknown"})

    assert read.content() == made.content()


def test_units_share_key_and_master_secret(context: Context, machine: ScratchMachine) -> None:
    first = context.run(context.on.leader_elected(), state())
    leaders = machine.text(KEY_FILE), machine.text(TOKENS_FILE)
    (peers,) = first.relations
    theirs = testing.PeerRelation(
        "peers", local_app_data=dict(peers.local_app_data), peers_data={1: {}}
    )
    (machine.root / KEY_FILE).unlink()

    out = context.run(
        context.on.relation_changed(theirs, remote_unit=1),
        state(leader=False, relations=[theirs], secrets=[shared_secret(first)]),
    )

    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert (machine.text(KEY_FILE), machine.text(TOKENS_FILE)) == leaders


def test_unit_waits_for_the_leader(context: Context, machine: ScratchMachine) -> None:
    out = context.run(context.on.config_changed(), state(leader=False))

    assert out.unit_status == ops.WaitingStatus("waiting for the leader to create the credentials")
    assert not (machine.root / workload.CONFIG).exists()


def given(content: dict[str, str]) -> testing.Secret:
    """Return a user secret that is granted to the application."""
    return testing.Secret(content)


def test_key_of_a_user_secret_is_used(context: Context, machine: ScratchMachine) -> None:
    secret = given({"private-key": GIVEN_KEY})

    context.run(context.on.config_changed(), state(secrets=[secret], ssh_private_key=secret.id))

    assert machine.text(KEY_FILE) == GIVEN_KEY


def test_changed_key_of_a_user_secret_is_used(context: Context, machine: ScratchMachine) -> None:
    other = ssh_keys.new_private_key()
    secret = testing.Secret({"private-key": GIVEN_KEY}, latest_content={"private-key": other})
    before = state(secrets=[secret], ssh_private_key=secret.id)
    first = context.run(context.on.config_changed(), before)
    machine.systemctl_calls()
    (machine.root / KEY_FILE).write_text(GIVEN_KEY)

    context.run(context.on.secret_changed(first.get_secret(id=secret.id)), first)

    assert machine.text(KEY_FILE) == other


def test_reset_of_ssh_private_key_restores_the_charms_key(
    context: Context, machine: ScratchMachine
) -> None:
    secret = given({"private-key": GIVEN_KEY})
    first = context.run(
        context.on.config_changed(), state(secrets=[secret], ssh_private_key=secret.id)
    )
    machine.systemctl_calls()

    out = context.run(context.on.config_changed(), state_after(first, ssh_private_key=None))

    content = shared_secret(out).latest_content
    assert content is not None
    assert machine.text(KEY_FILE) == content["private-key"]
    assert machine.systemctl_calls() == RELOADED


@pytest.mark.parametrize("option", ["ssh_private_key", "maas_api_key"])
def test_secret_without_a_grant_blocks_with_the_command(
    context: Context, machine: ScratchMachine, option: str
) -> None:
    uri = "secret:d0000000000000000000"

    before = state_after(state(), **{option: uri})

    out = context.run(context.on.config_changed(), before)

    assert isinstance(out.unit_status, ops.BlockedStatus)
    dashed = option.replace("_", "-")
    assert out.unit_status.message.startswith(f"{dashed}: cannot read the secret: juju grant")
    assert f"juju grant-secret {uri} power" in out.unit_status.message
    assert machine.systemctl_calls() == []


def test_grant_takes_effect_at_update_status(context: Context, machine: ScratchMachine) -> None:
    secret = given({"private-key": GIVEN_KEY})
    blocked = context.run(context.on.config_changed(), state(ssh_private_key=secret.id))

    out = context.run(
        context.on.update_status(), replaced(blocked, secrets={*blocked.secrets, secret})
    )

    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert machine.text(KEY_FILE) == GIVEN_KEY


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"key": GIVEN_KEY}, "ssh-private-key: the secret has no private-key: juju update-secret"),
        (
            {"private-key": "MARKER"},
            "ssh-private-key: expected a private key without a passphrase: it is not a",
        ),
        (
            {"private-key": GIVEN_KEY[:200]},
            "ssh-private-key: expected a private key without a passphrase: it is not a",
        ),
    ],
)
def test_secret_with_an_invalid_key_is_not_shown(
    context: Context, content: dict[str, str], sentence: str
) -> None:
    secret = given(content)

    out = context.run(
        context.on.config_changed(), state(secrets=[secret], ssh_private_key=secret.id)
    )

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message.startswith(sentence)
    assert "MARKER" not in out.unit_status.message


def test_hosts_from_zones_uses_the_key_of_maas(context: Context, machine: ScratchMachine) -> None:
    secret = given({"api-key": "a:b:c"})
    context.run(
        context.on.config_changed(),
        state(
            hosts="from-zones",
            maas_url="http://127.0.0.1:9/MAAS",
            maas_api_key=secret.id,
            secrets=[secret],
        ),
    )

    configured = service_config(machine)
    assert configured["hosts"] == "from-zones"
    assert machine.text(configured["maas-api-key-file"]) == "a:b:c"


def test_unused_secret_file_is_removed(context: Context, machine: ScratchMachine) -> None:
    secret = given({"api-key": "a:b:c"})
    first = context.run(
        context.on.config_changed(), state(maas_api_key=secret.id, secrets=[secret])
    )
    assert "maas-api-key" in machine.modes()

    context.run(context.on.config_changed(), state_after(first, maas_api_key=None))

    assert "maas-api-key" not in machine.modes()


def test_secrets_are_not_logged_or_shown(
    context: Context, machine: ScratchMachine, caplog: pytest.LogCaptureFixture
) -> None:
    marker = "MARKER:of-the:api-key"
    secrets = [given({"private-key": GIVEN_KEY}), given({"api-key": marker})]
    first = context.run(
        context.on.config_changed(),
        state(ssh_private_key=secrets[0].id, maas_api_key=secrets[1].id, secrets=secrets),
    )
    context.run(context.on.update_status(), state_after(first, off_mode="acpi"))

    content = shared_secret(first).latest_content
    assert content is not None
    calls = (machine.systemd / "calls").read_text()
    shown = [line.message for line in context.juju_log] + [caplog.text, calls]
    shown += [status.message for status in context.unit_status_history]
    hidden = [marker, *GIVEN_KEY.splitlines()[1:-1], content["master"]]
    hidden += content["private-key"].splitlines()[1:-1]
    assert not [secret for secret in hidden for text in shown if secret in text]
    assert tokens.Secrets.model_validate({"master": content["master"]})
