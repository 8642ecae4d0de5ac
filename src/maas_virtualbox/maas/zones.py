# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists from MAAS's physical zones: the legacy convention, used by `hosts: from-zones`.

Each zone stands for a VirtualBox host, and its description is `user@address`. A description is
parsed like an entry of a host list. It never reaches a shell.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.config import host_list

if TYPE_CHECKING:
    from collections.abc import Iterable

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.maas.models import Zone

log = logging.getLogger(__name__)


def hosts_from_zones(zones: Iterable[Zone]) -> tuple[HostConfig, ...]:
    """Return the hosts in the descriptions of zones: `user@address` and a host list's options.

    A description without `@` is ordinary text. An invalid entry is skipped with a warning, so that
    a mistake in one zone does not affect the hosts of the others.
    """
    entries: list[dict[str, object]] = []
    for zone in zones:
        description = zone.description.strip()
        if "@" not in description:
            continue
        try:
            (host,) = host_list.parse_hosts(description)
            entry: dict[str, object] = host.model_dump(
                mode="json", by_alias=True, exclude_defaults=True, exclude={"name"}
            )
            entry.setdefault("zone", zone.name)
            host_list.parse_hosts([entry])  # the zone's name may be invalid in a host list
            entries.append(entry)
        except (errors.HostListError, ValueError) as error:
            log.warning("zone %s: %r is not a host: %s", zone.name, zone.description, error)
    return host_list.parse_hosts(entries)
