# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The door for MAAS 2.9.2 to 4.0: the routes of its webhook power type, one set a VM.

    POST /vm/UUID/on        POST /vm/UUID/off        GET /vm/UUID/query

(and POST /vm/UUID/shutdown, for the extension scripts: off, the power button first).

MAAS searches a query's answer with regular expressions, so it is exactly `{"status": "running"}`,
`{"status": "stopped"}` or `{"status": "unknown"}`. It takes 404 for success, so these routes never
answer that; it follows no redirect of a POST, so they never redirect; it repeats a request at the
URI with a slash, so that is the same route. A query of a VM whose host is down is no error: a 5xx
would cost the rack 35 seconds. (All measured with MAAS 3.2 to 4.0.)
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from maas_virtualbox import errors
from maas_virtualbox.maas import power_parameters
from maas_virtualbox.service.dispatcher import Change, Stopping, Superseded
from maas_virtualbox.service.responses import JSONResponse
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.service.auth import Access
    from maas_virtualbox.service.dispatcher import Dispatcher

_STATUS = {
    Power.ON: b'{"status": "running"}',
    Power.OFF: b'{"status": "stopped"}',
    Power.UNKNOWN: b'{"status": "unknown"}',
}

_METHODS = {"on": "POST", "off": "POST", "shutdown": "POST", "query": "GET"}

_CODES: tuple[tuple[type[errors.Error], int], ...] = (
    (errors.UnknownVM, 410),
    (errors.AmbiguousVM, 409),
    (Superseded, 409),
    (errors.OrphanedProcess, 409),
    (errors.PowerTimeout, 504),
    (errors.PowerError, 502),
    (errors.HostError, 503),
    (Stopping, 503),
)


def route(access: Access, dispatcher: Dispatcher) -> Route:
    """Return the power routes of all VMs."""

    async def power(request: Request) -> Response:
        target = str(request.path_params["target"]).rstrip("/")
        selector, _, verb = target.rpartition("/")
        method = _METHODS.get(verb)
        if method is None or not selector:
            return problem(400, "no such power route; there are /vm/UUID/on, /off and /query")
        if request.method != method:
            return problem(405, f"{verb} wants {method}", {"Allow": method})
        began = time.monotonic()
        uuid = settings_xml.normalise_uuid(selector)
        caller = await access.check(request, uuid)
        if verb == "query":
            try:
                state = await dispatcher.query(uuid or selector)
            except errors.Error:
                dispatcher.metrics.count_query("refused", time.monotonic() - began)
                raise
            dispatcher.metrics.count_query(str(state), time.monotonic() - began)
            return Response(_STATUS[state], media_type="application/json")
        change = Change(verb)
        await dispatcher.act(uuid or selector, change, caller)
        reached = Power.ON if change is Change.ON else Power.OFF
        return Response(_STATUS[reached], media_type="application/json")

    # No methods: all of them come here, for an answer of ours.
    return Route(power_parameters.ROUTES + "{target:path}", power, methods=())


def problem(
    code: int, reason: str, headers: dict[str, str] | None = None, *, error_code: str = "request"
) -> Response:
    """Return an answer that says what is wrong, as JSON: a text and an error code."""
    return JSONResponse({"error": reason, "code": error_code}, code, headers)


def code_of(error: errors.Error) -> int:
    """Return an error's HTTP status: 5xx where VirtualBox refuses or asking again may help."""
    if isinstance(error, errors.VBoxManageError):
        return 503 if error.retry else 502
    return next((code for kind, code in _CODES if isinstance(error, kind)), 500)
