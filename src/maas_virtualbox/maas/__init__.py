# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""MAAS as our client sees it: its REST API, and what this project does through it. An extra.

Ask
    `client.MAAS` is one MAAS; its methods are one to one with the calls of the API 2.0 that are
    needed here, and return the dataclasses of `models`.

Host lists
    `zones.hosts_from_zones` reads hosts from the descriptions of MAAS's zones, as in 2015.

Enlistment
    `enlistment.read` asks MAAS what it knows, `enlistment.plan` compares that with a fleet's VMs
    and says what to do about each, `enlistment.apply` does it. All plain data.

Checks
    `check.examine` checks MAAS's side of it, as `host.checks` checks a host.
"""
