# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Many hosts as one: which VM a selector means, which host a VM belongs to, and parallel calls."""
