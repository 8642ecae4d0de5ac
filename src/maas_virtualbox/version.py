# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The version. It is in the code because the package may run from a copied tree, where no metadata
of an installed package exist."""

VERSION = "0.1.0"
