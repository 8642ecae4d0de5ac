# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What people and their programs ask of a unit: `juju run maas-virtualbox/0 …`.

Most actions are a command of the program `maas-virtualbox`, run as the service's user with the
service's configuration. What it prints is in the results, also where it fails.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from typing import TYPE_CHECKING, Any, cast

import ops

import credentials
import enlistment
import statuses
import workload

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm


class Actions(ops.Object):
    """The actions of charmcraft.yaml, a method each."""

    def __init__(self, charm: MAASVirtualBoxCharm) -> None:
        super().__init__(charm, "actions")
        self._charm = charm
        for name, method in (
            ("check-hosts", self._check_hosts),
            ("enlist", self._enlist),
            ("get-public-key", self._get_public_key),
            ("install-host-extensions", self._install_host_extensions),
            ("list-vms", self._list_vms),
            ("power", self._power),
            ("rotate-ssh-key", self._rotate_ssh_key),
            ("rotate-tokens", self._rotate_tokens),
            ("show-power-parameters", self._show_power_parameters),
            ("trust-host", self._trust_host),
        ):
            self.framework.observe(charm.on[name].action, method)

    def _check_hosts(self, event: ops.ActionEvent) -> None:
        host = event.params.get("host")
        output = self._run(event, "check", _format(event), *(["--", host] if host else []))
        event.set_results({"findings": output})
        if not host and self._charm.config["maas-url"] and (address := self._address(event)):
            output = self._run(event, "maas", "check", _format(event), f"--address={address}")
            event.set_results({"findings-of-maas": output})

    def _enlist(self, event: ops.ActionEvent) -> None:
        flags = ("dry-run", "commission", "take-over")
        if not event.params["dry-run"] and not self._charm.unit.is_leader():
            event.fail(f"only the leader can: juju run {self._charm.app.name}/leader enlist")
            return
        address = self._address(event)
        if not address:
            return
        chosen = [f"--{name}" for name in flags if event.params[name]]
        only = _only(event, "zone", "name")
        answer = enlistment.run(self._charm.root, address, *chosen, *only)
        if answer.output:
            event.set_results(
                {"summary": enlistment.summary(answer), "changes": enlistment.lines(answer)}
            )
        if answer.problem:
            event.fail(answer.problem)

    def _get_public_key(self, event: ops.ActionEvent) -> None:
        try:
            key = self._charm.ssh_private_key()
        except statuses.Unready as reason:
            event.fail(str(reason))
            return
        event.set_results({"public-key": self._public_line(key), "add-it-to": _WHERE})

    def _install_host_extensions(self, event: ops.ActionEvent) -> None:
        flag = "--remove" if event.params["remove"] else "--gate"
        output = self._run(event, "host-setup", flag, "--format=json", "--", event.params["host"])
        if output:
            done: dict[str, Any] = json.loads(output)
            changed = [file["name"] for file in done["files"] if file["changed"]]
            event.set_results({"changed": " ".join(changed) or "nothing"})
            if done["authorized_key"]:
                event.set_results({"restricted-key": done["authorized_key"], "add-it-to": _WHERE})

    def _list_vms(self, event: ops.ActionEvent) -> None:
        event.set_results({"vms": self._run(event, "list", _format(event), *_only(event, "zone"))})

    def _power(self, event: ops.ActionEvent) -> None:
        change, vm = event.params["change"], event.params["vm"]
        if isinstance(change, bool):
            change = "on" if change else "off"
        output = self._run(event, change, "--format=json", *_only(event), "--", vm)
        _set_results(event, output)

    def _rotate_ssh_key(self, event: ops.ActionEvent) -> None:
        shared = self._shared(event)
        if shared is None:
            return
        if self._charm.config.get("ssh-private-key"):
            event.fail("the key is yours: change the secret that ssh-private-key names")
            return
        if not shared.next_ssh_private_key:
            made = credentials.new_ssh_key()
            self._charm.shared.save(dataclasses.replace(shared, next_ssh_private_key=made))
            self._charm.publish_keys()
            event.set_results(
                {
                    "next-public-key": self._public_line(made),
                    "add-it-to": _WHERE,
                    "then": "run rotate-ssh-key again; the old key stays in use until then",
                }
            )
            return
        key = shared.next_ssh_private_key
        answer = workload.run(self._charm.root, "list", "--format=plain", key=key)
        if answer.problem and not event.params["force"]:
            event.set_results({"next-public-key": self._public_line(key), "add-it-to": _WHERE})
            event.fail(
                f"the old key stays in use, for not every host took the new: {answer.problem}"
            )
            return
        changed = dataclasses.replace(shared, ssh_private_key=key, next_ssh_private_key="")
        self._charm.shared.save(changed)
        self._charm.reconcile()
        event.set_results(
            {
                "public-key": self._public_line(key),
                "then": "take the old key away from ~/.ssh/authorized_keys of the hosts in config",
            }
        )

    def _rotate_tokens(self, event: ops.ActionEvent) -> None:
        shared = self._shared(event)
        if shared is None:
            return
        tokens = shared.tokens.rotated(datetime.timedelta(hours=event.params["grace"]))
        self._charm.shared.save(dataclasses.replace(shared, tokens=tokens))
        self._charm.reconcile()
        event.set_results(
            {
                "old-tokens-good-until": str(tokens.previous_valid_until),
                "then": "give MAAS the new power parameters, see show-power-parameters",
            }
        )

    def _show_power_parameters(self, event: ops.ActionEvent) -> None:
        address = self._address(event)
        if not address:
            return
        options = ("--format=json", f"--address={address}", *_only(event))
        _set_results(event, self._run(event, "parameters", *options, "--", event.params["vm"]))

    def _trust_host(self, event: ops.ActionEvent) -> None:
        fingerprint = event.params.get("fingerprint")
        options = [f"--fingerprint={fingerprint}"] if fingerprint else []
        host = event.params["host"]
        _set_results(event, self._run(event, "trust", "--format=json", *options, "--", host))
        if fingerprint:
            workload.reload_service()

    def _address(self, event: ops.ActionEvent) -> str:
        """Return the address MAAS reaches us by; fails the action and returns nothing without."""
        try:
            return self._charm.address()
        except statuses.Unready as reason:
            event.fail(str(reason))
            return ""

    def _run(self, event: ops.ActionEvent, *arguments: str) -> str:
        """Run the program; its problem is the action's. Returns what it printed."""
        answer = workload.run(self._charm.root, *arguments)
        if answer.problem:
            event.fail(answer.problem)
        return answer.output

    def _shared(self, event: ops.ActionEvent) -> credentials.Credentials | None:
        """Return what the leader may change; fails the action where it may not."""
        if not self._charm.unit.is_leader():
            event.fail(f"only the leader can: juju run {self._charm.app.name}/leader …")
            return None
        try:
            return self._charm.shared.load()
        except statuses.Unready as reason:
            event.fail(str(reason))
            return None

    def _public_line(self, private_key: str) -> str:
        charm = self._charm
        return f"{credentials.public_key(private_key)} {charm.app.name}@{charm.model.name}"


_WHERE = "~/.ssh/authorized_keys of the account on every host; related hosts have it already"


def _format(event: ops.ActionEvent) -> str:
    return f"--format={event.params['format']}"


def _only(event: ops.ActionEvent, *others: str) -> list[str]:
    """Return the options that narrow the search, as far as they were given."""
    names = ("host", *others)
    return [f"--{name}={event.params[name]}" for name in names if event.params.get(name)]


def _set_results(event: ops.ActionEvent, output: str) -> None:
    """Set results from an object, or a list of one, that the program printed as JSON."""
    if not output:
        return
    printed: Any = json.loads(output)
    found: list[Any] = cast("list[Any]", printed) if isinstance(printed, list) else [printed]
    for values in found:
        # Juju takes no underscores in keys.
        event.set_results(
            {
                name.replace("_", "-"): " ".join(cast("list[str]", value))
                if isinstance(value, list)
                else str(value)
                for name, value in values.items()
                if value is not None
            }
        )
