# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What people write: host lists, configuration files, tokens. No network is used here."""
