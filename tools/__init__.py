# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The project's build tools: they pack the charms and generate pages of the documentation."""
