#!/usr/bin/env python3
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Starts the charm. The charm is a package, so that its module names do not conflict."""

import logging

import ops

from virtualbox_host import charm

# At level DEBUG, charmlibs log each call of Juju.
logging.getLogger("charmlibs").setLevel(logging.INFO)
ops.main(charm.VirtualBoxHostCharm)
