# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VBoxManage: its commands, its answers, its settings files, its states and its errors."""
