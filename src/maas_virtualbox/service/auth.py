# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Who may do what over HTTP: a VM's token opens that VM's power, the metrics token the metrics,
the admin token everything."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox.config.tokens import METRICS
from maas_virtualbox.service import wrong_tokens
from maas_virtualbox.service.dispatcher import Caller

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.config.tokens import Secrets
    from maas_virtualbox.service.metrics import Metrics

log = logging.getLogger(__name__)

LOCAL = "local"
"""The key in a connection's state that is true for the UNIX socket, whose file's permissions say
who may use it."""

AUTHENTICATED = "authenticated"
"""The key in a connection's state of a function that is called when a request on the connection
has presented a right token."""

_LONGEST_SYSTEM_ID = 64


class Denied(Exception):
    """A request with a wrong token or none; the text says which was expected."""


class Access:
    """Checks tokens; wrong ones are counted, logged and, where they are too many, slowed down.

    Right tokens are never slowed down, and a sender of wrong ones delays nobody else; see
    `senders`.
    """

    def __init__(self, secrets: Secrets, metrics: Metrics) -> None:
        self.secrets = secrets
        """May be replaced at any time."""
        self._metrics = metrics
        self._senders = wrong_tokens.Senders()

    async def check(self, request: Request, door: str = "") -> Caller:
        """Return who asks, if the request's token opens a door, as `Secrets.opens` has them.

        Raises:
            Denied: it does not; raised late if its sender has presented too many wrong tokens.
        """
        state = request.scope["state"]
        if state.get(LOCAL):
            state[AUTHENTICATED]()
            return Caller("", "socket")
        address = request.client.host if request.client else ""
        token = _token(request.headers.get("authorization", ""))
        if token and (opened := self.secrets.opens(token, door)):
            state[AUTHENTICATED]()
            system_id = request.headers.get("system_id", "")[:_LONGEST_SYSTEM_ID]
            return Caller(address, opened, system_id)
        doors = {"": "the admin token", METRICS: "the metrics token"}
        what = doors.get(door, "this VM's token")
        reason = f"wrong token: expected {what}" if token else f"no token: expected {what}"
        await self._refuse(request, address, reason)
        raise Denied(f"{reason} as Bearer, or as the password of Basic")

    async def _refuse(self, request: Request, address: str, reason: str) -> None:
        self._metrics.failed_logins.inc()
        refusal = self._senders.refuse(wrong_tokens.sender_of(address), time.monotonic())
        if refusal.log:
            log.warning(
                "login refused: %s asked for %.200s: %s (%d times)",
                address,
                request.url.path,
                reason,
                refusal.log,
            )
        if refusal.delay:
            self._metrics.delayed_refusals.inc()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(_disconnected(request), refusal.delay)


async def _disconnected(request: Request) -> None:
    """Wait until the client has left: nothing is kept for those that do not wait."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _token(authorization: str) -> str:
    """Return what an Authorization header presents; a Basic user's name means nothing."""
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
