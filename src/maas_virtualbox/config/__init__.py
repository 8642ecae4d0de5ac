# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Configuration: host lists, the configuration file, power policy, tokens, and safe file access.

These modules read, validate and write. They use no network and import nothing from a higher level.
"""
