# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A charm on a scratch machine: real files below a folder, with a fake systemd and fake users.

`test_packed.py` runs the same charm with a real systemd and real users.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import grp
import os
import pwd
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ops
import pytest
from charmlibs import passwd
from ops import testing

import credentials
import workload
from charm import MAASVirtualBoxCharm
from maas_virtualbox.schemas import HostView

from tests.charm import charmcraft
from tests.conftest import unavailable
from tests.service import PROGRAM
from tools import packing

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

# No package registry has Terraform.
collect_ignore = [] if shutil.which("terraform") else ["test_terraform_program.py"]

ROOT = Path(__file__).parents[2]

SYSTEMCTL = r"""#!/bin/sh
# A fake systemctl. It fails on any unknown call.
cd "$(dirname "$0")"
echo "$*" >> calls
case "$*" in
  daemon-reload) ;;
  "enable maas-virtualbox.service") ;;
  "restart maas-virtualbox.service") [ ! -e broken ] && : > active ;;
  "reload maas-virtualbox.service") [ -e active ] ;;
  "disable --now maas-virtualbox.service") rm -f active ;;
  "--quiet is-active maas-virtualbox.service") [ -e active ] ;;
  *) echo "unknown call of systemctl: $*" >&2; exit 99 ;;
esac
"""


@dataclasses.dataclass
class ScratchMachine:
    """A fake machine, which records the actions of the charm."""

    root: Path
    systemd: Path
    installed: list[Path]
    """The charm folders from which the charm was installed."""
    hosts: list[HostView]
    """The hosts of the power service."""
    accounts: set[str] = dataclasses.field(default_factory=set[str])
    """The names of its users and groups."""

    def systemctl_calls(self) -> list[str]:
        """Return the calls since the last time, except queries."""
        calls = self.systemd / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return [line for line in lines if "is-active" not in line]

    def break_service(self) -> None:
        """Make each later start of the service fail."""
        (self.systemd / "broken").touch()

    def text(self, path: str | Path) -> str:
        """Return the content of a file."""
        return (self.root / path).read_text()

    def modes(self) -> dict[str, int]:
        """Return the permissions of every configuration file."""
        folder = self.root / workload.CONFIG
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def host(
    name: str, *, vms: int = 0, running: int = 0, code: str | None = None, claims: int = 0
) -> HostView:
    """Return a host as the service shows it. It is down if `code` is set."""
    return HostView(
        name=name,
        account=f"ivan@{name}",
        zone="",
        up=code is None,
        vms=vms,
        claims=claims,
        running=running,
        error=code and f"{name}: {code}",
        code=code,
    )


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """Return a function that packs, analyses and unpacks a charm, once for all tests."""
    if (reason := packing.unsupported()) is not None:
        unavailable(reason)

    @functools.cache
    def pack(project: Path) -> Path:
        folder = tmp_path_factory.mktemp("packed")
        packed = packing.pack(project, folder)
        packing.analyse(packed)
        return packing.unpack(packed, folder / "charm")

    return pack


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScratchMachine:
    """Return a machine for the charm."""
    if os.geteuid() != 0:
        unavailable("a charm is root")
    made = ScratchMachine(
        tmp_path / "root", tmp_path / "systemd", [], [host("alpha", vms=3, running=1)]
    )
    for folder in ("etc/systemd/system", "opt", "var/lib"):
        (made.root / folder).mkdir(parents=True)
    made.systemd.mkdir()
    systemctl = made.systemd / "systemctl"
    systemctl.write_text(SYSTEMCTL)
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{made.systemd}:{os.environ['PATH']}")

    def user_exists(name: str) -> pwd.struct_passwd | None:
        return pwd.getpwuid(os.getuid()) if name in made.accounts else None

    def group_exists(name: str) -> grp.struct_group | None:
        return grp.getgrgid(os.getgid()) if name in made.accounts else None

    def install(root: Path, charm: Path) -> None:
        made.installed.append(charm)
        made.accounts.add(workload.NAME)
        current = root / workload.CURRENT
        current.parent.mkdir(exist_ok=True)
        (current.parent / "1").mkdir(exist_ok=True)
        current.unlink(missing_ok=True)
        current.symlink_to("1")
        program = current / "bin/maas-virtualbox"
        program.parent.mkdir(exist_ok=True)
        if not program.exists():
            program.symlink_to(PROGRAM)

    def ask_hosts(_root: Path) -> list[HostView]:
        if not (made.systemd / "active").exists():
            raise workload.WorkloadError("the power service does not answer")
        return made.hosts

    monkeypatch.setattr(passwd, "user_exists", user_exists)
    monkeypatch.setattr(passwd, "group_exists", group_exists)
    monkeypatch.setattr(passwd, "remove_user", made.accounts.remove)
    monkeypatch.setattr(workload, "install", install)
    monkeypatch.setattr(workload, "list_hosts", ask_hosts)
    monkeypatch.setattr(MAASVirtualBoxCharm, "root", made.root)
    return made


@pytest.fixture
def context(machine: ScratchMachine) -> testing.Context[MAASVirtualBoxCharm]:
    """Return the context that runs the charm's events on the scratch machine."""
    del machine
    return make_context("power")


def make_context(app_name: str) -> testing.Context[MAASVirtualBoxCharm]:
    """Return the context of an application of the charm on the scratch machine."""
    return testing.Context(MAASVirtualBoxCharm, **charmcraft.for_ops_testing(), app_name=app_name)


@contextlib.contextmanager
def hook_of_juju_36() -> Generator[None]:
    """Run one hook as in Juju 3.6: reading a secret by label returns its old content."""
    set_content, get_content = ops.Secret.set_content, ops.Secret.get_content
    before: list[dict[str, str]] = []

    def remember(secret: ops.Secret, content: dict[str, str]) -> None:
        if secret.label == credentials.LABEL:
            before.append(get_content(secret, refresh=True))
        set_content(secret, content)

    def read(secret: ops.Secret, *, refresh: bool = False) -> dict[str, str]:
        if before and secret.label == credentials.LABEL:
            return before[0]
        return get_content(secret, refresh=refresh)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ops.Secret, "set_content", remember)
        patch.setattr(ops.Secret, "get_content", read)
        yield


hooks_of_both_jujus = pytest.mark.parametrize(
    "hook", [hook_of_juju_36, contextlib.nullcontext], ids=["3.6", "4.0.1"]
)
Hook = Callable[[], contextlib.AbstractContextManager[None]]


def answer_network_get(patch: pytest.MonkeyPatch, *addresses: dict[str, str]) -> None:
    """Set the addresses that Juju knows of a unit. Without any, network-get fails.

    Args:
        patch: Reverts the change after the test.
        addresses: The addresses in the JSON of network-get, each with its own device.
    """

    def ask(binding: ops.Binding) -> ops.Network:
        if not addresses:
            raise ops.ModelError(f'ERROR no network config found for binding "{binding.name}"\n')
        devices = [{"interface-name": "eth0", "addresses": [address]} for address in addresses]
        first = [address["value"] for address in addresses if address.get("value")][:1]
        answer: Any = {
            "bind-addresses": devices,
            "ingress-addresses": first,
            "egress-subnets": [f"{value}/128" if ":" in value else value for value in first],
        }
        return ops.Network(answer)

    patch.setattr(ops.Binding, "network", property(ask))


def network(*addresses: str) -> testing.Network:
    """Return the `peers` binding with these addresses."""
    bound = [testing.BindAddress([testing.Address(address) for address in addresses])]
    return testing.Network("peers", bound, ingress_addresses=list(addresses), egress_subnets=[])


def state(
    *,
    leader: bool = True,
    addresses: Sequence[str] = ("10.0.0.2",),
    relations: Sequence[testing.RelationBase] = (),
    secrets: Sequence[testing.Secret] = (),
    **config: Any,
) -> testing.State:
    """Return a unit with a peer relation and one host. Options are written with underscores."""
    options = {name.replace("_", "-"): value for name, value in config.items()}
    if not any(isinstance(relation, testing.PeerRelation) for relation in relations):
        relations = [testing.PeerRelation("peers"), *relations]
    return testing.State(
        leader=leader,
        config={"hosts": "ivan@10.0.0.5 name=alpha", **options},
        networks={network(*addresses)},
        relations=relations,
        secrets=secrets,
        model=testing.Model("lab"),
    )
