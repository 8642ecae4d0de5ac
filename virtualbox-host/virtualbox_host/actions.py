# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The actions of a unit: `juju run virtualbox-host/0 …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.juju import actions
from maas_virtualbox.juju.actions import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import ops

    from maas_virtualbox.juju import programs
    from maas_virtualbox.juju.actions import Action
    from virtualbox_host.machine import Machine
    from virtualbox_host.options import HostOptions


class Actions(actions.Actions):
    """The actions of charmcraft.yaml, one method each."""

    def __init__(
        self, charm: ops.CharmBase, *, machine: Machine, reconcile: Callable[[], None]
    ) -> None:
        """Observe the actions.

        Args:
            charm: The charm.
            machine: The machine of the unit.
            reconcile: Brings the machine into the desired state.
        """
        self._app = charm.app.name
        self._machine = machine
        self._reconcile = reconcile
        functions = {
            "create-vms": self._create_vms,
            "delete-vms": self._delete_vms,
            "list-vms": self._list_vms,
        }
        super().__init__(charm, functions)

    def _create_vms(self, action: Action) -> None:
        names = _parse_names(action)
        if not names:
            raise ActionError("names: expected names separated by commas")
        sizes = {name: action.integer(name) for name in _SIZES}
        changes = {name: size for name, size in sizes.items() if size is not None}
        chosen = self._machine.options().model_copy(update=changes)
        vbox = self._machine.virtualbox()
        for name in names:
            _check_spec(chosen, name)
        vbox.ensure_network(chosen)
        result = vbox.create(chosen, names)
        action.set_results({"created": result.output})
        self._complete(action, result)

    def _delete_vms(self, action: Action) -> None:
        names, is_confirmed = _parse_names(action), action.flag("confirm")
        power_off = action.flag("power-off")
        chosen, vbox = self._machine.options(), self._machine.virtualbox()
        uuids = {vm.name: vm.uuid for vm in vbox.list_vms()}
        names = names or chosen.surplus_names(uuids)
        self._check_deletable(names, chosen, existing=uuids)
        if not names:
            action.set_results({"deleted": "nothing: there are not more VMs than vm-count"})
        elif not is_confirmed:
            action.set_results({"would-delete": " ".join(names)})
            action.fail(f"add confirm=true to delete {', '.join(names)} and their disks")
        else:
            result = vbox.delete([uuids[name] for name in names], power_off=power_off)
            action.set_results({"deleted": result.output})
            self._complete(action, result)

    def _list_vms(self, action: Action) -> None:
        result = self._machine.virtualbox().table(action.text("format"))
        action.set_results({"vms": result.output})
        if result.error:
            action.fail(result.error)

    def _check_deletable(
        self, names: Collection[str], chosen: HostOptions, *, existing: Collection[str]
    ) -> None:
        """Check that VMs exist, and that the charm would not create them again."""
        for name in names:
            if name not in existing:
                raise ActionError(f"VM {name} not found: see list-vms")
        counted = chosen.names_within_count(existing)
        for name in names:
            if name in counted:
                raise ActionError(
                    f"{name} counts for vm-count={chosen.vm_count} and would be replaced:"
                    f" juju config {self._app} vm-count=… first"
                )

    def _complete(self, action: Action, result: programs.Result) -> None:
        """Report an error of VirtualBox, and reconcile, because the VMs have changed."""
        if result.error:
            action.fail(result.error)
        self._reconcile()


_SIZES = ("cpus", "memory", "disk")


def _parse_names(action: Action) -> list[str]:
    names = (name.strip() for name in action.text("names").split(","))
    return list(dict.fromkeys(name for name in names if name))


def _check_spec(chosen: HostOptions, name: str) -> None:
    try:
        chosen.spec(name)
    except errors.VMSpecError as error:
        raise ActionError(str(error)) from None
