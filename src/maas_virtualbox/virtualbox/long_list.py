# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of `list --long vms` and `list --long runningvms`.

VBoxManage prints this text for people. It is parsed only where no other source is available: for
the exact states of running VMs, and for hosts whose settings files cannot be read. As in
`parsers`, time and memory are in proportion to the text.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox import parsers, settings_xml
from maas_virtualbox.virtualbox.parsers import InvalidOutput
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# The states that differ from those of the machine-readable output by more than blanks.
_STATES = {
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
_BOOT_DEVICES = {
    "Network": "net",
    "HardDisk": "disk",
    "DVD": "dvd",
    "Floppy": "floppy",
    "USB": "usb",
}
_ATTACHMENTS = {
    "NAT": "nat",
    "Bridged Interface": "bridged",
    "Internal Network": "intnet",
    "Host-only Interface": "hostonly",
    "Host Only Network": "hostonlynetwork",
    "NAT Network": "natnetwork",
    "none": "null",
}
_BOOT_FIELDS = tuple(f"Boot Device {number}" for number in range(1, 5))
_FIELDS = frozenset(("State", "Config file", "Firmware", *_BOOT_FIELDS))


@dataclasses.dataclass(frozen=True, slots=True)
class ListedVM:
    """One VM in the long list."""

    settings: VMSettings
    state: VMState


def parse_long_list(text: str) -> dict[str, ListedVM]:
    """Parse `list --long vms` or `list --long runningvms`, by UUID.

    Raises:
        InvalidOutput: a VM has no UUID or no state.
        TooManyEntries: there are more than `parsers.MAX_VMS`.
    """
    text = text.replace("\r\n", "\n")
    heads = list(itertools.islice(_find_heads(text), parsers.MAX_VMS + 1))
    parsers.check_number_of_vms(heads)
    unread = text[: heads[0].begin] if heads else text
    if re.search("^Name:", unread, re.MULTILINE) or (not heads and unread.strip()):
        raise InvalidOutput(f"a VM without a UUID in the long list: {unread.strip()[:60]!r}")
    ends = [*(head.begin for head in heads[1:]), len(text)]
    return {
        head.uuid: _parse_vm(head, text[head.end : end])
        for head, end in zip(heads, ends, strict=False)
    }


# -- Where a VM begins --------------------------------------------------------------------------

_NAME_LINE = re.compile(r"Name:( {1,40})")
_INACCESSIBLE_LINE = re.compile(r"Name: {1,40}<inaccessible!>")
_UUID_LINE = re.compile(
    r"UUID:( {1,40})([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE
)
_LINES_BEFORE_UUID = (
    ("Guest OS: ", True),
    ("Platform Architecture: ", False),
    ("Groups: ", True),
    ("Encryption: ", False),
)
"""The beginnings of the lines between a VM's name and its UUID, the last line first, and whether
all versions print the line."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Head:
    """The first lines of a VM, from its name to its UUID. A name cannot forge them unless it
    contains all of these lines."""

    begin: int
    """The position of the first line."""
    end: int
    """The position of the line after the UUID."""
    uuid: str
    name: str | None
    """None: VirtualBox cannot read the VM."""


def _find_heads(text: str) -> Iterator[_Head]:
    """Find the heads of all VMs: a name of any number of lines, certain lines, and a UUID.

    A name may contain lines `Name:` and `UUID:`, and other lines `Name:` follow the head. So a
    VM's name is in the first `Name:` line after the last head whose value is in the column of the
    UUID's value, or further to the right if the name starts with blanks.
    """
    name_lines: dict[int, int] = {}
    """The position of the first `Name:` line by the number of blanks that it has at least."""
    previous: collections.deque[tuple[int, str]] = collections.deque(
        maxlen=len(_LINES_BEFORE_UUID) + 1
    )
    for position, line in parsers.iterate_lines(text):
        if name := _NAME_LINE.match(line):
            for blanks in range(1, len(name[1]) + 1):
                name_lines.setdefault(blanks, position)
        if uuid := _UUID_LINE.fullmatch(line):
            begin, end = name_lines.get(len(uuid[1]), -1), position + len(line) + 1
            if head := _read_head(text, begin, end, uuid, previous):
                yield head
                name_lines.clear()
        previous.append((position, line))


def _read_head(
    text: str,
    begin: int,
    end: int,
    uuid: re.Match[str],
    previous: Sequence[tuple[int, str]],
) -> _Head | None:
    """Return the head that ends with a UUID; None if the lines before it are not those of a head.

    Args:
        text: the long list.
        begin: the position of the name's line; -1 if there is none.
        end: the position of the line after the UUID.
        uuid: the line with the UUID.
        previous: the lines before the UUID, with their positions.
    """
    if begin < 0:
        return None
    position, line = previous[-1]
    if position == begin and _INACCESSIBLE_LINE.fullmatch(line):
        return _Head(begin, end, uuid[2].lower(), None)
    name_end = _find_name_end(previous)
    if name_end <= begin:
        return None
    name = text[begin + len("Name:") + len(uuid[1]) : name_end - 1]
    return _Head(begin, end, uuid[2].lower(), name)


def _find_name_end(previous: Sequence[tuple[int, str]]) -> int:
    """Return the position of the line after a VM's name, given the lines before its UUID; -1 if
    these are not the lines of a head."""
    number = len(previous)
    for beginning, required in _LINES_BEFORE_UUID:
        if number > 0 and previous[number - 1][1].startswith(beginning):
            number -= 1
        elif required:
            return -1
    return previous[number][0]


# -- The lines of one VM ------------------------------------------------------------------------


def _parse_vm(head: _Head, text: str) -> ListedVM:
    fields, nics = _read_fields(text)
    settings_file = fields.get("Config file", "")
    if head.name is None or len(head.name) > parsers.MAX_NAME:
        settings = settings_xml.inaccessible(head.uuid, settings_file)
        return ListedVM(settings, VMState.INACCESSIBLE)
    state = _parse_state(fields.get("State", ""))
    settings = VMSettings(
        head.uuid,
        head.name,
        settings_file,
        state,
        nics=nics,
        boot_order=tuple(_BOOT_DEVICES.get(fields.get(key, ""), "none") for key in _BOOT_FIELDS),
        firmware=fields.get("Firmware", "BIOS"),
    )
    return ListedVM(settings, state)


def _read_fields(text: str) -> tuple[dict[str, str], tuple[NIC, ...]]:
    fields: dict[str, str] = {}
    nics: list[NIC] = []
    for _, line in parsers.iterate_lines(text):
        key, _, value = line.partition(":")
        if key in _FIELDS:
            fields.setdefault(key, value.strip())
        elif len(nics) < settings_xml.MAX_NICS and (nic := _parse_nic(line)):
            nics.append(nic)
    return fields, tuple(nics)


def _parse_state(value: str) -> VMState:
    name = value.partition(" (since")[0]
    return _STATES.get(name) or parsers.parse_state(name.replace(" ", ""))


_NIC_LINE = re.compile(r"NIC (\d{1,2}): {1,40}MAC: ([0-9A-Fa-f]{12}), Attachment: ")
_MODEL = re.compile(r"\w+")


def _parse_nic(line: str) -> NIC | None:
    """Return the enabled NIC of a line; None for any other line."""
    begin = _NIC_LINE.match(line)
    if begin is None:
        return None
    attachment, _, rest = line[begin.end() :].partition(", Cable connected: ")
    _, comma, rest_after_type = rest.partition(", Type: ")
    model = _MODEL.match(rest_after_type)
    if not comma or model is None or not rest.startswith(("on", "off")):
        return None
    term, _, network = attachment.partition(" '")
    return NIC(
        slot=int(begin[1]),
        mac=settings_xml.format_mac(begin[2]),
        model=model[0],
        attachment=_ATTACHMENTS.get(term, term.lower()),
        network=network.rstrip("'"),
        cable=rest.startswith("on"),
    )
