# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The model: VMs, their states and locks, VBoxSVC, and the VBoxManage commands that change them.

Every text and exit code is a recorded one of VirtualBox 7.2.22. Nothing here concerns SSH.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
import uuid as uuids
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import hardware, texts
from maas_virtualbox.simulator.texts import Answer, VBoxError
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.virtualbox import settings_xml
from maas_virtualbox.virtualbox.states import Power, VMState

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

_NAMESPACE = uuids.UUID("6d616173-7662-4f78-8000-000000000000")
_SHOWN_AS_RUNNING = frozenset(
    {VMState.RUNNING, VMState.PAUSED, VMState.LIVE_SNAPSHOTTING, VMState.TELEPORTING}
)
_OS_TYPES = ("Other", "Linux_64", "Ubuntu_64")
_SAVED = frozenset({VMState.SAVED, VMState.ABORTED_SAVED})


@dataclasses.dataclass(frozen=True, slots=True)
class Timings:
    """How long things take, in seconds. The defaults suit tests."""

    call: float = 0.0
    """Any VBoxManage call."""
    start: float = 0.05
    """`startvm`, from the call to running."""
    stop: float = 0.01
    """`controlvm poweroff`, and how long the process outlives it."""
    long_entry: float = 0.0
    """`list --long`, for each VM."""
    service_recovery: float = 0.1
    """The first call after VBoxSVC was killed, which fails."""

    @classmethod
    def real(cls) -> Timings:
        """The medians of VirtualBox 7.2.22."""
        return cls(call=0.02, start=0.415, stop=0.041, long_entry=0.04, service_recovery=14.5)


class SimulatedVirtualBox:
    """VirtualBox of one account. Created by `Simulator`; may be shared between threads.

    `_lock` guards all fields and is never held while a call waits.
    """

    def __init__(self, home: str, timings: Timings) -> None:
        self.home = home
        self.timings = timings
        self.calls: list[tuple[str, ...]] = []
        """The arguments of every call of VBoxManage so far."""
        self.duplicate_starts = 0
        """How often a VM was started that a process ran already."""
        self.dhcp_networks: list[str] = []
        """Networks on which VirtualBox's own DHCP server answers."""
        self.interfaces = {"bridgedifs": ["eth0"], "hostonlyifs": ["vboxnet0"]}
        """What NICs can be attached to."""
        self.disks: dict[str, tuple[str, int]] = {}
        """By path, the UUID and the size in MiB of each hard disk."""
        self._vms: dict[str, SimulatedVM] = {}
        self._lock = threading.RLock()
        self._next_pid = 4000
        self._service_killed = False

    # -- For tests ----------------------------------------------------------------------------

    def add_vm(self, name: str, *, macs: Sequence[str] = (), uuid: str = "") -> SimulatedVM:
        """Register a VM with NAT NICs that boots from the network first, and return it."""
        with self._lock:
            number = len(self._vms) + 1
            made = uuid or str(uuids.uuid5(_NAMESPACE, f"{self.home} {number} {name}"))
            addresses = [mac.replace(":", "").upper() for mac in macs]
            vm = SimulatedVM(made, name, addresses or [f"080027{number:06X}"])
            self._vms[made] = vm
            return vm

    def crash_vm(self, vm: str) -> None:
        """Put a running VM into Guru Meditation."""
        with self._lock:
            self.vm(vm).state = VMState.GURU_MEDITATION

    def kill_vboxsvc(self) -> None:
        """Kill VBoxSVC: its VMs die, the next call fails, the one after works."""
        with self._lock:
            for vm in self._vms.values():
                if vm.pids:
                    vm.pids.clear()
                    vm.state = VMState.ABORTED
            self._service_killed = True

    def kill_vm(self, vm: str) -> None:
        """Kill the process of a VM."""
        with self._lock:
            found = self.vm(vm)
            found.pids.clear()
            saved = found.state is VMState.RESTORING
            found.state = VMState.ABORTED_SAVED if saved else VMState.ABORTED

    def processes(self, vm: str) -> int:
        """How many processes run a VM."""
        return len(self.vm(vm).pids)

    def remove_ipc_folder(self) -> None:
        """Orphan the processes of all VMs: VirtualBox reports the VMs as off, and they run on."""
        with self._lock:
            for vm in self._vms.values():
                if vm.pids:
                    vm.state = VMState.POWEROFF

    def vm(self, name_or_uuid: str) -> SimulatedVM:
        """Return a VM. Raises `KeyError`."""
        with self._lock:
            if name_or_uuid in self._vms:
                return self._vms[name_or_uuid]
            for vm in self._vms.values():
                if vm.name == name_or_uuid:
                    return vm
        raise KeyError(name_or_uuid)

    @property
    def vms(self) -> list[SimulatedVM]:
        """All VMs in the order of their creation."""
        with self._lock:
            return list(self._vms.values())

    # -- What a host answers ------------------------------------------------------------------

    def call(self, argv: Sequence[str]) -> Answer:
        """Run VBoxManage, given its arguments without `-q`."""
        self.calls.append(tuple(argv))
        time.sleep(self.timings.call)
        try:
            self._wake_service()
            verb, *rest = argv or [""]
            command: Callable[[list[str]], Answer] | None = getattr(self, f"_cmd_{verb}", None)
            if verb == "--version":
                return Answer(texts.VERSION + "\n")
            if command is None:
                raise VBoxError(texts.syntax_error(f"Invalid command '{verb}'"), 2)
            return command(rest)
        except VBoxError as error:
            return error.answer

    def process_list(self) -> str:
        """What `ps -o pid= -o args=` shows of the VMs."""
        with self._lock:
            return "".join(
                texts.process_line(pid, vm.name, vm.uuid)
                for vm in self._vms.values()
                for pid in vm.pids
            )

    def registry(self, *, whole: bool) -> list[tuple[str, str, str]]:
        """UUID, settings file (as XML has it) and text (whole or its head) of each VM."""
        with self._lock:
            return [
                (
                    vm.uuid,
                    texts.escape(texts.settings_file(self.home, vm.name)),
                    texts.render_settings(vm, whole=whole) if vm.accessible else "",
                )
                for vm in self._vms.values()
            ]

    def read_log(self, path: str, lines: int) -> Answer:
        """The end of a VM's VBox.log."""
        with self._lock:
            for vm in self._vms.values():
                if vm.log and texts.log_file(self.home, vm.name) == path:
                    return Answer("\n".join(vm.log.splitlines()[-lines:]) + "\n")
        return Answer(
            "", f"tail: cannot open '{path}' for reading: No such file or directory\n", 1
        )

    def _wake_service(self) -> None:
        with self._lock:
            killed, self._service_killed = self._service_killed, False
        if killed:
            time.sleep(self.timings.service_recovery)
            raise VBoxError(texts.SERVICE_GONE)

    # -- Commands -----------------------------------------------------------------------------

    def _cmd_list(self, arguments: list[str]) -> Answer:
        long = "--long" in arguments
        what = next((word for word in arguments if not word.startswith("-")), "")
        with self._lock:
            chosen = [
                vm
                for vm in self._vms.values()
                if what == "vms" or (what == "runningvms" and vm.state in _SHOWN_AS_RUNNING)
            ]
            if what == "dhcpservers":
                return Answer("".join(texts.dhcp_server(name) for name in self.dhcp_networks))
            if what in self.interfaces:
                names = self.interfaces[what]
                return Answer("".join(texts.interface(name, what) for name in names))
            if what == "hdds":
                return Answer(self._hard_disks())
            if what == "ostypes":
                return Answer(texts.os_types(_OS_TYPES))
            if what not in ("vms", "runningvms"):
                raise VBoxError(texts.syntax_error(f"Unknown list item '{what}'"), 2)
            if not long:
                return Answer("".join(texts.list_entry(vm) for vm in chosen))
            text = "\n".join(texts.long_entry(vm, self.home) for vm in chosen)
        time.sleep(self.timings.long_entry * len(chosen))
        return Answer(text)

    def _cmd_showvminfo(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        self._must_be_accessible(vm)
        with self._wanted(vm):
            if vm.state not in _SHOWN_AS_RUNNING and not vm.locked:
                with self._locked(vm):
                    time.sleep(self.timings.call)
            with self._lock:
                return Answer(texts.machine_readable(vm, self.home))

    def _cmd_startvm(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        self._must_be_accessible(vm)
        waiting = f'Waiting for VM "{vm.name}" to power on...\n'
        with self._wanted(vm):
            with self._lock:
                if vm.state.power is not Power.OFF:
                    raise VBoxError(texts.locked_by_session(vm.name))
            with self._locked(vm, texts.locked_by_session):
                with self._lock:
                    self.duplicate_starts += bool(vm.pids)
                    resumes = vm.state in _SAVED
                    vm.state = VMState.RESTORING if resumes else VMState.STARTING
                    self._next_pid += 1
                    pid = self._next_pid
                    vm.pids.append(pid)
                time.sleep(self.timings.start)
                with self._lock:
                    if pid not in vm.pids:
                        raise VBoxError(texts.TERMINATED, stdout=waiting)
                    vm.starts += 1
                    vm.last_start_resumed = resumes
                    vm.log = texts.log(vm.start_error)
                    if vm.start_error:
                        vm.pids.remove(pid)
                        vm.state = VMState.POWEROFF
                        raise VBoxError(texts.start_failed(vm.start_error), stdout=waiting)
                    vm.state = VMState.RUNNING
        return Answer(f'{waiting}VM "{vm.name}" has been successfully started.\n')

    def _cmd_controlvm(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        verb = arguments[1]
        self._must_be_accessible(vm)
        with self._wanted(vm):
            with self._lock:
                if vm.state in (VMState.STARTING, VMState.RESTORING):
                    raise VBoxError(texts.unexpected_process(vm.name))
                if vm.state.power is Power.OFF:
                    raise VBoxError(texts.not_running(vm.name))
            with self._locked(vm):
                return self._control(vm, verb)

    def _control(self, vm: SimulatedVM, verb: str) -> Answer:  # noqa: C901 - a branch a verb
        if verb == "poweroff":
            time.sleep(self.timings.stop)
            with self._lock:
                vm.state = VMState.POWEROFF
                ending = list(vm.pids)
            self._end_later(vm, ending, self.timings.stop)
            return Answer(stderr=texts.PROGRESS)
        with self._lock:
            if vm.state is VMState.GURU_MEDITATION:
                raise VBoxError(texts.invalid_state("GuruMeditation", verb))
            if verb == "savestate":
                vm.state = VMState.SAVED
                vm.pids.clear()
                return Answer(stderr=texts.PROGRESS)
            if verb == "pause":
                if vm.state is VMState.PAUSED:
                    raise VBoxError(texts.ALREADY_PAUSED)
                vm.state = VMState.PAUSED
            elif verb == "resume":
                if vm.state is not VMState.PAUSED:
                    raise VBoxError(texts.NOT_PAUSED)
                vm.state = VMState.RUNNING
            elif verb == "acpipowerbutton":
                if vm.state is VMState.PAUSED:
                    raise VBoxError(texts.invalid_state("Paused", verb))
                if vm.acpi_reaction is not None:
                    self._end_later(vm, list(vm.pids), vm.acpi_reaction)
            elif verb != "reset":
                raise VBoxError(texts.syntax_error(f"Invalid parameter '{verb}'"), 2)
        return Answer()

    def _cmd_discardstate(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        self._must_be_accessible(vm)
        with self._wanted(vm):
            with self._lock:
                if vm.state.power is not Power.OFF:
                    raise VBoxError(texts.locked_for_session(vm.name))
            with self._locked(vm), self._lock:
                if vm.state not in _SAVED:
                    # VBoxManage prints an error and exits with 0 here.
                    raise VBoxError(texts.NOTHING_SAVED, 0)
                vm.state = VMState.POWEROFF
        return Answer()

    def _cmd_createvm(self, arguments: list[str]) -> Answer:
        options = _options(arguments)
        name, uuid = options.get("--name", ""), options.get("--uuid", "")
        if not name:
            raise VBoxError(texts.syntax_error("Parameter --name is required"), 2)
        if options.get("--ostype", "Other").lower() not in map(str.lower, _OS_TYPES):
            raise VBoxError(texts.INVALID_OS_TYPE)
        with self._lock:
            file = texts.settings_file(self.home, name)
            if self._has_file(file):
                raise VBoxError(texts.file_exists(file))
            if uuid in self._vms:
                other = texts.settings_file(self.home, self._vms[uuid].name)
                raise VBoxError(texts.uuid_exists(uuid, other))
            vm = self.add_vm(name, macs=[f"080027{secrets.token_hex(3)}"], uuid=uuid)
            vm.boot_order = ("floppy", "dvd", "disk", "none")
        return Answer(
            f"Virtual machine '{name}' is created and registered.\n"
            f"UUID: {vm.uuid}\nSettings file: '{file}'\n"
        )

    def _has_file(self, file: str) -> bool:
        return any(texts.settings_file(self.home, vm.name) == file for vm in self._vms.values())

    def _cmd_clonevm(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        name = _options(arguments[1:])["--name"]
        with self._lock:
            clone = self.add_vm(name, macs=[f"080027{secrets.token_hex(3)}"])
            clone.extra_data = {**vm.extra_data}
        return Answer(f'Machine has been successfully cloned as "{name}"\n', texts.PROGRESS)

    def _cmd_createmedium(self, arguments: list[str]) -> Answer:
        options = _options(arguments[1:])
        path = options["--filename"]
        with self._lock:
            if path in self.disks:
                raise VBoxError(texts.disk_exists(path))
            uuid = str(uuids.uuid4())
            self.disks[path] = uuid, int(options["--size"])
        return Answer(f"Medium created. UUID: {uuid}\n", texts.PROGRESS)

    def _cmd_closemedium(self, arguments: list[str]) -> Answer:
        path = arguments[1]
        with self._lock:
            if path not in self.disks:
                raise VBoxError(texts.no_disk(path))
            if users := [vm.uuid for vm in self._vms.values() if path in vm.disks]:
                raise VBoxError(texts.disk_in_use(path, users))
            del self.disks[path]
        return Answer(stderr=texts.PROGRESS)

    def _cmd_storagectl(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        options = _options(arguments[1:])
        with self._changing(vm):
            name = options["--name"]
            if options.get("--add") not in ("ide", "sata", "scsi"):
                words = f"Invalid --add argument '{options.get('--add', '')}'"
                raise VBoxError(texts.complaint(words))
            if name in vm.ports:
                raise VBoxError(texts.controller_exists(name))
            vm.ports[name] = {}
        return Answer()

    def _cmd_storageattach(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        options = _options(arguments[1:])
        controller, path = options["--storagectl"], options["--medium"]
        port = f"{options['--port']}-{options['--device']}"
        with self._changing(vm):
            if controller not in vm.ports:
                words = f"Could not find a controller named '{controller}'"
                raise VBoxError(texts.complaint(words))
            if path == "none":
                vm.ports[controller].pop(port, None)
            elif path not in self.disks:
                raise VBoxError(texts.no_disk(path))
            elif path in vm.disks:
                raise VBoxError(texts.already_attached(path))
            else:
                vm.ports[controller][port] = path
        return Answer()

    def _cmd_modifyvm(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        self._must_be_accessible(vm)
        warnings = ""
        with self._changing(vm):
            for option, value in _options(arguments[1:]).items():
                if option == "--name":
                    self._rename(vm, value)
                else:
                    warnings += hardware.modify(vm, option, value, self.interfaces)
        return Answer(stderr=warnings)

    @contextlib.contextmanager
    def _changing(self, vm: SimulatedVM) -> Generator[None]:
        with self._wanted(vm), self._lock:
            if vm.state.power is not Power.OFF:
                raise VBoxError(texts.locked_for_session(vm.name))
            with self._locked(vm):
                if vm.state in _SAVED:
                    raise VBoxError(texts.NOT_MUTABLE)
                yield

    def _rename(self, vm: SimulatedVM, name: str) -> None:
        """Rename a VM, and its folder with everything in it."""
        old, new = (
            settings_xml.beside(texts.settings_file(self.home, owner), "")
            for owner in (vm.name, name)
        )
        if old != new:
            if self._has_file(texts.settings_file(self.home, name)):
                raise VBoxError(texts.cannot_rename(old.rstrip("/"), new.rstrip("/")))
            moved = {path: new + path.removeprefix(old) for path in self.disks if old in path}
            self.disks = {moved.get(path, path): disk for path, disk in self.disks.items()}
            for other in self._vms.values():
                for ports in other.ports.values():
                    ports.update({port: moved.get(path, path) for port, path in ports.items()})
        vm.name = name

    def _cmd_unregistervm(self, arguments: list[str]) -> Answer:
        vm = self._find(arguments[0])
        with self._lock:
            if vm.pids:
                raise VBoxError(texts.cannot_unregister(vm.name))
            del self._vms[vm.uuid]
            if "--delete" in arguments:
                # Wherever they are, but for those another VM has too.
                for path in vm.disks:
                    if not any(path in other.disks for other in self._vms.values()):
                        self.disks.pop(path, None)
        return Answer(stderr=texts.PROGRESS if "--delete" in arguments else "")

    def _cmd_setextradata(self, arguments: list[str]) -> Answer:
        if arguments[0] == "global":
            return Answer()
        vm = self._find(arguments[0])
        with self._lock:
            vm.extra_data.pop(arguments[1], None)
            if any(arguments[2:]):
                vm.extra_data[arguments[1]] = arguments[2]
        return Answer()

    def _cmd_getextradata(self, arguments: list[str]) -> Answer:
        value = self._find(arguments[0]).extra_data.get(arguments[1])
        return Answer("No value set!\n" if value is None else f"Value: {value}\n")

    def _hard_disks(self) -> str:
        return "".join(
            texts.hard_disk(path, uuid, mib, [vm for vm in self._vms.values() if path in vm.disks])
            for path, (uuid, mib) in self.disks.items()
        )

    # -- How ----------------------------------------------------------------------------------

    def _find(self, name_or_uuid: str) -> SimulatedVM:
        try:
            return self.vm(settings_xml.normalise_uuid(name_or_uuid) or name_or_uuid)
        except KeyError:
            pass
        with contextlib.suppress(KeyError):
            return self.vm(name_or_uuid)
        raise VBoxError(texts.not_found(name_or_uuid))

    @staticmethod
    def _must_be_accessible(vm: SimulatedVM) -> None:
        if not vm.accessible:
            raise VBoxError(texts.LIMITED)

    @contextlib.contextmanager
    def _wanted(self, vm: SimulatedVM) -> Generator[None]:
        """Count a lock-taking call on a VM, whether or not it gets the lock."""
        with self._lock:
            vm.wanted += 1
            vm.most_locks = max(vm.most_locks, vm.wanted)
        try:
            yield
        finally:
            with self._lock:
                vm.wanted -= 1

    @contextlib.contextmanager
    def _locked(
        self, vm: SimulatedVM, refusal: Callable[[str], str] = texts.lock_pending
    ) -> Generator[None]:
        """Hold a VM's lock. A second call is refused at once, as VirtualBox does."""
        with self._lock:
            if vm.locked:
                raise VBoxError(refusal(vm.name))
            vm.locked = True
        try:
            yield
        finally:
            vm.locked = False

    def _end_later(self, vm: SimulatedVM, pids: list[int], seconds: float) -> None:
        def end() -> None:
            with self._lock:
                for pid in pids:
                    if pid in vm.pids:
                        vm.pids.remove(pid)
                if not vm.pids:
                    vm.state = VMState.POWEROFF

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()


def _options(arguments: Sequence[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name in ("--register", "--delete"):
            options[name] = ""
        else:
            options[name] = value if equals else next(words, "")
    return options
