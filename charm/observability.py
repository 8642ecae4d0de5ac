# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The data of the relation `cos-agent`: metrics, alert rules and a dashboard.

The library of the interface is not on PyPI. Therefore this module writes the databag: one JSON
document in the key `config` of this unit's databag.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ops

RELATION = "cos-agent"

_HERE = Path(__file__).parent
_RULES = _HERE / "prometheus_alert_rules"
_DASHBOARDS = _HERE / "grafana_dashboards"


def publish(charm: ops.CharmBase, *, port: int, tls: bool, token: str) -> None:
    """Publish the address of the metrics, the alert rules and the dashboard.

    Args:
        charm: The charm.
        port: The TCP port of the power service.
        tls: Whether the service uses HTTPS.
        token: A token that gives access to the metrics only.
    """
    relation = charm.model.get_relation(RELATION)
    if relation is not None and relation.active:
        document = _document(charm, port=port, tls=tls, token=token)
        relation.data[charm.unit]["config"] = json.dumps(document, sort_keys=True)


def _document(charm: ops.CharmBase, *, port: int, tls: bool, token: str) -> dict[str, Any]:
    import cosl  # noqa: PLC0415 - slow to load, and most units do not have the relation

    rules = cosl.AlertRules(query_type="promql", topology=cosl.JujuTopology.from_charm(charm))
    rules.add_path(_RULES)
    return {
        "metrics_alert_rules": rules.as_dict(),
        "log_alert_rules": {},
        "dashboards": [
            cosl.LZMABase64.compress(path.read_text(encoding="utf-8"))
            for path in sorted(_DASHBOARDS.glob("*.json"))
        ],
        "metrics_scrape_jobs": [
            {
                "job_name": charm.app.name,
                "metrics_path": "/metrics",
                "scheme": "https" if tls else "http",
                "static_configs": [{"targets": [f"localhost:{port}"]}],
                "authorization": {"type": "Bearer", "credentials": token},
                # The certificate is for the address that MAAS uses, not for localhost.
                **({"tls_config": {"insecure_skip_verify": True}} if tls else {}),
            }
        ],
        "log_slots": [],
        "subordinate": False,
    }
