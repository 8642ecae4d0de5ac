# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""How VMs are created and deleted, and which of them this project manages."""
