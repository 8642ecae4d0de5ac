# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A real VirtualBox behind a real sshd, for tests; see README.md beside this file."""
