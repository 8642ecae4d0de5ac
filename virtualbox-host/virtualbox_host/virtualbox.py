# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VirtualBox on this machine: installed, found, asked as the account that owns the VMs."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from charmlibs import apt

from maas_virtualbox.host import scripts
from maas_virtualbox.juju import programs, statuses
from maas_virtualbox.schemas import VMView
from maas_virtualbox.virtualbox import parsers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from virtualbox_host.accounts import Account
    from virtualbox_host.options import HostOptions

log = logging.getLogger(__name__)

NAME = "virtualbox-host"
"""Of the program's place in /opt."""

_PATH = "/usr/local/bin:/usr/bin:/bin"
_DRIVER = Path("dev/vboxdrv")
_CREATE_TIMEOUT_S = 600.0
_PAUSES_S = (1.0, 2.0)
_DHCP_PREFIX = "HostInterfaceNetworking-"


def find() -> str:
    """Return the path of VBoxManage; empty if there is none."""
    return shutil.which("VBoxManage", path=_PATH) or ""


def install(chosen: HostOptions) -> None:
    """Install the package.

    Raises:
        Unready: apt cannot; the status has its words.
    """
    try:
        apt.update()
        try:
            # What builds the kernel module needs these; kernels of other archives have none.
            apt.add_package(f"linux-headers-{os.uname().release}")
        except apt.Error as error:
            log.warning("no headers of the running kernel: %s", error)
        apt.add_package(chosen.package, version=chosen.version)
    except (apt.Error, apt.CalledProcessError) as error:
        raise statuses.blocked(
            f"{chosen.package} cannot be installed: {' '.join(str(error).split())[:200]}"
        ) from None


def has_driver(root: Path) -> bool:
    """Tell whether the kernel module is loaded, without which no VM starts."""
    return (root / _DRIVER).exists()


@dataclasses.dataclass(frozen=True)
class VirtualBox:
    """One account's VirtualBox. What goes wrong is an `Unready` with VirtualBox's own words."""

    root: Path
    """What stands for `/`."""
    account: Account
    program: str
    """The path of VBoxManage."""

    def create(self, chosen: HostOptions, names: Sequence[str]) -> programs.Answer:
        """Make VMs, each whole or not at all. The answer tells what failed."""
        spec = chosen.spec(names[0])
        options = [
            f"--{option}={getattr(spec, option.replace('-', '_'))}"
            for option in ("cpus", "memory", "disk", "nic-model", "attachment", "network")
        ]
        return self._run("create", *options, "--", *names, timeout=_CREATE_TIMEOUT_S)

    def delete(self, uuids: Sequence[str], *, power_off: bool) -> programs.Answer:
        """Delete VMs that were made by `create`. The answer tells what failed."""
        flags = ["--yes", *(["--power-off"] if power_off else [])]
        return self._run("delete", *flags, "--", *uuids, timeout=_CREATE_TIMEOUT_S)

    def ensure_host_only_network(self, network: str) -> None:
        """Make a host-only network where there is none, and end VirtualBox's DHCP server on it.

        Args:
            network: its name. Empty: the only one.
        """
        names = parsers.parse_networks(self._manage("list", "hostonlyifs"))
        if not names and not network:
            self._manage("hostonlyif", "create")
            names = parsers.parse_networks(self._manage("list", "hostonlyifs"))
        served = parsers.parse_dhcp_servers(self._manage("list", "dhcpservers"))
        for name in (f"{_DHCP_PREFIX}{each}" for each in names if network in ("", each)):
            if name in served:
                self._manage("dhcpserver", "remove", f"--network={name}")

    def ensure_scripts(self) -> None:
        """Have the extension scripts and the gate in the account's home, written by itself."""
        folder = self.root / self.account.home.lstrip("/") / scripts.FOLDER
        wanted = scripts.scripts((self.program,))
        if not all(_holds(folder / name, content) for name, content in wanted.items()):
            self._must("host-setup", "local")

    def list_vms(self) -> list[VMView]:
        """Return the account's VMs."""
        printed = self._must("list")
        return [VMView.model_validate(each) for each in json.loads(printed)]

    def remove_scripts(self) -> programs.Answer:
        """Take the extension scripts and the gate away."""
        return self._run("host-setup", "--remove", "local")

    def table(self, form: str) -> programs.Answer:
        """Return the account's VMs as a table or as JSON."""
        return self._run("list", f"--format={form}")

    def version(self) -> str:
        """Return what `VBoxManage --version` says."""
        # Warnings about the kernel module come first, on standard output.
        return self._manage("--version").strip().rpartition("\n")[2]

    def _must(self, *arguments: str) -> str:
        """Run what may be run again. VirtualBox's service ends some seconds after its last client,
        and refuses who comes just then."""
        answer = self._run(*arguments)
        for pause in _PAUSES_S:
            if answer.problem:
                time.sleep(pause)
                answer = self._run(*arguments)
        if answer.problem:
            raise statuses.blocked(" ".join(answer.problem.split()))
        return answer.output

    def _run(self, *arguments: str, timeout: float = programs.TIMEOUT_S) -> programs.Answer:
        return programs.run(
            self.root,
            NAME,
            "--hosts",
            f"local vboxmanage={self.program}",
            *([] if any(word.startswith("--format") for word in arguments) else ["--format=json"]),
            *arguments,
            owner=self.account.owner,
            environment=self.account.environment,
            timeout=timeout,
        )

    def _manage(self, *arguments: str) -> str:
        argv = [self.program, "-q", *arguments]
        answer = programs.run_as(self.account.owner, argv, self.account.environment)
        if answer.problem:
            words = " ".join(answer.problem.split())[:200]
            raise statuses.blocked(f"VBoxManage {' '.join(arguments)}: {words}")
        return answer.output


def _holds(path: Path, content: str) -> bool:
    return path.is_file() and path.read_bytes() == content.encode()
