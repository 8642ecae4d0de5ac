# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""HTTP calls to MAAS's REST API: login, deadlines, retries, limits and error messages.

MAAS uses OAuth 1.0 PLAINTEXT, so each request contains the API key. Therefore, no request follows
a redirect, and errors never quote a request.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import requests
import requests_oauthlib
from requests import adapters
from urllib3 import exceptions

from maas_virtualbox import errors
from maas_virtualbox.config import config_file
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.escape import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pydantic

    Fields = Sequence[tuple[str, str]]
    # The fields of a form, in order. A name may occur several times.

MAX_PARALLEL = 8
"""The maximum number of parallel calls. Each occupies a worker of MAAS's region."""

_API = "/api/2.0/"
_CONNECT_TIMEOUT_S = 10.0
_PAUSES_S = (0.3, 0.6, 1.2)
"""The pauses between the attempts of one call."""
_REPEATABLE = ("GET", "PUT")
_CHUNK_BYTES = 1 << 16
_MAX_BODY_BYTES = 1 << 28
"""A thousand machines take about 30 MB."""
_MAX_REASON = 300
"""Characters of MAAS's own text in an error."""

_HINTS = {
    401: "is the API key right? `maas apikey --username NAME` prints it",
    403: "does the API key belong to an administrator?",
    404: "was it deleted, or is this not the URL of MAAS (…:5240/MAAS)?",
}

# At level debug, both log the API key and all power tokens, which are in the header.
for _name in ("oauthlib", "requests_oauthlib"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    method: str
    uri: str
    op: str
    fields: Fields = dataclasses.field(repr=False)


class _Response(NamedTuple):
    status: int
    location: str
    """Where a redirect leads to."""
    body: bytes


class APISession:
    """A login to one MAAS. Threads may share it."""

    def __init__(
        self,
        url: str,
        api_key: pydantic.SecretStr,
        ca_file: Path | None,
        *,
        deadline: Deadline | None,
        adapter: adapters.BaseAdapter | None,
    ) -> None:
        """Prepare the session. For the arguments and errors, see `client.MAAS`."""
        try:
            config_file.check_maas_url(url)
        except ValueError as error:
            raise errors.ConfigError(str(error)) from None
        if ca_file is not None and not ca_file.is_file():
            raise errors.ConfigError(f"maas-ca-file: {ca_file}: there is no such file")
        self.base = url.rstrip("/") + ("/" if "/api/" in url else _API)
        self._secrets = _parse_key(api_key)
        self._deadline = deadline or Deadline(math.inf)
        # A parameter of each request: the environment takes precedence over the session's own.
        self._verify: bool | str = True if ca_file is None else str(ca_file)
        self._session = _open_session(self._secrets, adapter)

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def call(
        self, method: str, path: str, fields: Fields = (), op: str = "", *, timeout: float
    ) -> bytes:
        """Send a request and return the body of the response.

        Repeats what is safe to repeat. Ends within `timeout` seconds and by the deadline.

        Raises:
            MAASError: there was no response, or MAAS rejected the request.
        """
        request = _Request(method, self.base + path, op, fields)
        deadline = self._deadline.within(timeout)
        if deadline.is_past:
            raise errors.MAASError(f"{request.uri}: there was no time left to ask", retry=True)
        timeout = deadline.remaining
        try:
            response = self._exchange(request, deadline)
        except (requests.RequestException, TimeoutError) as error:
            raise _no_response(request, error, timeout) from None
        if not 200 <= response.status < 300:
            raise self._rejection(request, response)
        return response.body

    # -- Requests -----------------------------------------------------------------------------

    def _exchange(self, request: _Request, deadline: Deadline) -> _Response:
        """Send a request, several times if that is safe and may help."""
        for pause_s in _PAUSES_S:
            try:
                response = self._send(request, deadline)
            except (requests.RequestException, TimeoutError) as error:
                if not _is_repeatable(request.method, error) or deadline.remaining < pause_s:
                    raise
            else:
                # MAAS responds with 503 while it starts.
                is_busy = response.status == 503 and request.method in _REPEATABLE
                if not is_busy or deadline.remaining < pause_s:
                    return response
            time.sleep(pause_s)
        return self._send(request, deadline)

    def _send(self, request: _Request, deadline: Deadline) -> _Response:
        """Send a request once.

        The timeouts of requests apply to single reads, so that a server that sends its header
        byte by byte never exceeds them. Therefore, another thread sends the request. If it is
        late, it is abandoned.
        """
        results: list[_Response | Exception] = []

        def send() -> None:
            try:
                results.append(self._send_now(request, deadline))
            except Exception as error:  # noqa: BLE001 - raised below
                results.append(error)

        thread = threading.Thread(target=send, name="maas", daemon=True)
        thread.start()
        thread.join(deadline.remaining)
        if not results:
            raise TimeoutError
        result = results[0]
        if isinstance(result, Exception):
            raise result
        return result

    def _send_now(self, request: _Request, deadline: Deadline) -> _Response:
        timeout = max(deadline.remaining, 0.001)
        with self._session.request(
            request.method,
            request.uri,
            params={"op": request.op} if request.op else None,
            data=list(request.fields) or None,
            timeout=(min(_CONNECT_TIMEOUT_S, timeout), timeout),
            allow_redirects=False,
            verify=self._verify,
            stream=True,
        ) as response:
            location = response.headers.get("Location", "")
            return _Response(response.status_code, location, _read_body(response, deadline))

    # -- Errors -------------------------------------------------------------------------------

    def _rejection(self, request: _Request, response: _Response) -> errors.MAASError:
        status = response.status
        hint = _HINTS.get(status, "")
        if 300 <= status < 400:
            target = response.location.partition("?")[0]
            hint = f"MAAS has moved to {target or 'another URL'}: correct maas-url"
        # The body of a 401 may quote the signature that MAAS expected: the user's secret.
        reasons = _parse_reasons(response.body) if status >= 400 and status != 401 else {}
        texts = (f"{field}: {text}" if field else text for field, text in reasons.items())
        reason = self._hide_secrets("; ".join(texts), request.fields)
        details = f": {reason}" * bool(reason) + f"; {hint}" * bool(hint)
        return errors.MAASError(
            f"{request.uri}: MAAS answered {status}{details}",
            retry=status >= 500,
            status=status,
            fields=reasons.keys() - {""},
            reason=reason,
        )

    def _hide_secrets(self, reason: str, fields: Fields) -> str:
        """Remove secrets from MAAS's text, which may quote what it rejects."""
        tokens = [value for name, value in fields if name.endswith(("_token", "_pass"))]
        for secret in (*self._secrets, *tokens):
            if secret:
                reason = reason.replace(secret, "…")
        return reason[:_MAX_REASON]


def parse_json(body: bytes, uri: str) -> Any:
    """Parse the body of a response.

    Raises:
        MAASError: it is not JSON.
    """
    try:
        return json.loads(body)
    except ValueError:
        raise errors.MAASError(
            f"{uri}: the response is not JSON; is this the URL of MAAS (…:5240/MAAS)?"
        ) from None


def _parse_key(api_key: pydantic.SecretStr) -> tuple[str, ...]:
    parts = tuple(api_key.get_secret_value().strip().split(":"))
    if len(parts) != 3 or not all(part.isprintable() and part for part in parts):
        raise errors.ConfigError(
            "maas-api-key-file: expected a key of three parts separated by colons, as `maas apikey"
            " --username NAME` prints it"
        )
    return parts


def _open_session(key: Sequence[str], adapter: adapters.BaseAdapter | None) -> requests.Session:
    consumer, token, secret = key
    session = requests.Session()
    session.auth = requests_oauthlib.OAuth1(
        consumer, "", token, secret, signature_method="PLAINTEXT"
    )
    adapter = adapter or adapters.HTTPAdapter(pool_maxsize=MAX_PARALLEL, max_retries=0)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _read_body(response: requests.Response, deadline: Deadline) -> bytes:
    """Return the body. Raises `TimeoutError` at the deadline, `RequestException` if too long."""
    body = bytearray()
    for chunk in cast("Iterable[bytes]", response.iter_content(_CHUNK_BYTES)):
        body += chunk
        if deadline.is_past:
            raise TimeoutError
        if len(body) > _MAX_BODY_BYTES:
            raise _OversizedBody
    return bytes(body)


class _OversizedBody(requests.RequestException):
    """A response is longer than `_MAX_BODY_BYTES`."""


def _is_repeatable(method: str, error: Exception) -> bool:
    """Whether to send a request again after an error.

    It must not have arrived, or it must have the same effect when it is repeated. Requests that
    were too slow are not repeated, because that would slow MAAS down further.
    """
    if isinstance(error, requests.ConnectTimeout):
        return True
    if not isinstance(error, requests.ConnectionError) or isinstance(
        error, requests.Timeout | requests.exceptions.SSLError
    ):
        return False
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return method in _REPEATABLE or isinstance(reason, exceptions.NewConnectionError)


def _no_response(request: _Request, error: Exception, timeout: float) -> errors.MAASError:
    """Return the error for a request without a usable response.

    The text of an exception of requests may quote headers, so only its name is shown.
    """
    uri = request.uri
    if isinstance(error, requests.exceptions.SSLError):
        return errors.MAASError(f"{uri}: MAAS's certificate is not trusted: set maas-ca-file")
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
        return errors.MAASError(f"{uri}: this is not a valid URL: correct maas-url")
    if isinstance(error, _OversizedBody):
        return errors.MAASError(f"{uri}: the response is longer than {_MAX_BODY_BYTES} bytes")
    if _is_timeout(error):
        text = f"no response from MAAS within {round(timeout, 1):g} s"
    else:
        name = type(error).__name__
        text = f"no response from MAAS ({name}): is it running, and is the address right?"
    if request.method == "POST":
        text += " It is unknown whether MAAS did what was asked: run the command again."
    return errors.MAASError(f"{uri}: {text}", retry=True)


def _is_timeout(error: Exception) -> bool:
    """Whether MAAS accepted a connection but did not respond in time."""
    if isinstance(error, requests.ConnectTimeout):
        return False
    return isinstance(error, requests.Timeout | TimeoutError)


def _parse_reasons(body: bytes) -> dict[str, str]:
    """Return why MAAS rejected a request, by the name of the field, or under an empty name if no
    field is named. Empty for HTML."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return {}
    try:
        raw = json.loads(text)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        return {"": printable(text.partition("\n")[0])} if text else {}
    reasons = cast("dict[str, object]", raw).items()
    return {printable(field): printable(_first(reason)) for field, reason in reasons}


def _first(reason: object) -> object:
    """Return the first of several reasons."""
    if isinstance(reason, list):
        return next(iter(cast("list[object]", reason)), "")
    return reason
