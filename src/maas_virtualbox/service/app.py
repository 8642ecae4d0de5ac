# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""All HTTP doors as one application: power routes, the API for programs, health and metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Route

from maas_virtualbox import errors
from maas_virtualbox.config.tokens import METRICS
from maas_virtualbox.schemas import ClaimView, HostView, VMView
from maas_virtualbox.service import metrics, openapi, webhook
from maas_virtualbox.service.auth import Denied
from maas_virtualbox.service.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.service.auth import Access
    from maas_virtualbox.service.dispatcher import Dispatcher


def application(access: Access, dispatcher: Dispatcher) -> Starlette:
    """Return the ASGI application over a dispatcher."""

    async def health(_request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_request: Request) -> Response:
        if dispatcher.ready:
            return JSONResponse({"status": "ready"})
        return webhook.problem(503, "not ready: starting, or stopping")

    async def show_metrics(request: Request) -> Response:
        await access.check(request, METRICS)
        await dispatcher.poll()
        return Response(dispatcher.metrics.text(), media_type=metrics.CONTENT_TYPE)

    async def vms(request: Request) -> Response:
        await access.check(request)
        reports = await dispatcher.reports()
        return JSONResponse(
            {
                "vms": [
                    VMView.of(vm).model_dump(mode="json")
                    for report in reports
                    for vm in report.vms
                ],
                "unreachable": {
                    report.host.name: str(report.error) for report in reports if report.error
                },
                "claims": [ClaimView.of(claim).model_dump() for claim in dispatcher.claims()],
            }
        )

    async def hosts(request: Request) -> Response:
        await access.check(request)
        return JSONResponse(
            {"hosts": [HostView.of(report).model_dump() for report in await dispatcher.reports()]}
        )

    async def schema(_request: Request) -> Response:
        return JSONResponse(openapi.document())

    app = Starlette(
        routes=[
            webhook.route(access, dispatcher),
            Route("/healthz", health),
            Route("/readyz", ready),
            Route("/metrics", show_metrics),
            Route("/api/v1/hosts", hosts),
            Route("/api/v1/vms", vms),
            Route("/api/v1/openapi.json", schema),
        ],
        exception_handlers={
            Denied: _denied,
            HTTPException: _http_error,
            errors.Error: _failed,
        },
    )
    app.router.redirect_slashes = False
    return app


def _denied(_request: Request, error: Any) -> Response:
    challenge = {"WWW-Authenticate": 'Bearer realm="maas-virtualbox"'}
    return webhook.problem(401, str(error), challenge, error_code="login")


def _failed(_request: Request, error: Any) -> Response:
    return webhook.problem(webhook.code_of(error), str(error), error_code=error.code)


def _http_error(request: Request, error: Any) -> Response:
    """Answer what no route answers. A mistyped power URI must not meet 404, MAAS's success."""
    if error.status_code == 404 and request.method not in ("GET", "HEAD"):
        return webhook.problem(400, "no such route")
    if error.status_code == 404 and request.url.path.startswith("/vm/"):
        return webhook.problem(400, "no such power route; there are /vm/UUID/on, /off and /query")
    return webhook.problem(error.status_code, error.detail, error.headers)
