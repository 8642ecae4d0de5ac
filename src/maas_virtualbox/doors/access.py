# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Who may do what over HTTP: a VM's token opens that VM's power, the metrics token the metrics,
the admin token everything."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox.dispatch.dispatcher import Caller
from maas_virtualbox.tokens import METRICS

if TYPE_CHECKING:
    from starlette.requests import Request

    from maas_virtualbox.dispatch.metrics import Metrics
    from maas_virtualbox.tokens import Secrets

log = logging.getLogger(__name__)

LOCAL = "local"
"""The key in a connection's state that is true for the UNIX socket, whose file's permissions say
who may use it."""

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 1.0
_FORGET_S = 60.0
_LOG_PAUSE_S = 10.0
_MAX_DELAYED = 64
_MAX_ADDRESSES = 1000
_LONGEST_SYSTEM_ID = 64


class Denied(Exception):
    """A request with a wrong token or none; the text says which was expected."""


class _Failures:
    """The failed logins of one address."""

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.logged = float("-inf")


class Access:
    """Checks tokens; failures are counted, logged and slowed, each client's for itself.

    Right tokens are never slowed: one machine with a stale token must not delay its rack's others.
    """

    def __init__(self, secrets: Secrets, metrics: Metrics) -> None:
        self.secrets = secrets
        """May be replaced at any time."""
        self._metrics = metrics
        self._failures: dict[str, _Failures] = {}
        self._delayed = 0

    async def check(self, request: Request, door: str = "") -> Caller:
        """Return who asks, if the request's token opens a door, as `Secrets.opens` has them.

        Raises:
            Denied: it does not; raised late, the later the more often it happens.
        """
        if request.scope["state"].get(LOCAL):
            return Caller("", "socket")
        address = request.client.host if request.client else ""
        token = _token(request.headers.get("authorization", ""))
        if token and (opened := self.secrets.opens(token, door)):
            system_id = request.headers.get("system_id", "")[:_LONGEST_SYSTEM_ID]
            return Caller(address, opened, system_id)
        doors = {"": "the admin token", METRICS: "the metrics token"}
        what = doors.get(door, "this VM's token")
        trouble = f"wrong token: expected {what}" if token else f"no token: expected {what}"
        await self._slow_down(address, request.url.path, trouble)
        raise Denied(f"{trouble} as Bearer, or as the password of Basic")

    async def _slow_down(self, address: str, path: str, trouble: str) -> None:
        self._metrics.failed_logins.inc()
        now = time.monotonic()
        if len(self._failures) >= _MAX_ADDRESSES:
            self._failures = {
                known: each
                for known, each in self._failures.items()
                if now - each.last < _FORGET_S
            }
            if len(self._failures) >= _MAX_ADDRESSES:
                self._failures.clear()
        failures = self._failures.setdefault(address, _Failures())
        if now - failures.last > _FORGET_S:
            failures.count = 0
        failures.count += 1
        failures.last = now
        if now - failures.logged > _LOG_PAUSE_S:
            failures.logged = now
            log.warning(
                "login refused: %s asked for %.200s: %s (%d times)",
                address,
                path,
                trouble,
                failures.count,
            )
        if self._delayed < _MAX_DELAYED:
            self._delayed += 1
            try:
                delay = _FIRST_DELAY_S * 2.0 ** min(failures.count - 1, 16)
                await asyncio.sleep(min(_LONGEST_DELAY_S, delay))
            finally:
                self._delayed -= 1


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
