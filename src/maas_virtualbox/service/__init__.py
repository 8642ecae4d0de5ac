# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service: the process that holds one fleet open and serves the HTTP doors.

`process` puts it together (signals, sockets, TLS, systemd); what is said over HTTP is `doors`'
business, what is done about it `dispatch`'s.
"""
