# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""One host: its state, the power control of its VMs, its checks and its scripts."""
