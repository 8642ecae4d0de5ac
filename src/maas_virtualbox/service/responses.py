# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP responses that all routes share: JSON, and errors as JSON."""

from __future__ import annotations

import json

from starlette import responses

from maas_virtualbox import errors
from maas_virtualbox.service.actions import Stopping, Superseded

_STATUSES: tuple[tuple[type[errors.Error], int], ...] = (
    (errors.UnknownVM, 410),
    (errors.AmbiguousVM, 409),
    (Superseded, 409),
    (errors.OrphanedProcess, 409),
    (errors.PowerTimeout, 504),
    (errors.PowerError, 502),
    (errors.HostError, 503),
    (Stopping, 503),
)


class JSONResponse(responses.JSONResponse):
    """A JSON document in ASCII, so that no control character reaches a terminal."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


def problem(
    status: int, reason: str, headers: dict[str, str] | None = None, *, error_code: str = "request"
) -> JSONResponse:
    """Return an error response: a JSON object with the reason and the error code."""
    return JSONResponse({"error": reason, "code": error_code}, status, headers)


def status_of(error: errors.Error) -> int:
    """Return the HTTP status of an error: 5xx if VirtualBox refuses or a retry may succeed."""
    if isinstance(error, errors.VBoxManageError):
        return 503 if error.retry else 502
    return next(
        (status for error_class, status in _STATUSES if isinstance(error, error_class)), 500
    )
