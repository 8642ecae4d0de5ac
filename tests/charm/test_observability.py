# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The alert rules and the dashboard: they are valid, and the service exposes their metrics."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cosl
import pytest
import yaml
from prometheus_client import parser

from maas_virtualbox.simulator import Simulator

from tests.charm import charmcraft
from tests.conftest import unavailable
from tests.service import ServiceProcess

if TYPE_CHECKING:
    from collections.abc import Iterable

RULES = charmcraft.ROOT / "charm" / "prometheus_alert_rules" / "maas-virtualbox.rules.yaml"
RULES_TEST = Path(__file__).with_name("alert_rules_test.yaml")
DASHBOARD = charmcraft.ROOT / "charm" / "grafana_dashboards" / "maas-virtualbox.json"

TOPOLOGY = {"juju_model", "juju_model_uuid", "juju_application", "juju_unit"}
"""The labels of every metric that is scraped from a charm."""

_METRIC = re.compile(r"\b(maas_virtualbox_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\bby \(([^)]*)\)")
_LABEL = re.compile(r"\$labels\.(\w+)|\{\{\s*(\w+)\s*\}\}")
_BUILT_IN = {"$__interval": "5m", "$__range": "6h", "$__rate_interval": "5m"}


def alerts() -> list[dict[str, Any]]:
    """Return the alerts."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return json.loads(DASHBOARD.read_text())


def targets() -> list[tuple[str, dict[str, Any]]]:
    """Return the queries of the dashboard, each with the title of its panel."""
    return [
        (panel["title"], target)
        for panel in dashboard()["panels"]
        for target in panel.get("targets", [])
    ]


def promtool(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    if shutil.which("promtool") is None:
        unavailable("no promtool (Debian package prometheus)")
    return subprocess.run(
        ["promtool", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the labels of each sample of a service that has exposed all metrics."""
    with Simulator(vms=2) as simulator:
        entry = f"{simulator.host_entry} name=alpha zone=lab"
        folder = tmp_path_factory.mktemp("service")
        with ServiceProcess(folder, [entry], simulator.key_file) as service:
            uuid = simulator.virtualbox.vm("node01").uuid
            token = service.secrets.vm_token(uuid)
            assert service.request("POST", f"/vm/{uuid}/on", token)[0] == 200
            assert service.get(f"/vm/{uuid}/query", token)[0] == 200
            assert service.get(f"/vm/{uuid}/query", "wrong")[0] == 401
            code, text = service.get("/metrics", service.secrets.admin_token())
    assert code == 200
    return {
        sample.name: set(sample.labels)
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def assert_exposed(expression: str, exposed: dict[str, set[str]]) -> set[str]:
    """Assert that metrics and labels of an expression exist. Return the labels of its result."""
    labels = set(TOPOLOGY)
    selected = _METRIC.findall(expression)
    assert selected, expression
    for name, matchers in selected:
        assert name in exposed
        assert set(_MATCHER.findall(matchers)) <= exposed[name] | TOPOLOGY, name
        labels |= exposed[name]
    for grouping in _GROUPING.findall(expression):
        assert set(re.findall(r"\w+", grouping)) <= labels, expression
    return labels


# -- Alert rules ------------------------------------------------------------------------------


def test_alert_rules_are_valid_for_prometheus(tmp_path: Path) -> None:
    done = promtool("check", "rules", RULES, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    content = yaml.safe_load(RULES.read_text())
    for rule in itertools.chain.from_iterable(group["rules"] for group in content["groups"]):
        del rule["annotations"]["description"]
    (tmp_path / RULES.name).write_text(yaml.safe_dump(content))
    shutil.copy(RULES_TEST, tmp_path)
    done = promtool("test", "rules", RULES_TEST.name, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_have_tests_for_firing_and_silence() -> None:
    cases = [
        case
        for test in yaml.safe_load(RULES_TEST.read_text())["tests"]
        for case in test["alert_rule_test"]
    ]
    firing = {
        (case["alertname"], alert["exp_labels"]["severity"])
        for case in cases
        for alert in case.get("exp_alerts", [])
    }
    silent = {case["alertname"] for case in cases if not case.get("exp_alerts")}
    assert firing == {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()}
    assert silent == {rule["alert"] for rule in alerts()}


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alerts_use_metrics_that_the_service_exposes(
    rule: dict[str, Any], exposed: dict[str, set[str]]
) -> None:
    labels = assert_exposed(rule["expr"], exposed)
    used = {
        name for text in rule["annotations"].values() for name, _ in _LABEL.findall(text) if name
    }
    assert used <= labels


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_alerts_have_a_severity_and_a_command(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    description = rule["annotations"]["description"]
    assert charmcraft.actions_in(description) or "juju status maas-virtualbox" in description
    charmcraft.assert_commands_exist(description)


def test_charm_publishes_every_alert_with_its_topology(tmp_path: Path) -> None:
    uuid = "6b8f1c1e-6d0c-4c1e-8e0e-3c1f6c0f2a11"
    topology = cosl.JujuTopology("demo", uuid, "power", "power/0", "maas-virtualbox")
    rules = cosl.AlertRules(query_type="promql", topology=topology)
    rules.add_path(RULES.parent)
    (group,) = rules.as_dict()["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule["alert"] for rule in alerts()]
    for rule in group["rules"]:
        assert rule["labels"]["juju_application"] == "power"
    (tmp_path / "handed.yaml").write_text(yaml.safe_dump(rules.as_dict()))
    assert promtool("check", "rules", "handed.yaml", cwd=tmp_path).returncode == 0


# -- Dashboard --------------------------------------------------------------------------------


def test_dashboard_queries_are_valid_for_prometheus(tmp_path: Path) -> None:
    names = [variable["name"] for variable in dashboard()["templating"]["list"]]
    values = {**_BUILT_IN, **{f"${name}": ".*" for name in names}}
    rules: list[dict[str, str]] = []
    for number, (_, target) in enumerate(targets()):
        expression = re.sub(r"\$\w+", lambda found: values[found[0]], target["expr"])
        rules.append({"record": f"query_{number}", "expr": expression})
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", path, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


@pytest.mark.parametrize(("title", "target"), targets())
def test_panels_use_metrics_that_the_service_exposes(
    title: str, target: dict[str, Any], exposed: dict[str, set[str]]
) -> None:
    labels = assert_exposed(target["expr"], exposed)
    legend = {name for _, name in _LABEL.findall(target["legendFormat"])}
    assert legend <= labels, title


def test_dashboard_shows_every_metric(
    exposed: dict[str, set[str]],
) -> None:
    shown = {name for _, target in targets() for name, _ in _METRIC.findall(target["expr"])}
    unused = ("_created", "_sum", "_count")  # the buckets of a histogram replace them
    assert {name for name in exposed if not name.endswith(unused)} == shown


@pytest.mark.parametrize(("title", "target"), targets())
def test_panels_use_the_chosen_data_source_and_topology(
    title: str, target: dict[str, Any]
) -> None:
    assert target["datasource"] == {"type": "prometheus", "uid": "${prometheusds}"}, title
    for _, matchers in _METRIC.findall(target["expr"]):
        for label in TOPOLOGY:
            assert f'{label}=~"${label}"' in matchers, title


def test_dashboard_variables_are_those_of_cos() -> None:
    variables: list[dict[str, Any]] = dashboard()["templating"]["list"]
    assert [variable["name"] for variable in variables] == [
        "prometheusds",
        "juju_model",
        "juju_model_uuid",
        "juju_application",
        "juju_unit",
        "host",
    ]
    assert [variable["type"] for variable in variables] == ["datasource", *["query"] * 5]


def test_dashboard_variables_use_existing_labels(
    exposed: dict[str, set[str]],
) -> None:
    for variable in dashboard()["templating"]["list"][1:]:
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
        assert match
        assert match[2] in assert_exposed(match[1], exposed)


def test_dashboard_has_its_own_id() -> None:
    path = DASHBOARD.relative_to(charmcraft.ROOT).as_posix()
    assert dashboard()["uid"] == cosl.DashboardPath40UID.generate("maas-virtualbox", path)


def test_panels_do_not_overlap_or_share_an_id() -> None:
    panels: list[dict[str, Any]] = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        cells = set(_cells(panel["gridPos"]))
        assert not cells & taken, panel["title"]
        taken |= cells
    assert max(x for x, _ in taken) < 24


def test_dashboard_has_existing_commands() -> None:
    for panel in dashboard()["panels"]:
        charmcraft.assert_commands_exist(panel.get("description", ""))


def _cells(position: dict[str, int]) -> Iterable[tuple[int, int]]:
    return itertools.product(
        range(position["x"], position["x"] + position["w"]),
        range(position["y"], position["y"] + position["h"]),
    )
