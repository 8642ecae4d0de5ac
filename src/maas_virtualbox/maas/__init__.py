# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Everything about Canonical MAAS: its REST API, enlistment, and its power templates.

Connections
    `connection.connect` returns a client of the configured MAAS, and `connection.find_hosts` reads
    host lists, also from MAAS's zones. `client.MAAS` has one method for each call of the API 2.0
    that this project needs. Its methods return the dataclasses of `models`. The client needs the
    extra `maas`.

Enlistment
    `enlistment.read` reads what MAAS contains, `enlistment.plan_fleet` compares it with the VMs of
    a fleet and returns a plan, and `enlistment.apply` carries out the plan.

Checks
    `check.examine` checks MAAS, as `host.checks` checks a host.

Power control
    `power_parameters` describes a VM for MAAS 2.9.2 and newer. `power_template` installs the
    patched power template for MAAS 1.4 to 1.9.
"""
