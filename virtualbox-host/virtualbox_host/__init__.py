# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm virtualbox-host: a machine with VirtualBox, whose VMs others switch.

`charm` binds Juju's events, `options` checks what people configured, `accounts` and `sshd` see to
who may log in, `virtualbox` installs VirtualBox, asks it, makes and deletes VMs, `actions` are for
people.
"""
