# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service: a process that keeps the connections of a fleet and serves it over HTTP.

A request passes through these modules:

- `process` starts, reloads and stops the service, with `tls`, `systemd` and `logs`.
- `listener` opens the sockets and accepts connections. `connections` decides how many and which
  stay open. `http_protocol` limits each connection.
- `app` and `webhook` are the routes. `auth` checks tokens. `responses` and `openapi` define what
  clients receive.
- `dispatcher` answers queries from the cached state and joins repeated power actions. `metrics`
  counts.

A new protocol is a module or package beside `webhook`, over the same dispatcher and tokens.
"""
