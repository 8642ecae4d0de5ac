# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Long runs of the power service under load and under faults, on a simulated or a real host.

As a program: `python -m tests.soak starvation` and `python -m tests.soak faults`; short runs of
both are among the tests.
"""
