# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The lock of a machine, with two applications on it and with files that existed before."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ops
import pytest
from ops import testing

import workload
from maas_virtualbox.juju import machine_lock, programs
from virtualbox_host import accounts, sshd, virtualbox
from virtualbox_host.charm import VirtualBoxHostCharm

from tests.charm.conftest import make_context, state
from tests.charm.test_charm import state_after
from tests.charm.test_interface import KEY, NEXT_KEY
from tests.charm.test_virtualbox_host import box, keys_relation, laptop, laptop_state, make_laptop

if TYPE_CHECKING:
    from collections.abc import Callable

    from charm import MAASVirtualBoxCharm

    from tests.charm.conftest import ScratchMachine
    from tests.charm.test_virtualbox_host import Box

    Context = testing.Context[MAASVirtualBoxCharm]
    Laptop = testing.Context[VirtualBoxHostCharm]

__all__ = ["box", "laptop"]

LOCK = workload.RELEASES / machine_lock.FILE_NAME
TAKEN = ops.BlockedStatus(
    "power/0 is already on this machine: juju remove-unit other/0, and place it on another machine"
)
FOREIGN = "does not belong to this charm: move it away"
BEFORE = "existed before this charm: move it away"


def contents(root: Path) -> dict[Path, tuple[int, str]]:
    """Return all files below a folder, with their modification times."""
    return {
        path: (
            path.lstat().st_mtime_ns,
            path.read_text("latin-1") if path.is_file() and not path.is_symlink() else "",
        )
        for path in root.rglob("*")
    }


# --- Two applications


@pytest.fixture
def other(context: Context) -> Context:
    """Return a unit of another application on the machine."""
    del context
    return make_context("other")


@pytest.mark.parametrize(
    "event",
    [
        "install",
        "config_changed",
        "leader_elected",
        "start",
        "update_status",
        "upgrade_charm",
        "stop",
        "remove",
    ],
)
def test_second_application_changes_nothing(
    context: Context, other: Context, machine: ScratchMachine, event: str
) -> None:
    context.run(context.on.config_changed(), state())
    before, installed, _ = contents(machine.root), [*machine.installed], machine.systemctl_calls()

    out = other.run(getattr(other.on, event)(), state(off_mode="acpi"))

    assert contents(machine.root) == before
    assert (machine.installed, machine.systemctl_calls()) == (installed, [])
    assert machine.accounts == {"maas-virtualbox"}
    if event not in ("stop", "remove"):
        assert out.unit_status == TAKEN


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("list-vms", {"format": "table"}),
        ("check-hosts", {"format": "table"}),
        ("power", {"vm": "node01", "change": "on"}),
        ("show-power-parameters", {"vm": "node01"}),
        ("trust-host", {"host": "alpha", "fingerprint": f"SHA256:{'a' * 43}"}),
        ("enlist", {"dry-run": False, "commission": False, "take-over": False}),
    ],
)
def test_second_application_does_not_use_the_first_service(
    context: Context, other: Context, machine: ScratchMachine, action: str, params: dict[str, Any]
) -> None:
    context.run(context.on.config_changed(), state())
    before, _ = contents(machine.root), machine.systemctl_calls()

    with pytest.raises(testing.ActionFailed) as failed:
        other.run(other.on.action(action, params=params), state())

    assert failed.value.message == TAKEN.message
    assert contents(machine.root) == before
    assert machine.systemctl_calls() == []


def test_second_application_takes_over_after_the_first(
    context: Context, other: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.config_changed(), state())
    waiting = other.run(other.on.install(), state(off_mode="acpi"))

    stopped = context.run(context.on.stop(), first)
    assert other.run(other.on.update_status(), waiting).unit_status == TAKEN
    context.run(context.on.remove(), stopped)
    assert machine.accounts == set()
    assert not (machine.root / LOCK).exists()

    out = other.run(other.on.update_status(), waiting)
    assert out.unit_status == ops.ActiveStatus("3 VMs on 1 host, 1 running")
    assert json.loads(machine.text(LOCK))["unit"] == "other/0"
    assert "acpi" in machine.text(workload.CONFIG_FILE)


def test_lock_survives_a_refresh(context: Context, other: Context) -> None:
    first = context.run(context.on.config_changed(), state())

    refreshed = context.run(context.on.upgrade_charm(), first)

    assert isinstance(refreshed.unit_status, ops.ActiveStatus)
    assert other.run(other.on.update_status(), state()).unit_status == TAKEN


def test_lock_survives_a_killed_hook(
    context: Context, other: Context, machine: ScratchMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Ends a hook at once."""

    def die(_root: Path, _charm: Path) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(workload, "install", die)
        with pytest.raises(Killed):
            context.run(context.on.install(), state())

    assert other.run(other.on.install(), state()).unit_status == TAKEN
    assert machine.installed == []
    out = context.run(context.on.install(), state())
    assert isinstance(out.unit_status, ops.ActiveStatus)


def test_lock_of_a_unit_removed_by_force_is_free(
    context: Context, other: Context, machine: ScratchMachine, tmp_path: Path
) -> None:
    context.run(context.on.config_changed(), state())
    claim = json.loads(machine.text(LOCK))
    agent = tmp_path / "unit-power-0"
    agent.mkdir()
    (machine.root / LOCK).write_text(json.dumps({**claim, "agent": str(agent)}))

    assert other.run(other.on.update_status(), state()).unit_status == TAKEN
    agent.rmdir()
    out = other.run(other.on.update_status(), state())

    assert isinstance(out.unit_status, ops.ActiveStatus)
    other.run(other.on.remove(), out)
    assert machine.accounts == set()
    assert not (machine.root / workload.CONFIG).exists()


def test_refresh_of_an_installation_without_a_lock_acquires_it(
    context: Context, other: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.config_changed(), state())
    (machine.root / LOCK).unlink()  # as earlier versions left it

    blocked = other.run(other.on.install(), state())
    assert isinstance(blocked.unit_status, ops.BlockedStatus)
    assert blocked.unit_status.message.endswith(BEFORE)
    assert isinstance(context.run(context.on.upgrade_charm(), first).unit_status, ops.ActiveStatus)
    assert other.run(other.on.update_status(), blocked).unit_status == TAKEN


# --- Files and accounts that existed before


def _folder(path: Path) -> None:
    path.mkdir(parents=True)
    (path / "notes").write_text("mine")


def _file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")


def _link(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/nonexistent")


PLACED = pytest.mark.parametrize("place", [_folder, _file, _link])


@PLACED
@pytest.mark.parametrize("path", [*workload.PATHS, workload.RELEASES])
@pytest.mark.parametrize("event", ["install", "config_changed"])
def test_existing_path_is_not_changed(
    context: Context,
    machine: ScratchMachine,
    place: Callable[[Path], None],
    path: Path,
    event: str,
) -> None:
    place(machine.root / path)
    before = contents(machine.root)

    out = context.run(getattr(context.on, event)(), state())
    context.run(context.on.remove(), context.run(context.on.stop(), out))

    assert out.unit_status == ops.BlockedStatus(f"/{path} {BEFORE}")
    assert contents(machine.root) == before
    assert (machine.installed, machine.accounts) == ([], set())

    (machine.root / path).rename(machine.root / "elsewhere")
    out = context.run(context.on.update_status(), state())
    assert isinstance(out.unit_status, ops.ActiveStatus)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        *((_file, name) for name in ("notes", ".hidden", "a\nb")),
        *(
            (place, name)
            for place in (_folder, _link)
            for name in ("notes", "config.yaml", "applied", "settled", "ssh-private-key")
        ),
    ],
)
def test_foreign_file_in_the_config_folder_blocks(
    context: Context, machine: ScratchMachine, place: Callable[[Path], None], name: str
) -> None:
    first = context.run(context.on.config_changed(), state())
    foreign = machine.root / workload.CONFIG / name
    if foreign.exists():
        foreign.unlink()
    place(foreign)
    machine.systemctl_calls()

    out = context.run(context.on.config_changed(), state_after(first, off_mode="acpi"))

    shown = name.replace("\n", "\\n")
    assert out.unit_status == ops.BlockedStatus(f"/{workload.CONFIG}/{shown} {FOREIGN}")
    assert machine.systemctl_calls() == []
    assert foreign.exists() or foreign.is_symlink()
    again = context.run(context.on.update_status(), out)
    assert again.unit_status == out.unit_status

    context.run(context.on.remove(), context.run(context.on.stop(), again))
    left = {path.relative_to(machine.root) for path in machine.root.rglob("*maas-virtualbox*/*")}
    assert left == {foreign.relative_to(machine.root)}
    assert foreign.exists() or foreign.is_symlink()


@pytest.mark.parametrize("folder", [workload.STATE, workload.RELEASES])
def test_foreign_file_in_another_folder_stays(
    context: Context, machine: ScratchMachine, folder: Path
) -> None:
    first = context.run(context.on.config_changed(), state())
    own = machine.root / workload.STATE / "known_hosts"
    own.write_text("")
    foreign = machine.root / folder / "notes"
    foreign.write_text("mine")
    os.chown(foreign, 4711, 4711)

    out = context.run(context.on.config_changed(), state_after(first, off_mode="acpi"))
    context.run(context.on.remove(), context.run(context.on.stop(), out))

    assert isinstance(out.unit_status, ops.ActiveStatus)
    assert foreign.read_text() == "mine"
    assert [*foreign.parent.iterdir()] == [foreign]
    assert not own.exists()


def test_existing_account_is_not_removed(context: Context, machine: ScratchMachine) -> None:
    machine.accounts.add("maas-virtualbox")
    first = context.run(context.on.config_changed(), state())

    context.run(context.on.remove(), context.run(context.on.stop(), first))

    assert machine.accounts == {"maas-virtualbox"}


def test_path_occupied_after_the_lock_is_a_status(
    context: Context, machine: ScratchMachine
) -> None:
    first = context.run(context.on.config_changed(), state())
    unit = machine.root / workload.UNIT
    unit.unlink()
    _folder(unit)

    out = context.run(context.on.update_status(), first)
    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert str(workload.UNIT) in out.unit_status.message
    context.run(context.on.remove(), context.run(context.on.stop(), out))
    assert (unit / "notes").read_text() == "mine"


# --- The charm virtualbox-host


@pytest.fixture
def spare(box: Box) -> Laptop:
    """Return another application of virtualbox-host on the machine."""
    del box
    return make_laptop("spare")


TAKEN_LAPTOP = ops.BlockedStatus(
    "laptop/0 is already on this machine: juju remove-unit spare/0, and place it on another"
    " machine"
)


@pytest.mark.parametrize(
    "event", ["install", "config_changed", "update_status", "upgrade_charm", "remove"]
)
def test_second_virtualbox_host_changes_nothing(
    laptop: Laptop, spare: Laptop, box: Box, event: str
) -> None:
    relation = keys_relation(KEY)
    laptop.run(laptop.on.relation_changed(relation), laptop_state(relation, vm_count=1))
    before = contents(box.root)
    box.calls.clear()

    out = spare.run(getattr(spare.on, event)(), laptop_state(vm_count=3, user="vbox"))

    assert (contents(box.root), box.calls) == (before, [])
    assert len(box.keys()) == 1
    if event != "remove":
        assert out.unit_status == TAKEN_LAPTOP


@pytest.mark.parametrize(
    ("action", "params"),
    [
        ("list-vms", {"format": "table"}),
        ("create-vms", {"names": "x"}),
        ("delete-vms", {"names": "node0-01", "confirm": True, "power-off": False}),
    ],
)
def test_second_virtualbox_host_does_not_change_vms(
    laptop: Laptop, spare: Laptop, box: Box, action: str, params: dict[str, Any]
) -> None:
    laptop.run(laptop.on.config_changed(), laptop_state(vm_count=1))

    with pytest.raises(testing.ActionFailed) as failed:
        spare.run(spare.on.action(action, params=params), laptop_state())

    assert failed.value.message == TAKEN_LAPTOP.message
    assert list(box.vms) == ["node0-01"]


def test_second_virtualbox_host_takes_over_account_and_vms(
    laptop: Laptop, spare: Laptop, box: Box
) -> None:
    old, new = keys_relation(KEY), keys_relation(NEXT_KEY)
    first = laptop.run(laptop.on.relation_changed(old), laptop_state(old, vm_count=2))
    waiting = spare.run(spare.on.install(), laptop_state(new, vm_count=3))

    laptop.run(laptop.on.remove(), first)
    assert not (box.root / sshd.KEYS).exists()
    out = spare.run(spare.on.update_status(), waiting)

    assert out.unit_status == ops.ActiveStatus("3 VMs of vbox, 0 running")
    assert list(box.vms) == ["node0-01", "node0-02", "node0-03"]
    (line,) = box.keys()
    assert NEXT_KEY in line


@PLACED
@pytest.mark.parametrize(
    "path",
    [sshd.KEYS.parent, sshd.CONFIG, accounts.TMPFILES, programs.releases(virtualbox.NAME)],
)
def test_virtualbox_host_does_not_change_an_existing_path(
    laptop: Laptop, box: Box, place: Callable[[Path], None], path: Path
) -> None:
    place(box.root / path)
    before = contents(box.root)

    out = laptop.run(laptop.on.install(), laptop_state(vm_count=1))
    laptop.run(laptop.on.remove(), out)

    assert out.unit_status == ops.BlockedStatus(f"/{path} {BEFORE}")
    assert (contents(box.root), box.calls, box.vms) == (before, [], {})


@pytest.mark.parametrize("path", [sshd.KEYS, sshd.CONFIG, accounts.TMPFILES])
def test_virtualbox_host_reports_a_folder_instead_of_a_file(
    laptop: Laptop, box: Box, path: Path
) -> None:
    relation = keys_relation(KEY)
    first = laptop.run(laptop.on.relation_changed(relation), laptop_state(relation))
    (box.root / path).unlink()
    _folder(box.root / path)

    out = laptop.run(laptop.on.update_status(), first)
    laptop.run(laptop.on.remove(), out)

    assert isinstance(out.unit_status, ops.BlockedStatus)
    assert str(path) in out.unit_status.message
    assert out.unit_status.message.isprintable()
    assert (box.root / path / "notes").read_text() == "mine"


def test_virtualbox_host_keeps_a_foreign_file(laptop: Laptop, box: Box) -> None:
    first = laptop.run(laptop.on.config_changed(), laptop_state())
    foreign = [
        box.root / sshd.KEYS.with_name("notes"),
        box.root / programs.releases(virtualbox.NAME) / "notes",
    ]
    for path in foreign:
        path.write_text("mine")

    laptop.run(laptop.on.remove(), first)

    assert [path.read_text() for path in foreign] == ["mine", "mine"]
    assert [*foreign[0].parent.iterdir(), *foreign[1].parent.iterdir()] == foreign
