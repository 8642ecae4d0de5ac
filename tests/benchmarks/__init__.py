# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Ratios beside plain VBoxManage and its peers; see `__main__`."""
