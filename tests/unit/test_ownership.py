# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VMs this project manages, and which disks would be deleted with them."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import platform

import pytest

from maas_virtualbox.provisioning import ownership
from maas_virtualbox.virtualbox import parsers, settings_xml
from maas_virtualbox.virtualbox.parsers import HardDisk
from maas_virtualbox.virtualbox.settings_xml import VMSettings
from maas_virtualbox.virtualbox.states import VMState

SAMPLES = pathlib.Path(__file__).parent / "samples"
UUID = "0c06ecdf-282e-4a3b-8cfb-b50f570662a8"
OTHER = "b572724a-291f-45a5-942e-f93fc4e74b4d"
VM = VMSettings(UUID, "n 1", "/home/vbox/VirtualBox VMs/n 1/n 1.vbox", VMState.POWEROFF)
NODE1 = (SAMPLES / "node1.vbox.xml").read_text(encoding="utf-8")


def disk(
    location: str, *, users: tuple[str, ...] = (UUID,), uuid: str = "d1", parent: str = "base"
) -> HardDisk:
    """Return a hard disk."""
    return HardDisk(uuid, parent, location, frozenset(users))


def incomplete(machine: str, pid: int) -> ownership.IncompleteVM | None:
    """Parse the temporary name of a VM of a process."""
    name = f"n 1 (being made by maas-virtualbox on {machine} process {pid})"
    return ownership.parse_incomplete(dataclasses.replace(VM, name=name))


# -- Managed VMs ------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "managed"), [("its own", True), (OTHER, False), ("", False)])
def test_vm_with_its_own_uuid_in_extra_data_is_managed(value: str, managed: bool) -> None:
    uuid = settings_xml.normalise_uuid(NODE1.partition('<Machine uuid="')[2][:38])
    owner = uuid if value == "its own" else value
    item = f'<ExtraDataItem name="{settings_xml.MANAGED_KEY}" value="{owner}"/>'
    xml = NODE1.replace("<Hardware>", f"<ExtraData>{item}</ExtraData><Hardware>", 1)

    assert settings_xml.parse_settings(uuid, "/x", xml).managed is managed
    assert not settings_xml.parse_settings(uuid, "/x", NODE1).managed


# -- Incomplete VMs ---------------------------------------------------------------------------


def test_vm_with_a_temporary_name_is_incomplete() -> None:
    assert ownership.parse_incomplete(VM) is None
    found = incomplete("h", 7)
    assert found == ownership.IncompleteVM("n 1", "h", 7)


def test_vm_that_this_process_creates_is_not_abandoned() -> None:
    name = ownership.begin_creation(UUID, "n 1")
    settings = dataclasses.replace(VM, name=name)

    during = ownership.parse_incomplete(settings)
    ownership.end_creation(UUID)
    afterwards = ownership.parse_incomplete(settings)

    assert during is None
    assert afterwards is not None
    assert (afterwards.name, afterwards.pid) == ("n 1", os.getpid())
    assert afterwards.is_abandoned


def test_vm_of_another_process_is_not_abandoned() -> None:
    alive = incomplete(platform.node(), os.getppid())
    elsewhere = incomplete("some-other-machine", os.getpid())

    assert alive is not None
    assert not alive.is_abandoned
    assert elsewhere is not None
    assert not elsewhere.is_abandoned


def test_temporary_name_fits_in_a_file_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "node", lambda: "h" * 253)

    name = ownership.begin_creation(UUID, "x" * 80)
    ownership.end_creation(UUID)

    assert len(f"{name}.vbox-prev".encode()) <= 255


# -- Disks ------------------------------------------------------------------------------------


def test_foreign_disks_include_disks_of_snapshots() -> None:
    disks = parsers.parse_hard_disks((SAMPLES / "list-long-hdds.out").read_text())

    assert ownership.foreign_disks(VM, disks) == ["/home/vbox/elsewhere.vdi"]


def test_foreign_disks_include_parents_of_disks() -> None:
    disks = [
        disk("/srv/base.vdi", uuid="b", users=()),
        disk("/home/vbox/VirtualBox VMs/n 1/Snapshots/{x}.vdi", uuid="c", parent="b"),
    ]

    assert ownership.foreign_disks(VM, disks) == ["/srv/base.vdi"]


@pytest.mark.parametrize(
    ("location", "foreign"),
    [
        ("/home/vbox/VirtualBox VMs/n 1/n 1.vdi", False),
        ("/home/vbox/VirtualBox VMs/n 1/Snapshots/a.vdi", False),
        ("/home/vbox/VirtualBox VMs/n 10/n 10.vdi", True),
        ("/home/vbox/VirtualBox VMs/n 1.vdi", True),
        ("/home/vbox/VirtualBox VMs/n 1/../n 2/n 2.vdi", True),
    ],
)
def test_foreign_disks_are_outside_the_folder_of_the_vm(location: str, foreign: bool) -> None:
    assert bool(ownership.foreign_disks(VM, [disk(location)])) is foreign


def test_foreign_disks_ignore_disks_of_other_vms() -> None:
    assert ownership.foreign_disks(VM, [disk("/srv/x.vdi", users=(OTHER,))]) == []


def test_foreign_disks_compare_windows_paths() -> None:
    vm = dataclasses.replace(VM, settings_file="C:\\Users\\Ivan\\VirtualBox VMs\\n 1\\n 1.vbox")
    own = disk("c:\\users\\ivan\\virtualbox vms\\n 1\\n 1.vdi")
    other = disk("D:\\disks\\x.vdi", uuid="d2")

    assert ownership.foreign_disks(vm, [own, other]) == ["D:\\disks\\x.vdi"]


def test_foreign_disks_without_a_folder_are_all_disks() -> None:
    vm = dataclasses.replace(VM, settings_file="")

    assert ownership.foreign_disks(vm, [disk("/srv/x.vdi")]) == ["/srv/x.vdi"]
