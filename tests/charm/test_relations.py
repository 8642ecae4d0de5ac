# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm's relations certificates and cos-agent."""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING

import cosl
import ops
import pytest
from charmlibs.interfaces import tls_certificates as tls
from ops import testing

from maas_virtualbox.config import tokens

from tests.charm.conftest import state
from tests.charm.test_charm import RESTARTED, STARTED, replaced, service_config, state_after

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import ScratchMachine

    Context = testing.Context[MAASVirtualBoxCharm]

DAYS = datetime.timedelta(days=10)
CA_KEY = tls.PrivateKey.generate()
CA = tls.Certificate.generate_self_signed_ca(
    tls.CertificateRequestAttributes(common_name="the lab's CA"), CA_KEY, DAYS
)


def issued(requested: testing.RelationBase) -> testing.Relation:
    """Return the relation after its provider has signed the request."""
    (request,) = json.loads(requested.local_unit_data["certificate_signing_requests"])
    text = request["certificate_signing_request"]
    signing = tls.CertificateSigningRequest.from_string(text)
    certificate = signing.sign(CA, CA_KEY, DAYS)
    answer = {
        "certificate": str(certificate),
        "certificate_signing_request": text,
        "ca": str(CA),
        "chain": [str(certificate), str(CA)],
        "version": 0,
    }
    return testing.Relation(
        "certificates",
        id=requested.id,
        local_unit_data=dict(requested.local_unit_data),
        remote_app_data={"certificates": json.dumps([answer])},
    )


def with_relation(before: testing.State, relation: testing.Relation) -> testing.State:
    """Return the state of the unit with a changed relation."""
    others = [other for other in before.relations if other.id != relation.id]
    return replaced(before, relations={*others, relation})


def test_unit_waits_for_its_certificate(context: Context, machine: ScratchMachine) -> None:
    relation = testing.Relation("certificates")

    out = context.run(context.on.relation_created(relation), state(relations=[relation]))

    assert isinstance(out.unit_status, ops.WaitingStatus)
    assert "certificate" in out.unit_status.message
    assert machine.systemctl_calls() == []


def test_service_runs_on_while_waiting_for_a_certificate(
    context: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.config_changed(), state())
    machine.systemctl_calls()
    relation = testing.Relation("certificates")

    context.run(context.on.relation_created(relation), with_relation(first, relation))

    assert machine.systemctl_calls() == []
    assert "tls-key-file" not in service_config(machine)


def test_certificate_switches_the_service_to_https(
    context: Context, machine: ScratchMachine
) -> None:
    relation = testing.Relation("certificates")
    asked = context.run(context.on.relation_created(relation), state(relations=[relation]))
    answered = issued(asked.get_relation(relation.id))

    out = context.run(context.on.relation_changed(answered), with_relation(asked, answered))

    configured = service_config(machine)
    pem = machine.text(configured["tls-certificate-file"])
    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert machine.systemctl_calls() == STARTED
    assert pem.count("BEGIN CERTIFICATE") == 2
    certificate = tls.Certificate.from_string(pem.split("\n\n", maxsplit=1)[0])
    assert certificate.sans_ip == {"10.0.0.2"}
    key = tls.PrivateKey.from_string(machine.text(configured["tls-key-file"]))
    assert certificate.matches_private_key(key)

    machine.systemctl_calls()
    out = context.run(context.on.relation_broken(answered), with_relation(out, answered))

    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert machine.systemctl_calls() == RESTARTED
    assert "tls-key-file" not in service_config(machine)
    assert "tls-key.pem" not in machine.modes()


@pytest.mark.parametrize(
    ("wrong", "kept"), [({"hosts": "ivan at laptop"}, True), ({"listen_subnet": "x"}, False)]
)
def test_certificate_stays_while_an_option_is_invalid(
    context: Context, machine: ScratchMachine, wrong: dict[str, str], kept: bool
) -> None:
    relation = testing.Relation("certificates")
    asked = context.run(context.on.relation_created(relation), state(relations=[relation]))
    answered = issued(asked.get_relation(relation.id))
    served = context.run(context.on.relation_changed(answered), with_relation(asked, answered))
    before = service_config(machine)

    out = context.run(context.on.config_changed(), state_after(served, **wrong))

    bag = out.get_relation(relation.id).local_unit_data
    requests = json.loads(bag.get("certificate_signing_requests", "[]"))
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert service_config(machine) == before
    assert bool(requests) is kept


@pytest.mark.parametrize("port", [5307, 5400])
def test_cos_agent_gets_the_address_of_the_metrics(context: Context, port: int) -> None:
    relation = testing.Relation("cos-agent")

    out = context.run(
        context.on.relation_changed(relation), state(relations=[relation], listen_port=port)
    )

    document = json.loads(out.get_relation(relation.id).local_unit_data["config"])
    (job,) = document["metrics_scrape_jobs"]
    (secret,) = (secret for secret in out.secrets if secret.owner == "app")
    assert secret.latest_content is not None
    master = tokens.Secrets.model_validate({"master": secret.latest_content["master"]})
    assert job["static_configs"] == [{"targets": [f"localhost:{port}"]}]
    assert job["scheme"] == "http"
    assert job["authorization"]["credentials"] == master.metrics_token()
    assert master.admin_token() not in json.dumps(document)


def test_cos_agent_gets_alerts_and_a_dashboard(context: Context) -> None:
    relation = testing.Relation("cos-agent")

    out = context.run(context.on.relation_created(relation), state(relations=[relation]))

    document = json.loads(out.get_relation(relation.id).local_unit_data["config"])
    rules = [
        rule for group in document["metrics_alert_rules"]["groups"] for rule in group["rules"]
    ]
    assert rules
    assert all(rule["labels"]["juju_application"] == "power" for rule in rules)
    (dashboard,) = document["dashboards"]
    assert json.loads(cosl.LZMABase64.decompress(dashboard))["panels"]
