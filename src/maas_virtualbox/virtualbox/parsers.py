# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VBoxManage and ps print, as pure functions from text to values.

Names are whatever people typed: quotes, braces, newlines, a forged second entry. An answer that
ends in the middle is an error (`CutOff`), never a shorter list.

A host may be hostile. Every parser here takes time and memory in proportion to the text, whatever
it holds: a regular expression has at most one repetition without a limit, and none that starts
over at each of many places. `tests/unit/test_parsers_linear.py` doubles the input of each.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.settings_xml import VMSettings
from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence


MAX_VMS = 2000
"""VMs of one account: twice the most that was measured. To read that many settings files takes
0.15 s of processor time, which a hostile host could cost at each poll."""

MAX_HARD_DISKS = 10 * MAX_VMS
"""Hard disks of one account, those of snapshots included."""


class CutOff(ValueError):
    """An answer ends in the middle, or is not what VBoxManage prints."""


class TooMany(ValueError):
    """An answer lists more VMs or disks than a host may have."""


@dataclasses.dataclass(frozen=True, slots=True)
class HardDisk:
    """A hard disk VirtualBox knows."""

    uuid: str
    """Lower case."""
    parent: str
    """UUID of the disk it is a difference to; `base` for one that is none."""
    location: str
    """Path on the host."""
    users: frozenset[str]
    """UUIDs of the VMs (and of their snapshots) it is attached to."""


LONGEST_NAME = 1024
"""Characters of the longest name of a VM. VirtualBox names a folder after the VM, and no file
system takes more than 255 bytes."""

_LIST_ENTRY_END = re.compile(
    r'" \{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}\n', re.IGNORECASE
)
_BESIDES_NAME = 42
"""Characters of an entry besides the name."""


def parse_vm_list(text: str, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Read `list vms` or `list runningvms`: UUID → name, in VirtualBox's order.

    Names are printed unescaped and may hold quotes, braces and newlines, even a whole forged
    entry; known `names` (by UUID) decide where an entry really ends. Anything printed before the
    first entry (the Debian wrapper's warning) is passed over.

    Raises:
        CutOff: the text ends inside an entry, as it does without a UTF-8 locale.
        TooMany: more than `MAX_VMS`.
    """
    names = names or {}
    text = text.replace("\r\n", "\n")
    start = re.search(r'^"', text, re.MULTILINE)
    if start is None:
        return {}
    found: dict[str, str] = {}
    position = start.start()
    longest = min(LONGEST_NAME, max(map(len, names.values()), default=0)) + _BESIDES_NAME
    while position < len(text):
        if text[position] != '"':
            raise CutOff(f"unexpected text after a VM: {text[position : position + 60]!r}")
        end = _LIST_ENTRY_END.search(text, position)
        if end is None:
            raise CutOff(f"the list of VMs ends inside an entry: {text[position:][:60]!r}")
        for candidate in _LIST_ENTRY_END.finditer(text, position, position + longest):
            # The last that fits: a name may hold the whole entry of another VM.
            if names.get(candidate[1].lower()) == text[position + 1 : candidate.start()]:
                end = candidate
        found[end[1].lower()] = text[position + 1 : end.start()]
        _must_not_be_too_many(found)
        position = end.end()
    return found


def _must_not_be_too_many(vms: Collection[object]) -> None:
    if len(vms) > MAX_VMS:
        raise TooMany(f"it lists more than {MAX_VMS} VMs; spread them over several accounts")


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line without its end, and where it begins. A list of all lines would take twenty
    times the memory of a text of short ones."""
    position = 0
    while (end := text.find("\n", position)) >= 0:
        yield position, text[position:end]
        position = end + 1
    yield position, text[position:]


def parse_dhcp_servers(text: str) -> list[str]:
    """Read `list dhcpservers`: the names of the networks whose DHCP server is enabled."""
    found: list[str] = []
    name = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "NetworkName":
            name = value.strip()
        elif key.strip() == "Enabled" and value.strip().lower() == "yes" and name:
            found.append(name)
    return found


def parse_disk_free(text: str) -> int | None:
    """Read the last line of `df -Pk`: bytes that are free; None if it is not there."""
    found = re.search(r" \d{1,18} +\d{1,18} +(-?\d{1,18}) +\d{1,3}% ", f"{text} ")
    return int(found[1]) * 1024 if found else None


def parse_created_file(text: str) -> str:
    """Read what `createvm` prints: the path of the new VM's settings file.

    Raises:
        CutOff: it is not there.
    """
    found = re.search(r"^Settings file: '(.+)'$", text.replace("\r\n", "\n"), re.MULTILINE)
    if found is None:
        raise CutOff(f"createvm does not say where the settings file is: {text[:60]!r}")
    return found[1]


def parse_extra_data(text: str) -> str:
    """Read `getextradata` of one key: its value; empty when there is none."""
    found = re.match(r"Value: (.*)", text)
    return found[1].strip() if found else ""


def parse_hard_disks(text: str) -> list[HardDisk]:
    """Read `list --long hdds`.

    Raises:
        CutOff: a disk has no UUID or no location.
        TooMany: more than `MAX_HARD_DISKS`.
    """
    disks: list[HardDisk] = []
    text = text.replace("\r\n", "\n").strip()
    position = 0
    while position < len(text):
        end = text.find("\n\nUUID: ", position)
        entry = text[position : end if end >= 0 else len(text)]
        position += len(entry) + 2
        fields: dict[str, str] = {}
        for _, line in _lines(entry):
            key, _, value = line.partition(":")
            if key in ("UUID", "Parent UUID", "Location"):
                fields.setdefault(key, value.strip())
        if not fields.get("UUID") or not fields.get("Location"):
            raise CutOff(f"a disk without UUID or location: {entry[:60]!r}")
        if len(disks) >= MAX_HARD_DISKS:
            raise TooMany(f"it lists more than {MAX_HARD_DISKS} hard disks")
        users = entry.partition("\nIn use by VMs:")[2]
        disks.append(
            HardDisk(
                fields["UUID"].lower(),
                fields.get("Parent UUID", "base").lower(),
                fields["Location"],
                frozenset(uuid.lower() for uuid in _USER.findall(users)),
            )
        )
    return disks


def parse_networks(text: str) -> list[str]:
    """Read `list bridgedifs`, `hostonlyifs` or `hostonlynets`: their names."""
    return [name.strip() for name in re.findall(r"^Name: +(.+)$", text, re.MULTILINE)]


def parse_state(word: str) -> VMState:
    """Return the state VirtualBox names. Raises `CutOff` for a word it does not use."""
    try:
        return VMState(word)
    except ValueError:
        raise CutOff(f"unknown VM state {word[:60]!r}") from None


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
_LONG_NAME = re.compile(r"Name:( {1,40})")
_LONG_INACCESSIBLE = re.compile(r"Name: {1,40}<inaccessible!>")
_LONG_UUID = re.compile(
    r"UUID:( {1,40})([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE
)
_LONG_NIC = re.compile(r"NIC (\d{1,2}): {1,40}MAC: ([0-9A-Fa-f]{12}), Attachment: ")


_LONG_FIELDS = frozenset(
    ("State", "Config file", "Firmware", *(f"Boot Device {number}" for number in range(1, 5)))
)
_LINES_BEFORE_UUID = (
    ("Guest OS: ", True),
    ("Platform Architecture: ", False),
    ("Groups: ", True),
    ("Encryption: ", False),
)
"""How the lines between a VM's name and its UUID begin, the last one first, and whether each is
there in all versions."""


@dataclasses.dataclass(frozen=True, slots=True)
class _LongHead:
    """The lines of one VM in the long list up to its UUID, which no name can forge."""

    begin: int
    """Where it begins in the text."""
    end: int
    """Where the line after its UUID begins."""
    uuid: str
    name: str | None
    """None: VirtualBox cannot read it."""


def _long_heads(text: str) -> Iterator[_LongHead]:
    """Find where VMs begin: a name of any number of lines, then certain lines, then a UUID.

    A name may hold a line `Name:` or `UUID:` of its own. The first `Name:` after the VM before
    counts whose value stands where that of the UUID does, or further to the right.
    """
    first_names: dict[int, int] = {}  # by the number of blanks, and all smaller numbers
    before: collections.deque[tuple[int, str]] = collections.deque(
        maxlen=len(_LINES_BEFORE_UUID) + 1
    )
    for position, line in _lines(text):
        if named := _LONG_NAME.match(line):
            for blanks in range(1, len(named[1]) + 1):
                first_names.setdefault(blanks, position)
        if uuid := _LONG_UUID.fullmatch(line):
            blanks = len(uuid[1])
            begin, end = first_names.get(blanks, -1), position + len(line) + 1
            last = before[-1] if before else (-1, "")
            name_end = _name_end(before)
            if last[0] == begin and _LONG_INACCESSIBLE.fullmatch(last[1]):
                yield _LongHead(begin, end, uuid[2].lower(), None)
                first_names.clear()
            elif 0 <= begin < name_end:
                name = text[begin + len("Name:") + blanks : name_end - 1]
                yield _LongHead(begin, end, uuid[2].lower(), name)
                first_names.clear()
        before.append((position, line))


def _name_end(before: Sequence[tuple[int, str]]) -> int:
    """Return where the line after a VM's name begins, given the lines before its UUID; -1 if these
    are not those of a VM."""
    number = len(before)
    for beginning, needed in _LINES_BEFORE_UUID:
        if number > 0 and before[number - 1][1].startswith(beginning):
            number -= 1
        elif needed:
            return -1
    return before[number][0]


def parse_long_list(text: str) -> dict[str, tuple[VMSettings, VMState]]:
    """Read `list --long vms` or `list --long runningvms`: UUID → machine and state.

    Text for people, parsed only where nothing better is at hand: for the exact states of running
    VMs, and where the settings files cannot be read.

    Raises:
        CutOff: a VM has no UUID, or no state.
        TooMany: more than `MAX_VMS`.
    """
    text = text.replace("\r\n", "\n")
    heads = list(itertools.islice(_long_heads(text), MAX_VMS + 1))
    _must_not_be_too_many(heads)
    unread = text[: heads[0].begin] if heads else text
    if re.search("^Name:", unread, re.MULTILINE) or (not heads and unread.strip()):
        raise CutOff(f"a VM without a UUID in the long list: {unread.strip()[:60]!r}")
    return {
        head.uuid: _long_entry(head, text[head.end : following.begin if following else None])
        for head, following in itertools.zip_longest(heads, heads[1:])
    }


def _long_entry(head: _LongHead, text: str) -> tuple[VMSettings, VMState]:
    fields: dict[str, str] = {}
    nics: list[settings_xml.NIC] = []
    for _, line in _lines(text):
        key, _, value = line.partition(":")
        if key in _LONG_FIELDS:
            fields.setdefault(key, value.strip())
        elif (nic := _long_nic(line)) is not None and len(nics) < settings_xml.MAX_NICS:
            nics.append(nic)
    accessible = head.name is not None and len(head.name) <= LONGEST_NAME
    state = VMState.INACCESSIBLE
    if accessible:
        words = fields.get("State", "").partition(" (since")[0]
        state = _LONG_STATES.get(words) or parse_state(words.replace(" ", ""))
    boot = tuple(
        _LONG_BOOT.get(fields.get(f"Boot Device {number}", ""), "none") for number in range(1, 5)
    )
    machine = settings_xml.VMSettings(
        head.uuid,
        (head.name or "") if accessible else "",
        fields.get("Config file", ""),
        state,
        accessible=accessible,
        nics=tuple(nics),
        boot_order=boot,
        firmware=fields.get("Firmware", "BIOS"),
    )
    return machine, state


def _long_nic(line: str) -> settings_xml.NIC | None:
    match = _LONG_NIC.match(line)
    if match is None:
        return None
    attachment, _, rest = line[match.end() :].partition(", Cable connected: ")
    _, comma, model = rest.partition(", Type: ")
    word = _WORD.match(model)
    if not comma or word is None or not rest.startswith(("on", "off")):
        return None
    return settings_xml.NIC(
        int(match[1]),
        settings_xml.format_mac(match[2]),
        word[0],
        *_long_attachment(attachment),
        rest.startswith("on"),
    )


_WORD = re.compile(r"\w+")


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
    while position < len(text):
        line_end = text.find("\n", position)
        match = _KEY.match(text, position, line_end if line_end >= 0 else len(text))
        if match is None and line_end < 0:
            break
        if match is None:
            position = line_end + 1
            continue
        key = match[1].strip('"')
        position = match.end()
        value = ""
        if text[position : position + 1] == '"':
            end = _closing_quote(text, position + 1)
            if end < 0:
                raise CutOff(f"the value of {key[:60]} is cut off")
            value = _unescape(text[position + 1 : end])
            position = end + 1
        line_end = text.find("\n", position)
        if line_end < 0:
            raise CutOff(f"the line of {key[:60]} is cut off")
        values.setdefault(key, value + text[position:line_end])
        position = line_end + 1
    if "VMState" not in values:
        raise CutOff("showvminfo's answer has no VMState")
    return values


# A key in quotes is the name of a storage controller or a folder, which may hold an equals sign.
_KEY = re.compile(r'("[^"]*"|[^="]+)=')


def _closing_quote(text: str, position: int) -> int:
    """Return where the next quote is that an even number of backslashes stands before; -1 if there
    is none."""
    begin = position
    while (position := text.find('"', position)) >= 0:
        backslashes = position
        while backslashes > begin and text[backslashes - 1] == "\\":
            backslashes -= 1
        if (position - backslashes) % 2 == 0:
            return position
        position = begin = position + 1
    return -1


def _unescape(value: str) -> str:
    # Pairs of backslashes first, as they are read from the left.
    return "\\".join(part.replace('\\"', '"') for part in value.split("\\\\"))


_USER = re.compile(r"\(UUID: ([0-9a-f-]{36})\)", re.IGNORECASE)
_STARTVM = "-startvm"
_STARTED = re.compile(r" {1,9}\{?([0-9a-f-]{36})\b", re.IGNORECASE)
_LONGEST_PID = 10


def parse_processes(text: str) -> dict[str, int]:
    """Read process lines `PID COMMAND`: UUID of each VM that a process runs → PID.

    The command is `VBoxHeadless --comment NAME --startvm UUID …`: a hostile name stands before the
    UUID, so the last `-startvm` of a line counts.

    Raises:
        TooMany: more than `MAX_VMS`.
    """
    found: dict[str, int] = {}
    position = text.find(_STARTVM)
    while position >= 0:
        line_end = text.find("\n", position)
        if line_end < 0:
            line_end = len(text)
        line = text[text.rfind("\n", 0, position) + 1 : line_end]
        position = text.find(_STARTVM, line_end)
        pid = line.lstrip(" ").partition(" ")[0]
        if not (pid.isascii() and pid.isdecimal()) or len(pid) > _LONGEST_PID:
            continue
        option = line.rfind(_STARTVM)
        while option >= 0:
            if started := _STARTED.match(line, option + len(_STARTVM)):
                found[started[1].lower()] = int(pid)
                _must_not_be_too_many(found)
                break
            option = line.rfind(_STARTVM, 0, option)
    return found
