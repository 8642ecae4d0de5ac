# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m maas_virtualbox` is the command line."""

from maas_virtualbox.cli.main import main

main()
