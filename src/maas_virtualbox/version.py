# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The version, in the code: where it runs from a copied tree, no installed package can be asked."""

VERSION = "0.1.0"
