# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The version, in the code: where that runs from a copied tree, no package can be asked."""

VERSION = "0.1.0"
