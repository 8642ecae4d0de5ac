# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The charm virtualbox-host on a scratch machine, with real files and fake programs.

`test_packed_pair.py` runs it with a real systemd, a real sshd and a real VirtualBox.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import types
from typing import TYPE_CHECKING, Any, Protocol

import ops
import pytest
import yaml
from ops import testing

from maas_virtualbox.host import scripts
from maas_virtualbox.juju import programs
from virtualbox_host import accounts, sshd, virtualbox
from virtualbox_host.charm import VirtualBoxHostCharm

from tests.charm import charmcraft
from tests.charm.conftest import answer_network_get, state
from tests.charm.juju import client
from tests.charm.test_charm import service_config
from tests.charm.test_interface import HOST_KEY, KEY, NEXT_KEY, from_requirer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import ScratchMachine

    Context = testing.Context[VirtualBoxHostCharm]

PROGRAM = "/usr/bin/VBoxManage"
HOME = "/home/vbox"


@dataclasses.dataclass
class Box:
    """A fake machine with VirtualBox, which records the calls of the charm."""

    root: Path
    vms: dict[str, bool] = dataclasses.field(default_factory=dict[str, bool])
    """Whether each VM is managed, and may be deleted."""
    interfaces: list[str] = dataclasses.field(default_factory=list[str])
    """The host-only networks. A new one has a DHCP server."""
    served: list[str] = dataclasses.field(default_factory=list[str])
    calls: list[list[str]] = dataclasses.field(default_factory=list[list[str]])
    program: str = PROGRAM
    sshd_error: str = ""
    refusals: int = 0
    """How many times VirtualBox refuses to list its VMs."""

    def run_as(  # noqa: PLR0911 - a line for each program
        self,
        owner: tuple[int, int],
        argv: Sequence[str],
        environment: Mapping[str, str],
        *,
        timeout: float = 0.0,
    ) -> programs.Result:
        """Return the result of a program. Fail on any unknown call."""
        del timeout
        self.calls.append(list(argv))
        done = programs.Result
        match list(argv):
            case ["loginctl", "enable-linger", "vbox"]:
                return done("", "")
            case ["sshd", "-t"]:
                return done("", self.sshd_error)
            case ["sshd", "-T", *_]:
                return done("port 2222\nhostkey /etc/ssh/host_key\nusepam yes\n", "")
            case [_, "-q", "--version"]:
                return done("WARNING: no kernel module\n7.2.22r1\n", "")
            case [_, "-q", "list", "hostonlyifs"]:
                return done("".join(f"Name:            {it}\n\n" for it in self.interfaces), "")
            case [_, "-q", "list", "dhcpservers"]:
                text = "NetworkName:    HostInterfaceNetworking-{}\nEnabled:        Yes\n\n"
                return done("".join(text.format(it) for it in self.served), "")
            case [_, "-q", "hostonlyif", "create"]:
                self.interfaces.append("vboxnet0")
                self.served.append("vboxnet0")
                return done("", "")
            case [_, "-q", "dhcpserver", "remove", network]:
                self.served.remove(network.removeprefix("--network=HostInterfaceNetworking-"))
                return done("", "")
            case [program, "--hosts", f, *rest] if f == f"local vboxmanage={PROGRAM}":
                assert program.endswith("/opt/virtualbox-host/current/bin/maas-virtualbox")
                assert owner == (os.getuid(), os.getgid())
                assert environment["HOME"] == HOME
                return self._maas_virtualbox(rest)
            case _:
                raise AssertionError(f"unknown call: {argv}")

    def _maas_virtualbox(  # noqa: PLR0911 - a line for each command
        self, arguments: list[str]
    ) -> programs.Result:
        match [word for word in arguments if not word.startswith("--format")]:
            case ["list"] if self.refusals:
                self.refusals -= 1
                return programs.Result("", "local:\n its service died")
            case ["list"]:
                vms = [self._view(name) for name in self.vms]
                return programs.Result(json.dumps(vms), "")
            case ["host-setup", "local"]:
                folder = self.root / HOME.lstrip("/") / scripts.FOLDER
                folder.mkdir(parents=True, exist_ok=True)
                for name, content in scripts.scripts((PROGRAM,)).items():
                    (folder / name).write_text(content)
                return programs.Result("{}", "")
            case ["host-setup", "--remove", "local"]:
                return programs.Result("{}", "")
            case ["create", *rest]:
                self.vms.update(dict.fromkeys(rest[rest.index("--") + 1 :], True))
                return programs.Result("[]", "")
            case ["delete", *rest]:
                for uuid in rest[rest.index("--") + 1 :]:
                    name = uuid.removeprefix("uuid of ")
                    if not self.vms[name]:
                        return programs.Result(
                            "", f"{name}: not deleted: maas-virtualbox did not create it"
                        )
                    del self.vms[name]
                return programs.Result("[]", "")
            case _:
                raise AssertionError(f"unknown call: {arguments}")

    def _view(self, name: str) -> dict[str, Any]:
        known: dict[str, Any] = {
            "host": "local",
            "zone": "",
            "macs": [],
            "state": "poweroff",
            "power": "off",
        }
        return {**known, "name": name, "uuid": f"uuid of {name}"}

    def keys(self) -> list[str]:
        """Return the lines of authorized_keys."""
        return (self.root / sshd.KEYS).read_text().splitlines()


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Box:
    """Return a machine for the charm."""
    made = Box(tmp_path / "box")
    for folder in ("etc/ssh/sshd_config.d", "etc/tmpfiles.d", "dev", "opt"):
        (made.root / folder).mkdir(parents=True)
    (made.root / "dev/vboxdrv").touch()
    (made.root / "etc/ssh/host_key.pub").write_text(f"{HOST_KEY} root@laptop\n")
    here = pwd.getpwuid(os.getuid())
    account = pwd.struct_passwd(("vbox", "*", here.pw_uid, os.getgid(), "", HOME, "/bin/sh"))

    def user_exists(name: str) -> pwd.struct_passwd | None:
        return account if name == "vbox" else None

    def install(root: Path, charm: Path, name: str, *, compiled: Sequence[str]) -> None:
        del charm, compiled
        (root / programs.releases(name) / "1").mkdir(parents=True, exist_ok=True)
        current = root / programs.current(name)
        current.unlink(missing_ok=True)
        current.symlink_to("1")

    def is_running(_service: str) -> bool:
        return False

    monkeypatch.setattr(accounts, "passwd", types.SimpleNamespace(user_exists=user_exists))
    monkeypatch.setattr(programs, "run_as", made.run_as)
    monkeypatch.setattr(programs, "install", install)
    monkeypatch.setattr(sshd.systemd, "service_running", is_running)
    monkeypatch.setattr(virtualbox, "find", lambda: made.program)
    monkeypatch.setattr(VirtualBoxHostCharm, "root", made.root)
    return made


@pytest.fixture
def laptop(box: Box) -> Context:
    """Return the context that runs the charm's events on that machine."""
    del box
    return make_laptop("laptop")


def make_laptop(app_name: str, unit_id: int = 0) -> Context:
    """Return the context of a unit of the charm on that machine."""
    described = charmcraft.for_ops_testing("virtualbox-host")
    return testing.Context(VirtualBoxHostCharm, **described, app_name=app_name, unit_id=unit_id)


class TypedParameters(Protocol):
    """Reads an action's parameters as `juju run` does."""

    def __call__(
        self, action: str, /, *arguments: str, string_args: bool = False
    ) -> dict[str, Any]:
        """Return the parameters that reach the charm."""
        ...


@pytest.fixture
def typed_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TypedParameters:
    """Return the function for this charm."""
    # ops.testing does not support a parameter with several types.
    monkeypatch.setenv("SCENARIO_SKIP_CONSISTENCY_CHECKS", "1")
    described = tmp_path / "actions.yaml"
    described.write_text(yaml.safe_dump(charmcraft.read("virtualbox-host")["actions"]))

    def read(action: str, /, *arguments: str, string_args: bool = False) -> dict[str, Any]:
        return client.parameters(described, action, arguments, string_args=string_args)

    return read


def laptop_state(*relations: testing.RelationBase, **config: Any) -> testing.State:
    """Return the state of a unit. Options are written with underscores."""
    options = {name.replace("_", "-"): value for name, value in config.items()}
    return testing.State(config=options, relations=relations)


def keys_relation(*keys: str) -> testing.Relation:
    """Return a relation in which keys have been published."""
    published = from_requirer(public_keys=json.dumps([{"key": key} for key in keys]))
    return dataclasses.replace(published, endpoint="virtualbox-hosts")


def test_keys_are_restricted_and_revoked_with_the_relation(laptop: Context, box: Box) -> None:
    one, other = keys_relation(KEY), keys_relation(NEXT_KEY)
    gate = f'restrict,command="{HOME}/VBox_host_extensions/gate"'

    out = laptop.run(laptop.on.relation_changed(one), laptop_state(one, other))
    assert box.keys() == [f"{gate} {key} maas-virtualbox" for key in sorted([KEY, NEXT_KEY])]
    assert (
        f"AuthorizedKeysFile .ssh/authorized_keys .ssh/authorized_keys2 {box.root / sshd.KEYS}"
        in (box.root / sshd.CONFIG).read_text()
    )

    laptop.run(laptop.on.relation_broken(out.get_relation(one.id)), out)
    assert box.keys() == [f"{gate} {NEXT_KEY} maas-virtualbox"]


def test_key_is_revoked_while_an_option_is_invalid(laptop: Context, box: Box) -> None:
    relation = keys_relation(KEY)
    first = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation))
    assert box.keys()

    wrong = dataclasses.replace(first, config={"cpus": 0})
    out = laptop.run(laptop.on.relation_broken(first.get_relation(relation.id)), wrong)

    assert box.keys() == []
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message.startswith("cpus: ")


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param([], id="none"),
        pytest.param([{"value": "laptop.lan", "cidr": ""}], id="host name"),
        pytest.param([{"hostname": "laptop"}], id="no value"),
    ],
)
def test_unit_without_an_address_publishes_nothing(
    laptop: Context, box: Box, monkeypatch: pytest.MonkeyPatch, addresses: list[dict[str, str]]
) -> None:
    relation = keys_relation(KEY)
    answer_network_get(monkeypatch, *addresses)

    out = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation))

    assert out.unit_status == ops.WaitingStatus("waiting for an IP address from Juju")
    assert "address" not in out.get_relation(relation.id).local_unit_data
    assert box.keys()


def test_unit_publishes_its_ipv6_address(
    laptop: Context, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    del box
    relation = keys_relation(KEY)
    answer_network_get(
        monkeypatch, {"hostname": "laptop"}, {"value": "2001:db8::2", "cidr": "2001:db8::/64"}
    )

    out = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation))

    assert out.get_relation(relation.id).local_unit_data["address"] == '"2001:db8::2"'


def test_both_charms_together(
    laptop: Context,
    context: testing.Context[MAASVirtualBoxCharm],
    machine: ScratchMachine,
    box: Box,
) -> None:
    asked = testing.Relation("virtualbox-hosts", remote_app_name="laptop", remote_units_data={})
    switcher = context.run(context.on.relation_created(asked), state(hosts="", relations=[asked]))
    published = switcher.get_relation(asked.id)

    offered = testing.Relation(
        "virtualbox-hosts",
        remote_app_name="power",
        remote_app_data=published.local_app_data,
    )
    owner = laptop.run(
        laptop.on.relation_changed(offered), laptop_state(offered, zone="rack1", vm_count=2)
    )
    account = owner.get_relation(offered.id).local_unit_data

    answered = testing.Relation(
        "virtualbox-hosts",
        id=asked.id,
        remote_app_name="laptop",
        remote_units_data={0: account},
        local_app_data=published.local_app_data,
    )
    others = {other for other in switcher.relations if other.id != asked.id}
    served = context.run(
        context.on.relation_changed(answered),
        dataclasses.replace(switcher, relations={*others, answered}),
    )

    (host,) = service_config(machine)["hosts"]
    (line,) = box.keys()
    (key,) = json.loads(published.local_app_data["public-keys"])
    assert f" {key['key']} " in line
    assert (host["user"], host["port"], host["zone"]) == ("vbox", 2222, "rack1")
    assert (host["name"], host["vboxmanage"]) == ("laptop-0", PROGRAM)
    assert host["host-key"]
    assert isinstance(served.unit_status, ops.ActiveStatus)
    assert owner.unit_status == ops.ActiveStatus("2 VMs of vbox, 0 running")
    assert owner.workload_version == "7.2.22r1"


def test_vm_count_creates_vms_and_never_deletes(laptop: Context, box: Box) -> None:
    box.vms["somebody else's"] = False
    laptop.run(laptop.on.config_changed(), laptop_state(vm_count=2, attachment="none"))
    assert list(box.vms) == ["somebody else's", "node0-01", "node0-02"]

    laptop.run(laptop.on.config_changed(), laptop_state(vm_count=3, attachment="none"))
    assert list(box.vms)[3:] == ["node0-03"]

    out = laptop.run(laptop.on.config_changed(), laptop_state(vm_count=1, attachment="none"))
    assert len(box.vms) == 4
    assert out.unit_status == ops.ActiveStatus(
        "4 VMs of vbox, 0 running; 2 more than vm-count: see delete-vms; not related to"
        " maas-virtualbox: juju integrate"
    )


def test_vm_count_includes_vms_of_a_removed_unit(box: Box) -> None:
    box.vms = dict.fromkeys(["node0-01", "node0-02", "other", "node0-1"], True)
    later = make_laptop("laptop", 7)

    out = later.run(later.on.install(), laptop_state(vm_count=3, attachment="none"))
    assert list(box.vms) == ["node0-01", "node0-02", "other", "node0-1", "node7-01"]
    assert isinstance(out.unit_status, ops.ActiveStatus)

    fewer = dataclasses.replace(out, config={"vm-count": 1, "attachment": "none"})
    params = {"names": "", "confirm": True, "power-off": False}
    later.run(later.on.action("delete-vms", params=params), fewer)
    assert list(box.vms) == ["node0-01", "other", "node0-1"]


def test_host_only_network_has_no_dhcp_server(laptop: Context, box: Box) -> None:
    laptop.run(laptop.on.config_changed(), laptop_state(vm_count=1))

    assert (box.interfaces, box.served) == (["vboxnet0"], [])


@pytest.mark.parametrize(
    ("params", "message", "left"),
    [
        ({}, "add confirm=true to delete node0-02, node0-03", 4),
        ({"confirm": True}, "", 2),
        ({"names": "node0-01", "confirm": True}, "counts for vm-count=1", 4),
        ({"names": "nobody", "confirm": True}, "VM nobody not found", 4),
        ({"names": "other", "confirm": True}, "maas-virtualbox did not create it", 4),
    ],
)
def test_delete_vms_needs_confirmation(
    laptop: Context, box: Box, params: dict[str, Any], message: str, left: int
) -> None:
    box.vms["other"] = False
    params = {"names": "", "confirm": False, "power-off": False, **params}
    first = laptop.run(laptop.on.config_changed(), laptop_state(vm_count=3, attachment="none"))
    fewer = dataclasses.replace(first, config={"vm-count": 1, "attachment": "none"})

    if message:
        with pytest.raises(testing.ActionFailed, match=message):
            laptop.run(laptop.on.action("delete-vms", params=params), fewer)
    else:
        laptop.run(laptop.on.action("delete-vms", params=params), fewer)

    assert len(box.vms) == left


def test_create_vms_uses_names_and_sizes(laptop: Context, box: Box) -> None:
    first = laptop.run(laptop.on.config_changed(), laptop_state(attachment="none"))

    laptop.run(laptop.on.action("create-vms", params={"names": "big, bigger", "cpus": 4}), first)

    assert list(box.vms) == ["big", "bigger"]
    (call,) = (call for call in box.calls if "create" in call)
    assert "--cpus=4" in call
    with pytest.raises(testing.ActionFailed, match="is not allowed"):
        laptop.run(laptop.on.action("create-vms", params={"names": "--help"}), first)


@pytest.mark.parametrize(
    ("action", "typed", "message"),
    [
        ("create-vms", ["names=101"], "names: expected text, but Juju read it as a number"),
        ("delete-vms", ["names=101"], "names: expected text, but Juju read it as a number"),
        ("create-vms", ["names=a", "cpus=two"], "cpus: expected a whole number, not 'two'"),
        ("delete-vms", ["confirm=maybe"], "confirm: expected true or false, not 'maybe'"),
    ],
)
def test_parameters_changed_by_yaml_are_refused(
    laptop: Context,
    box: Box,
    typed_parameters: TypedParameters,
    action: str,
    typed: list[str],
    message: str,
) -> None:
    first = laptop.run(laptop.on.config_changed(), laptop_state(attachment="none"))

    with pytest.raises(testing.ActionFailed, match=message):
        laptop.run(laptop.on.action(action, params=typed_parameters(action, *typed)), first)

    assert not [call for call in box.calls if "create" in call or "delete" in call]


def test_parameters_can_all_be_text(
    laptop: Context, box: Box, typed_parameters: TypedParameters
) -> None:
    first = laptop.run(laptop.on.config_changed(), laptop_state(attachment="none"))
    create = typed_parameters("create-vms", "names=101", "cpus=4", string_args=True)
    delete = typed_parameters(
        "delete-vms", "names=101", "power-off=false", "confirm=true", string_args=True
    )

    made = laptop.run(laptop.on.action("create-vms", params=create), first)
    assert list(box.vms) == ["101"]
    (call,) = (call for call in box.calls if "create" in call)
    assert "--cpus=4" in call
    laptop.run(laptop.on.action("delete-vms", params=delete), made)
    assert box.vms == {}
    assert not [call for call in box.calls if "--power-off" in call]


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"user": "root"}, "user: expected the name of an account, not 'root'"),
        ({"user": "vbox;id"}, "user: expected the name of an account"),
        ({"package": "--purge"}, "package: expected the name of a package"),
        ({"version": "1 2"}, "version: expected a version of a package"),
        ({"zone": "a\nb"}, "zone: expected the name of a zone: the zone 'a\\nb' is not allowed"),
        ({"vm_count": 201}, "vm-count: expected at most 200"),
        ({"memory": 1}, "memory: expected at least 4"),
        (
            {"name_prefix": "$(id)"},
            "name-prefix: expected the beginning of a VM name: the name '$(id)0-01'",
        ),
        ({"attachment": "wifi"}, "attachment: expected hostonly, bridged, nat or none"),
        (
            {"attachment": "nat", "network": "eth0"},
            "network: expected no network for this attachment: network 'eth0'",
        ),
        ({"install": "maybe"}, "install: expected auto or never"),
    ],
)
def test_invalid_option_changes_nothing(
    laptop: Context, box: Box, config: dict[str, Any], sentence: str
) -> None:
    out = laptop.run(laptop.on.config_changed(), laptop_state(**config))

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert out.unit_status.message.startswith(sentence)
    assert "\n" not in out.unit_status.message
    assert box.calls == []


def test_install_never_without_virtualbox_blocks(laptop: Context, box: Box) -> None:
    box.program = ""

    out = laptop.run(laptop.on.config_changed(), laptop_state(install="never"))

    assert out.unit_status == ops.BlockedStatus(
        "VBoxManage not found, and install=never: install VirtualBox, or juju config laptop"
        " install=auto"
    )


def test_virtualbox_is_installed_with_apt_if_missing(
    laptop: Context, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.program = ""
    installed: list[tuple[str, str]] = []

    def add_package(name: str, version: str = "") -> None:
        if name.startswith("linux-headers-"):
            raise virtualbox.apt.PackageNotFoundError("no headers of it")
        installed.append((name, version))
        box.program = PROGRAM

    monkeypatch.setattr(virtualbox.apt, "update", lambda: None)
    monkeypatch.setattr(virtualbox.apt, "add_package", add_package)
    out = laptop.run(
        laptop.on.install(), laptop_state(package="virtualbox-7.2", version="7.2.22-1")
    )

    assert installed == [("virtualbox-7.2", "7.2.22-1")]
    assert isinstance(out.unit_status, ops.ActiveStatus)


def test_virtualbox_command_is_retried(
    laptop: Context, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = virtualbox.Timings(retry_pauses=(0.0, 0.0))
    monkeypatch.setattr(VirtualBoxHostCharm, "timings", timings)
    box.refusals = 2
    out = laptop.run(laptop.on.config_changed(), laptop_state())
    assert isinstance(out.unit_status, ops.ActiveStatus)

    box.refusals = 3
    out = laptop.run(laptop.on.config_changed(), laptop_state())
    assert out.unit_status == ops.BlockedStatus("local: its service died")


def test_unit_without_the_kernel_module_blocks(laptop: Context, box: Box) -> None:
    (box.root / "dev/vboxdrv").unlink()

    out = laptop.run(laptop.on.config_changed(), laptop_state())

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert "sudo modprobe vboxdrv" in out.unit_status.message


def test_configuration_that_sshd_rejects_is_removed(laptop: Context, box: Box) -> None:
    box.sshd_error = "line 3: bad option"

    out = laptop.run(laptop.on.config_changed(), laptop_state())

    assert out.unit_status == ops.BlockedStatus(
        "sshd rejects its configuration: line 3: bad option"
    )
    assert not (box.root / sshd.CONFIG).exists()


def test_remove_keeps_virtualbox_account_and_vms(laptop: Context, box: Box) -> None:
    relation = keys_relation(KEY)
    first = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation, vm_count=2))

    laptop.run(laptop.on.remove(), first)

    left = [path for path in box.root.rglob("*") if "virtualbox-host" in path.name]
    assert left == []
    assert list(box.vms) == ["node0-01", "node0-02"]
    assert any(call[-2:] == ["--remove", "local"] for call in box.calls)
