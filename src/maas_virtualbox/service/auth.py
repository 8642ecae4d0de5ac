# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Authenticate HTTP requests by their bearer tokens.

The token of a VM gives access to the power of that VM, the metrics token gives access to the
metrics, and the admin token gives access to everything. Requests over the UNIX socket need no
token. How tokens are derived belongs to `config.tokens`.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox.config.tokens import METRICS
from maas_virtualbox.service import connections, wrong_tokens
from maas_virtualbox.service.actions import Caller

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.config.tokens import Secrets
    from maas_virtualbox.service.metrics import Metrics

log = logging.getLogger(__name__)

LOCAL = "local"
"""A key in the state of a connection: true on the UNIX socket, which is protected by the
permissions of its file."""

ON_AUTHENTICATED = "on_authenticated"
"""A key in the state of a connection: a function to call when a request on the connection has
presented a right token."""

_MAX_SYSTEM_ID = 64


class Denied(Exception):
    """A request has a wrong token or none. The message says which token is expected."""


class Authenticator:
    """Checks the tokens of requests.

    `process.Service` creates one. It belongs to one event loop. Wrong tokens are counted and
    logged, and delayed if a source sends too many. Right tokens are never delayed.
    """

    def __init__(self, secrets: Secrets, metrics: Metrics) -> None:
        self.secrets = secrets
        """The secrets that tokens are compared with. May be replaced at any time."""
        self._metrics = metrics
        self._wrong_tokens = wrong_tokens.WrongTokens()

    async def authenticate(self, request: Request, resource: str = "") -> Caller:
        """Check that a request may access a resource. Return who sent it.

        Args:
            request: the request.
            resource: as for `Secrets.role_of`. Empty: something that needs the admin token.

        Raises:
            Denied: the token is wrong or missing. Raised with a delay if the source has sent too
                many wrong tokens.
        """
        state = request.scope["state"]
        if state.get(LOCAL):
            state[ON_AUTHENTICATED]()
            return Caller("", "socket")
        address = request.client.host if request.client else ""
        token = _token_of(request.headers.get("authorization", ""))
        role = self.secrets.role_of(token, resource) if token else None
        if role is not None:
            state[ON_AUTHENTICATED]()
            system_id = request.headers.get("system_id", "")[:_MAX_SYSTEM_ID]
            return Caller(address, role, system_id)
        names = {"": "the admin token", METRICS: "the metrics token"}
        expected = names.get(resource, "this VM's token")
        reason = f"{'wrong' if token else 'no'} token: expected {expected}"
        await self._record_failure(request, address, reason)
        raise Denied(f"{reason} as Bearer, or as the password of Basic")

    async def _record_failure(self, request: Request, address: str, reason: str) -> None:
        """Count a wrong token, log it, and wait if its source has sent too many."""
        self._metrics.failed_logins.inc()
        refusal = self._wrong_tokens.add(connections.source_of(address), time.monotonic())
        if refusal.log_count:
            log.warning(
                "login refused: %s requested %.200s: %s (%d times)",
                address,
                request.url.path,
                reason,
                refusal.log_count,
            )
        if refusal.delay:
            self._metrics.delayed_refusals.inc()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_wait_for_disconnect(request), refusal.delay)


async def _wait_for_disconnect(request: Request) -> None:
    """Wait until the client has disconnected, so that no memory is used for clients that left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _token_of(authorization: str) -> str:
    """Return the token of an Authorization header. The user name of Basic is ignored."""
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() == "bearer":
        return value
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(value, validate=True).decode("utf-8")
        except (binascii.Error, ValueError):
            return ""
        return decoded.partition(":")[2]
    return ""
