# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VBoxManage and ps print, as pure functions from text to values.

Names are whatever people typed: quotes, braces, newlines, a forged second entry. An answer that
ends in the middle is an error (`CutOff`), never a shorter list.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from typing import TYPE_CHECKING

from maas_virtualbox import settings
from maas_virtualbox.settings import Machine
from maas_virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Mapping


class CutOff(ValueError):
    """An answer ends in the middle, or is not what VBoxManage prints."""


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
    """
    names = names or {}
    text = text.replace("\r\n", "\n")
    start = re.search(r'^"', text, re.MULTILINE)
    if start is None:
        return {}
    found: dict[str, str] = {}
    position = start.start()
    longest = max(map(len, names.values()), default=0) + _BESIDES_NAME
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
        position = end.end()
    return found


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
    """
    disks: list[HardDisk] = []
    text = text.replace("\r\n", "\n")
    for entry in re.split(r"\n\n(?=UUID: )", text.strip()) if text.strip() else ():
        fields: dict[str, str] = {}
        for line in entry.split("\n"):
            key, _, value = line.partition(":")
            fields.setdefault(key, value.strip())
        if not fields.get("UUID") or not fields.get("Location"):
            raise CutOff(f"a disk without UUID or location: {entry[:60]!r}")
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
# What a name cannot forge by holding a line `UUID:` or `State:`: all lines up to the UUID.
_LONG_HEAD = re.compile(
    r"^Name:(?: +<inaccessible!>\n|(?P<name> +(?:.|\n)*?)\n(?:Encryption: .*\n)?"
    r"Groups: .*\n(?:Platform Architecture: .*\n)?Guest OS: .*\n)"
    r"UUID:(?P<indent> +)(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\n",
    re.MULTILINE | re.IGNORECASE,
)
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
        CutOff: a VM has no UUID, or no state.
    """
    heads = list(_LONG_HEAD.finditer(text))
    unread = text[: heads[0].start()] if heads else text
    if re.search("^Name:", unread, re.MULTILINE) or (unread.strip() and not heads):
        raise CutOff(f"a VM without a UUID in the long list: {unread.strip()[:60]!r}")
    found: dict[str, tuple[Machine, VMState]] = {}
    for head, following in itertools.zip_longest(heads, heads[1:]):
        uuid = head["uuid"].lower()
        entry = text[head.end() : following.start() if following else len(text)]
        accessible = head["name"] is not None
        # The name stands where the UUID stands: blanks in front of it may be its own.
        name = head["name"][len(head["indent"]) :] if accessible else ""
        fields: dict[str, str] = {}
        for line in entry.split("\n"):
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
        state = VMState.INACCESSIBLE
        if accessible:
            words = fields.get("State", "").partition(" (since")[0]
            state = _LONG_STATES.get(words) or parse_state(words.replace(" ", ""))
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
            name,
            fields.get("Config file", ""),
            state,
            accessible=accessible,
            nics=nics,
            boot_order=boot,
            firmware=fields.get("Firmware", "BIOS"),
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
    while (match := _KEY.match(text, position)) is not None:
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
        if line_end < 0:
            raise CutOff(f"the line of {match['key']} is cut off")
        value += text[position:line_end]
        position = line_end + 1
        values.setdefault(match["key"].strip('"'), value)
    if "VMState" not in values:
        raise CutOff("showvminfo's answer has no VMState")
    return values


_KEY = re.compile(r'(?:(?P<key>"[^"\n]*"|[^="\n]+)=|[^\n]*\n)')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.|\\\n)*)"', re.DOTALL)
_USER = re.compile(r"\(UUID: ([0-9a-f-]{36})\)", re.IGNORECASE)
_PROCESS = re.compile(r"^ *(\d+) .*-startvm +\{?([0-9a-f-]{36})\b", re.MULTILINE | re.IGNORECASE)


def parse_processes(text: str) -> dict[str, int]:
    """Read process lines `PID COMMAND`: UUID of each VM that a process runs → PID.

    The command is `VBoxHeadless --comment NAME --startvm UUID …`: a hostile name stands before the
    UUID, so the last `-startvm` of a line counts.
    """
    return {uuid.lower(): int(pid) for pid, uuid in _PROCESS.findall(text)}
