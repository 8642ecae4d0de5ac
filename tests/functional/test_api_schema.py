# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The service conforms to its OpenAPI document, for requests that schemathesis generates."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

import hypothesis
import pytest
import schemathesis
from hypothesis import errors, strategies
from schemathesis.specs.openapi import checks

from maas_virtualbox.service import openapi
from maas_virtualbox.simulator import Simulator

from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Generator


_SLOW = [hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[ServiceProcess]:
    """A service for a host with four VMs."""
    folder = tmp_path_factory.mktemp("service")
    with (
        Simulator(vms=4) as simulator,
        ServiceProcess(folder, [simulator.host_entry], simulator.key_file) as service,
    ):
        yield service


_CHECKS: Any = checks
_SCHEMA: Any = schemathesis.openapi.from_dict(openapi.document())
_OPERATIONS: list[Any] = [each.ok() for each in _SCHEMA.get_all_operations()]


@pytest.mark.parametrize("operation", _OPERATIONS, ids=[each.label for each in _OPERATIONS])
@pytest.mark.parametrize("mode", ["POSITIVE", "NEGATIVE"])
def test_every_answer_is_documented_and_not_a_500(
    operation: Any, mode: str, service: ServiceProcess
) -> None:
    generation: Any = cast("Any", schemathesis).GenerationMode[mode]
    headers = {"Authorization": f"Bearer {service.secrets.admin_token()}"}

    @hypothesis.settings(max_examples=50, deadline=None, suppress_health_check=_SLOW)
    @hypothesis.given(
        case=operation.as_strategy(generation_mode=generation), of_a_vm=strategies.booleans()
    )
    def answers_are_documented(case: Any, *, of_a_vm: bool) -> None:
        if of_a_vm and mode == "POSITIVE" and "selector" in (case.path_parameters or {}):
            case.path_parameters["selector"] = "node01"
        # An unknown VM is 410 here, because MAAS treats 404 as success.
        case.call_and_validate(
            base_url=service.uri(""),
            headers=headers,
            timeout=30,
            excluded_checks=[_CHECKS.positive_data_acceptance],
        )

    try:
        answers_are_documented()
    except errors.Unsatisfiable:
        assert mode == "NEGATIVE"  # these requests have nothing that could be wrong


def test_document_is_served(service: ServiceProcess) -> None:
    code, body = service.get("/api/v1/openapi.json")
    assert code == 200
    assert json.loads(body) == openapi.document()


def test_service_still_runs_afterwards(service: ServiceProcess) -> None:
    assert service.get("/readyz")[0] == 200
    assert "Traceback" not in service.log
