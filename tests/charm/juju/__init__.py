# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A small, strict fake of Juju. It runs unpacked charms as real processes.

    with Juju(tmp_path) as juju:
        app = juju.deploy(unpacked_charm, "maas-virtualbox", units=2)
        app.config({"hosts": "ivan@10.0.0.5"})
        juju.settle()                                # install, leader-elected, config-changed, …
        print(app.units[0].status)                   # ("active", "24 VMs on 3 hosts, 8 running")
        app.units[0].run_action("power", {"vm": "node1", "change": "on"})

Units run in a folder of this machine, or on the machines in `deploy(on=…)`. Hooks of the model run
one at a time. Changes of databags, secrets and ports take effect when a hook exits with 0. Status
and workload version take effect at once.

If a hook calls an unknown hook tool, or a tool with an unknown flag, the hook fails. Then `settle`
and `run_action` raise JujuError with the call.
"""

from tests.charm.juju.agent import Run
from tests.charm.juju.applications import ActionFailed, Application, HookFailed, Juju, Unit
from tests.charm.juju.model import MODEL_UUID, Address, JujuError
from tests.charm.juju.places import Here, Place

__all__ = [
    "MODEL_UUID",
    "ActionFailed",
    "Address",
    "Application",
    "Here",
    "HookFailed",
    "Juju",
    "JujuError",
    "Place",
    "Run",
    "Unit",
]
