#!/usr/bin/env python3
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""An ops charm that observes nothing, to measure the minimal time of a hook."""

import ops

if __name__ == "__main__":
    ops.main(ops.CharmBase)
