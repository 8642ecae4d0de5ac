# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The calls of MAAS's REST API 2.0 that this project needs. `session` sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.maas.models import Machine, Node, Rack, User, Zone
from maas_virtualbox.maas.session import APISession, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pydantic
    from requests import adapters
    from typing_extensions import Self

    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.maas.session import Fields

CALL_TIMEOUT_S = 60.0
"""A real region needed 2.4 s to create a machine while it created eight at a time."""
LISTING_TIMEOUT_S = 240.0
"""A real region needed 20 s to list a thousand machines."""

_T = TypeVar("_T")


class MAAS:
    """One MAAS, used with one API key. A context manager. Threads may share it.

    Every method raises `MAASError` if MAAS does not respond or rejects the request. The text says
    why, and `retry` says whether the same call may succeed later.
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
        adapter: adapters.BaseAdapter | None = None,
    ) -> None:
        """Prepare the client. Does not connect yet.

        Args:
            url: such as `http://10.0.0.2:5240/MAAS`. For MAAS 1.x, add `/api/1.0/`.
            api_key: three parts separated by colons, as `maas apikey` prints it.
            ca_file: the CA of MAAS's HTTPS certificate. None: the CAs of the system.
            timeout: seconds for one call, including its retries.
            listing_timeout: seconds for a call that lists all machines.
            deadline: when every call of this client must have ended.
            adapter: sends the requests, for tests. None: the network.

        Raises:
            ConfigError: the URL or the API key is malformed, or the CA file does not exist.
        """
        self._session = APISession(url, api_key, ca_file, deadline=deadline, adapter=adapter)
        self._timeout, self._listing_timeout = timeout, listing_timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def add_interface(self, system_id: str, mac: str) -> None:
        """Add a physical interface to a machine."""
        path = f"nodes/{system_id}/interfaces/"
        self._send("POST", path, [("mac_address", mac)], op="create_physical")

    def commission(self, system_id: str) -> None:
        """Let MAAS commission a machine, which starts it.

        Raises:
            NotCommissioned: MAAS has the machine but responded with 503, usually because no rack
                controller reaches the power service. Retry later.
            MAASError: any other error.
        """
        try:
            self._send("POST", f"machines/{system_id}/", op="commission")
        except errors.MAASError as error:
            if error.status != 503:
                raise
            raise errors.NotCommissioned(str(error), retry=True, status=503) from None

    def create_machine(self, fields: Fields) -> str:
        """Create a machine and return its system ID."""
        return self._parsed("POST", "machines/", lambda raw: str(raw["system_id"]), fields)

    def create_tag(self, name: str, comment: str) -> None:
        """Create a tag."""
        self._send("POST", "tags/", [("name", name), ("comment", comment)])

    def create_zone(self, zone: Zone) -> None:
        """Create a physical zone."""
        self._send("POST", "zones/", [("name", zone.name), ("description", zone.description)])

    def image_architectures(self) -> frozenset[str]:
        """Return the architectures of MAAS's boot images, such as `amd64`. MAAS rejects machines
        of other architectures."""
        return self._parsed(
            "GET",
            "boot-resources/",
            lambda raw: frozenset(str(item["architecture"]).partition("/")[0] for item in raw),
        )

    def machines(self) -> list[Machine]:
        """Return all machines with their power parameters, with two calls in total.

        Raises:
            MAASError: also if the API key does not belong to an administrator. Other users cannot
                read power parameters.
        """
        powers: dict[str, Any] = self._parsed(
            "GET", "machines/", dict, op="power_parameters", timeout=self._listing_timeout
        )
        return self._parsed(
            "GET",
            "machines/",
            lambda raw: [Machine.parse(item, powers.get(item["system_id"]) or {}) for item in raw],
            timeout=self._listing_timeout,
        )

    def other_nodes(self) -> list[Node]:
        """Return devices and region controllers. For rack controllers, see `racks`."""
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
            "GET", "rackcontrollers/", lambda raw: [Rack.parse(item) for item in raw]
        )

    def tag_machine(self, name: str, system_id: str, *, remove: bool = False) -> None:
        """Add a tag to a machine, or remove it."""
        fields = [("remove" if remove else "add", system_id)]
        # The response may have any content type.
        path, op = f"tags/{name}/", "update_nodes"
        self._session.call("POST", path, fields, op, timeout=self._timeout)

    def tags(self) -> dict[str, str]:
        """Return the comments of all tags."""
        return self._parsed(
            "GET",
            "tags/",
            lambda raw: {str(item["name"]): str(item["comment"] or "") for item in raw},
        )

    def update_interface(self, system_id: str, interface: int, mac: str) -> None:
        """Change the MAC of an interface."""
        self._send("PUT", f"nodes/{system_id}/interfaces/{interface}/", [("mac_address", mac)])

    def update_machine(self, system_id: str, fields: Fields) -> None:
        """Change some fields of a machine."""
        self._send("PUT", f"machines/{system_id}/", fields)

    def update_tag(self, name: str, comment: str) -> None:
        """Change the comment of a tag."""
        self._send("PUT", f"tags/{name}/", [("name", name), ("comment", comment)])

    def version(self) -> str:
        """Return MAAS's version, such as `3.7.3`."""
        return self._parsed("GET", "version/", lambda raw: str(raw["version"]))

    def whoami(self) -> User:
        """Return the user of the API key."""
        return self._parsed("GET", "users/", User.parse, op="whoami")

    def zones(self) -> list[Zone]:
        """Return all physical zones."""
        return self._parsed("GET", "zones/", lambda raw: [Zone.parse(item) for item in raw])

    # -- Internal -----------------------------------------------------------------------------

    def _nodes(self, kind: str, path: str) -> list[Node]:
        return self._parsed("GET", path, lambda raw: [Node.parse(item, kind) for item in raw])

    def _send(self, method: str, path: str, fields: Fields = (), op: str = "") -> None:
        """Send a request. Its response must be JSON, but what it contains does not matter."""
        self._parsed(method, path, lambda _: None, fields, op)

    def _parsed(
        self,
        method: str,
        path: str,
        parse: Callable[[Any], _T],
        fields: Fields = (),
        op: str = "",
        *,
        timeout: float | None = None,
    ) -> _T:
        """Send a request and parse its response."""
        body = self._session.call(method, path, fields, op, timeout=timeout or self._timeout)
        uri = self._session.base + path
        raw = parse_json(body, uri)
        try:
            return parse(raw)
        except (AttributeError, KeyError, TypeError, ValueError):
            what = path.rstrip("/").replace("/", " ")
            raise errors.MAASError(
                f"{uri}: the response does not contain the {what} of MAAS; is this the URL of"
                " MAAS (…:5240/MAAS)?"
            ) from None
