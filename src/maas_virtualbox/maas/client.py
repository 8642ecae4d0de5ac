# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS's REST API 2.0: the calls that are needed here, and no others.

Logging in is OAuth 1.0 PLAINTEXT, as MAAS wants it: the key itself goes with each request, so that
no request follows a redirection, and no text of a failed one is shown unread.
"""

from __future__ import annotations

import json
import logging
import math
import time
from typing import TYPE_CHECKING, Any, TypeVar, cast

import requests
import requests_oauthlib
from requests import adapters
from urllib3 import exceptions

from maas_virtualbox import errors
from maas_virtualbox.config import config_file
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.escape import printable
from maas_virtualbox.maas.models import Machine, Node, Rack, User, Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    import pydantic
    from typing_extensions import Self

    Fields = Sequence[tuple[str, str]]
    # A form's fields, in order; a name may come several times.

_T = TypeVar("_T")

MAX_PARALLEL = 8
"""How many calls MAAS gets from us at a time, at the most: each keeps a worker of its region."""

CALL_TIMEOUT_S = 60.0
"""A machine was made in 2.4 s by a real region that had eight to make."""
LISTING_TIMEOUT_S = 240.0
"""A real region listed a thousand machines in 20 s."""

_API = "/api/2.0/"
_CONNECT_S = 10.0
_TRIES, _PAUSE_S = 4, 0.3
_REPEATABLE = ("GET", "PUT")
_CHUNK_BYTES = 1 << 16
_WORDS = 300

_HINTS = {
    401: "is the API key right? `maas apikey --username NAME` prints it",
    403: "is the key an administrator's?",
    404: "is it there no more, or is this not MAAS's URL (…:5240/MAAS)?",
}

# At level debug both write the key and all power tokens: PLAINTEXT has them in the header.
for _name in ("oauthlib", "requests_oauthlib"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class MAAS:
    """One MAAS, as one of its users. A context manager; may be shared between threads.

    Each method raises `MAASError` where MAAS does not answer as it should: the text says why, and
    `retry` whether the same call may succeed later.
    """

    def __init__(
        self,
        url: str,
        api_key: pydantic.SecretStr,
        ca_file: Path | None = None,
        *,
        timeout: float = CALL_TIMEOUT_S,
        listing_timeout: float = LISTING_TIMEOUT_S,
        deadline: Deadline | None = None,
        carrier: adapters.BaseAdapter | None = None,
    ) -> None:
        """Prepare; connects to nothing.

        Args:
            url: such as `http://10.0.0.2:5240/MAAS`; MAAS 1.x wants `…/api/1.0/` at its end.
            api_key: as `maas apikey` prints it: three parts apart by colons.
            ca_file: the CA of an HTTPS certificate. None: the system's.
            timeout: seconds in which a call ends, with all its repetitions.
            listing_timeout: the same for a call that lists all machines.
            deadline: when every call of this client must have ended, whatever its timeout.
            carrier: what carries the requests, for tests. None: the network.

        Raises:
            ConfigError: the key has not three parts, the URL is none, or the CA file is not there.
        """
        try:
            config_file.check_maas_url(url)
        except ValueError as error:
            raise errors.ConfigError(str(error)) from None
        self._base = url.rstrip("/") + ("/" if "/api/" in url else _API)
        parts = api_key.get_secret_value().strip().split(":")
        if len(parts) != 3 or not all(part.isprintable() and part for part in parts):
            raise errors.ConfigError(
                "maas-api-key-file: expected a key of three parts apart by colons, as `maas apikey"
                " --username NAME` prints it"
            )
        if ca_file is not None and not ca_file.is_file():
            raise errors.ConfigError(f"maas-ca-file: {ca_file}: there is no such file")
        self._secrets = tuple(parts)
        # Given to each request: a session's own yields to the environment's.
        self._verify: bool | str = True if ca_file is None else str(ca_file)
        self._session = requests.Session()
        self._session.auth = requests_oauthlib.OAuth1(
            parts[0], "", parts[1], parts[2], signature_method="PLAINTEXT"
        )
        self._timeout, self._listing_timeout = timeout, listing_timeout
        self._deadline = deadline or Deadline(math.inf)
        adapter = carrier or adapters.HTTPAdapter(pool_maxsize=MAX_PARALLEL, max_retries=0)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def add_interface(self, system_id: str, mac: str) -> None:
        """Give a machine another physical interface."""
        path = f"nodes/{system_id}/interfaces/"
        self._call("POST", path, [("mac_address", mac)], op="create_physical")

    def commission(self, system_id: str) -> None:
        """Let MAAS commission a machine, which starts it.

        Raises:
            NotCommissioned: MAAS has the machine and cannot switch it: with 503, mostly because
                no rack controller reaches the power service.
            MAASError: anything else.
        """
        try:
            self._call("POST", f"machines/{system_id}/", op="commission")
        except errors.MAASError as error:
            if error.status != 503:
                raise
            raise errors.NotCommissioned(str(error), retry=True, status=503) from None

    def create_machine(self, fields: Fields) -> str:
        """Make a machine and return its system id."""
        return self._parsed("POST", "machines/", lambda raw: str(raw["system_id"]), fields)

    def create_tag(self, name: str, comment: str) -> None:
        """Make a tag."""
        self._call("POST", "tags/", [("name", name), ("comment", comment)])

    def create_zone(self, zone: Zone) -> None:
        """Make a physical zone."""
        self._call("POST", "zones/", [("name", zone.name), ("description", zone.description)])

    def image_architectures(self) -> frozenset[str]:
        """Return the architectures of MAAS's boot images, such as `amd64`; it refuses machines of
        all others."""
        return self._parsed(
            "GET",
            "boot-resources/",
            lambda raw: frozenset(str(each["architecture"]).partition("/")[0] for each in raw),
        )

    def machines(self) -> list[Machine]:
        """Return all machines with their power parameters: two calls, however many there are.

        Raises:
            MAASError: also if the key is no administrator's, who alone sees power parameters.
        """
        powers: dict[str, Any] = self._parsed(
            "GET", "machines/", dict, op="power_parameters", limit=self._listing_timeout
        )
        return self._parsed(
            "GET",
            "machines/",
            lambda raw: [Machine.parse(each, powers.get(each["system_id"]) or {}) for each in raw],
            limit=self._listing_timeout,
        )

    def other_nodes(self) -> list[Node]:
        """Return devices and region controllers; for rack controllers see `racks`."""
        return [
            node
            for kind, path in (
                ("device", "devices/"),
                ("region controller", "regioncontrollers/"),
            )
            for node in self._nodes(kind, path)
        ]

    def racks(self) -> list[Rack]:
        """Return all rack controllers."""
        return self._parsed(
            "GET", "rackcontrollers/", lambda raw: [Rack.parse(each) for each in raw]
        )

    def tag_machine(self, name: str, system_id: str, *, remove: bool = False) -> None:
        """Put a tag on a machine, or take it off."""
        fields = [("remove" if remove else "add", system_id)]
        self._call("POST", f"tags/{name}/", fields, op="update_nodes")

    def tags(self) -> dict[str, str]:
        """Return the comments of all tags."""
        return self._parsed(
            "GET",
            "tags/",
            lambda raw: {str(each["name"]): str(each["comment"] or "") for each in raw},
        )

    def update_interface(self, system_id: str, interface: int, mac: str) -> None:
        """Give an interface another MAC."""
        self._call("PUT", f"nodes/{system_id}/interfaces/{interface}/", [("mac_address", mac)])

    def update_machine(self, system_id: str, fields: Fields) -> None:
        """Change a machine; what is not given stays."""
        self._call("PUT", f"machines/{system_id}/", fields)

    def update_tag(self, name: str, comment: str) -> None:
        """Give a tag another comment."""
        self._call("PUT", f"tags/{name}/", [("name", name), ("comment", comment)])

    def version(self) -> str:
        """Return MAAS's version, such as `3.7.3`."""
        return self._parsed("GET", "version/", lambda raw: str(raw["version"]))

    def whoami(self) -> User:
        """Return whose key it is."""
        return self._parsed("GET", "users/", User.parse, op="whoami")

    def zones(self) -> list[Zone]:
        """Return all physical zones."""
        return self._parsed("GET", "zones/", lambda raw: [Zone.parse(each) for each in raw])

    # -- One call -----------------------------------------------------------------------------

    def _nodes(self, kind: str, path: str) -> list[Node]:
        return self._parsed("GET", path, lambda raw: [Node.parse(each, kind) for each in raw])

    def _parsed(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], _T],
        fields: Fields = (),
        op: str = "",
        *,
        limit: float | None = None,
    ) -> _T:
        raw = self._call(method, path, fields, op, limit)
        try:
            return parse(raw)
        except (AttributeError, KeyError, TypeError, ValueError):
            what = path.rstrip("/").replace("/", " ")
            raise errors.MAASError(
                f"{self._base}{path}: these are no {what} of MAAS; is this the URL of MAAS"
                " (…:5240/MAAS)?"
            ) from None

    def _call(
        self,
        method: str,
        path: str,
        fields: Fields = (),
        op: str = "",
        limit: float | None = None,
    ) -> Any:
        uri = self._base + path
        answer, body = self._answer(method, uri, fields, op, limit or self._timeout)
        if not 200 <= answer.status_code < 300:
            raise self._refused(uri, answer, body, fields)
        if method != "GET" and op == "update_nodes":
            return None  # its answer is of no use, and of several kinds
        try:
            return json.loads(body)
        except ValueError:
            raise errors.MAASError(
                f"{uri}: the answer is no JSON; is this the URL of MAAS (…:5240/MAAS)?"
            ) from None

    def _answer(
        self, method: str, uri: str, fields: Fields, op: str, limit: float
    ) -> tuple[requests.Response, bytes]:
        """Send a request, and again where that may help, before its deadline."""
        deadline = self._deadline.within(limit)
        limit = deadline.remaining
        for tried in range(1, _TRIES + 1):
            pause_s = _PAUSE_S * 2 ** (tried - 1)
            is_last = tried == _TRIES or deadline.remaining < pause_s
            try:
                answer, body = self._send(method, uri, fields, op, deadline)
            except (requests.RequestException, TimeoutError) as error:
                if is_last or deadline.is_past or not _may_repeat(method, error):
                    raise self._unanswered(uri, error, method, limit) from None
            else:
                # MAAS answers 503 while it starts.
                if is_last or answer.status_code != 503 or method not in _REPEATABLE:
                    return answer, body
            time.sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    def _send(
        self, method: str, uri: str, fields: Fields, op: str, deadline: Deadline
    ) -> tuple[requests.Response, bytes]:
        if deadline.is_past:
            raise TimeoutError
        left = max(deadline.remaining, 0.001)
        with self._session.request(
            method,
            uri,
            params={"op": op} if op else None,
            data=list(fields) or None,
            timeout=(min(_CONNECT_S, left), left),
            allow_redirects=False,
            verify=self._verify,
            stream=True,
        ) as answer:
            return answer, _read(answer, deadline)

    def _unanswered(
        self, uri: str, error: Exception, method: str, limit: float
    ) -> errors.MAASError:
        # The words of a failed request can quote its headers; its kind says enough.
        if isinstance(error, requests.exceptions.SSLError):
            return errors.MAASError(
                f"{uri}: MAAS's certificate is not one to trust: say whose it is with maas-ca-file"
            )
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            return errors.MAASError(f"{uri}: this is no URL: mend maas-url")
        if isinstance(error, requests.ConnectTimeout) or not isinstance(
            error, requests.Timeout | TimeoutError
        ):
            kind = type(error).__name__
            why = f"no answer from MAAS: {kind}; does it run there? is the address right?"
        else:
            why = f"no answer from MAAS in {round(limit, 1):g} s"
        if method == "POST":
            why += " (whether it did what was asked is unknown: the next run sees)"
        return errors.MAASError(f"{uri}: {why}", retry=True)

    def _refused(
        self, uri: str, answer: requests.Response, body: bytes, fields: Fields
    ) -> errors.MAASError:
        code = answer.status_code
        hint = _HINTS.get(code, "")
        if 300 <= code < 400:
            target = answer.headers.get("Location", "").partition("?")[0]
            hint = f"it is at {target or 'another place'}: put that into maas-url"
        # The body of a 401 may quote what MAAS expected, which is the user's secret.
        complaint = _complaints(body) if code >= 400 and code != 401 else {}
        words = self._hide("; ".join(_said(*each) for each in complaint.items()), fields)
        return errors.MAASError(
            f"{uri}: MAAS answered {code}"
            + (f": {words}" if words else "")
            + (f"; {hint}" if hint else ""),
            retry=code >= 500,
            status=code,
            fields=complaint.keys() - {""},
            reason=words,
        )

    def _hide(self, words: str, fields: Fields) -> str:
        """Take secrets out of MAAS's words, which quote what they complain of."""
        tokens = [value for name, value in fields if name.endswith(("_token", "_pass"))]
        for secret in (*self._secrets, *tokens):
            if secret:
                words = words.replace(secret, "…")
        return words[:_WORDS]


def _read(answer: requests.Response, deadline: Deadline) -> bytes:
    """Return the body; raises `TimeoutError` where it comes in drops."""
    body = bytearray()
    for chunk in cast("Iterable[bytes]", answer.iter_content(_CHUNK_BYTES)):
        body += chunk
        if deadline.is_past:
            raise TimeoutError
    return bytes(body)


def _may_repeat(method: str, error: Exception) -> bool:
    """Whether a request may be sent again: it never arrived, or it only reads, or what it writes
    is the same the second time. A slow MAAS would only get slower."""
    if isinstance(error, requests.ConnectTimeout):
        return True
    if not isinstance(error, requests.ConnectionError) or isinstance(
        error, requests.Timeout | requests.exceptions.SSLError
    ):
        return False
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return method in _REPEATABLE or isinstance(reason, exceptions.NewConnectionError)


def _complaints(body: bytes) -> dict[str, str]:
    """Return what MAAS complains of, by the request's field; its text under an empty name, and
    nothing from HTML."""
    text = body.decode("utf-8", "replace").strip()
    if text.startswith("<"):
        return {}
    try:
        raw = json.loads(text)
    except ValueError:
        raw = None
    if not isinstance(raw, dict):
        return {"": printable(text.partition("\n")[0])} if text else {}
    named = cast("dict[str, object]", raw).items()
    return {printable(name): printable(_first(each)) for name, each in named}


def _said(field: str, complaint: str) -> str:
    return f"{field}: {complaint}" if field else complaint


def _first(complaints: object) -> object:
    if isinstance(complaints, list):
        return next(iter(cast("list[object]", complaints)), "")
    return complaints
