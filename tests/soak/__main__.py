# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Run one of the long tests; see the package."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.soak import benches

if TYPE_CHECKING:
    from tests.soak.faults import Report as FaultReport
    from tests.soak.starvation import Report as StarvationReport


def main() -> int:
    """Run it; 0 if all was well."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("what", choices=["starvation", "faults"])
    parser.add_argument("--real", action="store_true", help="a real VirtualBox (root, Debian 12)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of starvation")
    parser.add_argument("--cycles", type=int, default=1000, help="of faults")
    parser.add_argument("--seed", type=int, default=1, help="of the order of faults")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO if options.verbose else logging.ERROR)
    report: FaultReport | StarvationReport
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        try:
            if options.what == "starvation":
                report = benches.starve(folder, real=options.real, seconds=options.seconds)
            else:
                report = benches.fail(
                    folder, real=options.real, cycles=options.cycles, seed=options.seed
                )
        finally:
            log_file = folder / "service.log"
            if options.verbose and log_file.exists():
                sys.stderr.write(log_file.read_text())
    print(report)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
