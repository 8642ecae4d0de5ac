# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The routes of MAAS's webhook power type (MAAS 2.9.2 to 4.0), for each VM.

    POST /vm/UUID/on        POST /vm/UUID/off        GET /vm/UUID/query

The extension scripts also use POST /vm/UUID/shutdown: off, with the power button first.

MAAS determines the form of the answers (all measured with MAAS 3.2 to 4.0):

- It searches the answer to a query with regular expressions. The answer is therefore exactly
  `{"status": "running"}`, `{"status": "stopped"}` or `{"status": "unknown"}`.
- It treats 404 as success, so these routes never answer 404.
- It does not follow redirects of a POST, so these routes never redirect.
- It repeats a request with a slash added to the URI, so both URIs have the same route.
- A 5xx answer delays the rack controller by 35 seconds. A query of a VM whose host is down is
  therefore not an error.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from maas_virtualbox import errors
from maas_virtualbox.maas import power_parameters
from maas_virtualbox.service import responses
from maas_virtualbox.service.actions import Change
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.service.auth import Authenticator
    from maas_virtualbox.service.dispatcher import Dispatcher

UNKNOWN_ROUTE = "no such power route; there are /vm/UUID/on, /off and /query"
"""The reason for a URI that looks like one of these routes."""

_BODIES = {
    Power.ON: b'{"status": "running"}',
    Power.OFF: b'{"status": "stopped"}',
    Power.UNKNOWN: b'{"status": "unknown"}',
}

_METHODS = {"on": "POST", "off": "POST", "shutdown": "POST", "query": "GET"}


def route(authenticator: Authenticator, dispatcher: Dispatcher) -> Route:
    """Return the route for all VMs and verbs."""

    async def power(request: Request) -> Response:
        target = str(request.path_params["target"]).rstrip("/")
        selector, _, verb = target.rpartition("/")
        method = _METHODS.get(verb)
        if method is None or not selector:
            return responses.problem(400, UNKNOWN_ROUTE)
        if request.method != method:
            return responses.problem(405, f"{verb} requires {method}", {"Allow": method})
        began = time.monotonic()
        uuid = settings_xml.normalise_uuid(selector)
        caller = await authenticator.authenticate(request, uuid)
        if verb == "query":
            return _answer(await _query(dispatcher, uuid or selector, began))
        change = Change(verb)
        await dispatcher.act(uuid or selector, change, caller)
        return _answer(Power.ON if change is Change.ON else Power.OFF)

    # The route has no methods of its own: all are handled here, with errors as JSON.
    return Route(power_parameters.ROUTES + "{target:path}", power, methods=())


async def _query(dispatcher: Dispatcher, selector: str, began: float) -> Power:
    """Return the power of a VM, and count the query."""
    try:
        power = await dispatcher.query(selector)
    except errors.Error:
        dispatcher.metrics.count_query("refused", time.monotonic() - began)
        raise
    dispatcher.metrics.count_query(str(power), time.monotonic() - began)
    return power


def _answer(power: Power) -> Response:
    return Response(_BODIES[power], media_type="application/json")
