# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.benchmarks [charm|enlistment|hostile|library|power|service]…` measures, prints
tables, and exits 1 if a mark is missed. Without a name it measures all; `charm`, `library` and
`power` need root on Debian 12."""

from __future__ import annotations

import sys

from maas_virtualbox.cli import output

from tests.benchmarks import charm, enlistment, hostile, library, service

_ALL = {
    "charm": charm.run,
    "enlistment": enlistment.run,
    "hostile": hostile.run,
    "library": library.run,
    "power": library.run_power,
    "service": service.run,
}


def main() -> int:
    """Measure what is asked for."""
    rows = [row for name in sys.argv[1:] or _ALL for row in _ALL[name]()]
    columns = ("WHAT", "OURS", "BESIDE", "RATIO", "MARK", "RESULT")
    output.print_rows(columns, rows, output.Format.TABLE, None)
    return 1 if any(row[-1] == "failed" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
