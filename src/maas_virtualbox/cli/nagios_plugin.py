# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The monitoring plugin `check_maas_virtualbox`, for Nagios and compatible monitoring systems.

It polls all hosts once, at the same time. A host that does not answer is down. The thresholds
apply to the number of hosts that are down. The output is one line on standard output, its text
under 80 characters, followed by performance data; `-v` adds a line for each host.

Exit codes: 0 OK, 1 warning, 2 critical, 3 unknown: wrong usage or configuration and, as the
guidelines for plugins require, help and version. A network failure is never unknown.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, cast

from maas_virtualbox import errors
from maas_virtualbox.config import config_file, host_list
from maas_virtualbox.config.policy import PowerPolicy
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.escape import printable
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.logs import log_to_stderr
from maas_virtualbox.maas import connection
from maas_virtualbox.version import VERSION
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    import io
    from collections.abc import Sequence

    from maas_virtualbox.fleet.results import HostReport

NAME = "check_maas_virtualbox"
OK, WARNING, CRITICAL, UNKNOWN = range(4)

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_MAX_TEXT = 79
_MAX_SECONDS = 3600.0

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RANGE = re.compile(rf"(?P<at>@?)(?:(?P<low>~|{_NUMBER})?(?P<colon>:))?(?P<high>{_NUMBER})?")


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A threshold: alerts for values outside `low` to `high` or, if `inside`, for those within.

    The range includes both ends.
    """

    text: str
    low: float
    high: float
    inside: bool

    @classmethod
    def parse(cls, text: str) -> Range:
        """Parse `10` (0 to 10), `10:` (10 or more), `~:10` (10 or less), `@10:20` (not 10 to 20).

        Raises:
            ArgumentTypeError: the text is not a range.
        """
        match = _RANGE.fullmatch(text)
        if match and (match["colon"] or match["high"]):
            low = float("-inf") if match["low"] == "~" else float(match["low"] or 0)
            high = float(match["high"] or "inf")
            if low <= high:
                return cls(text, low, high, bool(match["at"]))
        raise argparse.ArgumentTypeError(
            f"expected a range, such as 10, 10:, ~:10 or @10:20, not {text!r}"
        )

    def alerts(self, value: float) -> bool:
        """Return whether a value triggers an alert."""
        return (self.low <= value <= self.high) == self.inside


class _Parser(argparse.ArgumentParser):
    """Exits with 3, as plugins must, and raises `ConfigError` for wrong usage."""

    def error(self, message: str) -> NoReturn:
        raise errors.ConfigError(message)

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        del status
        super().exit(UNKNOWN, message)


class _Options(argparse.Namespace):
    config: Path | None
    critical: Range | None
    hosts: str | None
    key: Path | None
    known_hosts: Path | None
    timeout: float
    verbose: int
    warning: Range


def main() -> NoReturn:
    """Run the plugin. Any failure is one line on standard output and an exit code."""
    # A host name that the locale cannot encode must not change the exit code.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    try:
        options = parse(sys.argv[1:])
        log_to_stderr(logging.INFO if options.verbose else logging.ERROR, f"{NAME}: ")
        deadline = Deadline.after(options.timeout)
        with _fleet(options, deadline) as fleet:
            code, output = judge(fleet.reports(timeout=deadline.remaining), options)
    except Exception as error:  # noqa: BLE001 - monitoring reads codes, not tracebacks
        code, output = UNKNOWN, _line(UNKNOWN, str(error))
    print(output)
    sys.exit(code)


def parse(argv: Sequence[str]) -> _Options:
    """Read and validate the options. Raises `ConfigError`."""
    parser = _Parser(
        NAME, description="Check that VirtualBox hosts are reachable, and count their VMs."
    )
    listed = parser.add_mutually_exclusive_group(required=True)
    listed.add_argument("--config", type=Path, help="YAML file with hosts: and more")
    listed.add_argument("--hosts", help="user@address[:port] ..., ...; or local")
    parser.add_argument("--key", type=Path, help="file of the private SSH key for all hosts")
    parser.add_argument("--known-hosts", type=Path, help="file that pins host keys")
    text = "RANGE of hosts down without a warning; default: 0, so that any is a warning"
    parser.add_argument("-w", "--warning", type=Range.parse, default="0", help=text)
    text = "RANGE of hosts down that is not critical; default: 1, or 0 if there is only one host"
    parser.add_argument("-c", "--critical", type=Range.parse, help=text)
    text = "seconds for the whole check; default: 10"
    parser.add_argument("-t", "--timeout", type=float, default=10.0, help=text)
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line for each host")
    version = f"{NAME} {VERSION}"
    parser.add_argument("-V", "--version", action="version", version=version)
    options = parser.parse_args(argv, namespace=_Options())
    if not 0.0 < options.timeout <= _MAX_SECONDS:
        parser.error(f"the timeout must be more than 0 and at most {_MAX_SECONDS:.0f} seconds")
    return options


def _fleet(options: _Options, deadline: Deadline) -> Fleet:
    loaded = config_file.load(options.config) if options.config else config_file.Config()
    listed = (
        connection.find_hosts(loaded, deadline)
        if options.hosts is None
        else host_list.parse_hosts(options.hosts)
    )
    if not listed:
        raise errors.HostListError("no hosts: use --hosts user@address or --config FILE")
    return Fleet(
        listed,
        identity=options.key or loaded.ssh_private_key_file,
        known_hosts=options.known_hosts or loaded.known_hosts,
        vm_hosts=loaded.vm_hosts if options.config else None,
        # One poll gives the VMs and their states, however slow it is: one command per host.
        policy=PowerPolicy(state_max_age=_MAX_SECONDS),
    )


def judge(reports: Sequence[HostReport], options: _Options) -> tuple[int, str]:
    """Return the exit code and everything to print."""
    # The default is critical if all hosts are down, or more than one.
    critical = options.critical or Range.parse("1" if len(reports) > 1 else "0")
    state = OK
    if options.warning.alerts(_count_down(reports)):
        state = WARNING
    if critical.alerts(_count_down(reports)):
        state = CRITICAL
    data = _performance_data(reports, options.warning, critical)
    lines = [f"{_line(state, _summary(reports))} | {' '.join(data)}"]
    if options.verbose:
        lines += [_plain(_describe(report)) for report in reports]
    return state, "\n".join(lines)


def _summary(reports: Sequence[HostReport]) -> str:
    hosts = _count(len(reports), "host")
    if failures := [str(report.error) for report in reports if report.error]:
        return f"{len(failures)} of {hosts} down: {'; '.join(failures)}"
    power = _count_power(reports)
    return f"{_count(sum(power.values()), 'VM')} on {hosts}, {power[Power.ON]} running"


def _performance_data(
    reports: Sequence[HostReport], warning: Range, critical: Range
) -> tuple[str, ...]:
    down = _count_down(reports)
    power = _count_power(reports)
    vms = sum(power.values())
    seconds = [report.seconds for report in reports if not report.error]
    return (
        f"running={power[Power.ON]};;;0;{vms}",
        f"off={power[Power.OFF]};;;0;{vms}",
        f"unknown={power[Power.UNKNOWN]};;;0;{vms}",
        f"vms={vms}",
        f"hosts_up={len(reports) - down};;;0;{len(reports)}",
        f"hosts_down={down};{warning.text};{critical.text};0;{len(reports)}",
        f"slowest={max(seconds):.2f}s" if seconds else "slowest=U",
    )


def _describe(report: HostReport) -> str:
    if report.error:
        return f"DOWN {report.error}"
    running = sum(vm.power is Power.ON for vm in report.vms)
    vms = _count(len(report.vms), "VM")
    return f"up {report.host}: {vms}, {running} running, {report.seconds:.2f}s"


def _count_down(reports: Sequence[HostReport]) -> int:
    return sum(report.error is not None for report in reports)


def _count_power(reports: Sequence[HostReport]) -> collections.Counter[Power]:
    return collections.Counter(vm.power for report in reports for vm in report.vms)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _line(state: int, text: str) -> str:
    line = f"VBOX {_STATES[state]} - {_plain(text)}"
    return line if len(line) <= _MAX_TEXT else f"{line[: _MAX_TEXT - 3]}..."


def _plain(text: str) -> str:
    """Return text on one line, without the bar that would begin performance data."""
    return printable(text.partition("\n")[0]).replace("|", "/")
