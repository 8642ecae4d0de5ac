# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent `fence_maas_virtualbox`: how a cluster makes sure that a node is off.

The API is that of ClusterLabs' fence agents: options, or without any, `name=value` lines on
standard input. What a fenced node had in memory must never come back, so off is hard and a saved
state is discarded, whatever a configuration file says.

Exit codes: 0 done, and `status` of a VM that is on; 2 `status` of a VM that is off; 1 all else,
wrong usage too. Off is 0 only when no process runs the VM, reboot as soon as that is proven.
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
from maas_virtualbox.escape import log_to_stderr, printable
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.maas import connection
from maas_virtualbox.version import VERSION
from maas_virtualbox.virtualbox.states import Power

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable, Sequence

    from maas_virtualbox.fleet.fleet import HostReport
    from maas_virtualbox.host.host import VM

NAME = "fence_maas_virtualbox"
EXIT_DONE, EXIT_FAILED, EXIT_OFF = 0, 1, 2

_ACTIONS_ON_A_VM = ("on", "off", "reboot", "status")
_ACTIONS_ON_HOSTS = ("list", "list-status", "monitor")
ACTIONS = (*_ACTIONS_ON_A_VM, *_ACTIONS_ON_HOSTS, "metadata", "validate-all")

_LONGEST_S = 3600.0
_NO = ("0", "no", "off", "false")
_ONE_LOOK_S = 60.0
"""So that the look which lists the VMs also says which run, however slow its host: one command."""

_SHORT_DESCRIPTION = "Fence agent for VirtualBox VMs, over SSH"
_LONG_DESCRIPTION = """\
It logs in with an SSH key as the account that owns the VMs. The first connection pins the \
host's key; a changed one is refused. A VM is off only when no process runs it; one that is \
paused or has crashed (gurumeditation) is on. On and off discard a saved state."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter: on the command line, on standard input and in the metadata."""

    name: str
    short: str
    kind: str
    """The metadata's word: boolean, integer, second or string."""
    text: str
    default: str = ""
    required: bool = False

    @property
    def names(self) -> list[str]:
        """Its options, the long one last."""
        return [*filter(None, [self.short]), "--" + self.name.replace("_", "-")]


# The times add up to less than Pacemaker's own: 20 s for a monitor, 60 s for a reboot. A look at a
# host lasts 10 s now and then, when VirtualBox stalls, and that is no failure.
_PARAMETERS = (
    _Parameter("action", "-o", "string", f"Action: {', '.join(ACTIONS)}", "reboot", required=True),
    _Parameter("config", "", "string", "YAML file with hosts: and more, instead of ip"),
    _Parameter("delay", "", "second", "Seconds to wait before off or reboot begins", "0"),
    _Parameter("host_key", "", "string", "Fingerprint (SHA256:...) of its only good host key"),
    _Parameter("identity_file", "-k", "string", "Private SSH key; default: agent, ~/.ssh/id_*"),
    _Parameter("ip", "-a", "string", "Address of the VirtualBox host"),
    _Parameter("ipport", "-u", "integer", "TCP port of its SSH server", "22"),
    _Parameter("known_hosts", "", "string", "File that pins host keys; default: one in ~"),
    _Parameter("login_timeout", "", "second", "Seconds for the login", "5"),
    _Parameter("plug", "-n", "string", "UUID, MAC or name of the VM", required=True),
    _Parameter("power_timeout", "", "second", "Seconds until a VM has to be on or off", "20"),
    _Parameter("power_wait", "", "second", "Seconds to wait after on or off was done", "0"),
    _Parameter("shell_timeout", "", "second", "Seconds for the host to say which VMs run", "12"),
    _Parameter("username", "-l", "string", "Account that owns the VMs"),
    _Parameter("verbose", "-v", "boolean", "Say more on standard error; twice: even more"),
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Options:
    """The values of `_PARAMETERS`; text that was not given is empty."""

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


def main() -> NoReturn:
    """Run the agent; whatever goes wrong is one line on standard error and exit code 1."""
    # A VM's name that the locale cannot write must not fail the list.
    cast("io.TextIOWrapper", sys.stdout).reconfigure(errors="backslashreplace")
    try:
        code = _run(parse(sys.argv[1:] or arguments(sys.stdin)))
    except KeyboardInterrupt:
        code = _failed("interrupted")
    except Exception as error:  # noqa: BLE001 - a cluster reads codes, not tracebacks
        code = _failed(error)
    sys.exit(code)


# -- What was asked ---------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Raises `ConfigError` where argparse would leave with 2, which means off here."""

    def error(self, message: str) -> NoReturn:
        raise errors.ConfigError(message)


def _seconds(text: str) -> float:
    seconds = float(text) if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) else -1.0
    if not 0.0 <= seconds <= _LONGEST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to {_LONGEST_S:.0f}")
    return seconds


_TYPES = {"integer": int, "second": _seconds, "string": str}


def arguments(lines: Iterable[str]) -> list[str]:
    """Return the options that `name=value` lines stand for.

    Comments, names this agent does not know (clusters send some) and empty values are left out.
    """
    known = {parameter.name: parameter for parameter in _PARAMETERS}
    found: list[str] = []
    for line in lines:
        name, _, value = line.strip().partition("=")
        parameter = known.get(name.replace("-", "_"))
        value = re.sub(r'^"(.*)"$', r"\1", value)
        if parameter is None or not value:
            continue
        if parameter.kind != "boolean":
            found.append(f"{parameter.names[-1]}={value}")
        elif value.lower() not in _NO:
            found.append(parameter.names[-1])
    return found


def parse(argv: Sequence[str]) -> _Options:
    """Read and check the options.

    Raises:
        ConfigError: one is unknown, wrong or missing. The text never quotes what is unknown: it
            may be a password, which other fence agents take.
    """
    parser = _Parser(NAME, description=_SHORT_DESCRIPTION, allow_abbrev=False)
    parser.add_argument("-V", "--version", action="version", version=VERSION)
    for each in _PARAMETERS:
        more: dict[str, Any] = {"default": each.default, "type": _TYPES.get(each.kind)}
        if each.kind == "boolean":
            more = {"default": 0, "action": "count"}
        parser.add_argument(*each.names, help=each.text, **more)
    parsed, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = [flag[0] for word in unknown if (flag := re.match(r"--[\w-]+|-\w", word))]
        raise errors.ConfigError(f"unknown: {', '.join(flags) or 'words that are no options'}")
    options = _Options(**vars(parsed) | {"action": parsed.action.lower()})
    _check(options)
    return options


def _check(options: _Options) -> None:
    if options.action not in ACTIONS:
        raise errors.ConfigError(f"no action {options.action!r}; it has {', '.join(ACTIONS)}")
    if options.action == "metadata":
        return
    if options.config and (options.ip or options.username or options.host_key):
        raise errors.ConfigError("give config, or ip with username and host_key, not both")
    if not options.config and not (options.ip and options.username):
        raise errors.ConfigError("say which host: ip and username, or config")
    if not options.plug and options.action in _ACTIONS_ON_A_VM:
        raise errors.ConfigError("say which VM: plug")
    if not all((options.login_timeout, options.power_timeout, options.shell_timeout)):
        raise errors.ConfigError("a timeout of 0 seconds leaves no time for anything")


# -- What is done -----------------------------------------------------------------------------


def _run(options: _Options) -> int:
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(options.verbose, 2)]
    log_to_stderr(level, f"{NAME}: ")
    if options.action == "metadata":
        print(metadata())
        return EXIT_DONE
    timeout = options.login_timeout + options.shell_timeout
    with _fleet(options, Deadline.after(timeout)) as fleet:
        if options.action == "validate-all":
            return EXIT_DONE
        if options.action in ("off", "reboot"):
            # In a cluster of two, the node without a delay wins the race to fence the other.
            time.sleep(options.delay)
        if options.action in _ACTIONS_ON_HOSTS:
            return _list(fleet.reports(timeout=timeout), options.action)
        return _act(fleet, fleet.find(options.plug, timeout=timeout), options)


def _fleet(options: _Options, deadline: Deadline) -> Fleet:
    """Make the fleet the options describe. Raises `Error` where they do not fit."""
    loaded = (
        config_file.load(Path(options.config).expanduser())
        if options.config
        else config_file.Config()
    )
    entry = {"address": options.ip, "port": options.ipport, "user": options.username}
    entry["host-key"] = options.host_key
    listed = (
        connection.find_hosts(loaded, deadline)
        if options.config
        else host_list.parse_hosts([entry])
    )
    if not listed:
        raise errors.ConfigError(f"{options.config}: it has no hosts:")
    pins = Path(options.known_hosts).expanduser() if options.known_hosts else loaded.known_hosts
    return Fleet(
        listed,
        identity=options.identity_file or loaded.ssh_private_key_file,
        known_hosts=pins,
        vm_hosts=loaded.vm_hosts if options.config else None,
        policy=PowerPolicy(off_mode="hard", saved_state="discard", state_max_age=_ONE_LOOK_S),
    )


def _list(reports: Sequence[HostReport], action: str) -> int:
    for vm in (vm for report in reports for vm in report.vms):
        columns = (vm.uuid, printable(vm.name), str(vm.power).upper())
        if action != "monitor":
            print(*(columns if action == "list-status" else columns[:2]), sep=",")
    problems = [str(report.error) for report in reports if report.error]
    return _failed("; ".join(problems)) if problems else EXIT_DONE


def _act(fleet: Fleet, vm: VM, options: _Options) -> int:
    if options.action == "status":
        if vm.power is Power.UNKNOWN:
            raise errors.PowerError(f"{vm}: cannot tell whether it is on: it is {vm.state}")
        print(f"Status: {str(vm.power).upper()}")
        return EXIT_OFF if vm.power is Power.OFF else EXIT_DONE
    if options.action in ("off", "reboot"):
        fleet.power_off(vm, timeout=options.power_timeout)
        time.sleep(options.power_wait)
    if options.action in ("on", "reboot"):
        try:
            fleet.power_on(vm, timeout=options.power_timeout)
            time.sleep(options.power_wait)
        except Exception as error:
            if options.action == "on":
                raise
            # The node is fenced: were this a failure, the cluster would fence it for ever.
            _failed(f"off is proven, but it does not start: {error}")
    done = {"on": "Powered ON", "off": "Powered OFF", "reboot": "Rebooted"}
    print(f"Success: {done[options.action]}")
    return EXIT_DONE


def _failed(problem: object) -> int:
    """Say on one line what is wrong; the lines of a log below it are left out."""
    first_line = str(problem).partition("\n")[0]
    print(f"{NAME}: {printable(first_line)}", file=sys.stderr)
    return EXIT_FAILED


# -- What the agent is ------------------------------------------------------------------------


def metadata() -> str:
    """Return the description of this agent that clusters read, `<resource-agent>`, as XML."""
    agent = ElementTree.Element("resource-agent", name=NAME, shortdesc=_SHORT_DESCRIPTION)
    _add(agent, "longdesc", _LONG_DESCRIPTION)
    _add(agent, "vendor-url", "https://www.virtualbox.org/")
    parameters = _add(agent, "parameters")
    for each in _PARAMETERS:
        required = str(int(each.required))
        parameter = _add(parameters, "parameter", name=each.name, unique="0", required=required)
        value = "" if each.kind == "boolean" else f"=[{each.name}]"
        _add(parameter, "getopt", mixed=", ".join([*each.names[:-1], each.names[-1] + value]))
        default = {"default": each.default} if each.default else {}
        _add(parameter, "content", type=each.kind, **default)
        _add(parameter, "shortdesc", each.text, lang="en")
    actions = _add(agent, "actions")
    for name in ACTIONS:
        # A cluster must not switch a node on by itself when it joins.
        _add(actions, "action", name=name, **({"automatic": "0"} if name == "on" else {}))
    ElementTree.indent(agent)
    return ElementTree.tostring(agent, encoding="utf-8", xml_declaration=True).decode()


def _add(
    parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str
) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
