# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The parser of VirtualBox's settings files (.vbox): identity, NICs, boot order, saved state.

Reading the files of 200 VMs takes 4 ms and no lock. VBoxManage takes 8 s for the same information
(measured, VirtualBox 7.2.22). VirtualBox rewrites the file whenever a value that is read here
changes, including `stateFile` and `aborted`. This module contains pure functions from text to
dataclasses and does not read files itself.

A host may be hostile. The parser reads the text as a stream, keeps only the values that it needs,
and has a limit for every size. A file that exceeds a limit makes only its own VM inaccessible.
"""

from __future__ import annotations

import dataclasses
import ntpath
import posixpath
import re
from typing import TYPE_CHECKING
from xml.parsers import expat  # `_feed` refuses DTDs, and so entities, before expat sees them

from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    import types
    from collections.abc import Mapping

MANAGED_KEY = "maas-virtualbox/made"
"""The extra-data key that identifies a managed VM; its value is the VM's own UUID. VMs on users'
hosts have this key, so it must not change."""

MAX_FILE = 2 * 1024 * 1024
"""Size limit of a settings file in bytes. The file of a VM without snapshots has 4 KiB, and each
snapshot adds about as much. VirtualBox allows 250 nested snapshots."""

MAX_NICS = 36
"""Limit of network adapters per VM; no chipset of VirtualBox has more."""

_MAX_ELEMENTS = 50_000
"""Limit of XML elements in one file: 250 snapshots with 200 elements each."""
_MAX_DEPTH = 1000
"""Limit of nested elements: two for each of 250 nested snapshots, and their content."""
_MAX_VALUE = 1024
"""Limit of a value in characters. A VM's name is also the name of a folder: at most 255 bytes."""
_MAX_PATH = 4096
"""Limit of a path in characters."""
_MAX_BOOT_DEVICES = 64

# Attachments: element name in the file → term of `showvminfo --machinereadable`.
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
# VirtualBox omits default values from the file.
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
    """What it is attached to, as in `--nic1`: nat, bridged, hostonly, …; null: not attached."""

    network: str
    """The interface or network it is attached to; empty for nat and null."""

    cable: bool
    """Whether the cable is connected."""


@dataclasses.dataclass(frozen=True, slots=True)
class VMSettings:
    """The settings of one VM in VirtualBox. Partial (`nics` is None) if only its first line, the
    `<Machine …>` element, was read."""

    uuid: str
    """Lower-case UUID without braces; it identifies the VM in all commands."""

    name: str
    """The VM's name, any text; empty if the VM is inaccessible."""

    settings_file: str
    """Path of the .vbox file on the host; empty if unknown."""

    off_state: VMState
    """The VM's state while no process runs it: poweroff, saved, aborted or aborted-saved."""

    accessible: bool = True
    """Whether its settings file could be read and parsed."""

    nics: tuple[NIC, ...] | None = None
    """Enabled NICs in the order of their slots; None if they were not read."""

    boot_order: tuple[str, ...] = ()
    """Boot devices first to last: net, disk, dvd, floppy, usb, none."""

    firmware: str = ""
    """`BIOS`, `EFI`, …"""

    managed: bool = False
    """Whether this project created the VM: its extra data has the VM's own UUID under
    `MANAGED_KEY`. A clone has another UUID and is not managed. Also False if only the first line
    was read; `ownership.is_managed` asks VirtualBox instead."""

    architecture: str = ""
    """The architecture of the guest: amd64, i386 or arm64; empty if it was not read."""

    limit_exceeded: str = ""
    """Which limit its settings file exceeds, so that this library did not read it although
    VirtualBox may be able to; otherwise empty."""

    @property
    def macs(self) -> tuple[str, ...]:
        """The MAC addresses of the enabled NICs, in the order of their slots."""
        return tuple(nic.mac for nic in self.nics or ())

    @property
    def log_file(self) -> str:
        """Path of the VM's VBox.log on the host; empty if the settings file is unknown."""
        return beside(self.settings_file, "Logs", "VBox.log") if self.settings_file else ""


def beside(settings_file: str, *parts: str) -> str:
    """Return a path in the folder of a settings file, in the host's own notation. A single empty
    part returns the folder with a separator at its end."""
    path = path_style(settings_file)
    return path.join(path.dirname(settings_file), *parts)


def format_mac(digits: str) -> str:
    """Return 12 hex digits as a MAC: lower case, with colons."""
    digits = digits.lower()
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def is_unicast_mac(digits: str) -> bool:
    """Return whether `--macaddress1` accepts it: 12 hex digits, not a multicast address."""
    return bool(_MAC.fullmatch(digits.lower())) and not int(digits[1], 16) & 1


def normalise_uuid(text: str) -> str:
    """Return a UUID in lower case without braces; an empty string if the text is not a UUID."""
    text = text.strip().strip("{}").lower()
    return text if _UUID.fullmatch(text) else ""


def path_style(path: str) -> types.ModuleType:
    """Return the module for a host's paths: `ntpath` for Windows, otherwise `posixpath`."""
    return ntpath if re.match(r"[A-Za-z]:|\\\\", path) else posixpath


def unescape(text: str) -> str:
    """Return the text of an XML attribute (`&amp;`, `&#x11B;`); empty if it is malformed or longer
    than the limit of a path."""
    if len(text) > 8 * _MAX_PATH:
        return ""
    found: list[str] = []
    parser = expat.ParserCreate()
    parser.StartElementHandler = lambda _, attributes: found.append(attributes.get("b", ""))
    try:
        _feed(parser, f'<a b="{text}"/>')
    except (expat.ExpatError, _LimitExceeded):
        return ""
    return found[0][:_MAX_PATH]


def parse_mac(text: str) -> str:
    """Return a MAC in any usual notation as `08:00:27:aa:bb:01`; empty if it is not a MAC."""
    text = text.strip().lower()
    if not _MAC_NOTATIONS.fullmatch(text):
        return ""
    return format_mac(re.sub(r"[^0-9a-f]", "", text))


def parse_settings(uuid: str, settings_file: str, xml: str) -> VMSettings:
    """Parse the text of a .vbox file, or only its `<Machine …>` line.

    A file that is empty, cut off, not XML or about another VM gives an inaccessible VM, as in
    VirtualBox. So does a file that exceeds a limit; `limit_exceeded` then names the limit.
    """
    text = xml.strip()
    is_first_line = text.startswith("<Machine ")
    if is_first_line:
        text = _document_of(text)
    reader = _Reader(uuid)
    try:
        reader.read(text)
    except expat.ExpatError:
        return inaccessible(uuid, settings_file)
    except _LimitExceeded as error:
        return inaccessible(uuid, settings_file, str(error))
    machine = reader.machine
    if machine is None or normalise_uuid(machine.get("uuid", "")) != uuid:
        return inaccessible(uuid, settings_file)
    settings = VMSettings(uuid, machine.get("name", ""), settings_file, _off_state(machine))
    if is_first_line:
        return settings
    return dataclasses.replace(
        settings,
        nics=tuple(sorted(reader.nics, key=lambda nic: nic.slot)),
        boot_order=reader.boot_order(),
        firmware=reader.firmware or reader.firmware_type or "BIOS",
        managed=reader.managed,
        architecture=reader.architecture(),
    )


def _document_of(first_line: str) -> str:
    # A line without its end was cut off, and may lack the attributes that matter.
    if not first_line.endswith(">"):
        return ""
    return f"<VirtualBox>{first_line.removesuffix('>').removesuffix('/')}/></VirtualBox>"


def _off_state(machine: Mapping[str, str]) -> VMState:
    """Return the state in the attributes of `<Machine>`."""
    saved, aborted = bool(machine.get("stateFile")), machine.get("aborted") in ("true", "1")
    return {
        (False, False): VMState.POWEROFF,
        (True, False): VMState.SAVED,
        (False, True): VMState.ABORTED,
        (True, True): VMState.ABORTED_SAVED,
    }[saved, aborted]


def inaccessible(uuid: str, settings_file: str, limit_exceeded: str = "") -> VMSettings:
    """Return the settings of a VM whose settings file was not read."""
    return VMSettings(
        uuid,
        "",
        settings_file,
        VMState.INACCESSIBLE,
        accessible=False,
        limit_exceeded=limit_exceeded,
    )


class _LimitExceeded(Exception):
    """A settings file exceeds a limit; the text names it."""


def _feed(parser: expat.XMLParserType, text: str) -> None:
    # Without a DTD there are no entities. A handler would not stop the parser in time.
    if "<!DOCTYPE" in text:
        raise _LimitExceeded("it has a DTD")
    parser.Parse(text.encode("utf-8", "replace"), True)  # noqa: FBT003 - the last part


class _Reader:
    """Reads one settings file and keeps the values of its first VM that this project needs."""

    def __init__(self, uuid: str) -> None:
        self._uuid = uuid
        self.machine: dict[str, str] | None = None
        """The attributes of `<Machine>`."""
        self.nics: list[NIC] = []
        """The enabled NICs."""
        self.boot: dict[str, str] = {}
        """Boot devices by position."""
        self.firmware = self.firmware_type = ""
        self.managed = False
        self._platform: str | None = None
        self._long_mode: str | None = None
        self._adapter: dict[str, str] = {}
        self._attachment = self._network = ""
        self._path: list[str] = []
        self._elements = 0
        self._machines = 0

    def read(self, text: str) -> None:
        """Read the text of a file. Raises `_LimitExceeded` or `expat.ExpatError`."""
        if len(text) > MAX_FILE:
            raise _LimitExceeded(f"it is larger than {MAX_FILE // 1024**2} MiB")
        parser = expat.ParserCreate(encoding="utf-8", namespace_separator="}")
        parser.StartElementHandler = self._begin
        parser.EndElementHandler = self._end
        _feed(parser, text)

    def boot_order(self) -> tuple[str, ...]:
        """Return the boot devices, first to last."""
        order = tuple(self.boot[position] for position in sorted(self.boot))
        return order or _DEFAULT_BOOT_ORDER

    def architecture(self) -> str:
        """Return the architecture of the guest.

        Files name the platform since VirtualBox 7.1; all earlier VMs are x86. A 64-bit guest needs
        the long mode, which is on by default if the name of the guest's type ends with `_64`."""
        if (self._platform or "").upper() == "ARM":
            return "arm64"
        if self._long_mode is None:
            is_64_bit = (self.machine or {}).get("OSType", "").endswith("_64")
        else:
            is_64_bit = self._long_mode != "false"
        return "amd64" if is_64_bit else "i386"

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        path = self._path
        path.append(tag.rpartition("}")[2])
        if self._elements > _MAX_ELEMENTS:
            raise _LimitExceeded(f"it has more than {_MAX_ELEMENTS} XML elements")
        if len(path) > _MAX_DEPTH:
            raise _LimitExceeded(f"its XML is nested more than {_MAX_DEPTH} deep")
        if path[1:2] != ["Machine"]:
            return
        if len(path) == 2:
            self._machines += 1
            if self._machines == 1:
                self.machine = _read(attributes, "uuid", "name", "stateFile", "aborted", "OSType")
        elif self._machines == 1 and path[2] != "Snapshot":
            self._begin_in_machine(path[2:], attributes)

    def _begin_in_machine(self, path: list[str], attributes: dict[str, str]) -> None:
        match path:
            case [*_, "CPU", "LongMode"] if self._long_mode is None:
                self._long_mode = _read(attributes, "enabled").get("enabled", "")
            case ["Hardware", *inner]:
                self._begin_in_hardware(inner, attributes)
            case ["ExtraData", "ExtraDataItem"] if attributes.get("name") == MANAGED_KEY:
                self.managed = self.managed or attributes.get("value") == self._uuid
            case ["Platform"] if self._platform is None:
                self._platform = _read(attributes, "architecture").get("architecture", "")
            case _:
                pass

    def _begin_in_hardware(self, path: list[str], attributes: dict[str, str]) -> None:
        match path:
            case ["Network", "Adapter"]:
                keys = ("slot", "enabled", "MACAddress", "type", "cable")
                self._adapter = _read(attributes, *keys)
                self._attachment, self._network = "null", ""
            case ["Network", "Adapter", element] if element in _ATTACHMENTS:
                self._attachment = _ATTACHMENTS[element]
                self._network = _read(attributes, "name").get("name", "")
            case ["Boot", "Order"]:
                order = _read(attributes, "position", "device")
                device = _BOOT_DEVICES.get(order.get("device", ""), "none")
                self.boot[order.get("position", "")] = device
                if len(self.boot) > _MAX_BOOT_DEVICES:
                    raise _LimitExceeded(f"it has more than {_MAX_BOOT_DEVICES} boot devices")
            case ["Firmware"]:
                self.firmware = self.firmware or _read(attributes, "type").get("type", "")
            case ["FirmwareType"]:
                self.firmware_type = _read(attributes, "type").get("type", "")
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
            raise _LimitExceeded(f"it has more than {MAX_NICS} network adapters")
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


def _read(attributes: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return the named attributes of an element. Raises `_LimitExceeded` if one is too long."""
    found = {name: attributes[name] for name in names if name in attributes}
    for name, value in found.items():
        if len(value) > (_MAX_PATH if name == "stateFile" else _MAX_VALUE):
            raise _LimitExceeded(f"its {name} has {len(value)} characters")
    return found
