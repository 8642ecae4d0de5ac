# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent `fence_maas_virtualbox`, by which a cluster makes sure that a node is off.

It has the interface of ClusterLabs' fence agents: options or, without any, `name=value` lines on
standard input. The memory of a fenced node must never come back. Power-off is therefore hard and a
saved state is discarded, whatever the configuration file says.

Exit codes: 0 success, and `status` of a VM that is on; 2 `status` of a VM that is off; 1 anything
else, including wrong usage. `off` returns 0 only if no process runs the VM. `reboot` returns 0 as
soon as the VM is known to be off, even if it then does not start.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast
from xml.etree import ElementTree

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
    from collections.abc import Iterable, Sequence

    from maas_virtualbox.fleet.results import HostReport
    from maas_virtualbox.host.vm import VM

NAME = "fence_maas_virtualbox"
EXIT_DONE, EXIT_FAILED, EXIT_OFF = 0, 1, 2

_ACTIONS_ON_A_VM = ("on", "off", "reboot", "status")
_ACTIONS_THAT_FENCE = ("off", "reboot")
_ACTIONS_ON_HOSTS = ("list", "list-status", "monitor")
ACTIONS = (*_ACTIONS_ON_A_VM, *_ACTIONS_ON_HOSTS, "metadata", "validate-all")

_MAX_SECONDS = 3600.0
_FALSE_VALUES = ("0", "no", "off", "false")
_STATE_MAX_AGE_S = 60.0
"""Longer than any poll takes, so that finding a VM and its state needs one command."""

_SHORT_DESCRIPTION = "Fence agent for VirtualBox VMs, over SSH"
_LONG_DESCRIPTION = """\
The agent logs in with an SSH key as the account that owns the VMs. The first connection pins the \
key of the host; a changed key is refused. A VM is off only if no process runs it; a VM that is \
paused or has crashed (gurumeditation) is on. On and off discard a saved state."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter: on the command line, on standard input and in the metadata."""

    name: str
    short: str
    type: str
    """As in the metadata: boolean, integer, second or string."""
    text: str
    default: str = ""
    required: bool = False

    @property
    def flags(self) -> list[str]:
        """Its options on the command line; the long one is last."""
        return [*filter(None, [self.short]), "--" + self.name.replace("_", "-")]


# The sum of the timeouts is less than Pacemaker's own: 20 s for a monitor, 60 s for a reboot. The
# shell_timeout allows for VirtualBox's occasional stall of 10 s.
_PARAMETERS = (
    _Parameter("action", "-o", "string", f"Action: {', '.join(ACTIONS)}", "reboot", required=True),
    _Parameter("config", "", "string", "YAML file with hosts: and more, instead of ip"),
    _Parameter("delay", "", "second", "Seconds to wait before off or reboot begins", "0"),
    _Parameter("host_key", "", "string", "Fingerprint (SHA256:...) of the only valid host key"),
    _Parameter("identity_file", "-k", "string", "Private SSH key; default: agent, ~/.ssh/id_*"),
    _Parameter("ip", "-a", "string", "Address of the VirtualBox host"),
    _Parameter("ipport", "-u", "integer", "TCP port of its SSH server", "22"),
    _Parameter("known_hosts", "", "string", "File that pins host keys; default: one in ~"),
    _Parameter("login_timeout", "", "second", "Seconds for the login", "5"),
    _Parameter("plug", "-n", "string", "UUID, MAC or name of the VM", required=True),
    _Parameter("power_timeout", "", "second", "Seconds until the VM must be on or off", "20"),
    _Parameter("power_wait", "", "second", "Seconds to wait after on or off", "0"),
    _Parameter("shell_timeout", "", "second", "Seconds for the host to list its VMs", "12"),
    _Parameter("username", "-l", "string", "Account that owns the VMs"),
    _Parameter("verbose", "-v", "boolean", "Log more to standard error; twice: even more"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """The values of `_PARAMETERS`; a text that was not given is empty."""

    action: str
    config: str
    delay: float
    host_key: str
    identity_file: str
    ip: str
    ipport: int
    known_hosts: str
    login_timeout: float
    plug: str
    power_timeout: float
    power_wait: float
    shell_timeout: float
    username: str
    verbose: int

    @property
    def find_timeout(self) -> float:
        """Seconds to find the VM or to list all VMs."""
        return self.login_timeout + self.shell_timeout

    @property
    def timeout(self) -> float:
        """Seconds for the whole run, including the pauses that were asked for."""
        powers = {"on": 1, "off": 1, "reboot": 2}.get(self.action, 0)
        delay = self.delay if self.action in _ACTIONS_THAT_FENCE else 0.0
        return delay + self.find_timeout + powers * (self.power_timeout + self.power_wait)


def main() -> NoReturn:
    """Run the agent. Any failure is one line on standard error and exit code 1."""
    # A VM name that the locale cannot encode must not make the list fail.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    try:
        code = _run(parse(sys.argv[1:] or read_arguments(sys.stdin)))
    except KeyboardInterrupt:
        code = _report_failure("interrupted")
    except Exception as error:  # noqa: BLE001 - a cluster reads codes, not tracebacks
        code = _report_failure(error)
    sys.exit(code)


# -- The options ------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Raises `ConfigError` where argparse would exit with 2, which means off here."""

    def error(self, message: str) -> NoReturn:
        raise errors.ConfigError(message)


def _parse_seconds(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) else -1.0
    if not 0.0 <= seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(
            f"expected seconds from 0 to {_MAX_SECONDS:.0f}, not {text!r}"
        )
    return seconds


_TYPES = {"integer": int, "second": _parse_seconds, "string": str}


def read_arguments(lines: Iterable[str]) -> list[str]:
    """Return the options that `name=value` lines stand for.

    Ignores comments, empty values, and names that this agent does not know: clusters send some.
    """
    known = {parameter.name: parameter for parameter in _PARAMETERS}
    arguments: list[str] = []
    for line in lines:
        name, _, value = line.strip().partition("=")
        parameter = known.get(name.replace("-", "_"))
        value = re.sub(r'^"(.*)"$', r"\1", value)
        if parameter and value:
            arguments += _arguments_of(parameter, value)
    return arguments


def _arguments_of(parameter: _Parameter, value: str) -> list[str]:
    flag = parameter.flags[-1]
    if parameter.type != "boolean":
        return [f"{flag}={value}"]
    return [] if value.lower() in _FALSE_VALUES else [flag]


def parse(argv: Sequence[str]) -> _Options:
    """Read and validate the options.

    Raises:
        ConfigError: one is unknown, wrong or missing. The message never quotes an unknown one: it
            may be a password, as other fence agents accept it.
    """
    parser = _Parser(NAME, description=_SHORT_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("-V", "--version", action="version", version=VERSION)
    for parameter in _PARAMETERS:
        more: dict[str, Any] = {
            "default": parameter.default,
            "type": _TYPES.get(parameter.type),
        }
        if parameter.type == "boolean":
            more = {"default": 0, "action": "count"}
        parser.add_argument(*parameter.flags, help=parameter.text, **more)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        raise _unknown_arguments(unknown)
    options = _Options(**vars(parsed) | {"action": parsed.action.lower()})
    for validate in (_validate_action, _validate_host, _validate_plug, _validate_timeouts):
        validate(options)
    return options


def _unknown_arguments(unknown: Sequence[str]) -> errors.ConfigError:
    flags = [flag[0] for text in unknown if (flag := re.match(r"--[\w-]+|-\w", text))]
    if flags:
        return errors.ConfigError(f"unknown options: {', '.join(flags)}")
    return errors.ConfigError("unexpected arguments")


def _validate_action(options: _Options) -> None:
    if options.action not in ACTIONS:
        raise errors.ConfigError(
            f"unknown action {options.action!r}: use one of {', '.join(ACTIONS)}"
        )


def _validate_host(options: _Options) -> None:
    if options.action == "metadata":
        return
    if options.config:
        if options.ip or options.username or options.host_key:
            raise errors.ConfigError(
                "use either config, or ip with username and host_key, not both"
            )
    elif not (options.ip and options.username):
        raise errors.ConfigError("no host: use ip and username, or config")


def _validate_plug(options: _Options) -> None:
    if options.action in _ACTIONS_ON_A_VM and not options.plug:
        raise errors.ConfigError("no VM: use plug")


def _validate_timeouts(options: _Options) -> None:
    for name in ("login_timeout", "power_timeout", "shell_timeout"):
        if getattr(options, name) == 0:
            raise errors.ConfigError(f"{name} must be greater than 0 seconds")


# -- The actions ------------------------------------------------------------------------------


def _run(options: _Options) -> int:
    deadline = Deadline.after(options.timeout)
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    log_to_stderr(level, f"{NAME}: ")
    if options.action == "metadata":
        print(metadata())
        return EXIT_DONE
    with _fleet(options, deadline.within(options.find_timeout)) as fleet:
        if options.action == "validate-all":
            return EXIT_DONE
        if options.action in _ACTIONS_THAT_FENCE:
            # In a cluster of two, the node without a delay wins the race to fence the other.
            time.sleep(options.delay)
        timeout = deadline.within(options.find_timeout).remaining
        if options.action in _ACTIONS_ON_HOSTS:
            return _list(fleet.reports(timeout=timeout), options.action)
        return _act(fleet, fleet.find(options.plug, timeout=timeout), options, deadline)


def _fleet(options: _Options, deadline: Deadline) -> Fleet:
    """Return the fleet that the options describe. Raises `Error` if they are invalid."""
    config = config_file.Config()
    if options.config:
        config = config_file.load(Path(options.config).expanduser())
    known_hosts = config.known_hosts
    if options.known_hosts:
        known_hosts = Path(options.known_hosts).expanduser()
    return Fleet(
        _hosts(options, config, deadline),
        identity=options.identity_file or config.ssh_private_key_file,
        known_hosts=known_hosts,
        vm_hosts=config.vm_hosts if options.config else None,
        policy=PowerPolicy(off_mode="hard", saved_state="discard", state_max_age=_STATE_MAX_AGE_S),
    )


def _hosts(
    options: _Options, config: config_file.Config, deadline: Deadline
) -> Sequence[host_list.HostConfig]:
    if not options.config:
        entry = {"address": options.ip, "port": options.ipport, "user": options.username}
        return host_list.parse_hosts([entry | {"host-key": options.host_key}])
    if hosts := connection.find_hosts(config, deadline):
        return hosts
    raise errors.ConfigError(f"{options.config}: no hosts; add hosts: to it")


def _list(reports: Sequence[HostReport], action: str) -> int:
    """Print the VMs, unless the action is `monitor`. It is a failure if any host is down."""
    if action != "monitor":
        for report in reports:
            _print_vms(report.vms, with_power=action == "list-status")
    if failures := [str(report.error) for report in reports if report.error]:
        return _report_failure("; ".join(failures))
    return EXIT_DONE


def _print_vms(vms: Sequence[VM], *, with_power: bool) -> None:
    for vm in vms:
        power = [str(vm.power).upper()] if with_power else []
        print(vm.uuid, printable(vm.name), *power, sep=",")


def _act(fleet: Fleet, vm: VM, options: _Options, deadline: Deadline) -> int:
    if options.action == "status":
        return _show_status(vm)
    _POWER_ACTIONS[options.action](fleet, vm, options, deadline)
    done = {"on": "Powered ON", "off": "Powered OFF", "reboot": "Rebooted"}
    print(f"Success: {done[options.action]}")
    return EXIT_DONE


def _show_status(vm: VM) -> int:
    if vm.power is Power.UNKNOWN:
        raise errors.PowerError(f"{vm}: cannot determine whether it is on: it is {vm.state}")
    print(f"Status: {str(vm.power).upper()}")
    return EXIT_OFF if vm.power is Power.OFF else EXIT_DONE


def _power_on(fleet: Fleet, vm: VM, options: _Options, deadline: Deadline) -> None:
    fleet.power_on(vm, timeout=deadline.within(options.power_timeout).remaining)
    time.sleep(options.power_wait)


def _power_off(fleet: Fleet, vm: VM, options: _Options, deadline: Deadline) -> None:
    fleet.power_off(vm, timeout=deadline.within(options.power_timeout).remaining)
    time.sleep(options.power_wait)


def _reboot(fleet: Fleet, vm: VM, options: _Options, deadline: Deadline) -> None:
    _power_off(fleet, vm, options, deadline)
    try:
        _power_on(fleet, vm, options, deadline)
    except Exception as error:  # noqa: BLE001 - as below
        # The node is fenced. If this were a failure, the cluster would fence it again and again.
        _report_failure(f"the VM is off, as required, but it does not start: {error}")


_POWER_ACTIONS = {"on": _power_on, "off": _power_off, "reboot": _reboot}


def _report_failure(message: object) -> int:
    """Print the first line of a message; the lines of a log that follow it are omitted."""
    first_line = str(message).partition("\n")[0]
    print(f"{NAME}: {printable(first_line)}", file=sys.stderr)
    return EXIT_FAILED


# -- The metadata -----------------------------------------------------------------------------


def metadata() -> str:
    """Return the description of this agent that clusters read, `<resource-agent>`, as XML."""
    agent = ElementTree.Element("resource-agent", name=NAME, shortdesc=_SHORT_DESCRIPTION)
    _add(agent, "longdesc", _LONG_DESCRIPTION)
    _add(agent, "vendor-url", "https://www.virtualbox.org/")
    parameters = _add(agent, "parameters")
    for parameter in _PARAMETERS:
        _add_parameter(parameters, parameter)
    actions = _add(agent, "actions")
    for name in ACTIONS:
        # A cluster must not power on a node just because it joins.
        _add(actions, "action", name=name, **({"automatic": "0"} if name == "on" else {}))
    ElementTree.indent(agent)
    return ElementTree.tostring(agent, encoding="utf-8", xml_declaration=True).decode()


def _add_parameter(parent: ElementTree.Element, parameter: _Parameter) -> None:
    required = str(int(parameter.required))
    element = _add(parent, "parameter", name=parameter.name, unique="0", required=required)
    *short, long = parameter.flags
    value = "" if parameter.type == "boolean" else f"=[{parameter.name}]"
    _add(element, "getopt", mixed=", ".join([*short, long + value]))
    default = {"default": parameter.default} if parameter.default else {}
    _add(element, "content", type=parameter.type, **default)
    _add(element, "shortdesc", parameter.text, lang="en")


def _add(
    parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
