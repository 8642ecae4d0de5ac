# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The tests; CONTRIBUTING.md says which are where."""
