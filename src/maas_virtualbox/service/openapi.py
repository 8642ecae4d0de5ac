# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The HTTP API described in OpenAPI 3.1, for programs and for the tests that hold us to it."""

from __future__ import annotations

import functools
from typing import Any

from pydantic import json_schema

from maas_virtualbox.schemas import ClaimView, HostView, VMView
from maas_virtualbox.version import VERSION

_REASONS = {
    "400": "No such route, or a request that cannot be read",
    "401": "Wrong token, or none",
    "405": "Another method is wanted",
    "409": "The selector fits several VMs, or something is in the way; the reason says what",
    "410": "No host has such a VM",
    "502": "VirtualBox refuses; its words are the reason",
    "503": "The host cannot be asked now; ask again",
    "504": "Not done in time, goes on; ask again",
}


@functools.cache
def document() -> dict[str, Any]:
    """Return the document."""
    _, schemas = json_schema.models_json_schema(
        [(view, "serialization") for view in (ClaimView, HostView, VMView)],
        ref_template="#/components/schemas/{model}",
    )
    vm = _parameter("selector", "path", "A VM's UUID; with the admin token also its name or a MAC")
    system_id = _parameter("System_id", "header", "MAAS's id of the machine, for the log")
    queried = _answer("The VM's power", _object(status=_words("running", "stopped", "unknown")))
    switched = _answer("Done, and verified", _object(status=_words("running", "stopped")))
    vms = _object(
        vms=_list("VMView"),
        unreachable=_map("Why a host cannot be asked, by its name"),
        claims=_list("ClaimView"),
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "maas-virtualbox power service",
            "version": VERSION,
            "description": "Power control of VirtualBox VMs for MAAS's webhook power type.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/vm/{selector}/on": {
                "parameters": [vm, system_id],
                "post": _operation(
                    "powerOn", "Switch a VM on", switched, "400 401 409 410 502 503 504"
                ),
            },
            "/vm/{selector}/off": {
                "parameters": [vm, system_id],
                "post": _operation(
                    "powerOff", "Switch a VM off", switched, "400 401 409 410 502 503 504"
                ),
            },
            "/vm/{selector}/shutdown": {
                "parameters": [vm, system_id],
                "post": _operation(
                    "powerShutdown",
                    "Switch a VM off, its power button first",
                    switched,
                    "400 401 409 410 502 503 504",
                ),
            },
            "/vm/{selector}/query": {
                "parameters": [vm, system_id],
                "get": _operation(
                    "powerQuery", "Tell whether a VM is on", queried, "400 401 409 410 502 503"
                ),
            },
            "/api/v1/hosts": {
                "get": _operation(
                    "listHosts",
                    "List all hosts",
                    _answer("All hosts", _object(hosts=_list("HostView"))),
                    "401",
                )
            },
            "/api/v1/vms": {
                "get": _operation("listVMs", "List all VMs", _answer("All VMs", vms), "401")
            },
            "/healthz": {
                "get": _operation(
                    "health",
                    "Tell that the service runs",
                    _answer("It runs", _object(status=_words("ok"))),
                )
            },
            "/readyz": {
                "get": _operation(
                    "ready",
                    "Tell whether every host was asked once",
                    _answer("Ready", _object(status=_words("ready"))),
                    "503",
                )
            },
            "/metrics": {
                "get": _operation(
                    "metrics",
                    "Metrics for Prometheus",
                    {"description": "Metrics", "content": {"text/plain": {}}},
                    "401",
                )
            },
        },
        "components": {
            "schemas": {
                **schemas["$defs"],
                "Problem": _object(
                    error={"type": "string", "description": "What is wrong, for people"},
                    code={"type": "string", "description": "The error code: host-down, …"},
                ),
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
    }


def _operation(name: str, summary: str, answer: dict[str, Any], codes: str = "") -> dict[str, Any]:
    problem = {"$ref": "#/components/schemas/Problem"}
    return {
        "operationId": name,
        "summary": summary,
        "security": [{"bearer": []}, {"basic": []}] if "401" in codes else [],
        "responses": {
            "200": answer,
            **{code: _answer(_REASONS[code], problem) for code in codes.split()},
        },
    }


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
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


def _words(*allowed: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(allowed)}
