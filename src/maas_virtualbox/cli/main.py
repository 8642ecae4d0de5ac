# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command line `maas-virtualbox`: parses options, calls `Fleet`, prints the result.

Exit codes: 0 success; 1 an action failed, a VM is unknown or ambiguous, or `check` found an error;
2 wrong usage, host list or configuration; 3 a host is down (the results of the other hosts were
printed); 130 interrupted.
"""

from __future__ import annotations

import logging
import sys
from typing import NoReturn

from maas_virtualbox import errors
from maas_virtualbox.cli import (
    check,
    demo,
    host_setup,
    maas,
    output,
    power_template,
    service,
    trust,
    vms,
)
from maas_virtualbox.cli.app import EXIT_FAILED, EXIT_HOST_DOWN, EXIT_INTERRUPTED, EXIT_USAGE, app
from maas_virtualbox.logs import log_to_stderr

__all__ = ["EXIT_FAILED", "EXIT_HOST_DOWN", "EXIT_INTERRUPTED", "EXIT_USAGE", "main"]

_COMMANDS = (vms, check, service, maas, power_template, host_setup, trust, demo)
"""Each module adds its commands to `app` when it is imported."""


def main() -> NoReturn:
    """Run the program. Every expected error is one message and an exit code, not a traceback."""
    log_to_stderr(logging.WARNING, "maas-virtualbox: ")
    try:
        app(prog_name="maas-virtualbox")
    except errors.ConfigError as error:
        output.print_error(error)
        sys.exit(EXIT_USAGE)
    except errors.HostError as error:
        output.print_error(error)
        sys.exit(EXIT_HOST_DOWN)
    except errors.Error as error:
        output.print_error(error)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    raise AssertionError("typer always exits")
