# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The front doors: each turns one protocol into calls to its right, and the answers back."""
