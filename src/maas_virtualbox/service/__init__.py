# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service: a process that holds one Fleet open and answers MAAS over HTTP.

`process` is the process (signals, sockets, TLS, systemd), `dispatcher` the fleet for asyncio,
`watch` what is known of each host. What is said over HTTP is `doors`' business.
"""
