# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Many hosts: which VM a selector means, and which host a VM belongs to."""
