# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A MAAS that is not there: the webhook power driver of MAAS 2.9.2 to 4.0, byte for byte.

It sends what the real one was seen to send (a new connection each, an empty body, no content type)
and has its habits, the odd ones too: it repeats itself, throws bodies of failures away, and takes
404 for success. `Driver` behaves as one machine's driver in a rack; `request` is one request's
bytes, for tests that speak over sockets of their own.
"""

from __future__ import annotations

import base64
import dataclasses
import http.client
import re
import socket
import ssl
import time
import urllib.parse
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from maas_virtualbox.maas.power_parameters import PowerParameters

USER_AGENT = "MAAS 3.7.3-17604-g.5d1a1b2c3"

PAUSES_S = (1.0, 2.0, 2.0, 4.0, 6.0, 8.0, 12.0)
"""After each try; when they are used up, MAAS gives up."""

_ANSWER_S = 60.0
"""The real one waits for ever."""

State = Literal["on", "off", "unknown"]


class PowerFailed(Exception):
    """MAAS gave up; the text is what it would log."""


class _Refusal(Exception):
    """An answer MAAS tries again after."""


@dataclasses.dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    method: str
    uri: str
    code: int
    body: str


def request(
    method: Literal["GET", "POST"],
    uri: str,
    *,
    token: str = "",
    user: str = "",
    password: str = "",
    system_id: str = "",
) -> bytes:
    """Return the bytes MAAS sends. A token wins over user and password.

    The system id is sent by polls only, and never by the user's actions from MAAS 3.5 on.
    """
    url = urllib.parse.urlsplit(uri)
    basic = base64.b64encode(f"{user}:{password}".encode()).decode()
    lines = [
        f"{method} {url.path or '/'} HTTP/1.1",
        "Connection: close",
        *(["Content-Length: 0"] if method == "POST" else []),
        f"Host: {url.netloc}",
        f"User-Agent: {USER_AGENT}",
        "Accept: application/json",
        *([f"System_id: {system_id}"] if system_id else []),
        *([f"Authorization: Bearer {token}"] if token else []),
        *([f"Authorization: Basic {basic}"] if user and not token else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


class Driver:
    """The webhook driver for one machine."""

    def __init__(
        self,
        parameters: PowerParameters,
        *,
        user: str = "",
        system_id: str = "",
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Prepare.

        Args:
            parameters: what the machine was given in MAAS.
            user: log in with Basic as this user, the token being the password.
            system_id: the machine's id, sent along as by a poll.
            sleep: waits that many seconds; tests may hurry.
        """
        self.exchanges: list[Exchange] = []
        """All that was said, in order."""
        self._parameters = parameters
        self._user = user
        self._system_id = system_id
        self._sleep = sleep

    def query(self) -> State:
        """Ask for the power state, as a poll does.

        Raises:
            PowerFailed: no good answer in seven tries.
        """
        failure = ""
        for pause in PAUSES_S:
            try:
                return self._ask()
            except _Refusal as error:
                failure = str(error)
                self._sleep(pause)
        raise PowerFailed(f"power query failed: {failure}")

    def power_on(self) -> None:
        """Switch on until a query says so. Raises `PowerFailed`."""
        self._change("on", self._parameters.power_on_uri)

    def power_off(self) -> None:
        """Switch off until a query says so. Raises `PowerFailed`."""
        self._change("off", self._parameters.power_off_uri)

    def cycle(self) -> None:
        """Switch off what is on, then on. Raises `PowerFailed`."""
        if self.query() == "on":
            self.power_off()
        self.power_on()

    def _change(self, wanted: State, uri: str) -> None:
        failure = ""
        for pause in PAUSES_S:
            try:
                self._send("POST", uri)
                self._sleep(pause)
                state = self._ask()
            except _Refusal as error:
                failure = str(error)
                self._sleep(pause)
            else:
                if state == wanted:
                    return
                failure = f"it is {state}"
        raise PowerFailed(f"power {wanted} failed: {failure}")

    def _ask(self) -> State:
        body = self._send("GET", self._parameters.power_query_uri)
        if re.search(self._parameters.power_on_regex, body):
            return "on"
        if re.search(self._parameters.power_off_regex, body):
            return "off"
        return "unknown"

    def _send(self, method: Literal["GET", "POST"], uri: str) -> str:
        answer = self._exchange(method, uri)
        if answer.code == 404:
            # Taken for success, whatever the second answer is.
            return self._exchange(method, uri.rstrip("/") + "/").body
        if 300 <= answer.code < 400 and method == "POST":
            raise PowerFailed(f"POST was redirected ({answer.code})")
        if answer.code >= 400:
            raise _Refusal(f"{method} {uri}: {answer.code}")
        return answer.body

    def _exchange(self, method: Literal["GET", "POST"], uri: str) -> Exchange:
        url = urllib.parse.urlsplit(uri)
        token = self._parameters.power_token
        content = request(
            method,
            uri,
            token="" if self._user else token,
            user=self._user,
            password=token,
            system_id=self._system_id,
        )
        address = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
        try:
            with (
                socket.create_connection(address, timeout=_ANSWER_S) as connection,
                self._secured(connection, url) as stream,
            ):
                stream.sendall(content)
                response = http.client.HTTPResponse(stream, method=method)
                response.begin()
                body = response.read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            raise PowerFailed(f"{method} {uri}: {error}") from error
        exchange = Exchange(method, uri, response.status, body)
        self.exchanges.append(exchange)
        return exchange

    def _secured(self, connection: socket.socket, url: urllib.parse.SplitResult) -> socket.socket:
        if url.scheme != "https":
            return connection
        context = ssl.create_default_context()
        if self._parameters.power_verify_ssl != "y":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(connection, server_hostname=url.hostname)
