# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Creation and deletion of VMs, and which VMs this project manages."""
