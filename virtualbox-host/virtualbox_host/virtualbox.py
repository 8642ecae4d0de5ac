# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VirtualBox on this machine. Its commands run as the account that owns the VMs."""

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
"""The name of the program's folder in /opt."""

_PATH = "/usr/local/bin:/usr/bin:/bin"
_DRIVER = Path("dev/vboxdrv")
_DHCP_PREFIX = "HostInterfaceNetworking-"


def find() -> str:
    """Return the path of VBoxManage; empty if it is not installed."""
    return shutil.which("VBoxManage", path=_PATH) or ""


def install(chosen: HostOptions) -> None:
    """Install the package.

    Raises:
        Blocked: apt failed. The status has its message.
    """
    try:
        apt.update()
        try:
            # The build of the kernel module needs these. A kernel from another archive has none.
            apt.add_package(f"linux-headers-{os.uname().release}")
        except apt.Error as error:
            log.warning("cannot install the headers of the running kernel: %s", error)
        apt.add_package(chosen.package, version=chosen.version)
    except (apt.Error, apt.CalledProcessError) as error:
        raise statuses.Blocked(
            f"cannot install {chosen.package}: {' '.join(str(error).split())[:200]}"
        ) from None


def has_driver(root: Path) -> bool:
    """Return whether the kernel module is loaded. Without it, no VM starts."""
    return (root / _DRIVER).exists()


@dataclasses.dataclass(frozen=True)
class Timings:
    """Durations in seconds."""

    create_timeout: float = 600.0
    """The time limit for creating or deleting VMs."""
    retry_pauses: tuple[float, ...] = (1.0, 2.0)
    """The pauses before each retry of an idempotent command."""


@dataclasses.dataclass(frozen=True)
class VirtualBox:
    """VirtualBox of one account. Its methods raise `Blocked` with VirtualBox's message."""

    root: Path
    """The folder that represents `/`."""
    account: Account
    program: str
    """The path of VBoxManage."""
    timings: Timings

    def create(self, chosen: HostOptions, names: Sequence[str]) -> programs.Result:
        """Create VMs. A VM that cannot be completed is removed. The result has the errors."""
        spec = chosen.spec(names[0])
        options = [
            f"--{option}={getattr(spec, option.replace('-', '_'))}"
            for option in ("cpus", "memory", "disk", "nic-model", "attachment", "network")
        ]
        return self._run("create", *options, "--", *names, timeout=self.timings.create_timeout)

    def delete(self, uuids: Sequence[str], *, power_off: bool) -> programs.Result:
        """Delete VMs that `create` has created. The result has the errors."""
        flags = ["--yes", *(["--power-off"] if power_off else [])]
        return self._run("delete", *flags, "--", *uuids, timeout=self.timings.create_timeout)

    def ensure_network(self, chosen: HostOptions) -> None:
        """Create the host-only network if it is missing, and stop VirtualBox's DHCP server on it.

        Other attachments need nothing.
        """
        if chosen.attachment != "hostonly":
            return
        network = chosen.network
        names = parsers.parse_networks(self._manage("list", "hostonlyifs"))
        if not names and not network:
            self._manage("hostonlyif", "create")
            names = parsers.parse_networks(self._manage("list", "hostonlyifs"))
        served = parsers.parse_dhcp_servers(self._manage("list", "dhcpservers"))
        for name in names:
            served_name = f"{_DHCP_PREFIX}{name}"
            if network in ("", name) and served_name in served:
                self._manage("dhcpserver", "remove", f"--network={served_name}")

    def ensure_scripts(self) -> None:
        """Install the extension scripts and `gate` in the account's home, as the account."""
        folder = self.root / self.account.home.lstrip("/") / scripts.FOLDER
        contents = scripts.scripts((self.program,))
        if not all(_has_content(folder / name, content) for name, content in contents.items()):
            self._run_with_retries("host-setup", "local")

    def list_vms(self) -> list[VMView]:
        """Return the account's VMs."""
        printed = self._run_with_retries("list")
        return [VMView.model_validate(vm) for vm in json.loads(printed)]

    def remove_scripts(self) -> programs.Result:
        """Remove the extension scripts and `gate`."""
        return self._run("host-setup", "--remove", "local")

    def table(self, output_format: str) -> programs.Result:
        """Return the account's VMs as "table" or as "json"."""
        return self._run("list", f"--format={output_format}")

    def version(self) -> str:
        """Return the output of `VBoxManage --version`."""
        # VBoxManage prints warnings about the kernel module before it, on standard output.
        return self._manage("--version").strip().rpartition("\n")[2]

    def _run_with_retries(self, *arguments: str) -> str:
        """Run an idempotent command. VirtualBox's service ends some seconds after its last client.
        While it ends, it refuses new clients."""
        result = self._run(*arguments)
        for pause in self.timings.retry_pauses:
            if result.error:
                time.sleep(pause)
                result = self._run(*arguments)
        if result.error:
            raise statuses.Blocked(" ".join(result.error.split()))
        return result.output

    def _run(self, *arguments: str, timeout: float = programs.TIMEOUT_S) -> programs.Result:
        return programs.run(
            self.root,
            NAME,
            "--hosts",
            f"local vboxmanage={self.program}",
            *(
                []
                if any(option.startswith("--format") for option in arguments)
                else ["--format=json"]
            ),
            *arguments,
            owner=self.account.owner,
            environment=self.account.environment,
            timeout=timeout,
        )

    def _manage(self, *arguments: str) -> str:
        argv = [self.program, "-q", *arguments]
        result = programs.run_as(self.account.owner, argv, self.account.environment)
        if result.error:
            reason = " ".join(result.error.split())[:200]
            raise statuses.Blocked(f"VBoxManage {' '.join(arguments)}: {reason}")
        return result.output


def _has_content(path: Path, content: str) -> bool:
    return path.is_file() and path.read_bytes() == content.encode()
