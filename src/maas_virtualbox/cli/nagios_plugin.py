# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The monitoring plugin `check_maas_virtualbox`, for Nagios and all that took over its plugins.

All hosts are asked once, side by side. A host that does not answer is down; how many are is what
the thresholds are about. One line on standard output, its text under 80 characters, then
performance data; `-v` adds a line for each host.

Exit codes: 0 OK, 1 warning, 2 critical, 3 unknown: wrong usage or configuration, and, as the
plugins' guidelines want it, help and version. A failure of the network is never unknown.
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
from maas_virtualbox.escape import log_to_stderr, printable
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.maas import connection
from maas_virtualbox.version import VERSION
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    import io
    from collections.abc import Sequence

    from maas_virtualbox.fleet.fleet import HostReport

NAME = "check_maas_virtualbox"
OK, WARNING, CRITICAL, UNKNOWN = range(4)

_STATES = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
_LONGEST_TEXT = 79
_LONGEST_S = 3600.0

_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?"
_RANGE = re.compile(rf"(?P<at>@?)(?:(?P<low>~|{_NUMBER})?(?P<colon>:))?(?P<high>{_NUMBER})?")


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """A threshold: an alert for what is outside `low` to `high`, or `inside` it, ends included."""

    text: str
    low: float
    high: float
    inside: bool

    @classmethod
    def parse(cls, text: str) -> Range:
        """Read `10` (0 to 10), `10:` (10 and more), `~:10` (10 and less), `@10:20` (not in it).

        Raises:
            ArgumentTypeError: it is no range.
        """
        match = _RANGE.fullmatch(text)
        if match and (match["colon"] or match["high"]):
            low = float("-inf") if match["low"] == "~" else float(match["low"] or 0)
            high = float(match["high"] or "inf")
            if low <= high:
                return cls(text, low, high, bool(match["at"]))
        raise argparse.ArgumentTypeError(f"{text!r} is no range, such as 10, 10:, ~:10 or @10:20")

    def alerts(self, value: float) -> bool:
        """Whether a value is to be reported."""
        return (self.low <= value <= self.high) == self.inside


class _Parser(argparse.ArgumentParser):
    """Leaves with 3, as plugins do, and says what is wrong where monitoring looks."""

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
    """Run the plugin; whatever goes wrong is one line on standard output and an exit code."""
    # A host's name that the locale cannot write must not change the code.
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
    """Read the options. Raises `ConfigError` where they are wrong."""
    parser = _Parser(NAME, description="Are the VirtualBox hosts in reach, and what runs there?")
    listed = parser.add_mutually_exclusive_group(required=True)
    listed.add_argument("--config", type=Path, help="YAML file with hosts: and more")
    listed.add_argument("--hosts", help="user@address[:port] ..., ...; or local")
    parser.add_argument("--key", type=Path, help="file of the private SSH key for all hosts")
    parser.add_argument("--known-hosts", type=Path, help="file that pins host keys")
    text = "RANGE of hosts down that is no warning; default: 0, so that any is"
    parser.add_argument("-w", "--warning", type=Range.parse, default="0", help=text)
    text = (
        "RANGE of hosts down that is not critical; default: 1, or 0 where there is only one host"
    )
    parser.add_argument("-c", "--critical", type=Range.parse, help=text)
    text = "seconds for everything; default: 10"
    parser.add_argument("-t", "--timeout", type=float, default=10.0, help=text)
    parser.add_argument("-v", "--verbose", action="count", default=0, help="a line for each host")
    version = f"{NAME} {VERSION}"
    parser.add_argument("-V", "--version", action="version", version=version)
    options = parser.parse_args(argv, namespace=_Options())
    if not 0.0 < options.timeout <= _LONGEST_S:
        parser.error(f"the timeout is not more than 0 and at most {_LONGEST_S:.0f} seconds")
    return options


def _fleet(options: _Options, deadline: Deadline) -> Fleet:
    loaded = config_file.load(options.config) if options.config else config_file.Config()
    listed = (
        connection.find_hosts(loaded, deadline)
        if options.hosts is None
        else host_list.parse_hosts(options.hosts)
    )
    if not listed:
        raise errors.HostListError("no hosts to ask")
    return Fleet(
        listed,
        identity=options.key or loaded.ssh_private_key_file,
        known_hosts=options.known_hosts or loaded.known_hosts,
        vm_hosts=loaded.vm_hosts if options.config else None,
        # The look that lists the VMs also says which run, however slow it is: one command a host.
        policy=PowerPolicy(state_max_age=_LONGEST_S),
    )


def judge(reports: Sequence[HostReport], options: _Options) -> tuple[int, str]:
    """Return the exit code and all that is printed."""
    # Without a threshold for it, it is critical when all are down, or more than one.
    critical = options.critical or Range.parse("1" if len(reports) > 1 else "0")
    problems = [str(report.error) for report in reports if report.error]
    down = len(problems)
    worse = WARNING if options.warning.alerts(down) else OK
    state = CRITICAL if critical.alerts(down) else worse
    power = collections.Counter(vm.power for report in reports for vm in report.vms)
    vms = sum(power.values())
    answers = [report.seconds for report in reports if not report.error]
    asked = _count(len(reports), "host")
    text = f"{_count(vms, 'VM')} on {asked}, {power[Power.ON]} running"
    if problems:
        text = f"{down} of {asked} down: {'; '.join(problems)}"
    data = (
        f"running={power[Power.ON]};;;0;{vms}",
        f"off={power[Power.OFF]};;;0;{vms}",
        f"unknown={power[Power.UNKNOWN]};;;0;{vms}",
        f"vms={vms}",
        f"hosts_up={len(reports) - down};;;0;{len(reports)}",
        f"hosts_down={down};{options.warning.text};{critical.text};0;{len(reports)}",
        f"slowest={max(answers):.2f}s" if answers else "slowest=U",
    )
    lines = [f"{_line(state, text)} | {' '.join(data)}"]
    if options.verbose:
        lines += [_plain(_about(report)) for report in reports]
    return state, "\n".join(lines)


def _about(report: HostReport) -> str:
    if report.error:
        return f"DOWN {report.error}"
    running = sum(vm.power is Power.ON for vm in report.vms)
    vms = _count(len(report.vms), "VM")
    return f"up {report.host}: {vms}, {running} running, {report.seconds:.2f}s"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _line(state: int, text: str) -> str:
    line = f"VBOX {_STATES[state]} - {_plain(text)}"
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 3]}..."


def _plain(text: str) -> str:
    """Return text on one line; what follows a bar would be taken for performance data."""
    return printable(text.partition("\n")[0]).replace("|", "/")
