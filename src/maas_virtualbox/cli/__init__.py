# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The programs: `maas-virtualbox`, the fence agent, the Nagios plugin and the extension scripts.

`main` is the command line, which `app` and a module for each family of commands make up. This
module is empty so that the other programs do not load it.
"""
