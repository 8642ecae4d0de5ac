# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service: the process that keeps one fleet connected and serves it over HTTP.

`process` starts and stops it (signals, sockets, TLS, systemd), `app` and `webhook` are the HTTP
API, and `dispatcher` answers queries and joins power actions for all of them.
"""
