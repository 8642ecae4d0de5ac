#!/usr/bin/env python3
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Starts the charm, which is a package so that its modules have names of their own."""

import logging

import ops

from virtualbox_host import charm

# What charmlibs write at this level is a call of Juju a line.
logging.getLogger("charmlibs").setLevel(logging.INFO)
ops.main(charm.VirtualBoxHostCharm)
