# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VirtualBox's settings files say about a VM: identity, NICs, boot order, saved state.

Reading the files of 200 VMs takes 4 ms and no lock; asking VBoxManage for the same takes 8 s
(measured, VirtualBox 7.2.22). VirtualBox writes a file anew at each change of what is read here,
`stateFile` and `aborted` included. Pure functions from text to dataclasses; nothing here reads a
file.

A host may be hostile: a file is read as a stream, of which only what matters is kept, and every
size has a limit. A file beyond one makes its own VM inaccessible, and nothing else.
"""

from __future__ import annotations

import dataclasses
import ntpath
import posixpath
import re
from typing import TYPE_CHECKING
from xml.parsers import expat  # DTDs, and with them entities, are refused before it sees a file

from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping

MARK = "maas-virtualbox/made"
"""The key of the extra data that says this library made a VM; its value is the VM's UUID."""

MAX_FILE = 2 * 1024 * 1024
"""Bytes of the largest settings file that is read. A VM without snapshots has 4 KiB and each
snapshot adds about as much; VirtualBox nests 250 at the most."""

MAX_NICS = 36
"""Network adapters of one VM; VirtualBox has no chipset with more."""

_MAX_ELEMENTS = 50_000
"""XML elements of one file: 250 snapshots with 200 elements each."""
_MAX_DEPTH = 1000
"""Elements inside one another: two for each of 250 nested snapshots, and what they hold."""
_MAX_VALUE = 1024
"""Characters of a value that is kept. Names of VMs are names of folders: 255 bytes at the most."""
_MAX_PATH = 4096
_MAX_BOOT_DEVICES = 64

# The names the files use for attachments, in the words of `showvminfo --machinereadable`.
_ATTACHMENTS = {
    "NAT": "nat",
    "BridgedInterface": "bridged",
    "InternalNetwork": "intnet",
    "HostOnlyInterface": "hostonly",
    "HostOnlyNetwork": "hostonlynetwork",
    "NATNetwork": "natnetwork",
    "GenericInterface": "generic",
    "CloudNetwork": "cloud",
}
_BOOT_DEVICES = {
    "Network": "net",
    "HardDisk": "disk",
    "DVD": "dvd",
    "Floppy": "floppy",
    "USB": "usb",
    "None": "none",
}
# VirtualBox leaves a default out of the file.
_DEFAULT_BOOT_ORDER = ("floppy", "dvd", "disk", "none")

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SLOT = re.compile(r"[0-9]{1,3}")
_MAC = re.compile(r"[0-9a-f]{12}")
_MAC_NOTATIONS = re.compile(
    r"[0-9a-f]{12}"
    r"|[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2}){4}"
    r"|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4}"
)


@dataclasses.dataclass(frozen=True, slots=True)
class NIC:
    """One enabled network adapter."""

    slot: int
    """Number from 1, as in `--nic1`."""

    mac: str
    """Six pairs of lower-case hex digits with colons."""

    model: str
    """VirtualBox's name of the hardware, such as `82540EM` (e1000) or `virtio`."""

    attachment: str
    """What it is attached to, as `--nic1` says it: nat, bridged, hostonly, …; null: nothing."""

    network: str
    """The interface or network it is attached to; empty for nat and null."""

    cable: bool
    """Whether the cable is connected."""


@dataclasses.dataclass(frozen=True, slots=True)
class VMSettings:
    """What is written about one VM. Cut short (`nics` is None) when only its head was read."""

    uuid: str
    """Lower-case UUID without braces: what addresses the VM."""

    name: str
    """The VM's name, any text; empty when inaccessible."""

    settings_file: str
    """Path of the .vbox file on the host; empty when unknown."""

    off_state: VMState
    """The state it is in while no process runs it: poweroff, saved, aborted or aborted-saved."""

    accessible: bool = True
    """Whether its settings file could be read and understood."""

    nics: tuple[NIC, ...] | None = None
    """Enabled NICs by slot; None when they were not read."""

    boot_order: tuple[str, ...] = ()
    """Boot devices first to last: net, disk, dvd, floppy, usb, none."""

    firmware: str = ""
    """`BIOS`, `EFI`, …"""

    made: bool = False
    """Whether this library made it: it bears its own UUID under `MARK`. A copy of such a VM does
    not. False too where the settings file was not read whole; `ownership` asks VirtualBox."""

    architecture: str = ""
    """What a guest can be: amd64, i386 or arm64; empty when it was not read."""

    refused: str = ""
    """Why its settings file was not read although VirtualBox may be able to: it is beyond a limit.
    Empty for all others."""

    @property
    def macs(self) -> tuple[str, ...]:
        """The MAC addresses of the enabled NICs, by slot."""
        return tuple(nic.mac for nic in self.nics or ())

    @property
    def log_file(self) -> str:
        """Path of the VM's VBox.log on the host; empty when the settings file is unknown."""
        return beside(self.settings_file, "Logs", "VBox.log") if self.settings_file else ""


def beside(settings_file: str, *parts: str) -> str:
    """Return a path in the folder of a settings file, as the host writes paths; the folder itself
    without `parts`."""
    path = path_style(settings_file)
    return path.join(path.dirname(settings_file), *parts)


def format_mac(digits: str) -> str:
    """Return 12 hex digits as a MAC: lower case, with colons."""
    digits = digits.lower()
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def is_unicast_mac(digits: str) -> bool:
    """Whether this is what `--macaddress1` takes: 12 hex digits, not a multicast address."""
    return bool(_MAC.fullmatch(digits.lower())) and not int(digits[1], 16) & 1


def normalise_uuid(text: str) -> str:
    """Return a UUID in lower case without braces, or an empty string if it is none."""
    text = text.strip().strip("{}").lower()
    return text if _UUID.fullmatch(text) else ""


def path_style(path: str) -> types.ModuleType:
    """Return the module that understands a host's paths: `ntpath` for Windows, or `posixpath`."""
    return ntpath if re.match(r"[A-Za-z]:|\\\\", path) else posixpath


def unescape(text: str) -> str:
    """Return the text of an XML attribute's source (`&amp;`, `&#x11B;`); empty if malformed or
    longer than a path may be."""
    if len(text) > 8 * _MAX_PATH:
        return ""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda _, attributes: found.append(attributes.get("b", ""))
    try:
        _feed(parser, f'<a b="{text}"/>')
    except (expat.ExpatError, _Refused):
        return ""
    return found[0][:_MAX_PATH]


def parse_mac(text: str) -> str:
    """Return a MAC in any usual notation as `08:00:27:aa:bb:01`; empty if it is none."""
    text = text.strip().lower()
    if not _MAC_NOTATIONS.fullmatch(text):
        return ""
    return format_mac(re.sub(r"[^0-9a-f]", "", text))


def parse_machine(uuid: str, settings_file: str, xml: str) -> VMSettings:
    """Read the text of a .vbox file, or only its `<Machine …>` line.

    A file that is empty, cut off, not XML or about another VM gives an inaccessible machine, as
    VirtualBox itself calls it; so does one beyond a limit, which `refused` then names.
    """
    text = xml.strip()
    head_only = text.startswith("<Machine ")
    if head_only:
        # Without its end the line was cut off, and may lack the attributes that matter.
        line = text.removesuffix(">").removesuffix("/") + "/>" if text.endswith(">") else ""
        text = f"<VirtualBox>{line}</VirtualBox>"
    reader = _Reader(uuid)
    try:
        reader.read(text)
    except expat.ExpatError:
        return inaccessible(uuid, settings_file)
    except _Refused as error:
        return inaccessible(uuid, settings_file, str(error))
    machine = reader.machine
    if machine is None or normalise_uuid(machine.get("uuid", "")) != uuid:
        return inaccessible(uuid, settings_file)
    saved, aborted = bool(machine.get("stateFile")), machine.get("aborted") in ("true", "1")
    off_state = {
        (False, False): VMState.POWEROFF,
        (True, False): VMState.SAVED,
        (False, True): VMState.ABORTED,
        (True, True): VMState.ABORTED_SAVED,
    }[saved, aborted]
    read = VMSettings(uuid, machine.get("name", ""), settings_file, off_state)
    if head_only:
        return read
    return dataclasses.replace(
        read,
        nics=tuple(sorted(reader.nics, key=lambda nic: nic.slot)),
        boot_order=tuple(reader.boot[position] for position in sorted(reader.boot))
        or _DEFAULT_BOOT_ORDER,
        firmware=reader.firmware or reader.firmware_type or "BIOS",
        made=reader.made,
        architecture=reader.architecture(),
    )


def inaccessible(uuid: str, settings_file: str, refused: str = "") -> VMSettings:
    """Return a VM whose settings file was not read, and why if it is beyond a limit."""
    return VMSettings(
        uuid, "", settings_file, VMState.INACCESSIBLE, accessible=False, refused=refused
    )


class _Refused(Exception):
    """A settings file is beyond a limit; the text says which."""


def _feed(parser: expat.XMLParserType, text: str) -> None:
    # Without a DTD there are no entities. A handler could not stop the parser in time.
    if "<!DOCTYPE" in text:
        raise _Refused("it has a DTD")
    parser.Parse(text.encode("utf-8", "replace"), True)  # noqa: FBT003 - it is the last part


class _Reader:
    """Walks through one settings file and keeps what matters of its first VM."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self.machine: dict[str, str] | None = None
        """The attributes of `<Machine>`."""
        self.nics: list[NIC] = []
        """The enabled ones."""
        self.boot: dict[str, str] = {}
        """Boot devices by position."""
        self.firmware = self.firmware_type = ""
        self.made = False
        self._platform: str | None = None
        self._long_mode: str | None = None
        self._adapter: dict[str, str] = {}
        self._attachment = self._network = ""
        self._path: list[str] = []
        self._elements = 0
        self._machines = 0

    def read(self, text: str) -> None:
        """Read a file. Raises `_Refused` or `expat.ExpatError`."""
        if len(text) > MAX_FILE:
            raise _Refused(f"it is larger than {MAX_FILE // 1024**2} MiB")
        parser = expat.ParserCreate(encoding="utf-8", namespace_separator="}")
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        _feed(parser, text)

    def architecture(self) -> str:
        """From 7.1 on a file says for which kind of processor it is; all were x86 before. A 64-bit
        guest needs the long mode, which is on by default where the guest's type ends so."""
        if (self._platform or "").upper() == "ARM":
            return "arm64"
        if self._long_mode is None:
            wide = (self.machine or {}).get("OSType", "").endswith("_64")
        else:
            wide = self._long_mode != "false"
        return "amd64" if wide else "i386"

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        path = self._path
        path.append(tag.rpartition("}")[2])
        if self._elements > _MAX_ELEMENTS:
            raise _Refused(f"it has more than {_MAX_ELEMENTS} XML elements")
        if len(path) > _MAX_DEPTH:
            raise _Refused(f"its XML is nested more than {_MAX_DEPTH} deep")
        if path[1:2] != ["Machine"]:
            return
        if len(path) == 2:
            self._machines += 1
            if self._machines == 1:
                self.machine = _kept(attributes, "uuid", "name", "stateFile", "aborted", "OSType")
        elif self._machines == 1 and path[2] != "Snapshot":
            self._begin_inside(path[2:], attributes)

    def _begin_inside(self, path: list[str], attributes: dict[str, str]) -> None:
        match path:
            case ["Hardware", "Network", "Adapter"]:
                keys = ("slot", "enabled", "MACAddress", "type", "cable")
                self._adapter = _kept(attributes, *keys)
                self._attachment, self._network = "null", ""
            case ["Hardware", "Network", "Adapter", kind] if kind in _ATTACHMENTS:
                self._attachment = _ATTACHMENTS[kind]
                self._network = _kept(attributes, "name").get("name", "")
            case ["Hardware", "Boot", "Order"]:
                order = _kept(attributes, "position", "device")
                device = _BOOT_DEVICES.get(order.get("device", ""), "none")
                self.boot[order.get("position", "")] = device
                if len(self.boot) > _MAX_BOOT_DEVICES:
                    raise _Refused(f"it has more than {_MAX_BOOT_DEVICES} boot devices")
            case ["Hardware", "Firmware"]:
                self.firmware = self.firmware or _kept(attributes, "type").get("type", "")
            case ["Hardware", "FirmwareType"]:
                self.firmware_type = _kept(attributes, "type").get("type", "")
            case ["ExtraData", "ExtraDataItem"] if attributes.get("name") == MARK:
                self.made = self.made or attributes.get("value") == self._uuid
            case ["Platform"] if self._platform is None:
                self._platform = _kept(attributes, "architecture").get("architecture", "")
            case [*_, "CPU", "LongMode"] if self._long_mode is None:
                self._long_mode = _kept(attributes, "enabled").get("enabled", "")
            case _:
                pass

    def _end(self, _tag: str) -> None:
        path = self._path
        if path[1:] == ["Machine", "Hardware", "Network", "Adapter"] and self._machines == 1:
            self._end_adapter(self._adapter)
        path.pop()

    def _end_adapter(self, adapter: Mapping[str, str]) -> None:
        mac, slot = adapter.get("MACAddress", "").lower(), adapter.get("slot", "")
        if adapter.get("enabled") != "true" or not _MAC.fullmatch(mac):
            return
        if not _SLOT.fullmatch(slot):
            return
        if len(self.nics) >= MAX_NICS:
            raise _Refused(f"it has more than {MAX_NICS} network adapters")
        self.nics.append(
            NIC(
                int(slot) + 1,
                format_mac(mac),
                adapter.get("type", "default"),
                self._attachment,
                self._network,
                adapter.get("cable", "true") != "false",
            )
        )


def _kept(attributes: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return some of an element's attributes. Raises `_Refused` if one is too long."""
    found = {name: attributes[name] for name in names if name in attributes}
    for name, value in found.items():
        if len(value) > (_MAX_PATH if name == "stateFile" else _MAX_VALUE):
            raise _Refused(f"its {name} has {len(value)} characters")
    return found
