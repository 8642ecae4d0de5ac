# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What people and their programs ask of a unit: `juju run virtualbox-host/0 …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ops
import pydantic

from maas_virtualbox import documents
from maas_virtualbox.juju import statuses

if TYPE_CHECKING:
    from virtualbox_host.charm import VirtualBoxHostCharm


class Actions(ops.Object):
    """The actions of charmcraft.yaml, a method each."""

    def __init__(self, charm: VirtualBoxHostCharm) -> None:
        super().__init__(charm, "actions")
        self._charm = charm
        for name, method in (
            ("create-vms", self._create_vms),
            ("delete-vms", self._delete_vms),
            ("list-vms", self._list_vms),
        ):
            self.framework.observe(charm.on[name].action, method)

    def _create_vms(self, event: ops.ActionEvent) -> None:
        names = _names(event)
        try:
            chosen, box = self._charm.chosen(), self._charm.box()
            given = {key: event.params[key] for key in _SIZES if event.params.get(key) is not None}
            chosen = chosen.model_copy(update=given)
            for name in names:
                chosen.spec(name)
            if not names:
                event.fail("names: expected names apart by commas")
                return
            if chosen.attachment == "hostonly":
                box.ensure_host_only_network(chosen.network)
            answer = box.create(chosen, names)
        except pydantic.ValidationError as error:
            event.fail(documents.explain(error))
            return
        except statuses.Unready as reason:
            event.fail(str(reason))
            return
        event.set_results({"created": answer.output})
        if answer.problem:
            event.fail(answer.problem)
        self._charm.reconcile()

    def _delete_vms(self, event: ops.ActionEvent) -> None:
        try:
            chosen, box = self._charm.chosen(), self._charm.box()
            there = {vm.name: vm.uuid for vm in box.list_vms()}
            number = self._charm.number
            names = _names(event) or chosen.surplus(number, list(there))
            kept = [name for name in names if name in chosen.vm_names(number)]
            unknown = [name for name in names if name not in there]
            if unknown:
                event.fail(f"there is no VM {unknown[0]}: see list-vms")
            elif kept:
                event.fail(
                    f"{kept[0]} is one of the {chosen.vm_count} of vm-count, and would be made"
                    f" anew: juju config {self._charm.app.name} vm-count=… first"
                )
            elif not names:
                event.set_results({"deleted": "nothing: there are no more VMs than vm-count"})
            elif not event.params["confirm"]:
                event.set_results({"would-delete": " ".join(names)})
                event.fail(f"add confirm=true to delete {', '.join(names)} and what is on them")
            else:
                answer = box.delete(
                    [there[name] for name in names], power_off=event.params["power-off"]
                )
                event.set_results({"deleted": answer.output})
                if answer.problem:
                    event.fail(answer.problem)
                self._charm.reconcile()
        except statuses.Unready as reason:
            event.fail(str(reason))

    def _list_vms(self, event: ops.ActionEvent) -> None:
        try:
            answer = self._charm.box().table(event.params["format"])
        except statuses.Unready as reason:
            event.fail(str(reason))
            return
        event.set_results({"vms": answer.output})
        if answer.problem:
            event.fail(answer.problem)


_SIZES = ("cpus", "memory", "disk")


def _names(event: ops.ActionEvent) -> list[str]:
    words = (word.strip() for word in event.params["names"].split(","))
    return list(dict.fromkeys(word for word in words if word))
