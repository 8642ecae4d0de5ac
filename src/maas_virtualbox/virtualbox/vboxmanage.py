# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VBoxManage on one host: its commands as methods, its output as dataclasses, its errors with
codes.

This module has no retries and no policy; `host` has those. VMs are addressed by UUID only; a name
is an argument only where a VM receives one, after `provisioning.spec` has checked it. Exit code 0
does not mean success (measured: `discardstate` prints an error and exits 0); an error is what
begins with `VBoxManage: error:`.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Literal, TypeVar

from maas_virtualbox import errors
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.transport import MAX_OUTPUT
from maas_virtualbox.transport.cpu_throttle import CPUThrottle
from maas_virtualbox.virtualbox import error_codes, long_list, parsers, settings_xml, shells
from maas_virtualbox.virtualbox.states import VMState
from maas_virtualbox.virtualbox.warm_up import WarmUp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.transport import CommandResult, Transport
    from maas_virtualbox.virtualbox.long_list import ListedVM
    from maas_virtualbox.virtualbox.parsers import HardDisk
    from maas_virtualbox.virtualbox.settings_xml import VMSettings


log = logging.getLogger(__name__)

_T = TypeVar("_T")

# Limits of answers in bytes, so that a hostile host neither fills the memory nor keeps the
# processor busy: enough for twice what 2,000 VMs (`outputs.MAX_VMS`) need.
_MIB = 1024 * 1024
_MAX_SHOWVMINFO = _MIB
"""6 KiB, and 300 bytes for each snapshot (measured)."""
_MAX_LIST = _MIB
"""50 bytes and the name for each VM."""
_MAX_LONG_LIST = 4 * _MIB
"""5 KiB for each VM (measured), of which a host lists 700 before the deadline of a call."""
_MAX_HARD_DISKS = 8 * _MIB
"""600 bytes for each disk, one or two a VM and snapshot."""
_MAX_HEADS = 4 * _MIB
"""0.5 KiB for each VM and 0.3 KiB for each that runs."""
_MAX_SETTINGS = 16 * _MIB
"""4 KiB for each VM without snapshots, and as much for each snapshot (measured)."""
_MAX_LOG_LINE = 500
"""Characters shown of a line of a log."""
_MAX_SECTIONS = parsers.MAX_VMS + 16
"""Of one answer: one for each VM, and those that are there once."""
_EXIT_CODE = re.compile(r"-?[0-9]{1,10}")

_NOT_EXECUTABLE = (126, 127)
"""A shell's exit codes for a program that cannot be run or is not there."""


@dataclasses.dataclass(frozen=True, slots=True)
class Installation:
    """VirtualBox on a host, as one account sees it."""

    system: str
    """`Linux`, `Darwin` or `Windows`."""

    user: str
    """The account that was logged in to."""

    program: str
    """Path of VBoxManage."""

    version: str
    """Such as `7.2.22_Debianr175245`."""

    shell: shells.Shell
    """How to write commands for this host."""

    @property
    def release(self) -> tuple[int, int]:
        """The first two numbers of the version; zeros if it has none."""
        found = re.match(r"([0-9]{1,4})\.([0-9]{1,4})", self.version)
        return (int(found[1]), int(found[2])) if found else (0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class PollAnswer:
    """What a host answers to the one command that reads its state and takes no lock."""

    running: Mapping[str, VMState]
    """By UUID, what `list runningvms` shows. The state is exact if the observation is `long`;
    otherwise RUNNING stands for running, paused, livesnapshotting and teleporting."""

    processes: Mapping[str, int]
    """By UUID, the process that runs the VM. Each VM that is up in any way has one (measured)."""

    machines: Mapping[str, VMSettings] | None
    """By UUID, the registered VMs. None: VirtualBox.xml could not be found."""

    long: bool
    """Whether the states in `running` are exact."""

    began: float
    """When the command was sent, in seconds of the monotonic clock."""

    seconds: float
    """How long it took."""


@dataclasses.dataclass(frozen=True, slots=True)
class SwitchResult:
    """What a guarded start or power-off did."""

    called: bool
    """Whether VBoxManage was called and succeeded. If not, the guard refused the call."""

    poll: PollAnswer | None
    """None: the VM runs, or its process is gone, as requested. Otherwise the answer to a poll
    after the call, or instead of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What `VBoxManage.inspect` found on the host that may spoil network boots or kill VMs."""

    kills_at_logout: bool
    """Whether logind ends the account's processes, VMs too, when its last session ends."""

    disk_free: int | None
    """Bytes free for VMs; None when it could not be read."""

    dhcp_networks: tuple[str, ...]
    """Networks on which VirtualBox's own DHCP server answers, by VirtualBox's names."""


@dataclasses.dataclass(frozen=True, slots=True)
class VMInfo:
    """`showvminfo --machinereadable` of one VM."""

    values: Mapping[str, str]
    """All keys and their values, unescaped."""

    @property
    def state(self) -> VMState:
        """The VM's state."""
        return parsers.parse_state(self.values["VMState"])


class VBoxManage:
    """The VBoxManage of one account on one host.

    Every method is one command on the host, given `timeout` seconds, and raises the errors of
    `Transport.run`, `VBoxManageError` for what VBoxManage reports, `BadOutput` for an answer that
    is cut off, `OversizedOutput` for one beyond a limit, and `VBoxManageMissing`. The first call
    also finds the program. May be shared between threads.
    """

    def __init__(self, host: HostConfig, transport: Transport) -> None:
        self._host = host
        self._transport = transport
        self._installation: Installation | None = None
        self._refused: dict[str, str] = {}
        self._warm_up = WarmUp()

    def acpipowerbutton(self, uuid: str, *, timeout: float) -> None:
        """Press the power button; returns at once, whether or not the guest reacts."""
        self.run(["controlvm", uuid, "acpipowerbutton"], timeout=timeout)

    def closemedium(self, path: str, *, timeout: float) -> None:
        """Delete a hard disk and its file. Refused while it is attached to a VM."""
        self.run(["closemedium", "disk", path, "--delete"], timeout=timeout)

    def createmedium(self, path: str, mib: int, *, timeout: float) -> None:
        """Make a hard disk of so many MiB, whose file grows as it fills."""
        argv = ["createmedium", "disk", "--filename", path, "--size", str(mib)]
        self.run(argv, timeout=timeout)

    def createvm(self, name: str, uuid: str, os_type: str, *, timeout: float) -> str:
        """Register a new VM, empty and in a folder of its own; returns its settings file."""
        argv = ["createvm", "--name", name, "--uuid", uuid, "--ostype", os_type, "--register"]
        return self._parsed(parsers.parse_created_file, self.run(argv, timeout=timeout))

    def discardstate(self, uuid: str, *, timeout: float) -> None:
        """Throw a saved state away. Raises WRONG_STATE where there is none."""
        self.run(["discardstate", uuid], timeout=timeout)

    def getextradata(self, uuid: str, key: str, *, timeout: float) -> str:
        """A VM's extra data under a key; empty when there is none."""
        return parsers.parse_extra_data(self.run(["getextradata", uuid, key], timeout=timeout))

    def inspect(self, folder: str, *, timeout: float) -> Surroundings:
        """Facts about the account and the machine around VirtualBox, with one command.

        Args:
            folder: the disk that holds this folder is measured.
            timeout: seconds.
        """
        where = self.installation(timeout=timeout)
        nonce = secrets.token_hex(8)
        result = self._send(where.shell.inspect(nonce, where.program, folder), timeout=timeout)
        parts = self._sections(nonce, result)
        kill, linger = self._one(parts, "kill"), self._one(parts, "linger")
        kills = re.search(r"^b true$|^KillUserProcesses=(yes|true|1|on)", kill, re.MULTILINE)
        return Surroundings(
            kills_at_logout=kills is not None and where.user not in linger.split(),
            disk_free=parsers.parse_disk_free(self._one(parts, "disk")),
            dhcp_networks=tuple(parsers.parse_dhcp_servers(self._one(parts, "dhcp"))),
        )

    def installation(self, *, timeout: float) -> Installation:
        """Find VBoxManage and its version; asked once, then remembered."""
        if self._installation is None:
            self._installation = self._probe(timeout)
        return self._installation

    def list_hard_disks(self, *, timeout: float) -> list[HardDisk]:
        """All hard disks VirtualBox knows, differences to others included. One that cannot be read
        is listed too, and an error printed."""
        output = self.run(
            ["list", "--long", "hdds"],
            timeout=timeout,
            tolerant=True,
            max_output=_MAX_HARD_DISKS,
        )
        return self._parsed(parsers.parse_hard_disks, output)

    def list_long_vms(self, *, timeout: float) -> dict[str, ListedVM]:
        """All VMs without the help of the settings files. Slow: about 40 ms a VM.

        For every VM it cannot read VBoxManage also prints an error, and goes on; so errors are no
        sign of failure here, and the short list tells whether all VMs are there.
        """
        deadline = time.monotonic() + timeout
        expected = self.list_vms(timeout=timeout)
        output = self.run(
            ["list", "--long", "vms"],
            timeout=deadline - time.monotonic(),
            tolerant=True,
            max_output=_MAX_LONG_LIST,
        )
        found = self._parsed(long_list.parse_long_list, output)
        if found.keys() != expected.keys():
            raise errors.BadOutput(
                str(self._host), f"the long list has {len(found)} of {len(expected)} VMs"
            )
        return found

    def list_networks(
        self, kind: Literal["bridgedifs", "hostonlyifs", "hostonlynets"], *, timeout: float
    ) -> list[str]:
        """Names of what NICs can be attached to. `hostonlynets` is for macOS alone."""
        return parsers.parse_networks(self.run(["list", kind], timeout=timeout))

    def list_os_types(self, *, timeout: float) -> list[str]:
        """Return the IDs of the guest operating systems that VirtualBox knows."""
        return parsers.parse_os_types(self.run(["list", "ostypes"], timeout=timeout))

    def list_vms(self, *, timeout: float) -> dict[str, str]:
        """UUID → name of all registered VMs; `<inaccessible>` for those it cannot read."""
        output = self.run(["list", "vms"], timeout=timeout, max_output=_MAX_LIST)
        return self._parsed(parsers.parse_vm_list, output)

    def modifyvm(self, uuid: str, options: Mapping[str, str], *, timeout: float) -> None:
        """Change settings of a VM that is off, given by option (`--memory`). A new `--name` moves
        the VM's folder and what is in it, disks too (measured)."""
        words = [word for option in options.items() for word in option]
        self.run(["modifyvm", uuid, *words], timeout=timeout)

    def poll(
        self, *, settings_read: shells.SettingsRead = "heads", long: bool = False, timeout: float
    ) -> PollAnswer:
        """See all VMs at once, with one command that takes no lock."""
        began = time.monotonic()
        where = self.installation(timeout=timeout)
        nonce = secrets.token_hex(8)
        command = where.shell.poll(nonce, where.program, settings=settings_read, long=long)
        limit = _MAX_SETTINGS if settings_read == "all" else _MAX_HEADS
        result = self._send(
            command,
            timeout=began + timeout - time.monotonic(),
            max_output=limit + _MAX_LONG_LIST if long else limit,
        )
        return self._poll_answer(self._sections(nonce, result), result, began, long=long)

    def power_off(self, uuid: str, *, timeout: float) -> SwitchResult:
        """If a process runs a VM, power the VM off and wait up to 2 s until the process is gone.
        One command."""
        where = self.installation(timeout=timeout)
        nonce = secrets.token_hex(8)
        return self._switch(nonce, where.shell.power_off(nonce, where.program, uuid), timeout)

    def read_log(self, machine: VMSettings, *, lines: int, timeout: float) -> tuple[str, ...]:
        """Return the last lines of a VM's VBox.log; empty when it has none."""
        if not machine.log_file:
            return ()
        where = self.installation(timeout=timeout)
        result = self._send(where.shell.tail(machine.log_file, lines), timeout=timeout)
        text = result.stdout.decode("utf-8", "replace")
        return tuple(line[:_MAX_LOG_LINE] for line in text.splitlines()[-lines:])

    def reset(self, uuid: str, *, timeout: float) -> None:
        """Press the reset button of a running VM."""
        self.run(["controlvm", uuid, "reset"], timeout=timeout)

    def resume(self, uuid: str, *, timeout: float) -> None:
        """Let a paused VM run on. Raises WRONG_STATE for one that is not paused."""
        self.run(["controlvm", uuid, "resume"], timeout=timeout)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        tolerant: bool = False,
        max_output: int = MAX_OUTPUT,
    ) -> str:
        """Run any VBoxManage command and return its standard output.

        Args:
            argv: the command without the program.
            timeout: seconds.
            tolerant: trust exit code 0 even if errors were printed.
            max_output: most bytes it may print.
        """
        deadline = time.monotonic() + timeout
        where = self.installation(timeout=timeout)
        result = self._send(
            where.shell.run(where.program, argv),
            timeout=deadline - time.monotonic(),
            max_output=max_output,
        )
        if not (tolerant and result.exit_code == 0):
            self._check(result)
        return result.stdout.decode("utf-8", "replace")

    def setextradata(self, uuid: str, key: str, value: str, *, timeout: float) -> None:
        """Write extra data of a VM, which a clone of it inherits (measured)."""
        self.run(["setextradata", uuid, key, value], timeout=timeout)

    def showvminfo(self, uuid: str, *, timeout: float) -> VMInfo:
        """All about one VM. Takes a lock, so a start under way may fail: never for polling."""
        output = self.run(
            ["showvminfo", uuid, "--machinereadable"],
            timeout=timeout,
            max_output=_MAX_SHOWVMINFO,
        )
        return VMInfo(self._parsed(parsers.parse_machine_readable, output))

    def start(
        self, uuid: str, *, guard: shells.StartGuard = "unsaved", timeout: float
    ) -> SwitchResult:
        """Start a VM without a window unless a process runs it, and check that one does. One
        command.

        VirtualBox resumes a VM that has a saved state: discard that first for a network boot.

        Args:
            uuid: the VM.
            guard: which VMs to start.
            timeout: seconds.
        """
        where = self.installation(timeout=timeout)
        nonce = secrets.token_hex(8)
        return self._switch(nonce, where.shell.start(nonce, where.program, uuid, guard), timeout)

    def storageattach(self, uuid: str, controller: str, path: str, *, timeout: float) -> None:
        """Attach a hard disk to the first port of a controller."""
        where = ["--storagectl", controller, "--port", "0", "--device", "0"]
        argv = ["storageattach", uuid, *where, "--type", "hdd", "--medium", path]
        self.run(argv, timeout=timeout)

    def storagectl(self, uuid: str, controller: str, *, timeout: float) -> None:
        """Give a VM a SATA controller with one port, which it can boot from."""
        kind = ["--add", "sata", "--portcount", "1", "--bootable", "on"]
        self.run(["storagectl", uuid, "--name", controller, *kind], timeout=timeout)

    def unregistervm(self, uuid: str, *, timeout: float) -> None:
        """Delete a VM, its folder, and every hard disk it is attached to, wherever that is: see
        `ownership.foreign_disks`. Refused while it runs."""
        self.run(["unregistervm", uuid, "--delete"], timeout=timeout)

    # -- How --

    def _probe(self, timeout: float) -> Installation:
        deadline = time.monotonic() + timeout
        name = str(self._host)
        configured = self._host.vboxmanage
        candidates: list[shells.Shell] = [shells.Posix(), shells.Windows()]
        if configured[1:2] == ":":
            candidates.reverse()
        words = ""
        for shell in candidates:
            nonce = secrets.token_hex(8)
            result = self._transport.run(
                shell.probe(nonce, configured), deadline=Deadline(deadline)
            )
            parts = parsers.parse_sections(nonce, result.stdout)
            if parts is not None:
                break
            words = result.stderr.decode("utf-8", "replace").strip().partition("\n")[0][:300]
        else:
            raise errors.BadOutput(
                name,
                "neither /bin/sh nor PowerShell answers there; is it a restricted account?"
                + (f" It says: {words}" if words else ""),
            )
        answers = {part.name: part.text.strip() for part in parts}
        if parts[-1].detail != "0" or not answers.get("version"):
            place = f" at {configured}" if configured else ""
            raise errors.VBoxManageMissing(
                name,
                f"no VBoxManage{place} for the user {answers.get('user') or self._host.user}:"
                " install VirtualBox, or say where it is with vboxmanage=/path/of/VBoxManage",
            )
        if self._one(parts, "system").strip() == "Darwin":
            shell = shells.Posix(locale="en_US.UTF-8")
        return Installation(
            system=self._one(parts, "system").strip(),
            user=self._one(parts, "user").strip(),
            program=self._one(parts, "program").strip(),
            version=answers["version"].rpartition("\n")[2],
            shell=shell,
        )

    def _send(
        self, command: str, *, timeout: float, max_output: int = MAX_OUTPUT
    ) -> CommandResult:
        deadline = Deadline.after(timeout)
        with self._warm_up.turn(timeout):
            if deadline.is_past:
                raise errors.CommandTimeout(str(self._host), "no time is left for a command")
            return self._transport.run(command, deadline=deadline, max_output=max_output)

    def _check(self, result: CommandResult) -> None:
        if result.exit_code in _NOT_EXECUTABLE:
            # Uninstalled or moved since it was found: look again next time.
            self._installation = None
            raise errors.VBoxManageMissing(
                str(self._host), "VBoxManage is not where it was; is VirtualBox being upgraded?"
            )
        if (error := error_codes.parse_error(str(self._host), result)) is not None:
            if error.code is ErrorCode.SERVICE:
                self._warm_up.reset()
            raise error

    def _poll_answer(
        self,
        parts: Sequence[parsers.Section],
        result: CommandResult,
        began: float,
        *,
        long: bool = False,
    ) -> PollAnswer:
        """Return the state that a script printed. Raises what `poll` raises."""
        self._check(dataclasses.replace(result, exit_code=self._exit_code(parts[-1])))
        machines = self._machines(parts)
        running = self._one(parts, "running")
        states: dict[str, VMState]
        if long:
            states = {
                uuid: vm.state
                for uuid, vm in self._parsed(long_list.parse_long_list, running).items()
            }
        else:
            names = {uuid: machine.name for uuid, machine in (machines or {}).items()}
            states = dict.fromkeys(
                self._parsed(lambda text: parsers.parse_vm_list(text, names), running),
                VMState.RUNNING,
            )
        return PollAnswer(
            running=states,
            processes=self._parsed(parsers.parse_processes, self._one(parts, "processes")),
            machines=machines,
            long=long,
            began=began,
            seconds=time.monotonic() - began,
        )

    def _switch(self, nonce: str, command: str, timeout: float) -> SwitchResult:
        """Send a guarded start or power-off."""
        began = time.monotonic()
        result = self._send(command, timeout=timeout, max_output=_MAX_HEADS)
        parts = self._sections(nonce, result)
        called = next((part for part in parts if part.name == "called"), None)
        if called is not None and (exit_code := self._exit_code(called)) != 0:
            output = self._one(parts, "call").encode()
            self._check(dataclasses.replace(result, exit_code=exit_code, stderr=output))
        if any(part.name == "done" for part in parts):
            return SwitchResult(called=True, poll=None)
        poll = self._poll_answer(parts, result, began)
        return SwitchResult(called=called is not None, poll=poll)

    def _exit_code(self, end: parsers.Section) -> int:
        """The exit code at the end of a script's answer."""
        if not end.detail:
            return 1
        if _EXIT_CODE.fullmatch(end.detail) is None:
            raise errors.BadOutput(str(self._host), f"no exit code: {end.detail[:60]!r}")
        return int(end.detail)

    def _machines(self, parts: Sequence[parsers.Section]) -> dict[str, VMSettings] | None:
        """What the settings files say, by UUID; None where VirtualBox.xml cannot be read."""
        is_unreadable = any(part.name == "unreadable" for part in parts)
        if is_unreadable or self._one(parts, "registry").strip() == "/nowhere":
            return None
        machines: dict[str, VMSettings] = {}
        refused: dict[str, str] = {}
        throttle = CPUThrottle()
        for part, following in itertools.pairwise(parts):
            throttle.pause()
            if part.name != "machine":
                continue
            braced, _, source = part.detail.partition(" ")
            if not (uuid := settings_xml.normalise_uuid(braced)):
                continue
            file = settings_xml.unescape(source)
            if following.name == "oversize":
                reason = f"it is larger than {settings_xml.MAX_FILE // _MIB} MiB"
                machines[uuid] = settings_xml.inaccessible(uuid, file, reason)
            else:
                machines[uuid] = settings_xml.parse_settings(uuid, file, part.text)
            if machines[uuid].limit_exceeded:
                refused[file] = machines[uuid].limit_exceeded
        for file in refused.keys() - self._refused.keys():
            log.warning(
                "%s: the settings file %s is not read: %s; its VM counts as inaccessible",
                self._host,
                file,
                refused[file],
            )
        self._refused = refused
        return machines

    def _one(self, parts: Sequence[parsers.Section], name: str) -> str:
        """The text of the first section of a name."""
        for part in parts:
            if part.name == name:
                return part.text
        raise errors.BadOutput(str(self._host), f"the answer has no section {name}")

    def _sections(self, nonce: str, result: CommandResult) -> list[parsers.Section]:
        if parsers.count_sections(nonce, result.stdout) > _MAX_SECTIONS:
            raise errors.OversizedOutput(
                str(self._host),
                f"it has more than {parsers.MAX_VMS} VMs; spread them over several accounts",
            )
        parts = parsers.parse_sections(nonce, result.stdout)
        if parts is None:
            raise errors.BadOutput(
                str(self._host),
                f"the answer was cut off after {len(result.stdout)} bytes"
                f" (exit code {result.exit_code})",
            )
        return parts

    def _parsed(self, parser: Callable[[str], _T], text: str) -> _T:
        try:
            return parser(text)
        except parsers.InvalidOutput as error:
            raise errors.BadOutput(str(self._host), str(error)) from None
        except parsers.TooManyEntries as error:
            raise errors.OversizedOutput(str(self._host), str(error)) from None
