# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm virtualbox-host: a machine with VirtualBox, whose VMs maas-virtualbox controls.

`charm` handles Juju's events and `options` validates the options. `accounts` and `sshd` manage the
account and its SSH keys. `virtualbox` installs VirtualBox and creates, lists and deletes VMs.
`machine` combines options, account and VirtualBox. `actions` are run by people.
"""
