# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fleet for asyncio: what the doors of the power service call.

`dispatcher` answers queries and joins actions, `watch` keeps what is known of each host, `metrics`
counts.
"""
