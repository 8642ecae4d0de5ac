# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VBoxManage on one host: its commands as methods, its answers as dataclasses, its errors named.

No state, no waiting and no policy live here; `VirtualBoxHost` has those. VMs are addressed by UUID
only, names never become arguments. Exit code 0 is not trusted (measured: `discardstate` prints an
error and exits 0); an error is what begins with `VBoxManage: error:`.
"""

from __future__ import annotations

import dataclasses
import enum
import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING, TypeVar

from maas_virtualbox import errors, settings, shells
from maas_virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from maas_virtualbox.hosts import Host
    from maas_virtualbox.settings import Machine
    from maas_virtualbox.transport import CommandResult, Transport


_T = TypeVar("_T")


class Fault(str, enum.Enum):
    """The sorts of error VBoxManage reports."""

    CPU_TAKEN = "cpu-taken"
    INACCESSIBLE = "inaccessible"
    LOCALE = "locale"
    LOCKED = "locked"
    NETWORK = "network"
    NOT_FOUND = "not-found"
    NOT_READY = "not-ready"
    NOT_RUNNING = "not-running"
    OTHER = "other"
    SERVICE = "service"
    START_FAILED = "start-failed"
    SYNTAX = "syntax"
    WRONG_STATE = "wrong-state"


@dataclasses.dataclass(frozen=True, slots=True)
class _Row:
    fault: Fault
    pattern: re.Pattern[str]
    hint: str = ""
    retry: bool = False


def _row(fault: Fault, pattern: str, hint: str = "", *, retry: bool = False) -> _Row:
    return _Row(fault, re.compile(pattern), hint, retry)


# The first row that matches anything in the error's whole text decides. Codes stand before words,
# because words may be translated; a word row stands first where one code means several things.
_FAULTS = (
    _row(
        Fault.INACCESSIBLE,
        "object functionality is limited",
        "VirtualBox cannot read the VM's settings file; open VirtualBox on the host to see why",
    ),
    _row(Fault.LOCKED, "An unexpected process .* has tried to lock", retry=True),
    _row(
        Fault.CPU_TAKEN,
        "VERR_VMX_IN_VMX_ROOT_MODE|VERR_SVM_IN_USE",
        "KVM holds the processor; stop its VMs or boot with kvm.enable_virt_at_load=0",
    ),
    _row(
        Fault.NETWORK,
        "VERR_INTNET_FLT_IF_NOT_FOUND|Nonexistent host networking interface",
        "the network interface the VM is attached to does not exist on the host; list them with"
        " `VBoxManage list bridgedifs` and `VBoxManage list hostonlyifs`",
    ),
    _row(
        Fault.NETWORK,
        "Host-only adapters are no longer supported",
        "macOS needs a host-only"
        " network instead: `VBoxManage hostonlynet add`, then --nic1 hostonlynet",
    ),
    _row(
        Fault.LOCALE,
        "VERR_PROC_NO_ARG_TRANSLATION|VERR_NO_TRANSLATION",
        "VirtualBox's service"
        " was started without a UTF-8 locale; close all its VMs and windows and try again",
    ),
    _row(
        Fault.NOT_FOUND,
        "VBOX_E_OBJECT_NOT_FOUND|0x80bb0001",
        "each account of a host has its own VMs; is it another account's?",
    ),
    _row(
        Fault.LOCKED,
        "VBOX_E_INVALID_OBJECT_STATE|0x80bb0007",
        "something else is changing the VM",
        retry=True,
    ),
    _row(Fault.WRONG_STATE, "VBOX_E_INVALID_VM_STATE|0x80bb0002"),
    _row(Fault.NOT_READY, "E_ACCESSDENIED|0x80070005", retry=True),
    _row(
        Fault.SERVICE,
        "NS_ERROR_SOCKET_FAIL|0xC1F30200|NS_ERROR_FACTORY_NOT_REGISTERED"
        "|0x80040154|NS_ERROR_ABORT|NS_ERROR_CALL_FAILED|NS_ERROR_NOT_AVAILABLE|E_NOINTERFACE"
        "|RPC_E_|RPC_S_|CO_E_SERVER_EXEC_FAILURE",
        "VirtualBox's service (VBoxSVC) did not come up or died",
        retry=True,
    ),
    _row(
        Fault.START_FAILED,
        "terminated unexpectedly during startup|VM session was aborted"
        "|session was closed before any attempt|terminated prematurely during startup",
    ),
    _row(Fault.NOT_RUNNING, "is not currently running"),
    _row(Fault.SYNTAX, "Usage - |Unknown option|Invalid parameter|Invalid command"),
    _row(Fault.START_FAILED, "NS_ERROR_FAILURE|E_FAIL|0x80004005"),
    _row(Fault.OTHER, ""),
)

_ERROR_LINE = re.compile(r"^VBoxManage(?:\.exe)?: (?:fatal )?error: ?(.*)$", re.MULTILINE)
_CODE = re.compile(r"\bcode (\w+) \(0x", re.IGNORECASE)
_DETAIL_LINE = re.compile(r"(Details: |Code \w+ \(0x|Context: |Location: |/\S+\[\d+\] \()")


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


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """All VMs of a host at one moment, seen with one command that takes no lock."""

    running: Mapping[str, VMState]
    """By UUID, what `list runningvms` shows. The state is exact if the observation is `long`, else
    RUNNING stands for running, paused, livesnapshotting and teleporting."""

    processes: Mapping[str, int]
    """By UUID, the process that runs the VM. Each VM that is up in any way has one (measured)."""

    machines: Mapping[str, Machine] | None
    """By UUID, the registered VMs. None: VirtualBox.xml could not be found."""

    long: bool
    """Whether the states in `running` are exact."""

    began: float
    """When the command was sent, in seconds of the monotonic clock."""

    seconds: float
    """How long it took."""


@dataclasses.dataclass(frozen=True, slots=True)
class VMInfo:
    """`showvminfo --machinereadable` of one VM."""

    values: Mapping[str, str]
    """All keys and their values, unescaped."""

    @property
    def state(self) -> VMState:
        """The VM's state."""
        return parse_state(self.values["VMState"])


# -- Parsers ----------------------------------------------------------------------------------


class CutOff(ValueError):
    """An answer ends in the middle, or is not what VBoxManage prints."""


_LIST_ENTRY_END = re.compile(
    r'" \{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}\n', re.IGNORECASE
)


def parse_vm_list(text: str, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read `list vms` or `list runningvms`: UUID → name, in VirtualBox's order.

    Names are printed unescaped and may hold quotes, braces and newlines, even a whole forged
    entry; known `names` (by UUID) decide where an entry really ends. Anything printed before the
    first entry (the Debian wrapper's warning) is passed over.

    Raises:
        CutOff: the text ends inside an entry, as it does without a UTF-8 locale.
    """
    names = names or {}
    text = text.replace("\r\n", "\n")
    start = re.search(r'^"', text, re.MULTILINE)
    if start is None:
        return {}
    found: dict[str, str] = {}
    position = start.start()
    while position < len(text):
        if text[position] != '"':
            raise CutOff(f"unexpected text after a VM: {text[position : position + 60]!r}")
        ends = list(_LIST_ENTRY_END.finditer(text, position))
        if not ends:
            raise CutOff(f"the list of VMs ends inside an entry: {text[position:][:60]!r}")
        end = ends[0]
        for candidate in ends:
            name = text[position + 1 : candidate.start()]
            if len(name) > 4096:
                break
            if names.get(candidate[1].lower()) == name:
                end = candidate
                break
        found[end[1].lower()] = text[position + 1 : end.start()]
        position = end.end()
    return found


def parse_state(word: str) -> VMState:
    """Return the state VirtualBox names. Raises `CutOff` for a word it does not use."""
    try:
        return VMState(word)
    except ValueError:
        raise CutOff(f"unknown VM state {word!r}") from None


# The words of the long listing that differ from the machine-readable ones by more than blanks.
_LONG_STATES = {
    "powered off": VMState.POWEROFF,
    "guru meditation": VMState.GURU_MEDITATION,
    "live snapshotting": VMState.LIVE_SNAPSHOTTING,
    "online snapshotting": VMState.ONLINE_SNAPSHOTTING,
    "teleporting paused vm": VMState.TELEPORTING_PAUSED_VM,
    "teleporting (incoming)": VMState.TELEPORTING_IN,
    "deleting snapshot live": VMState.DELETING_SNAPSHOT_ONLINE,
    "deleting snapshot live paused": VMState.DELETING_SNAPSHOT_PAUSED,
    "restoring snapshot": VMState.RESTORING_SNAPSHOT,
    "deleting snapshot": VMState.DELETING_SNAPSHOT,
    "setting up": VMState.SETTING_UP,
    "offline snapshotting": VMState.SNAPSHOTTING,
}
_LONG_BOOT = {"Network": "net", "HardDisk": "disk", "DVD": "dvd", "Floppy": "floppy", "USB": "usb"}
_LONG_START = re.compile(r"^Name: +", re.MULTILINE)
_LONG_NIC = re.compile(
    r"^NIC (\d): +MAC: ([0-9A-Fa-f]{12}), Attachment: (.*?), Cable connected: (on|off)"
    r".*?, Type: (\w+)",
    re.MULTILINE,
)


def parse_long_list(text: str) -> dict[str, tuple[Machine, VMState]]:
    """Read `list --long vms` or `list --long runningvms`: UUID → machine and state.

    Text for people, parsed only where nothing better is at hand: for the exact states of running
    VMs, and where the settings files cannot be read.

    Raises:
        CutOff: an entry has no UUID.
    """
    found: dict[str, tuple[Machine, VMState]] = {}
    starts = [match.start() for match in _LONG_START.finditer(text)]
    for begin, end in itertools.pairwise([*starts, len(text)]):
        entry = text[begin:end]
        fields: dict[str, str] = {}
        for line in entry.split("\n"):
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        uuid = settings.normalise_uuid(fields.get("UUID", ""))
        if not uuid:
            # "Name:" also stands in lists inside an entry (shared folders); those have no UUID.
            if "Config file" in fields or not found:
                raise CutOff(f"a VM without a UUID in the long list: {entry[:60]!r}")
            continue
        words = fields.get("State", "").partition(" (since")[0]
        state = VMState.INACCESSIBLE
        if words:
            state = _LONG_STATES.get(words) or parse_state(words.replace(" ", ""))
        name = entry.partition("\n")[0].partition(":")[2].strip()
        accessible = bool(words)
        boot = tuple(
            _LONG_BOOT.get(fields.get(f"Boot Device {number}", ""), "none")
            for number in range(1, 5)
        )
        nics = tuple(
            settings.NIC(
                int(match[1]),
                settings.format_mac(match[2]),
                match[5],
                *_long_attachment(match[3]),
                match[4] == "on",
            )
            for match in _LONG_NIC.finditer(entry)
        )
        machine = settings.Machine(
            uuid,
            name if accessible else "",
            accessible,
            fields.get("Config file", ""),
            state,
            nics,
            boot,
            fields.get("Firmware", "BIOS"),
        )
        found[uuid] = machine, state
    return found


def _long_attachment(text: str) -> tuple[str, str]:
    kind, _, rest = text.partition(" '")
    words = {
        "NAT": "nat",
        "Bridged Interface": "bridged",
        "Internal Network": "intnet",
        "Host-only Interface": "hostonly",
        "Host Only Network": "hostonlynetwork",
        "NAT Network": "natnetwork",
        "none": "null",
    }
    return words.get(kind, kind.lower()), rest.rstrip("'")


def parse_machine_readable(text: str) -> dict[str, str]:
    r"""Read `showvminfo --machinereadable`.

    Values may hold raw newlines and the escapes `\\"` and `\\\\`; some have no quotes and one line
    no `=` at all. The first value of a key stands: a later one cannot take its place.

    Raises:
        CutOff: a quoted value does not end, or there is no VMState.
    """
    values: dict[str, str] = {}
    text = text.replace("\r\n", "\n")
    position = 0
    for match in iter(lambda: _KEY.match(text, position), None):
        position = match.end()
        if match["key"] is None:
            continue
        if text[position : position + 1] == '"':
            quoted = _QUOTED.match(text, position)
            if quoted is None:
                raise CutOff(f"the value of {match['key']} is cut off")
            value = re.sub(r"\\([\"\\])", r"\1", quoted[1])
            position = quoted.end()
        else:
            value = ""
        line_end = text.find("\n", position)
        line_end = len(text) if line_end < 0 else line_end
        value += text[position:line_end]
        position = line_end + 1
        values.setdefault(match["key"].strip('"'), value)
    if "VMState" not in values:
        raise CutOff("showvminfo's answer has no VMState")
    return values


_KEY = re.compile(r'(?:(?P<key>"[^"\n]*"|[^="\n]+)=|[^\n]*\n)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.|\\\n)*)"', re.DOTALL)
_PROCESS = re.compile(r"^ *(\d+) .*-startvm +\{?([0-9a-f-]{36})\b", re.MULTILINE | re.IGNORECASE)


def parse_processes(text: str) -> dict[str, int]:
    """Read process lines `PID COMMAND`: UUID of each VM that a process runs → PID.

    The command is `VBoxHeadless --comment NAME --startvm UUID …`: a hostile name stands before the
    UUID, so the last `-startvm` of a line counts.
    """
    return {uuid.lower(): int(pid) for pid, uuid in _PROCESS.findall(text)}


def parse_error(host: str, result: CommandResult) -> errors.VBoxManageError | None:
    """Return what VBoxManage complained about, or None if the call succeeded."""
    text = result.stderr.decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line for line in _ERROR_LINE.findall(text) if line.strip()]
    if not lines and result.exit_code == 0:
        return None
    words = next((line for line in lines if not _DETAIL_LINE.match(line)), "")
    if not words:
        words = text.strip().rpartition("\n")[2][:300] or f"exit code {result.exit_code}"
        words = f"VBoxManage failed: {words}"
    code = _CODE.search(text)
    row = next(row for row in _FAULTS if row.pattern.search(text))
    return errors.VBoxManageError(
        host,
        kind=row.fault.value,
        code=code[1] if code else "",
        words=words,
        hint=row.hint,
        retry=row.retry,
    )


# -- The program ------------------------------------------------------------------------------


class VBoxManage:
    """The VBoxManage of one account on one host.

    Every method is one command on the host, given `timeout` seconds, and raises the errors of
    `Transport.run`, `VBoxManageError` for what VBoxManage reports, `BadOutput` for an answer that
    is cut off, and `VBoxManageMissing`. The first call also finds the program. May be shared
    between threads.
    """

    def __init__(self, host: Host, transport: Transport) -> None:
        self._host = host
        self._transport = transport
        self._installation: Installation | None = None

    def acpipowerbutton(self, uuid: str, *, timeout: float) -> None:
        """Press the power button; returns at once, whether or not the guest reacts."""
        self.run(["controlvm", uuid, "acpipowerbutton"], timeout=timeout)

    def discardstate(self, uuid: str, *, timeout: float) -> None:
        """Throw a saved state away. Raises WRONG_STATE where there is none."""
        self.run(["discardstate", uuid], timeout=timeout)

    def installation(self, *, timeout: float) -> Installation:
        """Find VBoxManage and its version; asked once, then remembered."""
        if self._installation is None:
            self._installation = self._probe(timeout)
        return self._installation

    def list_long_vms(self, *, timeout: float) -> dict[str, tuple[Machine, VMState]]:
        """All VMs without the help of the settings files. Slow: about 40 ms a VM.

        For every VM it cannot read VBoxManage also prints an error, and goes on; so errors are no
        sign of failure here, and the short list tells whether all VMs are there.
        """
        deadline = time.monotonic() + timeout
        expected = self.list_vms(timeout=timeout)
        output = self.run(
            ["list", "--long", "vms"], timeout=deadline - time.monotonic(), tolerant=True
        )
        found = self._parsed(parse_long_list, output)
        if found.keys() != expected.keys():
            raise errors.BadOutput(
                str(self._host), f"the long list has {len(found)} of {len(expected)} VMs"
            )
        return found

    def list_vms(self, *, timeout: float) -> dict[str, str]:
        """UUID → name of all registered VMs; `<inaccessible>` for those it cannot read."""
        return self._parsed(parse_vm_list, self.run(["list", "vms"], timeout=timeout))

    def observe(
        self, *, settings_read: shells.SettingsRead = "heads", long: bool = False, timeout: float
    ) -> Observation:
        """See all VMs at once, with one command that takes no lock."""
        began = time.monotonic()
        deadline = began + timeout
        where = self.installation(timeout=timeout)
        nonce = secrets.token_hex(8)
        command = where.shell.observe(nonce, where.program, settings=settings_read, long=long)
        result = self._send(command, timeout=deadline - time.monotonic())
        parts = self._sections(nonce, result)
        self._check(result, exit_code=int(parts[-1].detail or 1))
        machines = _parse_machines(parts)
        running = next(part.text for part in parts if part.name == "running")
        states: dict[str, VMState]
        if long:
            states = {
                uuid: state for uuid, (_, state) in self._parsed(parse_long_list, running).items()
            }
        else:
            names = {uuid: machine.name for uuid, machine in (machines or {}).items()}
            states = dict.fromkeys(
                self._parsed(lambda text: parse_vm_list(text, names), running), VMState.RUNNING
            )
        processes = next(part.text for part in parts if part.name == "processes")
        return Observation(
            running=states,
            processes=parse_processes(processes),
            machines=machines,
            long=long,
            began=began,
            seconds=time.monotonic() - began,
        )

    def poweroff(self, uuid: str, *, timeout: float) -> None:
        """Pull the plug. Raises NOT_RUNNING for a VM that is off or saved."""
        self.run(["controlvm", uuid, "poweroff"], timeout=timeout)

    def read_log(self, machine: Machine, *, lines: int, timeout: float) -> tuple[str, ...]:
        """Return the last lines of a VM's VBox.log; empty when it has none."""
        if not machine.log_file:
            return ()
        where = self.installation(timeout=timeout)
        result = self._transport.run(where.shell.tail(machine.log_file, lines), timeout=timeout)
        return tuple(result.stdout.decode("utf-8", "replace").splitlines())

    def reset(self, uuid: str, *, timeout: float) -> None:
        """Press the reset button of a running VM."""
        self.run(["controlvm", uuid, "reset"], timeout=timeout)

    def resume(self, uuid: str, *, timeout: float) -> None:
        """Let a paused VM run on. Raises WRONG_STATE for one that is not paused."""
        self.run(["controlvm", uuid, "resume"], timeout=timeout)

    def run(self, argv: Sequence[str], *, timeout: float, tolerant: bool = False) -> str:
        """Run any VBoxManage command and return its standard output.

        Args:
            argv: the command without the program.
            timeout: seconds.
            tolerant: trust exit code 0 even if errors were printed.
        """
        deadline = time.monotonic() + timeout
        where = self.installation(timeout=timeout)
        result = self._send(
            where.shell.run(where.program, argv), timeout=deadline - time.monotonic()
        )
        if not (tolerant and result.exit_code == 0):
            self._check(result)
        return result.stdout.decode("utf-8", "replace")

    def showvminfo(self, uuid: str, *, timeout: float) -> VMInfo:
        """All about one VM. Takes a lock, so a start under way may fail: never for polling."""
        output = self.run(["showvminfo", uuid, "--machinereadable"], timeout=timeout)
        return VMInfo(self._parsed(parse_machine_readable, output))

    def startvm(self, uuid: str, *, timeout: float) -> None:
        """Start a VM without a window; returns when VirtualBox says it runs.

        A saved VM is resumed: discard its state first for a network boot.
        """
        self.run(["startvm", uuid, "--type", "headless"], timeout=timeout)

    # -- How --

    def _probe(self, timeout: float) -> Installation:
        deadline = time.monotonic() + timeout
        name = str(self._host)
        configured = self._host.vboxmanage
        candidates: list[shells.Shell] = [shells.Posix(), shells.Windows()]
        if configured[1:2] == ":":
            candidates.reverse()
        for shell in candidates:
            nonce = secrets.token_hex(8)
            result = self._transport.run(
                shell.probe(nonce, configured), timeout=deadline - time.monotonic()
            )
            output = result.stdout.decode("utf-8", "replace")
            parts = shells.sections(nonce, output)
            if parts is not None:
                break
        else:
            raise errors.BadOutput(
                name, "neither /bin/sh nor PowerShell answers there; is it a restricted account?"
            )
        answers = {part.name: part.text.strip() for part in parts}
        if parts[-1].detail != "0" or not answers.get("version"):
            place = f" at {configured}" if configured else ""
            raise errors.VBoxManageMissing(
                name,
                f"no VBoxManage{place} for the user {answers.get('user') or self._host.user}:"
                " install VirtualBox, or say where it is with vboxmanage=/path/of/VBoxManage",
            )
        if answers["system"] == "Darwin":
            shell = shells.Posix(locale="en_US.UTF-8")
        return Installation(
            system=answers["system"],
            user=answers["user"],
            program=answers["program"],
            version=answers["version"].rpartition("\n")[2],
            shell=shell,
        )

    def _send(self, command: str, *, timeout: float) -> CommandResult:
        if timeout <= 0:
            raise errors.CommandTimeout(str(self._host), "no time is left for a command")
        result = self._transport.run(command, timeout=timeout)
        if result.exit_code in (126, 127):
            # Uninstalled or moved since it was found: look again next time.
            self._installation = None
            raise errors.VBoxManageMissing(
                str(self._host), "VBoxManage is not where it was; is VirtualBox being upgraded?"
            )
        return result

    def _check(self, result: CommandResult, exit_code: int | None = None) -> None:
        if exit_code is not None:
            result = dataclasses.replace(result, exit_code=exit_code)
        if (error := parse_error(str(self._host), result)) is not None:
            raise error

    def _sections(self, nonce: str, result: CommandResult) -> list[shells.Section]:
        parts = shells.sections(nonce, result.stdout.decode("utf-8", "replace"))
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
        except CutOff as error:
            raise errors.BadOutput(str(self._host), str(error)) from None


def _parse_machines(parts: Sequence[shells.Section]) -> dict[str, Machine] | None:
    if any(part.name == "registry" and part.text.strip() == "/nowhere" for part in parts):
        return None
    machines: dict[str, Machine] = {}
    for part in parts:
        if part.name == "machine":
            braced, _, source = part.detail.partition(" ")
            if uuid := settings.normalise_uuid(braced):
                file = settings.unescape(source)
                machines[uuid] = settings.parse_machine(uuid, file, part.text)
    return machines
