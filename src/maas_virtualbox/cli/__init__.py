# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The programs: `maas-virtualbox`, the fence agent, the Nagios plugin and the extension scripts.

The command line starts in `main`. `app` has its global options; each of `power`, `vms`, `service`,
`maas`, `setup`, `trust` and `demo` adds commands; `output` prints. The fence agent and the Nagios
plugin are independent of these modules, so that they start without typer and rich.
"""
