# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists from MAAS's physical zones, the convention of 2015.

Each zone stood for a VirtualBox host and its description was `user@address`. `hosts: from-zones`
keeps that; a description is read as a host list's entry, never by a shell.
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
            (host,) = host_list.parse_hosts(description)
            entry: dict[str, object] = host.model_dump(
                mode="json", by_alias=True, exclude_defaults=True, exclude={"name"}
            )
            entry.setdefault("zone", zone.name)
            host_list.parse_hosts([entry])  # the zone's name may be one no host list can have
            entries.append(entry)
        except (errors.HostListError, ValueError) as error:
            log.warning("zone %s names no host: %r: %s", zone.name, zone.description, error)
    return host_list.parse_hosts(entries)
