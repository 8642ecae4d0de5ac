# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Authenticate HTTP requests by their bearer tokens, and limit the rate of wrong ones.

The token of a VM gives access to the power of that VM, the metrics token gives access to the
metrics, and the admin token gives access to everything. Requests over the UNIX socket need no
token. How tokens are derived belongs to `config.tokens`.

Nobody can guess a token of 256 bits at any rate. The limit protects the processor: a client that
keeps sending wrong tokens would otherwise slow down all others. It must not slow down MAAS, which
repeats a request with a stale token 7 times within 35 seconds: for five machines at a time on each
rack controller, and for each machine that a person powers on or off. Therefore `BURST` wrong
tokens of a source are answered at once, and `RATE` a second after that. 200 machines with stale
tokens that are powered on at the same time are never delayed. Answers beyond the rate are delayed
by `MAX_DELAY_S` at most. Each source has its own allowance. `connections` defines what a source
is.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import collections
import contextlib
import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from maas_virtualbox.config.tokens import METRICS
from maas_virtualbox.service import connections
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

BURST = 1000
"""Wrong tokens of a source that are answered at once."""

RATE = 20.0
"""Further wrong tokens of a source that are answered in a second."""

MAX_DELAY_S = 1.0
"""The longest delay of an answer, in seconds."""

_MAX_SYSTEM_ID = 64

_MAX_SOURCES = 1000
"""Sources that are remembered."""

_LOG_INTERVAL_S = 10.0
"""The shortest time between two log lines about one source."""

_MAX_LOG_LINES = 10
"""Log lines about all sources together in one interval."""


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
        self._wrong_tokens = WrongTokens()

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
    """Wait until a client whose refusal is delayed has disconnected: then it uses no memory."""
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


# -- Wrong tokens -------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """How to answer a wrong token."""

    delay: float
    """Seconds to wait before the answer."""

    log_count: int
    """How many wrong tokens of the source to log, including this one. 0: log nothing."""


class WrongTokens:
    """Counts the wrong tokens of each source, in a bounded amount of memory.

    `Authenticator` creates it. It belongs to one event loop. The source that was silent for the
    longest time is forgotten first. It then has a new allowance, which harms nobody.
    """

    def __init__(self) -> None:
        self._sources: collections.OrderedDict[str, _Source] = collections.OrderedDict()
        self._interval_began, self._log_lines = float("-inf"), 0

    def __len__(self) -> int:
        """Return how many sources are remembered."""
        return len(self._sources)

    def add(self, source: str, now: float) -> Refusal:
        """Count a wrong token. Return how to answer it.

        Args:
            source: as `connections.source_of` returns it.
            now: the time, in seconds of a monotonic clock.
        """
        entry = self._sources.setdefault(source, _Source())
        self._sources.move_to_end(source)
        if len(self._sources) > _MAX_SOURCES:
            self._sources.popitem(last=False)
        due = max(entry.due, now - BURST / RATE) + 1 / RATE
        entry.due = min(due, now + MAX_DELAY_S)
        entry.refused += 1
        log_count = 0
        if now - entry.logged > _LOG_INTERVAL_S and self._may_log(now):
            log_count, entry.refused, entry.logged = entry.refused, 0, now
        return Refusal(max(0.0, entry.due - now), log_count)

    def _may_log(self, now: float) -> bool:
        if now - self._interval_began > _LOG_INTERVAL_S:
            self._interval_began, self._log_lines = now, 0
        self._log_lines += 1
        return self._log_lines <= _MAX_LOG_LINES


@dataclasses.dataclass(slots=True)
class _Source:
    """The wrong tokens of one source."""

    due: float = float("-inf")
    """When all its wrong tokens would have arrived at `RATE`. In the past if it is slower."""

    refused: int = 0
    """Wrong tokens since the last log line about the source."""

    logged: float = float("-inf")
    """When the last log line was written."""
