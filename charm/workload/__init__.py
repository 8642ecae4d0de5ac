# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service on this machine. This package contains no charm code.

/opt/maas-virtualbox/RELEASE   a copy of the charm's environment. Juju replaces the charm's own
                               folder when it refreshes the charm, and deletes it on removal
/opt/maas-virtualbox/current   the release in use
/etc/maas-virtualbox           configuration and secrets, readable only by the service's user
/var/lib/maas-virtualbox       pinned host keys, and the host to which each VM belongs
/etc/systemd/system/maas-virtualbox.service

`install`, `configure`, `stop` and `remove` manage the service, `list_hosts` queries it, and `run`
runs the command-line program with its configuration. Functions take the folder that represents
`/`. They can be called repeatedly.
"""

from workload._client import list_hosts
from workload._errors import WorkloadError
from workload._files import (
    CONFIG,
    CONFIG_FILE,
    CURRENT,
    ENLISTED,
    NAME,
    PATHS,
    RECONCILED,
    RELEASES,
    STATE,
    UNIT,
    ServiceConfig,
    is_noted,
    write_note,
)
from workload._lifecycle import (
    absent_accounts,
    configure,
    install,
    is_installed,
    remove,
    run,
    stop,
)
from workload._unit import is_running, reload_service

__all__ = [
    "CONFIG",
    "CONFIG_FILE",
    "CURRENT",
    "ENLISTED",
    "NAME",
    "PATHS",
    "RECONCILED",
    "RELEASES",
    "STATE",
    "UNIT",
    "ServiceConfig",
    "WorkloadError",
    "absent_accounts",
    "configure",
    "install",
    "is_installed",
    "is_noted",
    "is_running",
    "list_hosts",
    "reload_service",
    "remove",
    "run",
    "stop",
    "write_note",
]
