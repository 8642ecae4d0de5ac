# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What VirtualBox prints and writes: recorded texts of 7.2.22, with the blanks filled in.

`Answer` and `VBoxError` carry them to the client. Nothing here changes anything.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from maas_virtualbox.virtualbox.states import VMState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from maas_virtualbox.simulator.vms import SimulatedVM

VERSION = "7.2.22_Simulated"
PROGRAM = "/usr/lib/virtualbox/VBoxManage"
PROGRESS = "0%...10%...20%...30%...40%...50%...60%...70%...80%...90%...100%\n"
_SINCE = "2026-11-21T00:02:20.224000000"


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a simulated program printed, and its exit code."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0


class VBoxError(Exception):
    """An error that the simulated VBoxManage prints; its text is the whole of standard error."""

    def __init__(self, stderr: str, exit_code: int = 1, stdout: str = "") -> None:
        super().__init__(stderr)
        self.answer = Answer(stdout, stderr, exit_code)


# -- Errors -----------------------------------------------------------------------------------


def _error(words: str, code: str, component: str, context: str = "") -> str:
    lines = [words, f"Details: code {code}, component {component}, callee nsISupports"]
    if context:
        lines.append(f'Context: "{context}')
    return "".join(f"VBoxManage: error: {line}\n" for line in lines)


_NOT_FOUND = "VBOX_E_OBJECT_NOT_FOUND (0x80bb0001)"
_INVALID_VM_STATE = "VBOX_E_INVALID_VM_STATE (0x80bb0002)"
_INVALID_OBJECT_STATE = "VBOX_E_INVALID_OBJECT_STATE (0x80bb0007)"
_ACCESS_DENIED = "E_ACCESSDENIED (0x80070005)"
_OBJECT_IN_USE = "VBOX_E_OBJECT_IN_USE (0x80bb000c)"
_MEDIUM = "MediumWrap, interface IMedium"
_MACHINE = "MachineWrap, interface IMachine"
_CONSOLE = "ConsoleWrap, interface IConsole"
_SESSION_MACHINE = "SessionMachine, interface IMachine"
_LAUNCH = (
    "LaunchVMProcess(a->session, sessionType.raw(), ComSafeArrayAsInParam(aBstrEnv),"
    ' progress.asOutParam())" at line 920 of file VBoxManageMisc.cpp'
)
_LOCK_CONTROL = (
    'LockMachine(a->session, LockType_Shared)" at line 369 of file VBoxManageControlVM.cpp'
)
_LOCK_DISCARD = 'LockMachine(a->session, LockType_Write)" at line 1287 of file VBoxManageMisc.cpp'

ALREADY_PAUSED = _error(
    "Already paused",
    _INVALID_VM_STATE,
    _CONSOLE,
    'Pause()" at line 388 of file VBoxManageControlVM.cpp',
)
NOT_PAUSED = _error(
    "Cannot resume the machine as it is not paused (machine state: Running)",
    _INVALID_VM_STATE,
    _CONSOLE,
    'Resume()" at line 393 of file VBoxManageControlVM.cpp',
)
NOT_MUTABLE = _error(
    "The machine is not mutable (state is Saved)", _INVALID_VM_STATE, _SESSION_MACHINE
)
NOTHING_SAVED = _error(
    "Cannot discard the saved state as the machine is not in the Saved or Aborted-Saved state"
    " (machine state: PoweredOff)",
    _INVALID_VM_STATE,
    _SESSION_MACHINE,
    'DiscardSavedState(true )" at line 1292 of file VBoxManageMisc.cpp',
)
LIMITED = _error("The object functionality is limited", _ACCESS_DENIED, _MACHINE, _LOCK_CONTROL)
INVALID_OS_TYPE = "VBoxManage: error: Unknown or invalid guest OS type given.\n"
NO_MEDIUM = "VBoxManage: error: Failed to delete medium. Error code VBOX_E_OBJECT_IN_USE\n"
INVALID_MAC = _error(
    "Invalid MAC address format",
    "NS_ERROR_INVALID_ARG (0x80070057)",
    "NetworkAdapterWrap, interface INetworkAdapter",
)
SERVICE_GONE = (
    "VBoxManage: error: Failed to create the VirtualBox object!\n"
    "VBoxManage: error: Code NS_ERROR_FACTORY_NOT_REGISTERED (0x80040154) - Class not registered"
    " (extended info not available)\n"
    "VBoxManage: error: Most likely, the VirtualBox COM server is not running or failed to"
    " start.\n"
)
TERMINATED = (
    "VBoxManage: error: The VM session was aborted\n"
    "VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component SessionMachine,"
    " interface ISession\n"
)


def already_attached(path: str) -> str:
    words = f"Medium '{path}' is already attached to this virtual machine"
    return _error(words, _OBJECT_IN_USE, _SESSION_MACHINE)


def cannot_rename(old: str, new: str) -> str:
    words = (
        f"Could not rename the directory '{old}' to '{new}' to save the settings file"
        " (VERR_ALREADY_EXISTS)"
    )
    context = 'SaveSettings()" at line 3863 of file VBoxManageModifyVM.cpp'
    return _error(words, "NS_ERROR_FAILURE (0x80004005)", _SESSION_MACHINE, context)


def cannot_unregister(name: str) -> str:
    words = f"Cannot unregister the machine '{name}' while it is locked"
    return _error(words, _INVALID_OBJECT_STATE, _MACHINE)


def complaint(words: str) -> str:
    """What VBoxManage says of its own accord, without details."""
    return f"VBoxManage: error: {words}\n"


def controller_exists(name: str) -> str:
    words = f"Storage controller named '{name}' already exists"
    return _error(words, _OBJECT_IN_USE, _SESSION_MACHINE)


def disk_exists(path: str) -> str:
    return (
        "0%...VBOX_E_FILE_ERROR\nVBoxManage: error: Failed to create medium\n"
        f"VBoxManage: error: Could not create the medium storage unit '{path}'.\n"
        f"VBoxManage: error: VDI: cannot create image '{path}' (VERR_ALREADY_EXISTS)\n"
        "VBoxManage: error: Details: code VBOX_E_FILE_ERROR (0x80bb0004), component MediumWrap,"
        " interface IMedium\n"
    )


def disk_in_use(path: str, users: Sequence[str]) -> str:
    words = (
        f"Cannot delete storage: medium '{path}' is still attached to the following {len(users)}"
        f" virtual machine(s): {' '.join(users)}"
    )
    return _error(words, _OBJECT_IN_USE, _MEDIUM) + NO_MEDIUM


def file_exists(path: str) -> str:
    words = f"Machine settings file '{path}' already exists"
    return _error(words, "VBOX_E_FILE_ERROR (0x80bb0004)", _MACHINE)


def invalid_cpus(count: str) -> str:
    words = f"Invalid virtual CPU count: {count} (must be in range [1, 64])"
    return _error(words, "NS_ERROR_INVALID_ARG (0x80070057)", _SESSION_MACHINE)


def invalid_memory(mib: str) -> str:
    words = f"Invalid RAM size: {mib} MB (must be in range [4, 2097152] MB)"
    return _error(words, "NS_ERROR_INVALID_ARG (0x80070057)", _SESSION_MACHINE)


def invalid_state(state: str, verb: str) -> str:
    call = {"acpipowerbutton": "PowerButton", "reset": "Reset", "pause": "Pause"}.get(verb, verb)
    context = f'{call}()" at line 658 of file VBoxManageControlVM.cpp'
    return _error(f"Invalid machine state: {state}", _INVALID_VM_STATE, _CONSOLE, context)


def lock_pending(name: str) -> str:
    words = f"The machine '{name}' already has a lock request pending"
    return _error(words, _INVALID_OBJECT_STATE, _MACHINE, _LOCK_CONTROL)


def locked_by_session(name: str) -> str:
    words = f"The machine '{name}' is already locked by a session (or being locked or unlocked)"
    return _error(words, _INVALID_OBJECT_STATE, _MACHINE, _LAUNCH)


def locked_for_session(name: str) -> str:
    words = f"The machine '{name}' is already locked for a session (or being unlocked)"
    return _error(words, _INVALID_OBJECT_STATE, _MACHINE, _LOCK_DISCARD)


def no_disk(path: str) -> str:
    words = f"Could not find file for the medium '{path}' (VERR_FILE_NOT_FOUND)"
    return _error(words, "VBOX_E_FILE_ERROR (0x80bb0004)", _MEDIUM)


def no_interface(name: str) -> str:
    return f'VBoxManage: warning: Interface "{name}" doesn\'t seem to exist\n'


def not_found(selector: str) -> str:
    braced = re.fullmatch(r"\{?([0-9A-Fa-f-]{36})\}?", selector)
    what = f"with UUID {{{braced[1].lower()}}}" if braced else f"named '{selector}'"
    return _error(
        f"Could not find a registered machine {what}",
        _NOT_FOUND,
        "VirtualBoxWrap, interface IVirtualBox",
        'FindMachine(Bstr(a->argv[0]).raw(), machine.asOutParam())" at line 363 of file'
        " VBoxManageControlVM.cpp",
    )


def uuid_exists(uuid: str, file: str) -> str:
    words = f"Registered machine with UUID {{{uuid}}} ('{file}') already exists"
    component = "VirtualBoxWrap, interface IVirtualBox"
    return _error(words, "NS_ERROR_INVALID_ARG (0x80070057)", component)


def not_running(name: str) -> str:
    return f"VBoxManage: error: Machine '{name}' is not currently running.\n"


def start_failed(words: str) -> str:
    return (
        f"VBoxManage: error: {words}\n"
        "VBoxManage: error: Details: code NS_ERROR_FAILURE (0x80004005), component ConsoleWrap,"
        " interface IConsole\n"
    )


def syntax_error(words: str) -> str:
    return (
        f"Oracle VirtualBox Command Line Management Interface Version {VERSION}\n"
        "Copyright (C) 2005-2026 Oracle and/or its affiliates\n\n"
        f"VBoxManage: error: {words}\n\nUsage - ...\n"
    )


def unexpected_process(name: str) -> str:
    words = (
        f"An unexpected process (PID=0x00007D57) has tried to lock the machine '{name}', while"
        " only the process started by LaunchVMProcess (PID=0x00007D76) is allowed"
    )
    return _error(words, _ACCESS_DENIED, _MACHINE, _LOCK_CONTROL)


# -- Lists ------------------------------------------------------------------------------------

_LONG_STATES = {
    VMState.POWEROFF: "powered off",
    VMState.GURU_MEDITATION: "guru meditation",
}


def dhcp_server(network: str) -> str:
    return (
        f"NetworkName:    {network}\nLowerIPAddress: 192.168.56.101\n"
        "UpperIPAddress: 192.168.56.254\nNetworkMask:    255.255.255.0\nEnabled:        Yes\n\n"
    )


def hard_disk(path: str, uuid: str, mib: int, users: Sequence[SimulatedVM]) -> str:
    fields = [
        ("UUID", uuid),
        ("Parent UUID", "base"),
        ("State", "created"),
        ("Type", "normal (base)"),
        ("Location", path),
        ("Storage format", "VDI"),
        ("Format variant", "dynamic default"),
        ("Capacity", f"{mib} MBytes"),
        ("Size on disk", "2 MBytes"),
        ("Encryption", "disabled"),
        ("Property", "AllocationBlockSize=1048576"),
    ]
    used = [f"{vm.name} (UUID: {vm.uuid})" for vm in users]
    if used:
        fields.append(("In use by VMs", f"\n{'':<16}".join(used)))
    return "".join(f"{key + ':':<15} {value}\n" for key, value in fields) + "\n"


def os_types(ids: Iterable[str]) -> str:
    """`list ostypes`."""
    entries = (
        f"ID / Description: {id_} -- {id_}\nFamily:           Linux (Linux)\n"
        f"Architecture:     x86 (64-bit)\n\n"
        for id_ in ids
    )
    return f"Supported guest OS types:\n\n{''.join(entries)}"


def interface(name: str, kind: str) -> str:
    return (
        f"Name:            {name}\nGUID:            effffff9-7b97-44b7-8000-02fc00000001\n"
        "DHCP:            Disabled\nIPAddress:       192.168.56.1\n"
        "NetworkMask:     255.255.255.0\nHardwareAddress: 02:fc:00:00:00:01\n"
        f"MediumType:      Ethernet\nWireless:        No\nStatus:          Up\n"
        f"VBoxNetworkName: HostInterfaceNetworking-{name}\n\n"
        if kind == "bridgedifs"
        else f"Name:            {name}\nGUID:            786f6276-656e-4074-8000-0a0027000000\n"
        "DHCP:            Disabled\nIPAddress:       192.168.56.1\n"
        "NetworkMask:     255.255.255.0\nStatus:          Up\n"
        f"VBoxNetworkName: HostInterfaceNetworking-{name}\n\n"
    )


def list_entry(vm: SimulatedVM) -> str:
    return f'"{vm.name if vm.accessible else "<inaccessible>"}" {{{vm.uuid}}}\n'


def long_entry(vm: SimulatedVM, home: str) -> str:
    if not vm.accessible:
        file = settings_file(home, vm.name)
        fields = [("Name", "<inaccessible!>"), ("UUID", vm.uuid), ("Config file", file)]
        return "".join(f"{key + ':':<17}{value}\n" for key, value in fields)
    devices = {"net": "Network", "disk": "HardDisk", "dvd": "DVD", "floppy": "Floppy"}
    state = _LONG_STATES.get(vm.state, vm.state.value)
    fields = [
        ("Name", vm.name),
        ("Groups", "/"),
        ("Guest OS", "Ubuntu (64-bit)"),
        ("UUID", vm.uuid),
        ("Config file", settings_file(home, vm.name)),
        ("Hardware UUID", vm.uuid),
        ("Firmware", vm.firmware),
        *(
            (f"Boot Device {number}", devices.get(device, "Not Assigned"))
            for number, device in enumerate(vm.boot_order, 1)
        ),
        ("State", f"{state} (since {_SINCE})"),
        *(
            (
                f"NIC {number}",
                (
                    f"MAC: {mac}, Attachment: {_long_attachment(vm)}, Cable connected: on,"
                    f" Trace: off (file: none), Type: {vm.nic_type}, Reported speed: 0 Mbps, "
                ),
            )
            for number, mac in enumerate(vm.macs, 1)
        ),
    ]
    return "".join(f"{key + ':':<29}{value}\n" for key, value in fields)


def _long_attachment(vm: SimulatedVM) -> str:
    words = {
        "nat": "NAT",
        "bridged": f"Bridged Interface '{vm.network}'",
        "hostonly": f"Host-only Interface '{vm.network}'",
    }
    return words.get(vm.attachment, "none")


def machine_readable(vm: SimulatedVM, home: str) -> str:
    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'

    folder = settings_file(home, vm.name).rpartition("/")[0]
    lines = [
        f"name={quoted(vm.name)}",
        'encryption="disabled"',
        f'UUID="{vm.uuid}"',
        f"CfgFile={quoted(settings_file(home, vm.name))}",
        f"LogFldr={quoted(folder + '/Logs')}",
        f'hardwareuuid="{vm.uuid}"',
        f"memory={vm.memory}",
        f"cpus={vm.cpus}",
        f'firmware="{vm.firmware}"',
        *(f'boot{number}="{device}"' for number, device in enumerate(vm.boot_order, 1)),
        f'VMState="{vm.state}"',
        f'VMStateChangeTime="{_SINCE}"',
    ]
    for number, mac in enumerate(vm.macs, 1):
        lines += [f'macaddress{number}="{mac}"', f'nic{number}="{vm.attachment}"']
    lines += [f'nic{number}="none"' for number in range(len(vm.macs) + 1, 9)]
    lines += [
        f'"{controller}-{port}"={quoted(path)}'
        for controller, ports in vm.ports.items()
        for port, path in ports.items()
    ]
    lines += ['VideoMode="640,480,32"@0,0 1', "recording_screens=1", " rec_screen0"]
    return "\n".join(lines) + "\n"


def process_line(pid: int, name: str, uuid: str) -> str:
    return (
        f"{pid:>7} /usr/lib/virtualbox/VBoxHeadless --comment {name} --startvm {uuid}"
        " --vrde config\n"
    )


# -- Files ------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Write an attribute's value as libxml2 does, which leaves nothing but ASCII."""
    special = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}
    return "".join(
        special.get(char)
        or (
            char
            if " " <= char <= "~"
            else f"&#{ord(char)};"
            if char < " "
            else f"&#x{ord(char):X};"
        )
        for char in text
    )


def log(error: str) -> str:
    """The text of a VBox.log."""
    lines = ["00:00:00.064239 VirtualBox VM 7.2.22 simulated", "00:00:00.300719 Power up failed"]
    if not error:
        lines[1] = "00:00:00.300719 Console: Machine state changed to 'Running'"
    return "\n".join([*lines, f"00:00:00.400000 {error or 'EMR3Init: done'}"]) + "\n"


def log_file(home: str, name: str) -> str:
    return settings_file(home, name).rpartition("/")[0] + "/Logs/VBox.log"


def render_settings(vm: SimulatedVM, *, whole: bool) -> str:
    """The text of a .vbox file, or its `<Machine>` line alone."""
    saved = ""
    if vm.state in (VMState.SAVED, VMState.ABORTED_SAVED):
        saved = ' stateFile="Snapshots/2026-11-21T01-30-38-266595000Z.sav"'
    aborted = ""
    if vm.state in (VMState.ABORTED, VMState.ABORTED_SAVED):
        aborted = ' aborted="true"'
    head = (
        f'  <Machine uuid="{{{vm.uuid}}}" name="{escape(vm.name)}" OSType="Ubuntu_64"{saved}'
        ' snapshotFolder="Snapshots" lastStateChange="2026-11-21T01:30:38Z"'
        f"{aborted}>"
    )
    if not whole:
        return head
    devices = {"net": "Network", "disk": "HardDisk", "dvd": "DVD", "floppy": "Floppy"}
    orders = "\n".join(
        f'        <Order position="{number}" device="{device}"/>'
        for number, device in enumerate((devices.get(name, "None") for name in vm.boot_order), 1)
    )
    network = escape(vm.network or "vboxnet0")
    tags = {
        "null": "",
        "bridged": f'<BridgedInterface name="{network}"/>',
        "hostonly": f'<HostOnlyInterface name="{network}"/>',
    }
    extra = "".join(
        f'\n      <ExtraDataItem name="{escape(key)}" value="{escape(value)}"/>'
        for key, value in vm.extra_data.items()
    )
    adapters = "\n".join(
        f'        <Adapter slot="{slot}" enabled="true" MACAddress="{mac}" type="{vm.nic_type}">'
        f"{tags.get(vm.attachment, '<NAT/>')}</Adapter>"
        for slot, mac in enumerate(vm.macs)
    )
    firmware = "" if vm.firmware == "BIOS" else f' type="{vm.firmware}"'
    return f"""<?xml version="1.0"?>
<!-- ** DO NOT EDIT THIS FILE. -->
<VirtualBox xmlns="http://www.virtualbox.org/" version="1.21-linux">
{head}
    <ExtraData>{extra}
    </ExtraData>
    <Hardware>
      <Memory RAMSize="{vm.memory}"/>
      <Boot>
{orders}
      </Boot>
      <Firmware{firmware}/>
      <Network>
{adapters}
      </Network>
    </Hardware>
  </Machine>
</VirtualBox>"""


def settings_file(home: str, name: str) -> str:
    """Where VirtualBox puts a VM's settings: names become file names with `_` for odd letters."""
    safe = re.sub(r"[^\w .()-]", "_", name)
    safe = re.sub(r"^[ -]|[ .]$", "_", safe)
    return f"{home}/VirtualBox VMs/{safe}/{safe}.vbox"
