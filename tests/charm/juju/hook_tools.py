# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The hook tools, as Juju 3.6 answers them (internal/worker/uniter/runner in its sources).

What no method or parameter is there for is an `UnknownCall`: a charm that makes it needs this
module to learn it, from Juju and not from a guess. Left out on purpose: storage, resources,
payloads, metrics, Kubernetes, and the rotation and expiry of secrets by the clock.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any, cast

import yaml

from tests.charm.juju.calls import Tool, UnknownCall, formatted, parse, render
from tests.charm.juju.model import (
    JujuError,
    Secret,
    application_of,
    check_secret_content,
    secret_id,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.charm.juju.applications import Application, Unit
    from tests.charm.juju.model import Relation, State
    from tests.charm.juju.resolver import Hook

OTHERS = (
    *("add-metric", "credential-get", "goal-state", "juju-reboot", "k8s-raw-get"),
    *("k8s-raw-set", "k8s-spec-get", "k8s-spec-set", "leader-get", "leader-set", "open-ports"),
    *("payload-register", "payload-status-set", "payload-unregister", "pod-spec-get"),
    *("pod-spec-set", "relation-model-get", "resource-get", "storage-add", "storage-get"),
    *("storage-list", "unit-get"),
)
"""Tools that Juju has; those without a method here fail when they are called."""

_RESULT_KEY = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
_RESERVED_RESULT_KEYS = {"stdout", "stdout-encoding", "stderr", "stderr-encoding"}
_PORTS = re.compile(r"icmp|(\d+)(-\d+)?(/(tcp|udp))?")
_STATUSES = {"maintenance", "blocked", "waiting", "active"}
_ROTATIONS = {"", "never", "hourly", "daily", "weekly", "monthly", "quarterly", "yearly"}


class HookTools:
    """What a hook's calls read and write. Made for one hook, by the agent.

    A method raises JujuError for what Juju refuses.
    """

    def __init__(self, unit: Unit, hook: Hook, state: State, before: State) -> None:
        self.unit = unit
        self.hook = hook
        self.state = state
        """A copy of the model's, taken over when the hook succeeds."""
        self._before = before
        self._files: Mapping[str, str] = {}

    def call(self, tool: str, arguments: Sequence[str], files: Mapping[str, str]) -> str:
        """Run a tool.

        Args:
            tool: its name, for example "relation-get".
            arguments: what follows it.
            files: the contents of the files that arguments name; "-" is its input.

        Returns:
            What it prints.

        Raises:
            JujuError: Juju refuses.
            UnknownCall: nobody has told this class how Juju answers.
        """
        method = _TOOLS.get(tool)
        if method is None:
            raise UnknownCall(f"the stand-in has no hook tool {tool}")
        positional, flags = parse(method, arguments)
        style = flags.pop("format", "smart")
        self._files = files
        answer = method(self, *positional, **flags)
        return render(method, answer, str(style))

    # --- The unit and its application

    def application_version_set(self, version: str) -> None:
        self.unit.workload_version = version

    @formatted
    def config_get(self, key: str = "") -> object:
        settings = self._application.config_values
        return settings.get(key) if key else settings

    @formatted
    def is_leader(self) -> bool:
        return self.unit.is_leader

    def juju_log(
        self,
        *message: str,
        log_level: str = "INFO",
        debug: bool = False,
    ) -> None:
        level = "DEBUG" if debug else log_level
        self.unit.juju.log.append(f"{self.unit.name} {level} {' '.join(message)}")

    @formatted
    def network_get(self, binding: str, *, r: str = "") -> object:
        if r:
            self._relation(r)
        if binding not in self._application.charm.bindings:
            raise JujuError(f'no network config found for binding "{binding}"')
        address = self.unit.place.address
        bits = ipaddress.ip_address(address).max_prefixlen
        there = {"hostname": "", "value": address, "cidr": f"{address}/{bits}", "address": address}
        return {
            "bind-addresses": [
                {"mac-address": "", "interface-name": "eth0", "addresses": [there]}
            ],
            "egress-subnets": [f"{address}/{bits}"],
            "ingress-addresses": [address],
        }

    @formatted
    def status_get(self, *, application: bool = False, include_data: bool = False) -> object:
        def details(status: tuple[str, str]) -> dict[str, object]:
            if not include_data:
                return {"status": status[0]}
            return {"status": status[0], "message": status[1], "status-data": {}}

        if application:
            self._must_lead("finding application status: this unit is not the leader")
            units = {unit.name: details(unit.status) for unit in self._application.units}
            return {"application-status": {**details(self._application.status), "units": units}}
        return details(self.unit.status) if include_data else self.unit.status[0]

    def status_set(self, status: str, message: str = "", *, application: bool = False) -> None:
        if status not in _STATUSES:
            raise JujuError(f'invalid status "{status}", expected one of {sorted(_STATUSES)}')
        if application:
            self._must_lead("setting application status: this unit is not the leader")
            self._application.status = (status, message)
        else:
            self.unit.status = (status, message)

    # --- Actions

    def action_fail(
        self, message: str = "action failed without reason given, check action for errors"
    ) -> None:
        self._action.failure = message

    @formatted
    def action_get(self, key: str = "") -> object:
        value: object = self._action.parameters
        for part in key.split(".") if key else ():
            value = _member(value, part)
        return value

    def action_log(self, *message: str) -> None:
        self._action.messages.append(" ".join(message))

    def action_set(self, *results: str) -> None:
        for result in results:
            name, equals, value = result.partition("=")
            if not equals:
                raise JujuError(f'argument "{result}" must be of the form key...=value')
            keys = name.split(".")
            for key in keys:
                if not _RESULT_KEY.fullmatch(key):
                    raise JujuError(
                        f'key "{key}" must start and end with lowercase alphanumeric, and '
                        "contain only lowercase alphanumeric, hyphens and periods"
                    )
                if key in _RESERVED_RESULT_KEYS:
                    raise JujuError(f'cannot set reserved action key "{key}"')
            inner = self._action.results
            for key in keys[:-1]:
                if not isinstance(inner.get(key), dict):
                    inner[key] = {}
                inner = inner[key]
            inner[keys[-1]] = value

    # --- Ports

    def open_port(self, *ports: str) -> None:
        self._opened.update(map(_port, ports))

    def close_port(self, *ports: str) -> None:
        self._opened.difference_update(map(_port, ports))

    @formatted
    def opened_ports(self) -> list[str]:
        return sorted(self._opened)

    # --- Relations

    @formatted
    def relation_get(
        self,
        key: str = "-",
        member: str = "",
        *,
        r: str = "",
        relation: str = "",
        app: bool = False,
    ) -> object:
        found = self._relation(r or relation)
        if member:
            if not app and "/" not in member:
                raise JujuError(f'expected unit name, got application name "{member}"')
            name = application_of(member) if app else member
        else:
            name = self.hook.remote_application if app else self.hook.remote_unit
            name = name or self.hook.remote_application
            if not name:
                raise JujuError("no unit or application specified")
        own = application_of(name) == self._application.name
        # A unit reads what the others say, what it says itself, and, as the leader, what its
        # application says; peers also read each other.
        if application_of(name) not in found.endpoints or (
            own
            and not found.is_peer
            and name != self.unit.name
            and not (name == self._application.name and self.unit.is_leader)
        ):
            raise JujuError("permission denied")
        bag = found.bags.get(name, {})
        return bag if key in {"", "-"} else bag.get(key)

    @formatted
    def relation_ids(self, endpoint: str) -> list[str]:
        return [
            f"{endpoint}:{relation.id}"
            for relation in self._relations()
            if relation.endpoints[self._application.name] == endpoint
        ]

    @formatted
    def relation_list(self, *, r: str = "", relation: str = "", app: bool = False) -> object:
        found = self._relation(r or relation)
        if app:
            return found.remote_application(self._application.name)
        units = set(self.unit.told.relations[found.id].members)
        if found.id == self.hook.relation and self.hook.remote_unit:
            if self.hook.name.endswith("-relation-departed"):
                units.discard(self.hook.remote_unit)
            else:
                units.add(self.hook.remote_unit)
        return sorted(units)

    def relation_set(
        self, *settings: str, r: str = "", relation: str = "", app: bool = False, file: str = ""
    ) -> None:
        found = self._relation(r or relation)
        if app:
            self._must_lead("cannot write relation settings")
        read = cast("dict[str, object]", yaml.safe_load(self._files[file]) or {}) if file else {}
        read.update(_pairs(settings))
        bag = found.bags.setdefault(self._application.name if app else self.unit.name, {})
        for key, value in read.items():
            if not isinstance(value, str):
                raise JujuError(f"cannot unmarshal {value!r} of {key} into string")
            bag[key] = value
            if not value:
                del bag[key]

    # --- Secrets

    def secret_add(
        self,
        *content: str,
        label: str = "",
        description: str = "",
        rotate: str = "",
        expire: str = "",
        owner: str = "application",
        file: str = "",
    ) -> str:
        if owner == "application":
            self._must_lead("this unit is not the leader")
        elif owner != "unit":
            raise JujuError(f'secret owner "{owner}" not valid')
        name = self.unit.name if owner == "unit" else self._application.name
        values = check_secret_content(self._secret_content(content, file))
        secret = Secret(name, {1: values})
        self._describe(secret, label, description, rotate, expire)
        self.state.secrets[secret.id] = secret
        return secret.uri

    @formatted
    def secret_get(
        self,
        uri: str = "",
        key: str = "",
        *,
        label: str = "",
        peek: bool = False,
        refresh: bool = False,
    ) -> object:
        if peek and refresh:
            raise JujuError("specify one of --peek or --refresh but not both")
        secret = self._secret(uri) if uri else self._labelled(label)
        unit = self.unit.name
        if not secret.is_readable_by(unit):
            raise JujuError("permission denied")
        if uri and label:
            secret.labels[unit] = label
        if refresh:
            secret.tracked[unit] = secret.latest
        revision = secret.latest if peek else secret.tracked.setdefault(unit, secret.latest)
        content = secret.revisions[revision]
        if key and key not in content:
            raise JujuError(f'secret key value "{key}" not found')
        return content[key] if key else content

    def secret_grant(self, uri: str, *, relation: str = "", r: str = "", unit: str = "") -> None:
        secret = self._managed(uri)
        found = self._relation(r or relation)
        application = found.remote_application(self._application.name)
        if unit and application_of(unit) != application:
            raise JujuError(
                f'cannot specify unit "{unit}" in relation to application "{application}"'
            )
        secret.grants[unit or application] = found.id

    @formatted
    def secret_ids(self) -> list[str]:
        return sorted(secret.id for secret in self.state.secrets.values() if self._manages(secret))

    @formatted
    def secret_info_get(self, uri: str = "", *, label: str = "") -> object:
        if bool(uri) == bool(label):
            raise JujuError("specify either a secret URI or label but not both")
        wanted = secret_id(uri) if uri else label
        for secret in self.state.secrets.values():
            if self._manages(secret) and wanted in {secret.id, secret.label}:
                known = self._before.secrets.get(secret.id, secret)
                told = {
                    "revision": known.latest,
                    "label": secret.label,
                    "owner": "unit" if secret.owner == self.unit.name else "application",
                    "description": secret.description,
                    "rotation": secret.rotate,
                    "expiry": secret.expire,
                }
                return {secret.id: {name: value for name, value in told.items() if value}}
        raise JujuError(f'secret "{wanted}" not found')

    def secret_remove(self, uri: str, *, revision: str = "") -> None:
        secret = self._managed(uri)
        for number in [int(revision)] if revision else list(secret.revisions):
            secret.revisions.pop(number, None)
        if not secret.revisions:
            del self.state.secrets[secret.id]

    def secret_revoke(
        self, uri: str, *, relation: str = "", r: str = "", app: str = "", unit: str = ""
    ) -> None:
        secret = self._managed(uri)
        if (r or relation) and not unit and not app:
            app = self._relation(r or relation).remote_application(self._application.name)
        secret.grants.pop(unit or app, None)

    def secret_set(
        self,
        uri: str,
        *content: str,
        label: str = "",
        description: str = "",
        rotate: str = "",
        expire: str = "",
        owner: str = "application",  # noqa: ARG002
        file: str = "",
    ) -> None:
        secret = self._managed(uri)
        self._describe(secret, label, description, rotate, expire)
        # What one hook sets becomes one revision, and none if the content stays as it was.
        before = self._before.secrets.get(secret.id)
        latest = before.latest if before else 0
        if content or file:
            values = check_secret_content(self._secret_content(content, file))
            secret.revisions.pop(latest + 1, None)
            if before is None or values != before.revisions[latest]:
                secret.revisions[latest + 1] = values

    # --- What a unit has stored with the controller

    def state_delete(self, key: str) -> None:
        self.state.stored.get(self.unit.name, {}).pop(key, None)

    @formatted
    def state_get(self, key: str = "-") -> object:
        stored = self.state.stored.get(self.unit.name, {})
        return stored if key in {"", "-"} else stored.get(key)

    def state_set(self, *settings: str, file: str = "") -> None:
        stored = self.state.stored.setdefault(self.unit.name, {})
        if file:
            stored.update(yaml.safe_load(self._files[file]) or {})
        stored.update(_pairs(settings))

    # --- Below the tools

    @property
    def _action(self) -> Action:
        if self.hook.action is None:
            raise JujuError("not running an action")
        return self.hook.action

    @property
    def _application(self) -> Application:
        return self.unit.application

    @property
    def _opened(self) -> set[str]:
        return self.state.ports.setdefault(self.unit.name, set())

    def _must_lead(self, refusal: str) -> None:
        if not self.unit.is_leader:
            raise JujuError(refusal)

    def _relations(self) -> list[Relation]:
        """The relations that the unit takes part in."""
        return [it for it in self.state.relations.values() if self.unit.name in it.members]

    def _relation(self, reference: str) -> Relation:
        """Find a relation by what follows -r; by default the hook's."""
        if not reference and self.hook.relation is None:
            raise JujuError("no relation id specified")
        endpoint, _, number = reference.rpartition(":")
        wanted = number or str(self.hook.relation)
        for relation in self._relations():
            name = relation.endpoints[self._application.name]
            if str(relation.id) == wanted and endpoint in {"", name}:
                return relation
        raise JujuError(f'invalid value "{reference}" for option -r: relation not found')

    def _secret(self, uri: str) -> Secret:
        identifier = secret_id(uri)
        if identifier not in self.state.secrets:
            raise JujuError(f'secret "{identifier}" not found')
        return self.state.secrets[identifier]

    def _labelled(self, label: str) -> Secret:
        """The secret that this unit or the owner (itself or its application) calls so."""
        if not label:
            raise JujuError("require either a secret URI or label")
        mine = {self.unit.name, self._application.name}
        for secret in self.state.secrets.values():
            if secret.labels.get(self.unit.name) == label or (
                secret.label == label and secret.owner in mine
            ):
                return secret
        raise JujuError(f'consumer label "{label}" not found')

    def _manages(self, secret: Secret) -> bool:
        return secret.owner == self.unit.name or (
            secret.owner == self._application.name and self.unit.is_leader
        )

    def _managed(self, uri: str) -> Secret:
        secret = self._secret(uri)
        if not self._manages(secret):
            own = secret.owner == self._application.name
            raise JujuError("this unit is not the leader" if own else "permission denied")
        return secret

    def _describe(
        self, secret: Secret, label: str, description: str, rotate: str, expire: str
    ) -> None:
        if rotate not in _ROTATIONS:
            raise JujuError(f'rotate policy "{rotate}" not valid')
        for other in self.state.secrets.values():
            if label and other.label == label and other.owner == secret.owner and other != secret:
                raise JujuError(f'secret with label "{label}" already exists')
        secret.label = label or secret.label
        secret.description = description or secret.description
        secret.rotate = rotate or secret.rotate
        secret.expire = expire or secret.expire

    def _secret_content(self, content: Sequence[str], file: str) -> dict[str, str]:
        values: dict[str, str] = yaml.safe_load(self._files[file]) if file else {}
        for item in content:
            key, equals, value = item.partition("=")
            name, _, suffix = key.partition("#")
            if not equals or suffix not in {"", "file"}:
                raise JujuError(f'key value "{item}" not valid')
            values[name] = self._files[value] if suffix else value
        return values


def _member(value: object, key: str) -> object:
    return cast("dict[str, object]", value).get(key) if isinstance(value, dict) else None


def _pairs(settings: Sequence[str]) -> dict[str, str]:
    parted = [setting.partition("=") for setting in settings]
    for key, equals, _ in parted:
        if not equals:
            raise JujuError(f'expected "key=value", got "{key}"')
    return {key: value for key, _, value in parted}


def _port(text: str) -> str:
    found = _PORTS.fullmatch(text)
    if found is None:
        raise JujuError(f'invalid port "{text}": expected <port>[/<protocol>] or icmp')
    return text if text == "icmp" or found[3] else f"{text}/tcp"


class Action:
    """An action that runs."""

    def __init__(self, name: str, parameters: dict[str, object]) -> None:
        self.name = name
        self.parameters = parameters
        self.results: dict[str, Any] = {}
        self.messages: list[str] = []
        self.failure = ""
        """Why it failed, in the charm's own words."""


_TOOLS: dict[str, Tool] = {
    name.replace("_", "-"): method
    for name, method in vars(HookTools).items()
    if not name.startswith("_") and name != "call"
}
NAMES = sorted({*_TOOLS, *OTHERS})
"""The hook tools a hook finds on its PATH."""
