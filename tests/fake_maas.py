# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A fake MAAS region. It responds to this project's calls of the REST API like MAAS 3.7.3.

`tests/unit/test_maas_recording.py` compares it with the recorded responses of a real region:
status, fields, defaults and the type of each error. The texts differ. `Region.unexpected` lists
every call and field that this project should not send.

`Region.real` creates a region that is as slow as a real one, and as incomplete as a fresh one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import ipaddress
import itertools
import json
import re
import ssl
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pydantic
import requests
from requests import adapters

from maas_virtualbox.maas.client import MAAS

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

KEY = "kq3VbConsumer:hT5mToken:w9%Secret"
"""The API key of an administrator."""
USER_KEY = "user:user-token:user-secret"
"""The API key of another user."""

Form = dict[str, list[str]]

_POWER: dict[str, dict[str, str | None]] = {
    "": {},
    "manual": {},
    "ipmi": {"power_address": None, "power_user": "", "power_pass": ""},
    "virsh": {"power_address": None, "power_id": None, "power_pass": ""},
    "webhook": {
        "power_on_uri": None,
        "power_off_uri": None,
        "power_query_uri": None,
        "power_on_regex": r"status.*\:.*running",
        "power_off_regex": r"status.*\:.*stopped",
        "power_token": "",
        "power_user": "",
        "power_pass": "",
        "power_verify_ssl": "n",
    },
}
"""The parameters of each power type with their defaults. None: the parameter is required."""

_SECRETS = ("power_pass", "power_token")
_PREFIX = "power_parameters_"
_SKIP = f"{_PREFIX}skip_check"
_FIELDS = ("architecture", "commission", "hostname", "mac_addresses", "power_type", "zone", _SKIP)
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", re.IGNORECASE)
_LIKE_AN_ADDRESS = re.compile(r"\d{1,3}(-\d{1,3}){3}")
_MAC = re.compile(r"([0-9a-f]{2}[:-]){5}[0-9a-f]{2}", re.IGNORECASE)
_NIC_STATUSES = ("New", "Ready", "Allocated", "Broken", "Failed testing")
_COMMISSIONED_FROM = ("New", "Ready", "Failed commissioning", "Broken")
_LONGEST_NAME = 256
_CONFLICT = "<!DOCTYPE html><html><head><title>Conflict</title></head></html>"

_REQUIRED = "it is required"
_TAKEN = "it is taken"
_WRONG = "it is not valid"


class Refused(Exception):
    """A response with an error status."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body if isinstance(body, str) else json.dumps(body)


class Dead(Exception):
    """The connection ends without a response."""


@dataclasses.dataclass(frozen=True)
class Latencies:
    """The latencies of a real region. It listed 856 machines in 17.7 s and their power parameters
    in 3.2 s, and created a machine in 0.4 to 2.4 s."""

    scale: float
    """The seconds in tests for one second of a real region."""
    listed_s: float = 17.7 / 856
    powers_s: float = 3.2 / 856
    made_s: tuple[float, ...] = (0.4, 0.9, 1.4, 1.9, 2.4)
    """Used one after the other."""
    other_s: float = 0.1

    def of(self, call: tuple[str, str, str], machines: int, number: int) -> float:
        """Return the seconds for a call, given as method, path and op."""
        made_s = self.made_s[number % len(self.made_s)]
        seconds = {
            ("GET", "machines/", ""): self.listed_s * machines,
            ("GET", "machines/", "power_parameters"): self.powers_s * machines,
            ("POST", "machines/", ""): made_s,
        }.get(call, self.other_s)
        return self.scale * seconds


@dataclasses.dataclass(frozen=True)
class Call:
    """One request."""

    method: str
    path: str
    op: str
    form: Form


class Region:
    """The region's content and the calls it received. Threads may share it."""

    def __init__(self) -> None:
        self.users = {KEY: ("admin", True), USER_KEY: ("bob", False)}
        self.zones = {"default": ""}
        self.tags: dict[str, str] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.racks = {"rack1": ["10.0.0.0/24", "2001:db8::/64"]}
        self.regions = ["region1"]
        self.images: list[str] = ["amd64", "arm64"]
        """The architectures of its boot images."""
        self.version = "3.7.3"
        self.calls: list[Call] = []
        self.unexpected: list[str] = []
        """Calls and fields that this project should not send."""
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self.delay_s = 0.0
        self.latencies: Latencies | None = None
        self.answers = threading.Event()
        """While it is not set, requests get no response."""
        self.answers.set()
        self.pauses_after_writes: int | None = None
        """Clear `answers` once after this number of writes."""
        self.is_old = False
        """Whether it has the API 1.0, of which this project reads the zones, instead of 2.0."""
        self.forced: list[tuple[int, str]] = []
        """Status and body of the next responses. The last one is repeated."""
        self.dies_after_writes: int | None = None
        self.loses_answer_to = ""
        """Writes to paths that start like this are carried out but get no response."""
        self.url = ""
        self._lock = threading.Lock()
        self._now = 0
        self._created = itertools.count()
        self.last_number = 0
        """The last number of a machine or interface."""

    @classmethod
    def real(cls, scale: float = 0.001) -> Region:
        """Return a fresh region with a real region's latencies. It has no images and no racks, and
        one device."""
        made = cls()
        made.latencies = Latencies(scale)
        made.images = []
        made.racks = {}
        made.add_device("printer", macs=["08:00:27:cc:02:05"])
        return made

    @property
    def writes(self) -> list[Call]:
        """The calls that write."""
        return [call for call in self.calls if call.method != "GET"]

    @property
    def reads(self) -> list[Call]:
        """The calls that only read."""
        return [call for call in self.calls if call.method == "GET"]

    def clear_calls(self) -> None:
        """Forget all calls so far."""
        self.calls.clear()
        self.headers.clear()

    def machine(self, hostname: str) -> dict[str, Any]:
        """Return the machine with this hostname."""
        return next(
            machine for machine in self.machines.values() if machine["hostname"] == hostname
        )

    def add_device(self, hostname: str, macs: Sequence[str] = ()) -> dict[str, Any]:
        """Add a device: a node that is not a machine, with its own hostname and MACs."""
        made: dict[str, Any] = {
            "system_id": self._next_id("dev"),
            "hostname": hostname,
            "interface_set": [],
        }
        for mac in macs:
            self._add_interface(made, mac)
        self.devices[made["system_id"]] = made
        return made

    def add_machine(self, hostname: str, **options: Any) -> dict[str, Any]:
        """Add a machine. Options: `macs`, `power` (type and parameters), and any field."""
        macs = options.pop("macs", ())
        power_type, parameters = options.pop("power", ("", {}))
        made: dict[str, Any] = {
            "system_id": self._next_id("sys"),
            "hostname": hostname,
            "hardware_uuid": None,
            "architecture": "amd64/generic",
            "zone": "default",
            "power_type": power_type,
            "power_state": "unknown",
            "status_name": "New",
            "interface_set": [],
            "tag_names": [],
            "power_parameters": dict(parameters),
            **options,
        }
        for mac in macs:
            self._add_interface(made, mac)
        self.machines[made["system_id"]] = made
        return made

    def _next_id(self, kind: str) -> str:
        self.last_number += 1
        return f"{kind}{self.last_number:03}"

    # -- A request ----------------------------------------------------------------------------

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        """Return the status and body of a response. Raises `Dead`."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            time.sleep(self.delay_s + self._latency_s(method, target))
            self.answers.wait(60)
            with self._lock:
                return self._answer(method, target, headers, body)
        except Refused as refused:
            return refused.status, refused.body
        finally:
            with self._lock:
                self._now -= 1

    def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        if self.dies_after_writes is not None and len(self.writes) >= self.dies_after_writes:
            raise Dead
        url = urllib.parse.urlsplit(target)
        query = urllib.parse.parse_qs(
            url.query, keep_blank_values=True, strict_parsing=bool(url.query)
        )
        op = query.pop("op", [""])[0]
        self.headers.append(headers)
        if self.forced:
            self.calls.append(Call(method, url.path, op, {}))
            return self.forced.pop(0) if len(self.forced) > 1 else self.forced[0]
        if query:
            raise self._unexpected(f"parameters of {method} {target}")
        path = self._api_path(url.path)
        route, match = self._route(method, path, op)
        is_admin = self._log_in(headers, path)
        if route.refusal is not None and not is_admin:
            raise Refused(403, route.refusal)
        form = self._read_form(headers, body)
        result = route.handler(*match.groups(), *([form] if method != "GET" else []))
        self.calls.append(Call(method, path, op, form))
        self._after(method, path)
        return 200, json.dumps(result)

    def _api_path(self, path: str) -> str:
        """Return the path below the API's prefix."""
        prefix, _, path = path.removeprefix("/MAAS").removeprefix("/api/").partition("/")
        path = urllib.parse.unquote(path)
        if prefix != ("1.0" if self.is_old else "2.0"):
            raise self._unexpected(f"the API {prefix} for {path}", 410)
        return path

    def _after(self, method: str, path: str) -> None:
        """Simulate failures after a call was carried out."""
        if len(self.writes) == self.pauses_after_writes:
            self.pauses_after_writes = None
            self.answers.clear()
        if method != "GET" and self.loses_answer_to and path.startswith(self.loses_answer_to):
            raise Dead

    def _latency_s(self, method: str, target: str) -> float:
        if self.latencies is None:
            return 0.0
        url = urllib.parse.urlsplit(target)
        op = url.query.removeprefix("op=")
        call = (method, url.path.removeprefix("/MAAS").removeprefix("/api/2.0/"), op)
        with self._lock:
            number = next(self._created) if call == ("POST", "machines/", "") else 0
            return self.latencies.of(call, len(self.machines), number)

    def _route(self, method: str, path: str, op: str) -> tuple[_Route, re.Match[str]]:
        """Return the handler. MAAS checks path, method and op before the login."""
        found = [
            (route, match)
            for route in self._routes()
            if (match := re.fullmatch(route.path, path)) is not None
        ]
        if not found:
            raise self._unexpected(f"the call {method} {path}", 404)
        if method not in {route.method for route, _ in found}:
            raise self._unexpected(f"the method {method} of {path}", 405, "")
        for route, match in found:
            if (route.method, route.op) == (method, op):
                return route, match
        raise self._unexpected(f"the call {method} {path} op={op}")

    def _read_form(self, headers: Mapping[str, str], body: bytes) -> Form:
        if not body:
            return {}
        if headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise self._unexpected(f"a body of type {headers.get('Content-Type')}")
        return urllib.parse.parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)

    def _log_in(self, headers: Mapping[str, str], path: str) -> bool:
        header = headers.get("Authorization", "")
        if not header and path == "version/":
            return False
        if not header:
            raise self._unexpected(f"no login for {path}")
        consumer, token, secret = _parse_oauth(header)
        known = {tuple(key.split(":")[:2]): key.split(":")[2] for key in self.users}
        if (consumer, token) not in known:
            # The real region quotes an unknown token.
            raise Refused(401, f"no such key: {token}")
        if known[consumer, token] != secret:
            # The real region quotes the signature that it expected: the user's secret.
            raise Refused(401, f"bad signature, expected: &{known[consumer, token]}")
        self.user = self.users[f"{consumer}:{token}:{secret}"]
        return self.user[1]

    def _unexpected(self, what: str, status: int = 400, body: str | None = None) -> Refused:
        self.unexpected.append(what)
        return Refused(status, f"unknown here: {what}" if body is None else body)

    def _routes(self) -> list[_Route]:
        text = "for administrators only"
        return [
            _Route("GET", r"boot-resources/", self._boot_resources),
            _Route("GET", r"devices/", self._devices),
            _Route("GET", r"machines/", self._machines),
            _Route("GET", r"machines/", self._power_parameters, "power_parameters", text),
            _Route("GET", r"machines/(\w+)/", self._powers_of, "power_parameters", text),
            _Route("GET", r"rackcontrollers/", self._racks),
            _Route("GET", r"regioncontrollers/", self._region_controllers),
            _Route("GET", r"tags/", self._tags),
            _Route("GET", r"users/", self._whoami, "whoami"),
            _Route("GET", r"version/", lambda: {"version": self.version}),
            _Route("GET", r"zones/", self._zones),
            _Route("POST", r"devices/", self._create_device),
            _Route("POST", r"machines/", self._create_machine),
            _Route("POST", r"machines/(\w+)/", self._commission, "commission", ""),
            _Route(
                "POST", r"nodes/(\w+)/interfaces/", self._create_physical, "create_physical", ""
            ),
            _Route("POST", r"tags/", self._create_tag, refusal=""),
            _Route("POST", r"tags/([\w-]+)/", self._update_nodes, "update_nodes", ""),
            _Route("POST", r"zones/", self._create_zone, refusal=text),
            _Route("PUT", r"machines/(\w+)/", self._update_machine, refusal=""),
            _Route("PUT", r"nodes/(\w+)/interfaces/(\d+)/", self._update_interface, refusal=""),
            _Route("PUT", r"tags/([\w-]+)/", self._update_tag, refusal=""),
        ]

    # -- Reads --------------------------------------------------------------------------------

    def _boot_resources(self) -> list[dict[str, Any]]:
        return [
            {
                "id": number,
                "type": "Synced",
                "name": "ubuntu/noble",
                "architecture": f"{name}/ga-24.04",
            }
            for number, name in enumerate(self.images, 1)
        ]

    def _devices(self) -> list[dict[str, Any]]:
        return list(self.devices.values())

    def _machines(self) -> list[dict[str, Any]]:
        return [self._shown(machine) for machine in self.machines.values()]

    def _shown(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        zone = {"name": machine["zone"], "description": self.zones[machine["zone"]]}
        return {name: value for name, value in machine.items() if name != "power_parameters"} | {
            "zone": zone
        }

    def _power_parameters(self) -> dict[str, dict[str, str]]:
        return {name: machine["power_parameters"] for name, machine in self.machines.items()}

    def _powers_of(self, system_id: str) -> dict[str, str]:
        return self._machine(system_id)["power_parameters"]

    def _racks(self) -> list[dict[str, Any]]:
        return [
            {
                "system_id": f"rack-{name}",
                "hostname": name,
                "interface_set": [
                    {"name": "eth0", "mac_address": None, "links": [{"id": 1, "mode": "dhcp"}]},
                    {
                        "name": "eth1",
                        "mac_address": f"52:54:00:00:00:{number:02x}",
                        "links": [{"subnet": {"cidr": cidr}} for cidr in subnets],
                    },
                ],
            }
            for number, (name, subnets) in enumerate(self.racks.items())
        ]

    def _region_controllers(self) -> list[dict[str, Any]]:
        return [
            {"system_id": f"region-{name}", "hostname": name, "interface_set": []}
            for name in self.regions
        ]

    def _tags(self) -> list[dict[str, str]]:
        return [{"name": name, "comment": text} for name, text in self.tags.items()]

    def _whoami(self) -> dict[str, Any]:
        return {"username": self.user[0], "is_superuser": self.user[1]}

    def _zones(self) -> list[dict[str, str]]:
        return [{"name": name, "description": text} for name, text in sorted(self.zones.items())]

    # -- Writes -------------------------------------------------------------------------------

    def _create_device(self, form: Form) -> dict[str, Any]:
        return self.add_device(form["hostname"][0], form["mac_addresses"])

    def _create_machine(self, form: Form) -> dict[str, Any]:
        macs = [mac.lower().replace("-", ":") for mac in form.get("mac_addresses", ())]
        blank: dict[str, Any] = {"power_type": "", "power_parameters": {}, "system_id": ""}
        refused = self._refused_architecture(form) | self._refused_macs(form, macs)
        changes = self._checked(form, blank, refused)
        hostname: object = changes.pop("hostname", "") or f"random-{self.last_number}"
        made = self.add_machine(str(hostname), macs=list(dict.fromkeys(macs)))
        made |= changes
        is_admin = self.user[1]
        if is_admin and form.get("commission", ["true"])[0] == "true":
            self._start_commissioning(made)
        return self._shown(made)

    def _refused_architecture(self, form: Form) -> dict[str, list[str]]:
        name = form.get("architecture", [""])[0]
        if name in [f"{image}/generic" for image in self.images]:
            return {}
        return {"architecture": [f"{name} is none of {self.images}" if name else _REQUIRED]}

    def _refused_macs(self, form: Form, macs: Sequence[str]) -> dict[str, list[str]]:
        refusals = [text for mac in macs if (text := self._mac_refusal(mac))]
        if macs and not refusals:
            return {}
        refused = {"mac_addresses": [refusals[0] if refusals else _REQUIRED]}
        if "power_type" in form:
            refused["power_type"] = ["without interfaces"]
        return refused

    def _update_machine(self, system_id: str, form: Form) -> dict[str, Any]:
        machine = self._machine(system_id)
        machine |= self._checked(form, machine, {})
        return self._shown(machine)

    def _commission(self, system_id: str, form: Form) -> dict[str, Any]:
        machine = self._machine(system_id)
        if form:
            self._unexpected("fields of commission")
        if machine["status_name"] not in _COMMISSIONED_FROM:
            raise Refused(409, f"not while it is {machine['status_name']}")
        self._start_commissioning(machine)
        return self._shown(machine)

    def _start_commissioning(self, machine: dict[str, Any]) -> None:
        """Start commissioning. If no rack reaches the BMC, the machine stays as it is."""
        uri = str(machine["power_parameters"].get("power_on_uri", ""))
        subnets = [ipaddress.ip_network(cidr) for cidrs in self.racks.values() for cidr in cidrs]
        if uri and not any(
            ipaddress.ip_address(urllib.parse.urlsplit(uri).hostname or "") in subnet
            for subnet in subnets
        ):
            raise Refused(503, f"no rack for {machine['hostname']}")
        machine |= {"status_name": "Commissioning", "power_state": "on"}

    def _checked(
        self, form: Form, machine: Mapping[str, Any], refused: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return the changes of a machine in a form.

        Raises:
            Refused: some values are wrong, including those that are refused already.
        """
        given = {name: values[0] for name, values in form.items()}
        self._note_unexpected_fields(given)
        names = ("architecture", "hostname", "power_type", "zone")
        changes: dict[str, Any] = {name: given[name] for name in names if given.get(name)}
        nodes = (*self.machines.values(), *self._other_nodes())
        others = [node for node in nodes if node["system_id"] != machine["system_id"]]
        if "hostname" in changes:
            changes["hostname"] = self._checked_hostname(changes["hostname"], others, refused)
        if changes.get("zone", "default") not in self.zones:
            refused["zone"] = [_WRONG]
        power = self._checked_power(given, machine, refused)
        if refused:
            raise Refused(400, refused)
        if power["power_type"] == "webhook" and _is_bmc_used(power["power_parameters"], others):
            raise Refused(409, _CONFLICT)
        return {**changes, **power}

    def _note_unexpected_fields(self, given: Mapping[str, str]) -> None:
        parameters = _POWER.get(given.get("power_type", "webhook"), {})
        known = {*_FIELDS, *(f"{_PREFIX}{name}" for name in parameters)}
        if unexpected := sorted(given.keys() - known):
            self._unexpected(f"the fields {unexpected} of a machine")

    def _checked_hostname(
        self, name: str, others: Sequence[Mapping[str, Any]], refused: dict[str, list[str]]
    ) -> str:
        """Return the hostname without the domain. MAAS replaces one that looks like an address."""
        label, _, domain = name.partition(".")
        if domain not in ("", "maas") or not _LABEL.fullmatch(label) or len(label) > 63:
            refused["hostname"] = [_WRONG]
        elif label in [node["hostname"] for node in others]:
            refused["hostname"] = [_TAKEN]
        elif _LIKE_AN_ADDRESS.fullmatch(label):
            return f"random-{self.last_number}"
        return label

    def _checked_power(
        self, given: Mapping[str, str], machine: Mapping[str, Any], refused: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return the power type and parameters.

        Unless the form skips the check, defaults are added, and missing and unknown parameters
        are refused.
        """
        power_type = given.get("power_type", machine["power_type"])
        if power_type not in _POWER:
            refused["power_type"] = [_WRONG]
            return {}
        parameters = _given_parameters(given)
        current: dict[str, str] = machine["power_parameters"]
        merged = {**(current if power_type == machine["power_type"] else {}), **parameters}
        is_changed = "power_type" in given or parameters
        if is_changed and given.get(_SKIP) != "true" and "power_type" not in refused:
            defaults = _POWER[power_type]
            merged = {n: v for n, v in defaults.items() if v is not None} | merged
            if text := _refused_parameters(merged, defaults):
                refused["power_parameters"] = [text]
        return {"power_type": power_type, "power_parameters": merged}

    def _other_nodes(self) -> list[dict[str, Any]]:
        return [*self.devices.values(), *self._racks(), *self._region_controllers()]

    def _machine(self, system_id: str) -> dict[str, Any]:
        if system_id not in self.machines:
            raise Refused(404, "no such machine")
        return self.machines[system_id]

    def _mac_refusal(self, mac: str) -> str:
        used = {
            nic["mac_address"]
            for node in (*self.machines.values(), *self._other_nodes())
            for nic in node["interface_set"]
        }
        if not _MAC.fullmatch(mac):
            return _WRONG
        return _TAKEN if mac in used else ""

    def _add_interface(self, machine: dict[str, Any], mac: str) -> None:
        self.last_number += 1
        machine["interface_set"].append(
            {"id": self.last_number, "type": "physical", "mac_address": mac, "links": []}
        )

    def _create_physical(self, system_id: str, form: Form) -> dict[str, Any]:
        return self._change_nics(self._machine(system_id), form, _NIC_STATUSES, None)

    def _update_interface(self, system_id: str, number: str, form: Form) -> dict[str, Any]:
        statuses = (*_NIC_STATUSES, "Deployed")
        return self._change_nics(self._machine(system_id), form, statuses, int(number))

    def _change_nics(
        self, machine: dict[str, Any], form: Form, statuses: tuple[str, ...], number: int | None
    ) -> dict[str, Any]:
        self._expect(form, "mac_address", of="an interface")
        nics = [nic for nic in machine["interface_set"] if nic["id"] == number]
        if number is not None and not nics:
            raise Refused(404, "no such interface")
        if machine["status_name"] not in statuses:
            raise Refused(409, f"not while it is {machine['status_name']}")
        mac = form.get("mac_address", [""])[0]
        refusal = self._mac_refusal(mac)
        if refusal or "-" in mac:
            raise Refused(400, {"mac_address": [refusal if mac else _REQUIRED]})
        if number is None:
            self._add_interface(machine, mac)
            return machine["interface_set"][-1]
        nics[0]["mac_address"] = mac
        return nics[0]

    def _create_tag(self, form: Form) -> dict[str, str]:
        self._expect(form, "name", "comment", of="a tag")
        name = self._checked_name(form, r"[\w-]+", self.tags)
        self.tags[name] = form["comment"][0].strip()
        return {"name": name, "comment": self.tags[name]}

    def _update_tag(self, name: str, form: Form) -> dict[str, str]:
        self._expect(form, "name", "comment", of="a tag")
        self._tag(name)
        new = form.get("name", [name])[0]
        if new != name:
            self._unexpected(f"a new name for the tag {name}")
            self._checked_name(form, r"[\w-]+", self.tags)
        self.tags[name] = form["comment"][0].strip()
        return {"name": name, "comment": self.tags[name]}

    def _update_nodes(self, name: str, form: Form) -> dict[str, int]:
        self._tag(name)
        if not form or form.keys() - {"add", "remove"}:
            self._unexpected(f"the fields {sorted(form)} of update_nodes")
        count = {"added": 0, "removed": 0}
        for verb in ("add", "remove"):
            # The real region ignores machines that it does not have.
            for system_id in self.machines.keys() & set(form.get(verb, ())):
                tags = self.machines[system_id]["tag_names"]
                if (name in tags) is (verb == "remove"):
                    tags.append(name) if verb == "add" else tags.remove(name)
                count["added" if verb == "add" else "removed"] += 1
        return count

    def _tag(self, name: str) -> None:
        if name not in self.tags:
            raise Refused(404, "no such tag")

    def _create_zone(self, form: Form) -> dict[str, str]:
        self._expect(form, "name", "description", of="a zone")
        name = self._checked_name(form, r"\w[ \w-]*", self.zones)
        self.zones[name] = form.get("description", [""])[0].strip()
        return {"name": name, "description": self.zones[name]}

    def _checked_name(self, form: Form, pattern: str, known: Mapping[str, str]) -> str:
        name = form.get("name", [""])[0].strip()
        if not name or not re.fullmatch(pattern, name) or len(name) > _LONGEST_NAME:
            raise Refused(400, {"name": [_WRONG if name else _REQUIRED]})
        if name in known:
            raise Refused(400, {"name": [_TAKEN]})
        return name

    def _expect(self, form: Form, *names: str, of: str) -> None:
        """Note fields that this project does not send. The real region ignores or refuses them."""
        if form.keys() != set(names) or any(len(values) != 1 for values in form.values()):
            self._unexpected(f"the fields {sorted(form)} of {of}")


@dataclasses.dataclass(frozen=True)
class _Route:
    """The handler of a call, and the body of the 403 for users who are not administrators. None:
    they may call it too."""

    method: str
    path: str
    handler: Callable[..., Any]
    op: str = ""
    refusal: str | None = None


def _parse_oauth(header: str) -> tuple[str, str, str]:
    """Return consumer, token and secret of an OAuth PLAINTEXT header."""
    pairs = (part.strip().partition("=") for part in header.removeprefix("OAuth ").split(","))
    found = {name: urllib.parse.unquote(value.strip('"')) for name, _, value in pairs}
    signature = found.get("oauth_signature", "")
    is_valid = (
        header.startswith("OAuth ")
        and found.get("oauth_signature_method") == "PLAINTEXT"
        and found.get("oauth_version") == "1.0"
        and found.get("oauth_nonce")
        and found.get("oauth_timestamp", "").isdecimal()
        and signature.startswith("&")
    )
    if not is_valid:
        raise Refused(401, "bad OAuth header")
    secret = urllib.parse.unquote(signature.removeprefix("&"))
    return found.get("oauth_consumer_key", ""), found.get("oauth_token", ""), secret


def _given_parameters(given: Mapping[str, str]) -> dict[str, str]:
    """Return the power parameters of a form."""
    return {
        name.removeprefix(_PREFIX): value
        for name, value in given.items()
        if name.startswith(_PREFIX) and name != _SKIP
    }


def _refused_parameters(parameters: Mapping[str, str], defaults: Mapping[str, str | None]) -> str:
    """Return why MAAS refuses power parameters; empty if it accepts them."""
    required = {name for name, value in defaults.items() if value is None}
    if required - parameters.keys() or parameters.keys() - defaults.keys():
        return _REQUIRED
    return "" if parameters.get("power_verify_ssl", "n") in ("n", "y") else _WRONG


def _is_bmc_used(parameters: Mapping[str, str], nodes: Sequence[Mapping[str, Any]]) -> bool:
    """Whether another machine has the same power parameters."""
    compared = _compared(parameters)
    return bool(compared) and any(
        node.get("power_type") == "webhook" and _compared(node["power_parameters"]) == compared
        for node in nodes
    )


def _compared(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that must be unique: those that are not secret."""
    return {name: value for name, value in parameters.items() if name not in _SECRETS}


# -- Access to a region -----------------------------------------------------------------------


class _InProcess(adapters.BaseAdapter):
    """Sends requests to a region in this process, without a socket."""

    def __init__(self, region: Region) -> None:
        super().__init__()
        self._region = region

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        body = request.body or b""
        url = urllib.parse.urlsplit(request.url or "")
        target = url.path + (f"?{url.query}" if url.query else "")
        headers = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in dict(request.headers).items()
        }
        try:
            status, text = self._region.answer(
                request.method or "",
                str(target),
                headers,
                body if isinstance(body, bytes) else str(body).encode(),
            )
        except Dead:
            raise requests.ConnectionError("the region is dead") from None
        response = requests.Response()
        response.status_code = status
        response.raw = io.BytesIO(text.encode())
        return response

    def close(self) -> None:
        """Nothing to close."""


def client(region: Region, key: str = KEY, ca_file: Path | None = None) -> MAAS:
    """Return a client of a region: over HTTP if it is served, otherwise in this process."""
    url = region.url or "http://region.invalid:5240/MAAS"
    adapter = None if region.url else _InProcess(region)
    return MAAS(url, pydantic.SecretStr(key), ca_file, adapter=adapter)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not wait for the response is not an error."""


@contextlib.contextmanager
def served(region: Region | None = None, *, certificate: Path | None = None) -> Generator[Region]:
    """Serve a region on a free port; over HTTPS with a PEM file of certificate and key."""
    made = region or Region()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # send a response at once, as real servers do

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:  # the client was killed
                self.close_connection = True
                return
            try:
                status, text = made.answer(self.command, self.path, dict(self.headers), body)
            except Dead:
                self.close_connection = True
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = handle_one  # noqa: N815 - http.server's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
            pass

    server = _Server(("127.0.0.1", 0), Handler)
    made.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}/MAAS"
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
