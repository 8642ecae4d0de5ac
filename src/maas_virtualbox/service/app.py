# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The ASGI application: all HTTP routes of the service, and how errors become responses.

The routes for MAAS's power control are in `webhook`. The routes here are the API for programs,
the health checks and the metrics. `openapi` describes them all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from maas_virtualbox import errors
from maas_virtualbox.config.tokens import METRICS
from maas_virtualbox.schemas import ClaimView, HostView, VMView
from maas_virtualbox.service import metrics, openapi, responses, webhook
from maas_virtualbox.service.auth import Denied
from maas_virtualbox.service.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.service.auth import Authenticator
    from maas_virtualbox.service.dispatcher import Dispatcher


def application(authenticator: Authenticator, dispatcher: Dispatcher) -> Starlette:
    """Return the ASGI application over a dispatcher."""
    api = _API(authenticator, dispatcher)
    app = Starlette(
        routes=[
            webhook.route(authenticator, dispatcher),
            Route("/healthz", api.health),
            Route("/readyz", api.ready),
            Route("/metrics", api.metrics),
            Route("/api/v1/hosts", api.hosts),
            Route("/api/v1/vms", api.vms),
            Route("/api/v1/openapi.json", api.openapi),
        ],
        exception_handlers={
            Denied: _denied,
            HTTPException: _http_error,
            errors.Error: _error,
        },
    )
    app.router.redirect_slashes = False
    return app


class _API:
    """The handlers of the routes that are not for MAAS."""

    def __init__(self, authenticator: Authenticator, dispatcher: Dispatcher) -> None:
        self._authenticator = authenticator
        self._dispatcher = dispatcher

    async def health(self, _request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def hosts(self, request: Request) -> Response:
        await self._authenticator.authenticate(request)
        reports = await self._dispatcher.reports()
        return JSONResponse({"hosts": [HostView.of(report).model_dump() for report in reports]})

    async def metrics(self, request: Request) -> Response:
        await self._authenticator.authenticate(request, METRICS)
        await self._dispatcher.poll()
        return Response(self._dispatcher.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(openapi.document())

    async def ready(self, _request: Request) -> Response:
        if self._dispatcher.ready:
            return JSONResponse({"status": "ready"})
        return responses.problem(503, "not ready: starting, or stopping")

    async def vms(self, request: Request) -> Response:
        await self._authenticator.authenticate(request)
        reports = await self._dispatcher.reports()
        vms = [vm for report in reports for vm in report.vms]
        unreachable = {report.host.name: str(report.error) for report in reports if report.error}
        claims = self._dispatcher.claims()
        return JSONResponse(
            {
                "vms": [VMView.of(vm).model_dump(mode="json") for vm in vms],
                "unreachable": unreachable,
                "claims": [ClaimView.of(claim).model_dump() for claim in claims],
            }
        )


def _denied(_request: Request, error: Any) -> Response:
    challenge = {"WWW-Authenticate": 'Bearer realm="maas-virtualbox"'}
    return responses.problem(401, str(error), challenge, error_code="login")


def _error(_request: Request, error: Any) -> Response:
    return responses.problem(responses.status_of(error), str(error), error_code=error.code)


def _http_error(request: Request, error: Any) -> Response:
    """Answer a request that no route handles. MAAS treats 404 as success: see `webhook`."""
    if error.status_code == 404 and request.method not in ("GET", "HEAD"):
        return responses.problem(400, "no such route")
    if error.status_code == 404 and request.url.path.startswith("/vm/"):
        return responses.problem(400, webhook.UNKNOWN_ROUTE)
    return responses.problem(error.status_code, error.detail, error.headers)
