# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A real VirtualBox, whose VMs run without its kernel module, behind a real sshd on loopback.

Needs root on Debian or Ubuntu, amd64. As a program: `python lab.py up|down|rebuild|status`; for
tests:

    with leased() as lab:
        lab.up()
        lab.host_entry("vbox")  # "vbox@127.0.0.1:2322"

How it works: a Debian sid root (where VirtualBox 7.2 is packaged) is made with debootstrap and
used with chroot, so its processes are in the machine's own process list. `vboxheadless.c` takes
the place of the one program that insists on the kernel module. The VMs of each account are made
once with VBoxManage and a copy of the account's home is kept; to restore an account is to end
its processes and to copy that home back, whatever state a test left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import itertools
import logging
import os
import platform
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

log = logging.getLogger(__name__)

ADDRESS = "127.0.0.1"
DEFAULT_STATE = "~/.cache/maas-virtualbox/lab"
DEFAULT_PORT = 2322
HOST_PACKAGES = (
    "debian-archive-keyring",
    "debootstrap",
    "gcc",
    "libc6-dev",
    "openssh-client",
)
DISTRIBUTIONS = ("debian", "ubuntu")
DEBIAN_ARCHIVE = "http://deb.debian.org/debian"
ROOT_PACKAGES = ("virtualbox", "systemd-standalone-sysusers", "openssh-server")
ROOT_RECIPE = "1"
"""Raise it when `Lab._build_root` changes: an older root is then built again."""

_BUILD_TIMEOUT_S = 900.0
_STEP_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_SSHD_TIMEOUT_S = 10.0
_POLL_S = 0.02

_LIB = "/var/lib/maas-virtualbox-lab"
_SSH = "/etc/ssh-lab"
_SSHD_LOG = "/var/log/sshd-lab.log"
_PID_FILE = "/run/sshd/lab.pid"
_MARKER = ".maas-virtualbox-lab"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VBOXMANAGE = "/usr/lib/virtualbox/VBoxManage"


class LabError(Exception):
    """The lab cannot do what was asked; the message says why."""


# --- Boot programs ------------------------------------------------------------------------------


def boot_program(text: str) -> bytes:
    r"""Assemble a boot sector that writes `text` and "\r\n" to COM1 and then halts.

    The BIOS (from a disk) and PXE (from the network) both load it to address 0x7C00 in real mode.

    Args:
        text: ASCII, at most 470 characters.

    Returns:
        512 bytes.
    """
    code_size = 0x25
    message = (0x7C00 + code_size).to_bytes(2, "little")
    code = b"".join(
        (
            b"\xfa",  # ........... cli
            b"\x31\xc0",  # ....... xor ax, ax
            b"\x8e\xd8",  # ....... mov ds, ax
            b"\xba\xf8\x03",  # ... mov dx, 0x3F8        COM1: data
            b"\xbe" + message,  # . mov si, message
            b"\xac",  # ...... next: lodsb
            b"\x84\xc0",  # ....... test al, al
            b"\x74\x12",  # ....... jz halt              the message ends with a zero
            b"\x88\xc3",  # ....... mov bl, al
            b"\xba\xfd\x03",  # wait: mov dx, 0x3FD      COM1: line status
            b"\xec",  # ........... in al, dx
            b"\xa8\x20",  # ....... test al, 0x20        room for a byte?
            b"\x74\xf8",  # ....... jz wait
            b"\xba\xf8\x03",  # ... mov dx, 0x3F8
            b"\x88\xd8",  # ....... mov al, bl
            b"\xee",  # ........... out dx, al
            b"\xeb\xe9",  # ....... jmp next
            b"\xf4",  # ...... halt: hlt
            b"\xeb\xfd",  # ....... jmp halt
        )
    )
    assert len(code) == code_size
    sector = code + text.encode("ascii") + b"\r\n\0"
    assert len(sector) <= 510
    return sector.ljust(510, b"\0") + b"\x55\xaa"


def disk_image(program: bytes) -> bytes:
    """Make a raw disk of 1 MiB that boots `program` (see `boot_program`).

    Returns:
        The disk's bytes: the program, with an active partition in its table, and zeros.
    """
    first_sector, sectors = 1, 2000
    partition = (
        b"\x80\x00\x02\x00"  # active; its start as cylinder, head and sector
        b"\x83\x00\x0a\x00"  # a Linux partition; its end
        + first_sector.to_bytes(4, "little")
        + sectors.to_bytes(4, "little")
    )
    sector = program[:446] + partition + program[446 + len(partition) :]
    return sector.ljust(1 << 20, b"\0")


# --- Accounts and their VMs ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Account:
    """An account of the lab and how its VMs are made."""

    name: str
    uid: int
    """Also the id of its group. Not used by anything else on the machine."""
    commands: tuple[tuple[str, ...], ...]
    """The arguments of VBoxManage, call after call."""
    files: tuple[tuple[str, bytes], ...] = ()
    """Files (path in its home, content) written before the commands run."""
    damage: tuple[tuple[str, bytes | None], ...] = ()
    """Files overwritten or (None) removed after the commands have run."""
    on_request: bool = False
    """Whether its VMs are only made when asked for."""

    @property
    def home(self) -> str:
        """Its home folder, inside the root."""
        return f"/home/{self.name}"

    @property
    def recipe(self) -> str:
        """A digest of everything its VMs are made from."""
        parts = (self.commands, self.files, self.damage)
        return hashlib.sha256(repr(parts).encode()).hexdigest()


# No kernel module here: let every VM of the account fall back to VirtualBox's interpreter (IEM).
_ENGINE = ("setextradata", "global", "VBoxInternal/HM/FallbackToIEM", "1")
_BOOT_NET_FIRST = ("--boot1", "net", "--boot2", "disk", "--boot3", "none", "--boot4", "none")

ODD_NAMES = (
    "plain",
    "my vm",
    'he said "hi"',
    "it's",
    "vm {11111111-2222-3333-4444-555555555555}",
    "back\\slash",
    "výměna-日本語-é",
    "new\nline",
    "tab\tname",
    "dollar$HOME`id`",
    "a;b&c|d",
    "-dash",
    "11111111-2222-3333-4444-555555555555",
    " lead ",
    "<inaccessible>",
    "per%20cent%s",
    "$(touch x)",
    "both \"kinds\" of 'quotes'",
    "last",
)
INACCESSIBLE_NAMES = ("gone", "broken")
"""VMs of account vboxodd: one without a settings file, one whose file is not XML."""


def _create(name: str, *settings: str) -> Iterator[tuple[str, ...]]:
    yield ("createvm", "--name", name, "--ostype", "Ubuntu_64", "--register")
    if settings:
        yield ("modifyvm", name, *settings)


def _booting_vms(home: str) -> Iterator[tuple[str, ...]]:
    """Make node1 to node3: they boot from network and from disk and say so on COM1."""
    yield _ENGINE
    for number in range(1, 4):
        name = f"node{number}"
        disk = f"{home}/VirtualBox VMs/{name}/{name}.vdi"
        yield from _create(name, "--memory", "64", *_BOOT_NET_FIRST)
        yield ("modifyvm", name, "--nic1", "nat", "--macaddress1", f"080027AABB{number:02X}")
        tftp = ("--nat-tftp-prefix1", f"{home}/.config/VirtualBox/TFTP")
        yield ("modifyvm", name, "--nat-enable-tftp1", "on", *tftp, "--nat-tftp-file1", "net.bin")
        com1 = ("--uart1", "0x3F8", "4", "--uart-mode1", "file", f"{home}/{name}.serial")
        yield ("modifyvm", name, *com1)
        yield ("convertfromraw", f"{home}/disk.img", disk, "--format", "VDI")
        yield ("storagectl", name, "--name", "IDE", "--add", "ide")
        slot = ("--storagectl", "IDE", "--port", "0", "--device", "0")
        yield ("storageattach", name, *slot, "--type", "hdd", "--medium", disk)


def _odd_vms() -> Iterator[tuple[str, ...]]:
    yield _ENGINE
    for name in (*ODD_NAMES, *INACCESSIBLE_NAMES):
        yield from _create(name)


def _ten_vms() -> Iterator[tuple[str, ...]]:
    """Make node01 to node10, which halt for want of a disk: ten cost little when they run.

    Network boot, interpreted, would keep two cores busy for a minute.
    """
    yield _ENGINE
    boot = ("--boot1", "disk", "--boot2", "none", "--boot3", "none", "--boot4", "none")
    for number in range(1, 11):
        nic = ("--nic1", "null", "--macaddress1", f"08002710{number:04X}")
        yield from _create(f"node{number:02}", "--memory", "16", *nic, *boot)


def _two_hundred_vms() -> Iterator[tuple[str, ...]]:
    yield _ENGINE
    for number in range(200):
        nic1 = ("--nic1", "nat", "--macaddress1", f"0800270A{number:04X}")
        nic2 = ("--nic2", "null", "--macaddress2", f"0800270B{number:04X}")
        yield from _create(f"node{number:03}", "--memory", "64", *nic1, *nic2, *_BOOT_NET_FIRST)


ACCOUNTS = {
    account.name: account
    for account in (
        Account(
            "vbox",
            14242,
            tuple(_booting_vms("/home/vbox")),
            files=(
                ("disk.img", disk_image(boot_program("BOOTED-FROM-DISK"))),
                (".config/VirtualBox/TFTP/net.bin", boot_program("BOOTED-FROM-NET")),
            ),
        ),
        Account(
            "vboxodd",
            14243,
            tuple(_odd_vms()),
            damage=(
                ("VirtualBox VMs/broken/broken.vbox", b"<broken\n"),
                ("VirtualBox VMs/gone/gone.vbox", None),
            ),
        ),
        Account("vbox10", 14310, tuple(_ten_vms())),
        Account("vbox200", 14400, tuple(_two_hundred_vms()), on_request=True),
    )
}


# --- Processes ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Process:
    """A process of the lab, that is: one whose root folder is the lab's."""

    pid: int
    uid: int
    name: str
    """The kernel's name of the program, at most 15 characters."""
    command: str
    """Its arguments, joined with spaces."""

    @property
    def is_sshd(self) -> bool:
        """Whether it is sshd: the listener or a part of a connection."""
        return self.name in {"sshd", "sshd-session", "sshd-auth"}


def execute(
    command: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, in a process group of its own.

    Args:
        command: program and arguments.
        timeout: longest time in seconds; the process group is killed after it.
        env: its environment; None: this process's.
        stdin: its input; None: nothing.
        pass_fds: file descriptors it (and its children) keep open.

    Raises:
        LabError: it took too long.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        pass_fds=pass_fds,
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                shown = shlex.join(str(part) for part in command)
                raise LabError(f"{shown}: not finished after {timeout:.0f} s") from None
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def must(
    command: Sequence[str | Path],
    *,
    timeout: float = _STEP_TIMEOUT_S,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> str:
    """Run a program that has to succeed and return its standard output; see `execute`.

    Raises:
        LabError: it failed (the message ends with what it printed last) or took too long.
    """
    result = execute(command, timeout=timeout, env=env, pass_fds=pass_fds)
    stdout = result.stdout.decode(errors="replace")
    if result.returncode:
        shown = shlex.join(str(part) for part in command)
        printed = (stdout + result.stderr.decode(errors="replace")).strip()[-2000:]
        raise LabError(f"{shown}: exit code {result.returncode}\n{printed}")
    return stdout


# --- The machine --------------------------------------------------------------------------------


def unsupported() -> str | None:
    """Return why this machine cannot have a lab, or None when it can."""
    if os.geteuid() != 0:
        return "the VirtualBox lab needs root"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the VirtualBox lab needs Linux on amd64"
    try:
        distribution = platform.freedesktop_os_release()["ID"]
    except OSError:
        distribution = "unknown"
    if distribution not in DISTRIBUTIONS:
        return f"the VirtualBox lab needs Debian or Ubuntu, this is {distribution}"
    return None


def debian_mirror() -> str:
    """Return the address of the Debian archive that this machine's apt uses for its own release.

    On another distribution: Debian's own.

    Raises:
        LabError: apt has no such source.
    """
    if platform.freedesktop_os_release()["ID"] != "debian":
        return DEBIAN_ARCHIVE
    # apt itself reads its configuration, in either format; nothing is downloaded.
    listing = must(
        (
            "apt-get",
            "indextargets",
            "--format",
            "$(RELEASE) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        )
    )
    releases = {platform.freedesktop_os_release().get("VERSION_CODENAME"), "stable", "oldstable"}
    sources = [line.split() for line in listing.splitlines()]
    found = [
        source[2].rstrip("/")
        for source in sources
        if len(source) == 3 and source[0] in releases and source[1] == "main"
    ]
    if not found:
        raise LabError("apt on this machine has no source for Debian's component main")
    # Archives of third parties use Debian's code names as well.
    return next((address for address in found if address.endswith("/debian")), found[0])


def _build_environment() -> dict[str, str]:
    """Return the environment for debootstrap and apt: apt's proxies, no questions, no locale."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "TMP"))}
    env |= {"LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive", "PATH": _PATH}
    for scheme in ("http", "https"):
        line = must(("apt-config", "shell", "PROXY", f"Acquire::{scheme}::Proxy"))
        for word in shlex.split(line):
            env[f"{scheme}_proxy"] = word.removeprefix("PROXY=")
    return env


def _install_host_packages() -> None:
    """Install what the lab needs on this machine and does not find there."""
    query = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n")
    known = execute((*query, *HOST_PACKAGES), timeout=_STEP_TIMEOUT_S).stdout.decode()
    missing = [name for name in HOST_PACKAGES if f"{name} installed" not in known.splitlines()]
    if not missing:
        return
    log.info("installing %s", " ".join(missing))
    env = _build_environment()
    must(("apt-get", "update", "-qq"), timeout=_BUILD_TIMEOUT_S, env=env)
    install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends")
    must((*install, *missing), timeout=_BUILD_TIMEOUT_S, env=env)


# --- The lab ------------------------------------------------------------------------------------


class Lab:
    """The lab in one state folder.

    `up`, `down` and `rebuild` may be called by several processes at once (one works, the others
    wait); everything else expects a lab that is up. All failures are `LabError`.
    """

    def __init__(self, state: Path | None = None, port: int | None = None) -> None:
        """Describe the lab; nothing is read or made.

        Args:
            state: its folder. None: $MAAS_VIRTUALBOX_LAB, else `DEFAULT_STATE`.
            port: sshd's TCP port. None: $MAAS_VIRTUALBOX_LAB_PORT, else the first from
                `DEFAULT_PORT` on that is free at the first `up`.
        """
        # Resolved, because it is compared with what the kernel says about processes.
        self._state = (state or _default_state()).expanduser().resolve()
        self._root = self._state / "root"
        self._given_port = port or int(os.environ.get("MAAS_VIRTUALBOX_LAB_PORT") or 0)
        self._lock: int | None = None

    # --- What a client needs to know

    @property
    def address(self) -> str:
        """The address sshd listens on."""
        return ADDRESS

    @property
    def port(self) -> int:
        """The TCP port sshd listens on; `DEFAULT_PORT` before the first `up`."""
        try:
            return self._given_port or int(self._port_file.read_text())
        except FileNotFoundError:
            return DEFAULT_PORT

    @property
    def key_file(self) -> Path:
        """The private key every account lets in."""
        return self._state / "id_ed25519"

    @property
    def known_hosts_file(self) -> Path:
        """A known_hosts file with sshd's key."""
        return self._state / "known_hosts"

    @property
    def ssh_config_file(self) -> Path:
        """For people: `ssh -F FILE vbox` logs in to account vbox."""
        return self._state / "ssh_config"

    @property
    def host_key(self) -> str:
        """The public key of sshd, `ssh-ed25519 AAAA...`."""
        return _public_key(self._host_key_file)

    def host_entry(self, account: str) -> str:
        """Return `account@address:port`."""
        return f"{_account(account).name}@{ADDRESS}:{self.port}"

    # --- Files

    def path(self, inside: str | Path) -> Path:
        """Return where a path of the lab's root is on this machine."""
        return self._root / str(inside).lstrip("/")

    def home(self, account: str) -> Path:
        """Return where an account's home is on this machine."""
        return self.path(_account(account).home)

    def serial(self, account: str, vm: str) -> str:
        """Return what a VM of account vbox has written to COM1; "" before its first start."""
        try:
            written = (self.home(account) / f"{vm}.serial").read_bytes()
        except FileNotFoundError:
            return ""
        return written.decode("ascii", errors="replace")

    # --- Up and down

    def up(self, *, scale: bool = False) -> None:
        """Make what is missing, restore every account to its pristine state, start sshd.

        Args:
            scale: also make and restore the 200 VMs of account vbox200.

        Raises:
            LabError: this machine cannot have a lab, or a step failed.
        """
        with self._locked():
            self._up(scale=scale)

    def down(self) -> None:
        """End every process of the lab and unmount; the files stay."""
        with self._locked():
            self._down()

    def rebuild(self, *, scale: bool = False) -> None:
        """Throw the root away (not the keys) and make it again; see `up`."""
        with self._locked():
            self._down()
            self._remove_root()
            self._up(scale=scale)

    def is_up(self) -> bool:
        """Return whether the root is complete and mounted and sshd listens."""
        return (
            self._has_stamp("root", ROOT_RECIPE)
            and all(os.path.ismount(target) for target in self._mounts)
            and self._listener() is not None
        )

    def reset(self, account: str) -> None:
        """Restore one account: no VM runs, the VMs and settings that `up` made, nothing else.

        Its commands and VMs are killed; its SSH connections live on.

        Raises:
            LabError: its VMs were never made.
        """
        known = _account(account)
        if not self._has_stamp(f"vms-{account}", known.recipe):
            raise LabError(f"account {account} has no VMs: make them with up()")
        self._clear_account(known)
        must(("cp", "-a", "--", self._pristine(known), self.home(account)))

    def _up(self, *, scale: bool) -> None:
        if (reason := unsupported()) is not None:
            raise LabError(reason)
        _install_host_packages()
        if not self._has_stamp("root", ROOT_RECIPE):
            self._down()
            self._remove_root()
            self._build_root()
        self._mount()
        self._install_headless()
        self.stop_sshd()
        for account in ACCOUNTS.values():
            self._add_account(account)
            if scale or not account.on_request:
                self._make_vms(account)
                self.reset(account.name)
        self.path(_SSHD_LOG).write_text("")
        self._start_sshd_on_a_free_port()

    def _down(self) -> None:
        self._end(lambda _: True)
        self._unmount()

    @contextlib.contextmanager
    def _locked(self) -> Generator[None]:
        self._state.mkdir(parents=True, exist_ok=True)
        lock = _open_lock(self._state / "lock")
        deadline = time.monotonic() + _BUILD_TIMEOUT_S
        try:
            while not _try_lock(lock):
                if time.monotonic() > deadline:
                    raise LabError(f"{self._state} is in use by another process")
                time.sleep(0.2)
            self._lock = lock
            yield
        finally:
            self._lock = None
            os.close(lock)

    # --- The root

    def _build_root(self) -> None:
        """Install Debian sid with VirtualBox and sshd into the root; about 40 s."""
        env = _build_environment()
        mirror = debian_mirror()
        log.info("building %s from %s", self._root, mirror)
        self._root.mkdir()
        (self._root / _MARKER).touch()
        debootstrap = ("debootstrap", "--variant=minbase", "--components=main,contrib", "sid")
        self._build_step((*debootstrap, self._root, mirror), env)
        # A mirror that is a snapshot may be past its Valid-Until.
        self._write(
            "/etc/apt/apt.conf.d/99lab",
            'APT::Install-Recommends "0";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Check-Valid-Until "false";\n',
        )
        self._write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
        self._mount()
        self._in_root(("apt-get", "update", "-qq"), env)
        self._install_modules_stand_in(env)
        log.info("installing %s", " ".join(ROOT_PACKAGES))
        self._in_root(("apt-get", "install", "-y", "-qq", *ROOT_PACKAGES), env)
        self._in_root(("apt-get", "clean"), env)
        must(("rm", "-rf", "--", self.path("/var/lib/apt/lists")))
        self._set_stamp("root", ROOT_RECIPE)

    def _install_modules_stand_in(self, env: Mapping[str, str]) -> None:
        """Install an empty package instead of the kernel modules: no dkms, no compiler."""
        with tempfile.TemporaryDirectory() as folder:
            control = Path(folder, "package", "DEBIAN", "control")
            control.parent.mkdir(parents=True)
            control.write_text(
                "Package: virtualbox-modules-none\n"
                "Version: 99\n"
                "Architecture: all\n"
                "Maintainer: nobody <nobody@localhost>\n"
                "Provides: virtualbox-modules\n"
                "Description: empty replacement of the VirtualBox kernel modules\n"
            )
            package = "/root/virtualbox-modules-none.deb"
            must(("dpkg-deb", "--build", control.parent.parent, self.path(package)))
        self._in_root(("dpkg", "--install", package), env)

    def _in_root(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._build_step(("chroot", self._root, *command), env)

    def _build_step(self, command: Sequence[str | Path], env: Mapping[str, str]) -> None:
        # The children hold the lock too: should this process be killed, the next `up` waits for
        # a debootstrap or apt-get that is still at work in the root before it removes it.
        assert self._lock is not None
        must(command, timeout=_BUILD_TIMEOUT_S, env=env, pass_fds=(self._lock,))

    def _remove_root(self) -> None:
        if not self._root.exists():
            return
        # A wrong MAAS_VIRTUALBOX_LAB must not cost anybody a folder which is called "root".
        if any(self._root.iterdir()) and not (self._root / _MARKER).exists():
            raise LabError(f"{self._root} was not made by this lab; not removing it")
        if left := self._mounted():
            raise LabError(f"still mounted: {', '.join(map(str, left))}")
        log.info("removing %s", self._root)
        # The marker goes last: a removal that is interrupted must be able to go on.
        entries = [entry for entry in self._root.iterdir() if entry.name != _MARKER]
        if entries:
            remove = ("rm", "-rf", "--one-file-system", "--")
            must((*remove, *entries), timeout=_BUILD_TIMEOUT_S)
        must(("rm", "-rf", "--one-file-system", "--", self._root))

    @property
    def _mounts(self) -> dict[Path, tuple[str, ...]]:
        devpts = ("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=0620,gid=5", "devpts")
        return {
            self.path("/proc"): ("-t", "proc", "proc"),
            self.path("/dev/pts"): devpts,
        }

    def _mount(self) -> None:
        for target, arguments in self._mounts.items():
            if not os.path.ismount(target):
                must(("mount", *arguments, target))
        terminals = self.path("/dev/ptmx")
        if not terminals.is_symlink():
            terminals.unlink(missing_ok=True)
            terminals.symlink_to("pts/ptmx")
        driver = self.path("/dev/vboxdrv")
        if not driver.exists():
            # Never opened; without it /usr/bin/VBoxManage prints a warning on standard output.
            os.mknod(driver, 0o020666, os.makedev(1, 3))
            driver.chmod(0o666)

    def _mounted(self) -> list[Path]:
        """Return everything that is mounted in the root, the last mount first."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        # Octal escapes stand for blanks and backslashes.
        names = (line.split()[4].encode().decode("unicode_escape") for line in lines)
        targets = [Path(name.encode("latin-1").decode()) for name in names]
        return [target for target in reversed(targets) if target.is_relative_to(self._root)]

    def _unmount(self) -> None:
        deadline = time.monotonic() + _END_TIMEOUT_S
        for target in self._mounted():
            while execute(("umount", target), timeout=_STEP_TIMEOUT_S).returncode:
                # The kernel lets go of a process's files a moment after its end.
                if time.monotonic() > deadline:
                    raise LabError(f"cannot unmount {target}")
                time.sleep(_POLL_S)

    def _install_headless(self) -> None:
        source = Path(__file__).with_name("vboxheadless.c")
        recipe = hashlib.sha256(source.read_bytes()).hexdigest()
        if self._has_stamp("headless", recipe):
            return
        program = self.path("/usr/lib/virtualbox/VBoxHeadless")
        # Beside the old one and then renamed, for that one may be running.
        made = program.with_name("VBoxHeadless.lab")
        must(("gcc", "-O1", "-Wall", "-Wextra", "-o", made, source, "-ldl"))
        made.chmod(0o755)
        made.replace(program)
        self._set_stamp("headless", recipe)

    # --- Steps that are done once a root

    def _stamp(self, name: str) -> Path:
        return self.path(_LIB) / f"{name}.stamp"

    def _has_stamp(self, name: str, recipe: str) -> bool:
        """Return whether a step was finished, and from this recipe."""
        try:
            return self._stamp(name).read_text() == recipe
        except FileNotFoundError:
            return False

    def _set_stamp(self, name: str, recipe: str) -> None:
        stamp = self._stamp(name)
        stamp.parent.mkdir(mode=0o700, exist_ok=True)
        stamp.write_text(recipe)

    def _write(self, inside: str, text: str, mode: int = 0o644) -> None:
        target = self.path(inside)
        target.write_text(text)
        target.chmod(mode)

    # --- Accounts

    def _add_account(self, account: Account) -> None:
        passwd = self.path("/etc/passwd").read_text()
        if re.search(rf"^{account.name}:", passwd, re.MULTILINE):
            return
        identity = ("--uid", str(account.uid), "--user-group", "--create-home")
        # "*": no password, but unlike "!" not locked, which would keep sshd's keys out as well.
        options = ("--password", "*", "--shell", "/bin/bash")
        must(("chroot", self._root, "useradd", *identity, *options, account.name))

    def _pristine(self, account: Account) -> Path:
        return self.path(_LIB) / account.name

    def _make_vms(self, account: Account) -> None:
        """Make an account's VMs and keep a copy of its home, unless that is done."""
        name = f"vms-{account.name}"
        if self._has_stamp(name, account.recipe):
            return
        log.info("making the VMs of %s", account.name)
        began = time.monotonic()
        self._stamp(name).unlink(missing_ok=True)
        self._clear_account(account)
        must(("rm", "-rf", "--", self._pristine(account)))
        home = self.home(account.name)
        must(("cp", "-a", "--", self.path("/etc/skel"), home))
        self._put_files(account, account.files)
        for command in account.commands:
            self.vboxmanage(account.name, *command)
        self._end_account(account, gently=True)
        self._put_files(account, account.damage)
        must(("cp", "-a", "--", home, self._pristine(account)))
        self._set_stamp(name, account.recipe)
        log.info("made the VMs of %s in %.1f s", account.name, time.monotonic() - began)

    def _put_files(self, account: Account, files: Iterable[tuple[str, bytes | None]]) -> None:
        home = self.home(account.name)
        for name, content in files:
            target = home / name
            if content is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        must(("chown", "-R", f"{account.uid}:{account.uid}", home))

    def _clear_account(self, account: Account) -> None:
        """End an account's processes and remove its home."""
        self._end_account(account)
        # The socket by which VirtualBox's processes find each other.
        socket = self.path(f"tmp/.vbox-{account.name}-ipc")
        must(("rm", "-rf", "--", self.home(account.name), socket))

    def _end_account(self, account: Account, *, gently: bool = False) -> None:
        number = signal.SIGTERM if gently else signal.SIGKILL
        self._end(lambda process: process.uid == account.uid and not process.is_sshd, number)

    def run(
        self,
        account: str,
        command: str | Sequence[str],
        *,
        timeout: float = 60.0,
        locale: str | None = "C.UTF-8",
        stdin: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run something as an account, in its home, without SSH.

        Args:
            account: whose.
            command: a script for bash, or a program (looked up in PATH) and its arguments.
            timeout: longest time, in seconds.
            locale: LC_ALL; None: not set, which is how commands over SSH start.
            stdin: its input; None: nothing.

        Returns:
            Its exit code and its output, unchanged; bytes that are not UTF-8 are surrogates.

        Raises:
            LabError: it took too long.
        """
        known = _account(account)
        argv = ["/bin/bash", "-c", command] if isinstance(command, str) else list(command)
        env = {
            "HOME": known.home,
            "LOGNAME": known.name,
            "USER": known.name,
            "SHELL": "/bin/bash",
            "PATH": _PATH,
        }
        if locale is not None:
            env["LC_ALL"] = locale
        become = ("chroot", f"--userspec={known.uid}:{known.uid}", "--groups=", str(self._root))
        done = execute(
            (*become, "/usr/bin/env", f"--chdir={known.home}", "--", *argv),
            timeout=timeout,
            env=env,
            stdin=None if stdin is None else stdin.encode(errors="surrogateescape"),
        )
        stdout, stderr = (
            output.decode(errors="surrogateescape") for output in (done.stdout, done.stderr)
        )
        return subprocess.CompletedProcess(argv, done.returncode, stdout, stderr)

    def vboxmanage(
        self, account: str, *arguments: str, timeout: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run VBoxManage as an account, without SSH; see `run`.

        Args:
            account: whose VirtualBox.
            arguments: of VBoxManage.
            timeout: longest time, in seconds.
            check: whether an exit code other than 0 is an error.

        Raises:
            LabError: it took too long; with `check`, also when it failed.
        """
        result = self.run(account, (_VBOXMANAGE, *arguments), timeout=timeout)
        if check and result.returncode:
            shown = shlex.join(("VBoxManage", *arguments))
            raise LabError(f"{account}: {shown}: exit code {result.returncode}\n{result.stderr}")
        return result

    def state(self, account: str, vm: str) -> str:
        """Return VirtualBox's word for a VM's state, for example "poweroff" or "running".

        Raises:
            LabError: no such VM, or an inaccessible one.
        """
        info = self.vboxmanage(account, "showvminfo", vm, "--machinereadable").stdout
        found = re.search(r'^VMState="([a-z-]+)"$', info, re.MULTILINE)
        if found is None:
            raise LabError(f"VirtualBox does not say the state of {vm}")
        return found[1]

    # --- Processes

    def pids(self, account: str, pattern: str = "") -> list[int]:
        """Return an account's processes whose command line has a match of a regular expression.

        The part of an SSH connection that runs as the account (sshd-session) is one of them.
        """
        uid = _account(account).uid
        return sorted(
            process.pid
            for process in self._processes()
            if process.uid == uid and re.search(pattern, process.command)
        )

    def vm_processes(self, account: str) -> dict[str, set[int]]:
        """By UUID, the processes that run an account's VMs."""
        uid = _account(account).uid
        found: dict[str, set[int]] = {}
        for process in self._processes():
            match = re.search(r"VBoxHeadless .*startvm ([0-9a-f-]{36})", process.command)
            if match and process.uid == uid:
                found.setdefault(match[1], set()).add(process.pid)
        return found

    def kill(self, pids: Iterable[int], number: int = signal.SIGKILL) -> None:
        """Send a signal to processes of the lab's accounts; those that have ended are skipped.

        Raises:
            LabError: a process is not one of them (and gets no signal).
        """
        uids = {account.uid for account in ACCOUNTS.values()}
        for pid in pids:
            self._send(pid, number, lambda process: process.uid in uids)

    def _send(self, pid: int, number: int, allowed: Callable[[Process], bool]) -> None:
        # A handle, then the check, then the signal: the number cannot come to mean another
        # process between the last two.
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            process = self._process(pid)
            if process is not None and allowed(process):
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            elif _is_alive(pid):
                raise LabError(f"process {pid} is not one of this lab's accounts")
        finally:
            os.close(handle)

    def _end(
        self, chosen: Callable[[Process], bool], number: signal.Signals = signal.SIGKILL
    ) -> None:
        """Send processes of the lab a signal, again and again, until there are none of them."""
        deadline = time.monotonic() + _END_TIMEOUT_S
        while found := [process for process in self._processes() if chosen(process)]:
            if time.monotonic() > deadline:
                raise LabError(f"still running after {number.name}: {found}")
            for process in found:
                self._send(process.pid, number, lambda _: True)
            time.sleep(_POLL_S)

    def _processes(self) -> Iterator[Process]:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (process := self._process(int(entry.name))) is not None:
                yield process

    def _process(self, pid: int) -> Process | None:
        """Return a process of the lab; None: it has ended or is not the lab's."""
        folder = Path("/proc", str(pid))
        try:
            # Or below the root: an sshd that nobody has logged in to yet is in an empty folder.
            if not (folder / "root").readlink().is_relative_to(self._root):
                return None
            status = (folder / "status").read_text(errors="replace")
            command = (folder / "cmdline").read_bytes().decode(errors="surrogateescape")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            return None
        # Not the owner of the folder: that is root for a process that has changed its account.
        uid = re.search(r"^Uid:\s+(\d+)", status, re.MULTILINE)
        name = re.search(r"^Name:\s+(.*)$", status, re.MULTILINE)
        assert uid is not None
        assert name is not None
        return Process(pid, int(uid[1]), name[1], command.rstrip("\0").replace("\0", " "))

    # --- sshd

    @property
    def _host_key_file(self) -> Path:
        return self._state / "host_ed25519"

    def _configure_ssh(self) -> None:
        """Write what sshd and its clients read; the keys stay the same over rebuilds."""
        for key in (self.key_file, self._host_key_file):
            # ssh-keygen writes the public half last.
            if not key.with_name(f"{key.name}.pub").exists():
                key.unlink(missing_ok=True)
                must(("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key))
        for folder in (self.path(_SSH), self.path(_PID_FILE).parent):
            folder.mkdir(mode=0o755, exist_ok=True)
        self._write(f"{_SSH}/host_ed25519", self._host_key_file.read_text(), mode=0o600)
        self.authorize()
        self._write(f"{_SSH}/sshd_config", self._sshd_config())
        self.known_hosts_file.write_text(f"[{ADDRESS}]:{self.port} {self.host_key}\n")
        self.ssh_config_file.write_text(self._ssh_config())

    def authorize(self, *lines: str) -> None:
        """Let the lab's key log in to all accounts, and what more lines of authorized_keys say."""
        content = "\n".join([_public_key(self.key_file), *lines, ""])
        self._write(f"{_SSH}/authorized_keys", content)

    def _sshd_config(self) -> str:
        # MaxSessions and MaxStartups are OpenSSH's defaults on purpose: hosts have those limits.
        # LogLevel VERBOSE: a line for each command, which `commands_run` counts.
        return (
            f"ListenAddress {ADDRESS}\n"
            f"Port {self.port}\n"
            f"HostKey {_SSH}/host_ed25519\n"
            f"PidFile {_PID_FILE}\n"
            f"AuthorizedKeysFile {_SSH}/authorized_keys\n"
            f"AllowUsers {' '.join(ACCOUNTS)}\n"
            "UsePAM no\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "PermitRootLogin no\n"
            "PrintMotd no\n"
            "LogLevel VERBOSE\n"
            "PerSourcePenalties no\n"
        )

    def _ssh_config(self) -> str:
        users = "".join(f"Host {name}\n  User {name}\n" for name in ACCOUNTS)
        return (
            f"{users}"
            "Host *\n"
            f"  HostName {ADDRESS}\n"
            f"  Port {self.port}\n"
            f'  IdentityFile "{self.key_file}"\n'
            "  IdentitiesOnly yes\n"
            f'  UserKnownHostsFile "{self.known_hosts_file}"\n'
            "  StrictHostKeyChecking yes\n"
            "  LogLevel ERROR\n"
        )

    def _listener(self) -> Process | None:
        """Return the sshd that listens, if it runs."""
        try:
            pid = int(self.path(_PID_FILE).read_text())
        except (FileNotFoundError, ValueError):
            return None
        process = self._process(pid)
        return process if process is not None and process.is_sshd else None

    def start_sshd(self, *options: str) -> None:
        """Start sshd; nothing happens when it runs, unless options are given.

        Args:
            options: settings that win over the lab's, for example "PerSourcePenalties yes".

        Raises:
            LabError: it does not start (its port is taken, a wrong option), or runs already with
                other options.
        """
        if self._listener() is not None:
            if options:
                raise LabError("sshd runs already: restart it to change its options")
            return
        self.path(_PID_FILE).unlink(missing_ok=True)
        argv = ["/usr/sbin/sshd", "-f", f"{_SSH}/sshd_config", "-E", _SSHD_LOG]
        for option in options:
            argv += ["-o", option]
        must(("chroot", self._root, *argv), env={"PATH": _PATH})
        # It goes to the background before it listens, and writes the file once it does.
        deadline = time.monotonic() + _SSHD_TIMEOUT_S
        while self._listener() is None:
            if time.monotonic() > deadline or not self._sshd_runs():
                tail = self.path(_SSHD_LOG).read_text(errors="replace")[-1000:]
                raise LabError(f"sshd does not listen on {ADDRESS}:{self.port}:\n{tail}")
            time.sleep(_POLL_S)

    def _start_sshd_on_a_free_port(self) -> None:
        """Start sshd; another lab, on this machine or in a container, may have its port."""
        while True:
            self._configure_ssh()
            try:
                self.start_sshd()
            except LabError:
                if self._given_port or not _is_taken(self.port):
                    raise
                self._port_file.write_text(f"{self.port + 1}\n")
            else:
                return

    @property
    def _port_file(self) -> Path:
        return self._state / "port"

    def _sshd_runs(self) -> bool:
        return any(process.name == "sshd" for process in self._processes())

    def stop_sshd(self, *, kill_sessions: bool = True) -> None:
        """End sshd; from then on nobody can connect.

        Args:
            kill_sessions: also break the connections there are. Commands they started live on.
        """
        listener = self._listener()
        if listener is not None:
            self._end(lambda process: process.pid == listener.pid)
        if kill_sessions:
            self._end(lambda process: process.is_sshd)
        self.path(_PID_FILE).unlink(missing_ok=True)

    def restart_sshd(self, *options: str, kill_sessions: bool = True) -> None:
        """Stop and start sshd; see `stop_sshd` and `start_sshd`."""
        self.stop_sshd(kill_sessions=kill_sessions)
        self.start_sshd(*options)

    def commands_run(self, account: str) -> int:
        """Return how many commands have reached an account over SSH since the last `up`."""
        # A forced command is one too.
        line = rf"Starting session: (command|forced-command .*) for {_account(account).name} from "
        return len(re.findall(line, self.path(_SSHD_LOG).read_text(errors="replace")))


def _default_state() -> Path:
    return Path(os.environ.get("MAAS_VIRTUALBOX_LAB") or DEFAULT_STATE)


def _is_taken(port: int) -> bool:
    """Return whether a process listens on a port of `ADDRESS`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return True
    return False


@contextlib.contextmanager
def leased() -> Generator[Lab]:
    """Yield a lab that nobody else has leased: the first one, or one beside it.

    The first lab is as it was afterwards; one beside it is taken down. Their files stay.
    """
    first = _default_state().expanduser()
    for number in itertools.count(1):
        state = first if number == 1 else first.with_name(f"{first.name}-{number}")
        state.mkdir(parents=True, exist_ok=True)
        lease = _open_lock(state / "lease")
        try:
            if not _try_lock(lease):
                log.info("%s is in use by other tests", state)
                continue
            lab = Lab(state)
            yield lab
            if number > 1:
                lab.down()
            return
        finally:
            os.close(lease)


def _account(name: str) -> Account:
    try:
        return ACCOUNTS[name]
    except KeyError:
        raise LabError(f"the lab has no account {name}: {', '.join(ACCOUNTS)}") from None


def _public_key(private: Path) -> str:
    """Return type and key of a key pair, without the comment."""
    try:
        words = private.with_name(f"{private.name}.pub").read_text().split()
    except FileNotFoundError:
        raise LabError("the lab has no keys yet: bring it up") from None
    return " ".join(words[:2])


def _open_lock(path: Path) -> int:
    """Return a file descriptor for `_try_lock`."""
    low = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Children inherit it, and shell scripts (debootstrap) take the numbers below 10.
        return fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 100)
    finally:
        os.close(low)


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    """Return whether a process exists that has not ended (a zombie has)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^State:\s+[ZX]", status, re.MULTILINE) is None


# --- Command line -------------------------------------------------------------------------------


def _print_status(lab: Lab) -> int:
    if not lab.is_up():
        print("down")
        return 1
    print(f"up: ssh -F {shlex.quote(str(lab.ssh_config_file))} ACCOUNT VBoxManage list vms")
    for name in ACCOUNTS:
        vms = len(lab.pids(name, "^/usr/lib/virtualbox/VBoxHeadless "))
        print(f"{name}: {vms} VMs run, {lab.commands_run(name)} commands since up")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="A real VirtualBox behind sshd, for tests.")
    parser.add_argument("action", choices=("up", "down", "rebuild", "status"))
    parser.add_argument("--scale", action="store_true", help="with the 200 VMs of vbox200")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="[%(asctime)s] %(message)s", datefmt="%H:%M:%S")
    lab = Lab()
    try:
        if chosen.action == "up":
            lab.up(scale=chosen.scale)
        elif chosen.action == "rebuild":
            lab.rebuild(scale=chosen.scale)
        elif chosen.action == "down":
            lab.down()
            return 0
        return _print_status(lab)
    except LabError as error:
        print(f"lab.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
