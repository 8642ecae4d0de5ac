# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The hook tools of Juju 3.6 (internal/worker/uniter/runner in its sources).

A call without a method or parameter here is an `UnknownCall`. If a charm needs it, add it with the
behaviour of Juju's source. These are intentionally missing: storage, resources, payloads, metrics,
Kubernetes, and the rotation and expiry of secrets by time.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

import yaml

from tests.charm.juju.calls import Tool, UnknownCall, formatted, parse, render
from tests.charm.juju.model import JujuError, application_of
from tests.charm.juju.secret_tools import SecretTools

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OTHERS = (
    *("add-metric", "credential-get", "goal-state", "juju-reboot", "k8s-raw-get"),
    *("k8s-raw-set", "k8s-spec-get", "k8s-spec-set", "leader-get", "leader-set", "open-ports"),
    *("payload-register", "payload-status-set", "payload-unregister", "pod-spec-get"),
    *("pod-spec-set", "relation-model-get", "resource-get", "storage-add", "storage-get"),
    *("storage-list", "unit-get"),
)
"""Tools of Juju without a method here. They fail when they are called."""

_RESULT_KEY = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
_RESERVED_RESULT_KEYS = {"stdout", "stdout-encoding", "stderr", "stderr-encoding"}
_PORTS = re.compile(r"icmp|(\d+)(-\d+)?(/(tcp|udp))?")
_STATUSES = {"maintenance", "blocked", "waiting", "active"}


class HookTools(SecretTools):
    """The hook tools of one hook. The agent creates it.

    A method raises JujuError if Juju refuses the call.
    """

    def call(self, tool: str, arguments: Sequence[str], files: Mapping[str, str]) -> str:
        """Run a tool.

        Args:
            tool: The name of the tool, for example "relation-get".
            arguments: The arguments of the tool.
            files: The content of the files in the arguments; "-" is standard input.

        Returns:
            The output of the tool.

        Raises:
            JujuError: Juju refuses the call.
            UnknownCall: The fake does not know the call.
        """
        method = _TOOLS.get(tool)
        if method is None:
            raise UnknownCall(f"the fake has no hook tool {tool}")
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
            raise JujuError(f'binding name "{binding}" not defined by the unit\'s charm')
        addresses = self.unit.addresses
        if not addresses:
            raise JujuError(f'no network config found for binding "{binding}"')
        first = next((address for address in addresses if address.value), None)
        devices = list(dict.fromkeys(address.device for address in addresses))
        # In JSON, an entry has no "address". Unknown values are empty or missing.
        return {
            "bind-addresses": [
                {
                    "mac-address": "",
                    "interface-name": device,
                    "addresses": [
                        {
                            "hostname": address.hostname,
                            "value": address.value,
                            "cidr": address.cidr,
                        }
                        for address in addresses
                        if address.device == device
                    ],
                }
                for device in devices
            ],
            **({"egress-subnets": [first.subnet]} if first else {}),
            **({"ingress-addresses": [first.value]} if first else {}),
        }

    @formatted
    def status_get(self, *, application: bool = False, include_data: bool = False) -> object:
        def details(status: tuple[str, str]) -> dict[str, object]:
            if not include_data:
                return {"status": status[0]}
            return {"status": status[0], "message": status[1], "status-data": {}}

        if application:
            self._must_lead("finding application status: this unit is not the leader")
            units = {unit.name: details(unit.workload_status) for unit in self._application.units}
            return {"application-status": {**details(self._application.status), "units": units}}
        status = self.unit.workload_status
        return details(status) if include_data else status[0]

    def status_set(self, status: str, message: str = "", *, application: bool = False) -> None:
        if status not in _STATUSES:
            raise JujuError(f'invalid status "{status}", expected one of {sorted(_STATUSES)}')
        if application:
            self._must_lead("setting application status: this unit is not the leader")
            self._application.status = (status, message)
        else:
            self.unit.workload_status = (status, message)
            self.unit.view.status_set = True

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

    @property
    def _opened(self) -> set[str]:
        return self.state.ports.setdefault(self.unit.name, set())

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
        # A unit reads the databags of the other side and its own. The leader also reads the
        # databag of its application. Peers also read each other's databags.
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
        units = set(self.unit.view.relations[found.id].members)
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

    # --- State that a unit stores with the controller

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


_TOOLS: dict[str, Tool] = {
    name.replace("_", "-"): method
    for tools in (HookTools, SecretTools)
    for name, method in vars(tools).items()
    if not name.startswith("_") and name != "call"
}
NAMES = sorted({*_TOOLS, *OTHERS})
"""The hook tools on the PATH of a hook."""
