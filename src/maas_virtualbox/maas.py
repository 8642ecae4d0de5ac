# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS's REST API, as far as this project needs it: its physical zones, which can name the hosts.

In 2015 each zone stood for a VirtualBox host and its description was `user@address`. `hosts:
from-zones` keeps that convention; a description is read as a host list's entry, never by a shell.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Any

import requests
import requests_oauthlib
from requests import adapters
from urllib3.util import retry

from maas_virtualbox import errors, hosts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pydantic
    from typing_extensions import Self

    from maas_virtualbox.hosts import Host

log = logging.getLogger(__name__)

_TIMEOUT_S = 20.0
_API = "/api/2.0/"
_RETRIES = 3
_WORDS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Zone:
    """A physical zone of MAAS."""

    name: str
    description: str


class MAAS:
    """One MAAS, as one of its users. A context manager."""

    def __init__(self, url: str, api_key: pydantic.SecretStr, ca_file: Path | None = None) -> None:
        """Prepare; connects to nothing.

        Args:
            url: such as `http://10.0.0.2:5240/MAAS`; MAAS 1.x wants `…/api/1.0/` at its end.
            api_key: as `maas apikey` prints it: three parts apart by colons.
            ca_file: the CA of an HTTPS certificate. None: the system's.

        Raises:
            ConfigError: the key has not three parts, or the URL is none.
        """
        if not url.startswith(("http://", "https://")):
            raise errors.ConfigError(f"maas-url: expected http://ADDRESS:5240/MAAS, not {url!r}")
        self._base = url.rstrip("/") + ("/" if "/api/" in url else _API)
        parts = api_key.get_secret_value().strip().split(":")
        if len(parts) != 3 or not all(parts):
            raise errors.ConfigError(
                "maas-api-key-file: expected a key of three parts apart by colons, as `maas apikey"
                " --username NAME` prints it"
            )
        self._session = requests.Session()
        self._session.auth = requests_oauthlib.OAuth1(
            parts[0],
            "",
            parts[1],
            parts[2],
            signature_method="PLAINTEXT",
        )
        if ca_file is not None:
            self._session.verify = str(ca_file)
        # A request that a server may have carried out is repeated only where it only reads.
        adapter = adapters.HTTPAdapter(
            max_retries=retry.Retry(
                _RETRIES, status_forcelist=(503,), backoff_factor=0.5, raise_on_status=False
            )
        )
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def zones(self) -> list[Zone]:
        """Return all physical zones.

        Raises:
            MAASError: MAAS cannot be asked; the text says why, and whether to retry.
        """
        found = self._get("zones/")
        try:
            return [Zone(str(each["name"]), str(each["description"])) for each in found]
        except (TypeError, KeyError):
            raise errors.MAASError(f"{self._base}zones/: these are no zones of MAAS") from None

    def _get(self, path: str) -> Any:
        uri = self._base + path
        try:
            answer = self._session.get(uri, timeout=_TIMEOUT_S, allow_redirects=False)
        except requests.RequestException as error:
            # The words of a failed request can quote its headers; its kind says enough.
            kind = type(error).__name__
            raise errors.MAASError(f"{uri}: no answer from MAAS: {kind}", retry=True) from None
        if answer.status_code != 200:
            hint = {401: "; is the API key right?", 403: "; is the key an administrator's?"}
            words = answer.text.strip().partition("\n")[0][:_WORDS]
            raise errors.MAASError(
                f"{uri}: MAAS answered {answer.status_code}{hint.get(answer.status_code, '')}"
                + (f": {words}" if words and not words.startswith("<") else ""),
                retry=answer.status_code >= 500,
            )
        try:
            return answer.json()
        except requests.JSONDecodeError:
            raise errors.MAASError(
                f"{uri}: the answer is no JSON; is this the URL of MAAS (…:5240/MAAS)?"
            ) from None


def hosts_from_zones(zones: Iterable[Zone]) -> tuple[Host, ...]:
    """Return the hosts that zones' descriptions name: `user@address` and a host list's options.

    A description without `@` is a text for people. One that is no entry is passed over with a
    warning, so that a slip in one zone leaves the others' VMs in reach.
    """
    entries: list[dict[str, object]] = []
    for zone in zones:
        description = zone.description.strip()
        if "@" not in description:
            continue
        try:
            (host,) = hosts.parse_hosts(description)
            entry: dict[str, object] = host.model_dump(
                mode="json", by_alias=True, exclude_defaults=True, exclude={"name"}
            )
            entry.setdefault("zone", zone.name)
            hosts.parse_hosts([entry])  # the zone's name may be one no host list can have
            entries.append(entry)
        except (errors.HostListError, ValueError) as error:
            log.warning("zone %s names no host: %r: %s", zone.name, zone.description, error)
    return hosts.parse_hosts(entries)
