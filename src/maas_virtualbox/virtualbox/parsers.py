# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parsers of what VBoxManage, ps and our scripts print: pure functions from text to values.

A VM's name may be any text: quotes, braces, newlines, even a forged second entry. Truncated output
is an error (`InvalidOutput`), never a shorter list. The parser of `list --long` is in `long_list`.

A host may be hostile. Every parser here takes time and memory in proportion to the text, whatever
it contains: a regular expression has at most one unlimited repetition, and is not retried at each
of many positions. `tests/unit/test_parsers_linear.py` checks that.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping


MAX_VMS = 2000
"""Limit of VMs per account: twice the largest number that was measured. Parsing that many settings
files takes 0.15 s of processor time, which a hostile host could cause at each poll."""

MAX_HARD_DISKS = 10 * MAX_VMS
"""Limit of hard disks per account, including those of snapshots."""

MAX_NAME = 1024
"""Limit of a VM's name in characters. VirtualBox names a folder after the VM, and file systems
allow 255 bytes."""


class InvalidOutput(ValueError):
    """Output is truncated, or is not what the program prints."""


class TooManyEntries(ValueError):
    """Output lists more VMs or hard disks than the limit."""


def check_number_of_vms(vms: Collection[object]) -> None:
    """Raise `TooManyEntries` for more VMs than `MAX_VMS`."""
    if len(vms) > MAX_VMS:
        raise TooManyEntries(
            f"it lists more than {MAX_VMS} VMs; spread them over several accounts"
        )


def iterate_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the position of each line and the line without its end.

    A list of all lines would take twenty times as much memory as a text of short lines.
    """
    position = 0
    while (end := text.find("\n", position)) >= 0:
        yield position, text[position:end]
        position = end + 1
    yield position, text[position:]


# -- list vms, list runningvms ------------------------------------------------------------------

_ENTRY_END = re.compile(r'" \{([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\}\n', re.IGNORECASE)
_ENTRY_BESIDES_NAME = 42
"""Characters of an entry without the name."""


def parse_vm_list(text: str, names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Parse `list vms` or `list runningvms`: UUID → name, in VirtualBox's order.

    VBoxManage prints names unescaped. A name may contain a whole forged entry, so the known
    `names` (by UUID) decide where an entry ends. Text before the first entry is ignored (the
    warning of the Debian wrapper).

    Raises:
        InvalidOutput: the text ends inside an entry, as it does without a UTF-8 locale.
        TooManyEntries: there are more than `MAX_VMS`.
    """
    names = names or {}
    text = text.replace("\r\n", "\n")
    start = re.search(r'^"', text, re.MULTILINE)
    position = start.start() if start else len(text)
    found: dict[str, str] = {}
    longest_name = min(MAX_NAME, max(map(len, names.values()), default=0))
    while position < len(text):
        if text[position] != '"':
            raise InvalidOutput(f"unexpected text after a VM: {text[position : position + 60]!r}")
        end = _find_entry_end(text, position, names, longest_name)
        found[end[1].lower()] = text[position + 1 : end.start()]
        check_number_of_vms(found)
        position = end.end()
    return found


def _find_entry_end(
    text: str, position: int, names: Mapping[str, str], longest_name: int
) -> re.Match[str]:
    """Return the end of an entry: the last possible end if the name before it is known, because a
    name may contain a whole entry of another VM; otherwise the first possible end."""
    end = _ENTRY_END.search(text, position)
    if end is None:
        raise InvalidOutput(f"the list of VMs ends inside an entry: {text[position:][:60]!r}")
    limit = position + longest_name + _ENTRY_BESIDES_NAME
    for candidate in _ENTRY_END.finditer(text, position, limit):
        if names.get(candidate[1].lower()) == text[position + 1 : candidate.start()]:
            end = candidate
    return end


# -- list --long hdds ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class HardDisk:
    """A hard disk that VirtualBox knows."""

    uuid: str
    """In lower case."""
    parent: str
    """The UUID of the disk that this one is a differencing image of; otherwise `base`."""
    location: str
    """Path on the host."""
    users: frozenset[str]
    """The UUIDs of the VMs, and of the VMs with snapshots, that the disk is attached to."""


_DISK_USER = re.compile(r"\(UUID: ([0-9a-f-]{36})\)", re.IGNORECASE)
_DISK_FIELDS = ("UUID", "Parent UUID", "Location")


def parse_hard_disks(text: str) -> list[HardDisk]:
    """Parse `list --long hdds`.

    Raises:
        InvalidOutput: a disk has no UUID or no location.
        TooManyEntries: there are more than `MAX_HARD_DISKS`.
    """
    disks: list[HardDisk] = []
    text = text.replace("\r\n", "\n").strip()
    position = 0
    while position < len(text):
        end = text.find("\n\nUUID: ", position)
        end = end if end >= 0 else len(text)
        if len(disks) >= MAX_HARD_DISKS:
            raise TooManyEntries(f"it lists more than {MAX_HARD_DISKS} hard disks")
        disks.append(_parse_hard_disk(text[position:end]))
        position = end + 2
    return disks


def _parse_hard_disk(text: str) -> HardDisk:
    fields: dict[str, str] = {}
    for _, line in iterate_lines(text):
        key, _, value = line.partition(":")
        if key in _DISK_FIELDS:
            fields.setdefault(key, value.strip())
    if not fields.get("UUID") or not fields.get("Location"):
        raise InvalidOutput(f"a disk without UUID or location: {text[:60]!r}")
    users = text.partition("\nIn use by VMs:")[2]
    return HardDisk(
        uuid=fields["UUID"].lower(),
        parent=fields.get("Parent UUID", "base").lower(),
        location=fields["Location"],
        users=frozenset(uuid.lower() for uuid in _DISK_USER.findall(users)),
    )


# -- Other output of VBoxManage -----------------------------------------------------------------


def parse_created_file(text: str) -> str:
    """Parse the output of `createvm`: the path of the new VM's settings file.

    Raises:
        InvalidOutput: it has no path.
    """
    found = re.search(r"^Settings file: '(.+)'$", text.replace("\r\n", "\n"), re.MULTILINE)
    if found is None:
        raise InvalidOutput(f"createvm does not name the settings file: {text[:60]!r}")
    return found[1]


def parse_dhcp_servers(text: str) -> list[str]:
    """Parse `list dhcpservers`: the names of the networks whose DHCP server is enabled."""
    found: list[str] = []
    name = ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "NetworkName":
            name = value.strip()
        elif key.strip() == "Enabled" and value.strip().lower() == "yes" and name:
            found.append(name)
    return found


def parse_extra_data(text: str) -> str:
    """Parse `getextradata` of one key: its value; empty if there is none."""
    found = re.match(r"Value: (.*)", text)
    return found[1].strip() if found else ""


def parse_machine_readable(text: str) -> dict[str, str]:
    r"""Parse `showvminfo --machinereadable`.

    Values may contain raw newlines and the escapes `\\"` and `\\\\`. Some values have no quotes,
    and one line has no `=`. The first value of a key counts; a later one cannot replace it.

    Raises:
        InvalidOutput: a value is cut off, or there is no VMState.
    """
    values: dict[str, str] = {}
    text = text.replace("\r\n", "\n")
    position = 0
    while position < len(text):
        line_end = text.find("\n", position)
        line_end = line_end if line_end >= 0 else len(text)
        if match := _KEY.match(text, position, line_end):
            key = match[1].strip('"')
            value, position = _read_value(key, text, match.end())
            values.setdefault(key, value)
        else:
            position = line_end + 1
    if "VMState" not in values:
        raise InvalidOutput("the output of showvminfo has no VMState")
    return values


# A key in quotes is the name of a storage controller or a folder. It may contain equals signs.
_KEY = re.compile(r'("[^"]*"|[^="]+)=')


def _read_value(key: str, text: str, position: int) -> tuple[str, int]:
    """Return the value at a position, and the position of the next line."""
    value = ""
    if text.startswith('"', position):
        quote = _find_closing_quote(text, position + 1)
        if quote < 0:
            raise InvalidOutput(f"the value of {key[:60]} is cut off")
        value = _unescape(text[position + 1 : quote])
        position = quote + 1
    line_end = text.find("\n", position)
    if line_end < 0:
        raise InvalidOutput(f"the line of {key[:60]} is cut off")
    return value + text[position:line_end], line_end + 1


def _find_closing_quote(text: str, position: int) -> int:
    """Return the position of the next quote that follows an even number of backslashes; -1 if
    there is none."""
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
    # Split at pairs of backslashes first, because escapes are read from the left.
    return "\\".join(part.replace('\\"', '"') for part in value.split("\\\\"))


def parse_networks(text: str) -> list[str]:
    """Parse `list bridgedifs`, `hostonlyifs` or `hostonlynets`: their names."""
    return [name.strip() for name in re.findall(r"^Name: +(.+)$", text, re.MULTILINE)]


def parse_os_types(text: str) -> list[str]:
    """Parse `list ostypes`: the IDs. VirtualBox 7.2 prints the ID and the description in one
    line."""
    return re.findall(r"^ID(?: / Description)?: +(\w+)", text, re.MULTILINE)


def parse_state(word: str) -> VMState:
    """Return the state that VirtualBox names. Raises `InvalidOutput` for an unknown one."""
    try:
        return VMState(word)
    except ValueError:
        raise InvalidOutput(f"unknown VM state {word[:60]!r}") from None


# -- df and ps ----------------------------------------------------------------------------------


def parse_disk_free(text: str) -> int | None:
    """Parse the last line of `df -Pk`: free bytes; None if the line has no number."""
    found = re.search(r" \d{1,18} +\d{1,18} +(-?\d{1,18}) +\d{1,3}% ", f"{text} ")
    return int(found[1]) * 1024 if found else None


_STARTVM = "-startvm"
_STARTED_UUID = re.compile(r" {1,9}\{?([0-9a-f-]{36})\b", re.IGNORECASE)
_PID = re.compile(r"[0-9]{1,10}")


def parse_processes(text: str) -> dict[str, int]:
    """Parse process lines `PID COMMAND`: UUID of each VM that a process runs → PID.

    Raises:
        TooManyEntries: there are more than `MAX_VMS`.
    """
    found: dict[str, int] = {}
    for _, line in iterate_lines(text):
        if process := _parse_process(line):
            uuid, pid = process
            found[uuid] = pid
            check_number_of_vms(found)
    return found


def _parse_process(line: str) -> tuple[str, int] | None:
    """Return the UUID of the VM that a process runs, and the PID; None for another process.

    The command is `VBoxHeadless --comment NAME --startvm UUID …`. A hostile name precedes the
    UUID, so the last `-startvm` that is followed by a UUID counts.
    """
    option = line.rfind(_STARTVM)
    if option < 0 or not _PID.fullmatch(pid := line.lstrip(" ").partition(" ")[0]):
        return None
    while option >= 0:
        if started := _STARTED_UUID.match(line, option + len(_STARTVM)):
            return started[1].lower(), int(pid)
        option = line.rfind(_STARTVM, 0, option)
    return None


# -- The frames of our scripts ------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One framed part of a script's output."""

    name: str
    detail: str
    """The rest of the frame's line."""
    body: memoryview
    """What follows that line, as the host sent it. A view, because output may be large."""

    @property
    def text(self) -> str:
        """The body as text, decoded at each use."""
        return _decode(self.body)


def count_sections(nonce: str, output: bytes) -> int:
    """Return how many frames a script's output has."""
    return output.count(_frame(nonce))


def parse_sections(nonce: str, output: bytes) -> list[Section] | None:
    """Split a script's output at its frames. Return None if it does not close with `end`, that is,
    if it was cut off."""
    frame = _frame(nonce)
    view = memoryview(output)
    found: list[Section] = []
    position = output.find(frame)
    while position >= 0:
        position += len(frame)
        following = output.find(frame, position)
        end = following if following >= 0 else len(output)
        line_end = output.find(b"\n", position, end)
        if line_end < 0:
            line_end = end
        name, _, detail = _decode(view[position:line_end]).removesuffix("\r").partition(" ")
        found.append(Section(name, detail, view[line_end + 1 : end]))
        position = following
    return found if found and found[-1].name == "end" else None


def _frame(nonce: str) -> bytes:
    return f"\n{nonce} ".encode()


def _decode(body: memoryview) -> str:
    # The newline of a carriage return at the end is that of the next frame.
    return str(body, "utf-8", "replace").replace("\r\n", "\n").removesuffix("\r")
