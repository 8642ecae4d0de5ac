# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The actions of a unit: `juju run maas-virtualbox/0 …`.

Most actions run a command of the program `maas-virtualbox` as the service's user, with the
service's configuration. The results contain the command's output, also if it fails.
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
from maas_virtualbox.juju.actions import ActionError

if TYPE_CHECKING:
    from collections.abc import Callable

    import ops

    from configuration import Configuration
    from maas_virtualbox.juju.actions import Action
    from program import Program


class Actions(actions.Actions):
    """The actions of charmcraft.yaml, one method each."""

    def __init__(
        self,
        charm: ops.CharmBase,
        *,
        configuration: Configuration,
        enlistment: enlistment.Enlistment,
        program: Program,
        reconcile: Callable[[], None],
    ) -> None:
        """Observe the actions.

        Args:
            charm: The charm.
            configuration: The desired state of the unit.
            enlistment: Enlists VMs in MAAS.
            program: Runs `maas-virtualbox`.
            reconcile: Brings the unit into the desired state.
        """
        self._charm = charm
        self._configuration = configuration
        self._enlistment = enlistment
        self._program = program
        self._reconcile = reconcile
        functions = {
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
        super().__init__(charm, functions)

    def _check_hosts(self, action: Action) -> None:
        host = action.text("host")
        arguments = ["--", host] if host else []
        output = self._run(action, "check", _format_option(action), *arguments)
        action.set_results({"findings": output})
        if not host and self._charm.config["maas-url"]:
            options = (
                _format_option(action),
                f"--address={self._configuration.address()}",
                *self._enlistment.other_address_options(),
            )
            output = self._run(action, "maas", "check", *options)
            action.set_results({"findings-of-maas": output})

    def _enlist(self, action: Action) -> None:
        flags = ("dry-run", "commission", "take-over")
        options = [f"--{name}" for name in flags if action.flag(name)]
        filters = _filter_options(action, "zone", "name")
        timeout = enlistment.ACTION_TIMEOUT_S
        result = self._enlistment.run(*options, *filters, timeout=timeout)
        if result.output:
            summary = enlistment.format_summary(result)
            changes = enlistment.format_changes(result)
            action.set_results({"summary": summary, "changes": changes})
        if result.error:
            action.fail(result.error)

    def _get_public_key(self, action: Action) -> None:
        key = self._configuration.ssh_private_key()
        action.set_results({"public-key": self._public_line(key), "add-it-to": _AUTHORIZED_KEYS})

    def _install_host_extensions(self, action: Action) -> None:
        flag = "--remove" if action.flag("remove") else "--gate"
        output = self._run(action, "host-setup", flag, "--format=json", "--", action.text("host"))
        if output:
            report: dict[str, Any] = json.loads(output)
            changed = [file["name"] for file in report["files"] if file["changed"]]
            action.set_results({"changed": " ".join(changed) or "nothing"})
            if key := report["authorized_key"]:
                action.set_results({"restricted-key": key, "add-it-to": _AUTHORIZED_KEYS})

    def _list_vms(self, action: Action) -> None:
        options = (_format_option(action), *_filter_options(action, "zone"))
        action.set_results({"vms": self._run(action, "list", *options)})

    def _power(self, action: Action) -> None:
        change, vm = action.choice("change"), action.text("vm")
        output = self._run(action, change, "--format=json", *_filter_options(action), "--", vm)
        _set_json_results(action, output)

    def _rotate_ssh_key(self, action: Action) -> None:
        shared = self._load_as_leader()
        if self._charm.config.get("ssh-private-key"):
            action.fail("the key is in the secret of ssh-private-key: change that secret instead")
        elif not shared.next_ssh_private_key:
            self._create_next_ssh_key(action, shared)
        else:
            self._use_next_ssh_key(action, shared)

    def _create_next_ssh_key(self, action: Action, shared: credentials.Credentials) -> None:
        key = credentials.new_ssh_key()
        changed = dataclasses.replace(shared, next_ssh_private_key=key)
        self._configuration.credentials.save(changed)
        self._configuration.publish_keys()
        action.set_results(
            {
                "next-public-key": self._public_line(key),
                "add-it-to": _AUTHORIZED_KEYS,
                "then": "run rotate-ssh-key again; the old key stays in use until then",
            },
        )

    def _use_next_ssh_key(self, action: Action, shared: credentials.Credentials) -> None:
        key = shared.next_ssh_private_key
        result = self._program.run("list", "--format=plain", key=key)
        if result.error and not action.flag("force"):
            line = self._public_line(key)
            action.set_results({"next-public-key": line, "add-it-to": _AUTHORIZED_KEYS})
            action.fail(
                "the old key stays in use, because not all hosts accept the new key:"
                f" {result.error}"
            )
            return
        changed = dataclasses.replace(shared, ssh_private_key=key, next_ssh_private_key="")
        self._configuration.credentials.save(changed)
        self._reconcile()
        action.set_results(
            {
                "public-key": self._public_line(key),
                "then": "remove the old key from ~/.ssh/authorized_keys of the configured hosts",
            },
        )

    def _rotate_tokens(self, action: Action) -> None:
        shared = self._load_as_leader()
        grace = action.number("grace", at_least=0, at_most=_MAX_GRACE_H)
        try:
            tokens = shared.tokens.rotated(datetime.timedelta(hours=grace))
        except errors.ConfigError as error:
            action.fail(str(error))
            return
        self._configuration.credentials.save(dataclasses.replace(shared, tokens=tokens))
        self._reconcile()
        action.set_results(
            {
                "old-tokens-good-until": str(tokens.previous_valid_until),
                "then": "give MAAS the new power parameters, see show-power-parameters",
            },
        )

    def _show_power_parameters(self, action: Action) -> None:
        address = f"--address={self._configuration.address()}"
        options = ("--format=json", address, *_filter_options(action))
        output = self._run(action, "parameters", *options, "--", action.text("vm"))
        _set_json_results(action, output)

    def _trust_host(self, action: Action) -> None:
        fingerprint = action.text("fingerprint")
        options = [f"--fingerprint={fingerprint}"] if fingerprint else []
        host = action.text("host")
        output = self._run(action, "trust", "--format=json", *options, "--", host)
        _set_json_results(action, output)
        if fingerprint and output:
            workload.reload_service()

    def _trust_vm(self, action: Action) -> None:
        # The service detects the decision without a reload.
        options = ("--format=json", *_filter_options(action))
        _set_json_results(action, self._run(action, "trust-vm", *options, "--", action.text("vm")))

    def _run(self, action: Action, *arguments: str) -> str:
        """Run the program and return its output. If it fails, the action fails."""
        result = self._program.run(*arguments)
        if result.error:
            # Juju treats " #" as the start of a comment, so a part of the name may be missing.
            quoted = any(repr(argument) in result.error for argument in arguments)
            action.fail(result.error + (_HASH_HINT if quoted else ""))
        return result.output

    def _load_as_leader(self) -> credentials.Credentials:
        """Return the credentials, which only the leader may change.

        Raises:
            ActionError: This unit is not the leader.
            NotReady: The credentials do not exist yet, or an option is invalid, so that a change
                would not take effect.
        """
        if not self._charm.unit.is_leader():
            raise ActionError(
                f"only the leader can do this: juju run {self._charm.app.name}/leader …"
            )
        self._configuration.options()
        return self._configuration.credentials.load()

    def _public_line(self, private_key: str) -> str:
        charm = self._charm
        return f"{credentials.public_key(private_key)} {charm.app.name}@{charm.model.name}"


_HASH_HINT = " (a name with a # needs --string-args after `juju run`)"
_MAX_GRACE_H = 720
_AUTHORIZED_KEYS = (
    "~/.ssh/authorized_keys of the account on every host; related hosts have it already"
)


def _format_option(action: Action) -> str:
    return f"--format={action.text('format')}"


def _filter_options(action: Action, *others: str) -> list[str]:
    """Return the options that select VMs, if they are set."""
    names = ("host", *others)
    return [f"--{name}={value}" for name in names if (value := action.text(name))]


def _set_json_results(action: Action, output: str) -> None:
    """Set results from JSON: from an object, or from a list with one object."""
    if not output:
        return
    printed: Any = json.loads(output)
    entries: list[Any] = cast("list[Any]", printed) if isinstance(printed, list) else [printed]
    for entry in entries:
        # Juju does not accept underscores in keys.
        action.set_results(
            {
                name.replace("_", "-"): " ".join(cast("list[str]", value))
                if isinstance(value, list)
                else str(value)
                for name, value in entry.items()
                if value is not None
            },
        )
