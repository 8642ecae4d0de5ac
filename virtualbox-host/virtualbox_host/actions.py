# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What people and their programs ask of a unit: `juju run virtualbox-host/0 …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.juju import actions, statuses

if TYPE_CHECKING:
    from maas_virtualbox.juju.actions import Action
    from virtualbox_host.charm import VirtualBoxHostCharm


class Actions(actions.Actions):
    """The actions of charmcraft.yaml, a method each."""

    def __init__(self, charm: VirtualBoxHostCharm) -> None:
        self._charm = charm
        methods = {
            "create-vms": self._create_vms,
            "delete-vms": self._delete_vms,
            "list-vms": self._list_vms,
        }
        super().__init__(charm, methods)

    def _create_vms(self, action: Action) -> None:
        names = _names(action)
        sizes = {name: action.integer(name) for name in _SIZES}
        try:
            chosen, box = self._charm.chosen(), self._charm.box()
            chosen = chosen.model_copy(
                update={key: n for key, n in sizes.items() if n is not None}
            )
            for name in names:
                chosen.spec(name)
            if not names:
                action.fail("names: expected names apart by commas")
                return
            if chosen.attachment == "hostonly":
                box.ensure_host_only_network(chosen.network)
            answer = box.create(chosen, names)
        except errors.VMSpecError as error:
            action.fail(str(error))
            return
        except statuses.Unready as reason:
            action.fail(str(reason))
            return
        action.show({"created": answer.output})
        if answer.problem:
            action.fail(answer.problem)
        self._charm.reconcile()

    def _delete_vms(self, action: Action) -> None:
        wanted, confirmed = _names(action), action.flag("confirm")
        power_off = action.flag("power-off")
        try:
            chosen, box = self._charm.chosen(), self._charm.box()
            there = {vm.name: vm.uuid for vm in box.list_vms()}
            names = wanted or chosen.surplus(there)
            kept = [name for name in names if name in chosen.kept(there)]
            unknown = [name for name in names if name not in there]
            if unknown:
                action.fail(f"there is no VM {unknown[0]}: see list-vms")
            elif kept:
                action.fail(
                    f"{kept[0]} is one of the {chosen.vm_count} of vm-count, and another would be"
                    f" made: juju config {self._charm.app.name} vm-count=… first"
                )
            elif not names:
                action.show({"deleted": "nothing: there are no more VMs than vm-count"})
            elif not confirmed:
                action.show({"would-delete": " ".join(names)})
                action.fail(f"add confirm=true to delete {', '.join(names)} and what is on them")
            else:
                answer = box.delete([there[name] for name in names], power_off=power_off)
                action.show({"deleted": answer.output})
                if answer.problem:
                    action.fail(answer.problem)
                self._charm.reconcile()
        except statuses.Unready as reason:
            action.fail(str(reason))

    def _list_vms(self, action: Action) -> None:
        try:
            answer = self._charm.box().table(action.text("format"))
        except statuses.Unready as reason:
            action.fail(str(reason))
            return
        action.show({"vms": answer.output})
        if answer.problem:
            action.fail(answer.problem)


_SIZES = ("cpus", "memory", "disk")


def _names(action: Action) -> list[str]:
    words = (word.strip() for word in action.text("names").split(","))
    return list(dict.fromkeys(word for word in words if word))
