# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The description of the HTTP API in OpenAPI 3.1, for programs and for our own tests."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import json_schema

from maas_virtualbox.schemas import ClaimView, HostView, VMView
from maas_virtualbox.version import VERSION

_REASONS = {
    "400": "The route does not exist, or the request is malformed",
    "401": "The token is wrong or missing",
    "405": "The route requires another method",
    "409": "The selector matches several VMs, or there is a conflict; see the reason",
    "410": "No host has this VM",
    "502": "VirtualBox refused; its message is the reason",
    "503": "The host is unreachable; retry later",
    "504": "The action is still in progress; retry later",
}


@functools.cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document."""
    _, schemas = json_schema.models_json_schema(
        [(view, "serialization") for view in (ClaimView, HostView, VMView)],
        ref_template="#/components/schemas/{model}",
    )
    problem = _object(
        error={"type": "string", "description": "The reason, as a sentence"},
        code={"type": "string", "description": "The error code: host-down, …"},
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "maas-virtualbox power service",
            "version": VERSION,
            "description": "Power control of VirtualBox VMs for MAAS's webhook power type.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {**_power_paths(), **_api_paths(), **_status_paths()},
        "components": {
            "schemas": {**schemas["$defs"], "Problem": problem},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _power_paths() -> dict[str, Any]:
    selector = _parameter(
        "selector", "path", "A VM's UUID; with the admin token also its name or a MAC"
    )
    system_id = _parameter("System_id", "header", "MAAS's ID of the machine, for the log")
    actions = {
        "on": ("powerOn", "Power on a VM"),
        "off": ("powerOff", "Power off a VM"),
        "shutdown": ("powerShutdown", "Power off a VM, with its power button first"),
    }
    done = _response(
        "The action was completed and verified", _object(status=_enum("running", "stopped"))
    )
    power = _response("The VM's power", _object(status=_enum("running", "stopped", "unknown")))
    errors = "400 401 409 410 502 503"
    operations = {
        verb: {"post": _operation(name, summary, done, f"{errors} 504")}
        for verb, (name, summary) in actions.items()
    }
    operations["query"] = {
        "get": _operation("powerQuery", "Return whether a VM is on", power, errors)
    }
    return {
        f"/vm/{{selector}}/{verb}": {"parameters": [selector, system_id], **operation}
        for verb, operation in operations.items()
    }


def _api_paths() -> dict[str, Any]:
    vms = _object(
        vms=_list("VMView"),
        unreachable=_map("Why a host is unreachable, by the name of the host"),
        claims=_list("ClaimView"),
    )
    hosts = _response("All hosts", _object(hosts=_list("HostView")))
    return {
        "/api/v1/hosts": {"get": _operation("listHosts", "List all hosts", hosts, "401")},
        "/api/v1/vms": {
            "get": _operation("listVMs", "List all VMs", _response("All VMs", vms), "401")
        },
    }


def _status_paths() -> dict[str, Any]:
    runs = _response("The service runs", _object(status=_enum("ok")))
    ready = _response("Every host was polled once", _object(status=_enum("ready")))
    text: dict[str, Any] = {"description": "Metrics", "content": {"text/plain": {}}}
    return {
        "/healthz": {"get": _operation("health", "Return whether the service runs", runs)},
        "/readyz": {
            "get": _operation("ready", "Return whether the service is ready", ready, "503")
        },
        "/metrics": {"get": _operation("metrics", "Metrics for Prometheus", text, "401")},
    }


def _operation(name: str, summary: str, answer: dict[str, Any], codes: str = "") -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"bearer": []}, {"basic": []}] if "401" in codes else [],
        "responses": {
            "200": answer,
            **{code: _response(_REASONS[code], problem) for code in codes.split()},
        },
    }


def _response(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": place == "path",
        "description": description,
        "schema": {"type": "string"} | ({"minLength": 1} if place == "path" else {}),
    }


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(schema: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{schema}"}}


def _map(description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "additionalProperties": {"type": "string"},
    }


def _enum(*allowed: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(allowed)}
