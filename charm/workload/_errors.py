# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The error that all functions of this package raise."""


class WorkloadError(Exception):
    """The machine is not in the desired state. The message, for `juju status`, says why."""
