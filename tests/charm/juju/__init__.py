# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A small, strict stand-in for Juju, which runs unpacked charms as real processes.

    with Juju(tmp_path) as juju:
        app = juju.deploy(unpacked_charm, "maas-virtualbox", units=2)
        app.config({"hosts": "ivan@10.0.0.5"})
        juju.settle()                                # install, leader-elected, config-changed, …
        print(app.units[0].status)                   # ("active", "24 VMs on 3 hosts, 8 running")
        app.units[0].run_action("power", {"vm": "node1", "change": "on"})

Units run in a folder of this machine, or on the machines that `deploy(on=…)` is given. One hook
runs at a time in the whole model. What a hook writes to databags, secrets and ports holds when it
exits with 0; status and workload version hold at once.

A call of a hook tool that the stand-in does not know, be it a tool or a flag, fails the hook, and
`settle` and `run_action` then raise JujuError with the call's text.
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
