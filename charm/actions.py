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

import credentials
import enlistment
import workload
from maas_virtualbox import errors
from maas_virtualbox.juju import actions
from maas_virtualbox.juju.actions import Refused

if TYPE_CHECKING:
    from charm import MAASVirtualBoxCharm
    from maas_virtualbox.juju.actions import Action


class Actions(actions.Actions):
    """The actions of charmcraft.yaml, a method each."""

    def __init__(self, charm: MAASVirtualBoxCharm) -> None:
        self._charm = charm
        methods = {
            "check-hosts": self._check_hosts,
            "enlist": self._enlist,
            "get-public-key": self._get_public_key,
            "install-host-extensions": self._install_host_extensions,
            "list-vms": self._list_vms,
            "power": self._power,
            "rotate-ssh-key": self._rotate_ssh_key,
            "rotate-tokens": self._rotate_tokens,
            "show-power-parameters": self._show_power_parameters,
            "trust-host": self._trust_host,
            "trust-vm": self._trust_vm,
        }
        super().__init__(charm, methods)

    def _check_hosts(self, action: Action) -> None:
        host = action.text("host")
        output = self._run(action, "check", _format(action), *(["--", host] if host else []))
        action.show({"findings": output})
        if not host and self._charm.config["maas-url"]:
            address = self._charm.address()
            others = enlistment.other_addresses(self._charm)
            options = (_format(action), f"--address={address}", *others)
            output = self._run(action, "maas", "check", *options)
            action.show({"findings-of-maas": output})

    def _enlist(self, action: Action) -> None:
        flags = ("dry-run", "commission", "take-over")
        address = self._charm.address()
        chosen = [f"--{name}" for name in flags if action.flag(name)]
        only = _only(action, "zone", "name")
        timeout = enlistment.ACTION_TIMEOUT_S
        answer = enlistment.run(self._charm, address, *chosen, *only, timeout=timeout)
        if answer.output:
            action.show(
                {"summary": enlistment.summary(answer), "changes": enlistment.lines(answer)}
            )
        if answer.problem:
            action.fail(answer.problem)

    def _get_public_key(self, action: Action) -> None:
        given = credentials.given_ssh_key(self._charm, self._charm.chosen().ssh_private_key)
        key = given or self._charm.shared.load().ssh_private_key
        action.show({"public-key": self._public_line(key), "add-it-to": _WHERE})

    def _install_host_extensions(self, action: Action) -> None:
        flag = "--remove" if action.flag("remove") else "--gate"
        output = self._run(action, "host-setup", flag, "--format=json", "--", action.text("host"))
        if output:
            done: dict[str, Any] = json.loads(output)
            changed = [file["name"] for file in done["files"] if file["changed"]]
            action.show({"changed": " ".join(changed) or "nothing"})
            if done["authorized_key"]:
                action.show({"restricted-key": done["authorized_key"], "add-it-to": _WHERE})

    def _list_vms(self, action: Action) -> None:
        action.show({"vms": self._run(action, "list", _format(action), *_only(action, "zone"))})

    def _power(self, action: Action) -> None:
        change, vm = action.word("change"), action.text("vm")
        output = self._run(action, change, "--format=json", *_only(action), "--", vm)
        _set_results(action, output)

    def _rotate_ssh_key(self, action: Action) -> None:
        shared = self._shared()
        if self._charm.config.get("ssh-private-key"):
            action.fail("the key is yours: change the secret that ssh-private-key names")
            return
        if not shared.next_ssh_private_key:
            made = credentials.new_ssh_key()
            self._charm.shared.save(dataclasses.replace(shared, next_ssh_private_key=made))
            self._charm.publish_keys()
            action.show(
                {
                    "next-public-key": self._public_line(made),
                    "add-it-to": _WHERE,
                    "then": "run rotate-ssh-key again; the old key stays in use until then",
                },
            )
            return
        key = shared.next_ssh_private_key
        answer = self._charm.run("list", "--format=plain", key=key)
        if answer.problem and not action.flag("force"):
            action.show({"next-public-key": self._public_line(key), "add-it-to": _WHERE})
            action.fail(
                f"the old key stays in use, for not every host took the new: {answer.problem}"
            )
            return
        changed = dataclasses.replace(shared, ssh_private_key=key, next_ssh_private_key="")
        self._charm.shared.save(changed)
        self._charm.reconcile()
        action.show(
            {
                "public-key": self._public_line(key),
                "then": "take the old key away from ~/.ssh/authorized_keys of the hosts in config",
            },
        )

    def _rotate_tokens(self, action: Action) -> None:
        shared = self._shared()
        grace = action.number("grace", at_least=0, at_most=_LONGEST_GRACE_H)
        try:
            tokens = shared.tokens.rotated(datetime.timedelta(hours=grace))
        except errors.ConfigError as error:
            action.fail(str(error))
            return
        self._charm.shared.save(dataclasses.replace(shared, tokens=tokens))
        self._charm.reconcile()
        action.show(
            {
                "old-tokens-good-until": str(tokens.previous_valid_until),
                "then": "give MAAS the new power parameters, see show-power-parameters",
            },
        )

    def _show_power_parameters(self, action: Action) -> None:
        options = ("--format=json", f"--address={self._charm.address()}", *_only(action))
        _set_results(action, self._run(action, "parameters", *options, "--", action.text("vm")))

    def _trust_host(self, action: Action) -> None:
        fingerprint = action.text("fingerprint")
        options = [f"--fingerprint={fingerprint}"] if fingerprint else []
        host = action.text("host")
        output = self._run(action, "trust", "--format=json", *options, "--", host)
        _set_results(action, output)
        if fingerprint and output:
            workload.reload_service()

    def _trust_vm(self, action: Action) -> None:
        # The service notices the decision by itself.
        options = ("--format=json", *_only(action))
        _set_results(action, self._run(action, "trust-vm", *options, "--", action.text("vm")))

    def _run(self, action: Action, *arguments: str) -> str:
        """Run the program; its problem is the action's. Returns what it printed."""
        answer = self._charm.run(*arguments)
        if answer.problem:
            # Juju takes what follows " #" for a comment: what is missing here may have been typed.
            quoted = any(repr(argument) in answer.problem for argument in arguments)
            action.fail(answer.problem + (_HASH_HINT if quoted else ""))
        return answer.output

    def _shared(self) -> credentials.Credentials:
        """Return what the leader may change.

        Raises:
            Refused: this unit is not the leader.
            Unready: an option is wrong, and the change would not take effect; or there is nothing
                to change yet.
        """
        if not self._charm.unit.is_leader():
            raise Refused(f"only the leader can: juju run {self._charm.app.name}/leader …")
        self._charm.chosen()
        return self._charm.shared.load()

    def _public_line(self, private_key: str) -> str:
        charm = self._charm
        return f"{credentials.public_key(private_key)} {charm.app.name}@{charm.model.name}"


_HASH_HINT = " (a name with a # needs --string-args after `juju run`)"
_LONGEST_GRACE_H = 720
_WHERE = "~/.ssh/authorized_keys of the account on every host; related hosts have it already"


def _format(action: Action) -> str:
    return f"--format={action.text('format')}"


def _only(action: Action, *others: str) -> list[str]:
    """Return the options that narrow the search, as far as they were given."""
    names = ("host", *others)
    return [f"--{name}={value}" for name in names if (value := action.text(name))]


def _set_results(action: Action, output: str) -> None:
    """Set results from an object, or a list of one, that the program printed as JSON."""
    if not output:
        return
    printed: Any = json.loads(output)
    found: list[Any] = cast("list[Any]", printed) if isinstance(printed, list) else [printed]
    for values in found:
        # Juju takes no underscores in keys.
        action.show(
            {
                name.replace("_", "-"): " ".join(cast("list[str]", value))
                if isinstance(value, list)
                else str(value)
                for name, value in values.items()
                if value is not None
            },
        )
