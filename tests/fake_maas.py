# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A fake of a MAAS region: the calls of its REST API that we make, answered as MAAS 3.7.3 does.

`tests/unit/test_maas_recording.py` holds it to what a real region answered: status, fields,
defaults and the kind of each error. The sentences are its own. It is strict too: a call or a field
that none of ours should send stays in `Region.strange`, whatever the answer is.

`Region.real` makes one that is as slow as a real region, and as unprepared as a fresh one.
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
"""An administrator's."""
USER_KEY = "user:user-token:user-secret"
"""Somebody else's."""

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
"""The parameters of each power type with their defaults; None: it is required."""

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
    """An answer that is none of success."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body if isinstance(body, str) else json.dumps(body)


class Dead(Exception):
    """The connection ends without an answer."""


@dataclasses.dataclass(frozen=True)
class Latencies:
    """How long a real region takes: 856 machines were listed in 17.7 s, their power parameters in
    3.2 s, and one was made in 0.4 to 2.4 s."""

    scale: float
    """The tests' seconds for one of a real region."""
    listed_s: float = 17.7 / 856
    powers_s: float = 3.2 / 856
    made_s: tuple[float, ...] = (0.4, 0.9, 1.4, 1.9, 2.4)
    """In turn."""
    other_s: float = 0.1

    def of(self, call: tuple[str, str, str], machines: int, number: int) -> float:
        """Return the seconds for a call: method, path and op."""
        made_s = self.made_s[number % len(self.made_s)]
        seconds = {
            ("GET", "machines/", ""): self.listed_s * machines,
            ("GET", "machines/", "power_parameters"): self.powers_s * machines,
            ("POST", "machines/", ""): made_s,
        }.get(call, self.other_s)
        return self.scale * seconds


@dataclasses.dataclass(frozen=True)
class Call:
    """One request that was understood."""

    method: str
    path: str
    op: str
    form: Form


class Region:
    """What the region knows, and all that was asked of it. May be shared between threads."""

    def __init__(self) -> None:
        self.users = {KEY: ("admin", True), USER_KEY: ("bob", False)}
        self.zones = {"default": ""}
        self.tags: dict[str, str] = {}
        self.machines: dict[str, dict[str, Any]] = {}
        self.devices: dict[str, dict[str, Any]] = {}
        self.racks = {"rack1": ["10.0.0.0/24", "2001:db8::/64"]}
        self.regions = ["region1"]
        self.images: list[str] = ["amd64", "arm64"]
        """The architectures of the images it has."""
        self.version = "3.7.3"
        self.calls: list[Call] = []
        self.strange: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self.delay_s = 0.0
        self.latencies: Latencies | None = None
        self.answers = threading.Event()
        """While it is not set, requests wait for their answers."""
        self.answers.set()
        self.pauses_after_writes: int | None = None
        """Clears `answers` once."""
        self.is_old = False
        """Whether it has the API 1.0 instead, of which we read zones."""
        self.forced: list[tuple[int, str]] = []
        """Answers to the next requests, whatever they are; the last one is given for ever."""
        self.dies_after_writes: int | None = None
        self.loses_answer_to = ""
        """A path whose writes are carried out, and not answered."""
        self.url = ""
        self._lock = threading.Lock()
        self._now = 0
        self._created = itertools.count()
        self.last_number = 0
        """Of what has a number: machines and interfaces."""

    @classmethod
    def real(cls, scale: float = 0.001) -> Region:
        """A fresh region with the latencies of a real one: it has no images and no racks, and a
        person has registered a device."""
        made = cls()
        made.latencies = Latencies(scale)
        made.images = []
        made.racks = {}
        made.add_device("printer", macs=["08:00:27:cc:02:05"])
        return made

    @property
    def writes(self) -> list[Call]:
        """The calls that change something."""
        return [call for call in self.calls if call.method != "GET"]

    @property
    def reads(self) -> list[Call]:
        """The calls that do not."""
        return [call for call in self.calls if call.method == "GET"]

    def forget_calls(self) -> None:
        """Count from here on."""
        self.calls.clear()
        self.headers.clear()

    def machine(self, hostname: str) -> dict[str, Any]:
        """The machine of that name."""
        return next(each for each in self.machines.values() if each["hostname"] == hostname)

    def add_device(self, hostname: str, macs: Sequence[str] = ()) -> dict[str, Any]:
        """A device: a node that is no machine, with a hostname and MACs that nobody else gets."""
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
        """A machine somebody else made; `macs`, `power` (type and parameters), or any field."""
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
        """Return status and body. Raises `Dead`."""
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
            status, forced = self.forced.pop(0) if len(self.forced) > 1 else self.forced[0]
            self.calls.append(Call(method, url.path, op, {}))
            return status, forced
        if query:
            raise self._odd(f"parameters of {method} {target}")
        path = url.path.removeprefix("/MAAS")
        version, _, path = path.removeprefix("/api/").partition("/")
        path = urllib.parse.unquote(path)
        if version != ("1.0" if self.is_old else "2.0"):
            raise self._odd(f"the API {version} for {path}", 410)
        route, match = self._route(method, path, op)
        is_admin = self._log_in(headers, path)
        if route.refusal is not None and not is_admin:
            raise Refused(403, route.refusal)
        form = self._read_form(headers, body)
        result = route.handler(*match.groups(), *([form] if method != "GET" else []))
        self.calls.append(Call(method, path, op, form))
        if len(self.writes) == self.pauses_after_writes:
            self.pauses_after_writes = None
            self.answers.clear()
        if method != "GET" and self.loses_answer_to and path.startswith(self.loses_answer_to):
            raise Dead
        return 200, json.dumps(result)

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
        """Return who answers. MAAS looks at the path first, then at method and op; at the login
        only then."""
        found = [
            (route, match)
            for route in self._routes()
            if (match := re.fullmatch(route.path, path)) is not None
        ]
        if not found:
            raise self._odd(f"the call {method} {path}", 404)
        if method not in {route.method for route, _ in found}:
            raise self._odd(f"the method {method} of {path}", 405, "")
        for route, match in found:
            if (route.method, route.op) == (method, op):
                return route, match
        raise self._odd(f"the call {method} {path} op={op}")

    def _read_form(self, headers: Mapping[str, str], body: bytes) -> Form:
        if not body:
            return {}
        if headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise self._odd(f"a body of type {headers.get('Content-Type')}")
        return urllib.parse.parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)

    def _log_in(self, headers: Mapping[str, str], path: str) -> bool:
        header = headers.get("Authorization", "")
        if not header and path == "version/":
            return False
        if not header:
            raise self._odd(f"no login for {path}")
        pairs = (part.strip().partition("=") for part in header.removeprefix("OAuth ").split(","))
        found = {name: urllib.parse.unquote(value.strip('"')) for name, _, value in pairs}
        signature = found.get("oauth_signature", "")
        consumer, token = found.get("oauth_consumer_key", ""), found.get("oauth_token", "")
        secret = urllib.parse.unquote(signature.removeprefix("&"))
        formed = (
            header.startswith("OAuth ")
            and found.get("oauth_signature_method") == "PLAINTEXT"
            and found.get("oauth_version") == "1.0"
            and found.get("oauth_nonce")
            and found.get("oauth_timestamp", "").isdecimal()
            and signature.startswith("&")
        )
        if not formed:
            raise Refused(401, "bad OAuth header")
        known = {tuple(key.split(":")[:2]): key.split(":")[2] for key in self.users}
        if (consumer, token) not in known:
            # The real one quotes an unknown token.
            raise Refused(401, f"no such key: {token}")
        if known[consumer, token] != secret:
            # The real one quotes what it expected, which is the user's secret.
            raise Refused(401, f"bad signature, expected: &{known[consumer, token]}")
        self.user = self.users[f"{consumer}:{token}:{secret}"]
        return self.user[1]

    def _odd(self, what: str, status: int = 400, body: str | None = None) -> Refused:
        self.strange.append(what)
        return Refused(status, f"unknown here: {what}" if body is None else body)

    def _routes(self) -> list[_Route]:
        words = "for administrators only"
        return [
            _Route("GET", r"boot-resources/", self._boot_resources),
            _Route("GET", r"devices/", self._devices),
            _Route("GET", r"machines/", self._machines),
            _Route("GET", r"machines/", self._power_parameters, "power_parameters", words),
            _Route("GET", r"machines/(\w+)/", self._powers_of, "power_parameters", words),
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
            _Route("POST", r"zones/", self._create_zone, refusal=words),
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
        return [self._shown(each) for each in self.machines.values()]

    def _shown(self, machine: Mapping[str, Any]) -> dict[str, Any]:
        zone = {"name": machine["zone"], "description": self.zones[machine["zone"]]}
        return {name: value for name, value in machine.items() if name != "power_parameters"} | {
            "zone": zone
        }

    def _power_parameters(self) -> dict[str, dict[str, str]]:
        return {name: each["power_parameters"] for name, each in self.machines.items()}

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
        is_admin = self.user[1]
        wants = form.get("commission", ["true"])[0] == "true"
        macs = [mac.lower().replace("-", ":") for mac in form.get("mac_addresses", ())]
        blank: dict[str, Any] = {"power_type": "", "power_parameters": {}, "system_id": ""}
        refused: dict[str, list[str]] = {}
        name = form.get("architecture", [""])[0]
        if name not in [f"{each}/generic" for each in self.images]:
            refused["architecture"] = [f"{name} is none of {self.images}" if name else _REQUIRED]
        wrong = [each for each in macs if self._mac_refusal(each)]
        if not macs or wrong:
            refused["mac_addresses"] = [self._mac_refusal(wrong[0]) if wrong else _REQUIRED]
            if "power_type" in form:
                refused["power_type"] = ["without interfaces"]
        changes = self._checked(form, blank, refused)
        hostname: object = changes.pop("hostname", "") or f"random-{self.last_number}"
        made = self.add_machine(str(hostname), macs=list(dict.fromkeys(macs)))
        made |= changes
        if wants and is_admin:
            self._start_commissioning(made)
        return self._shown(made)

    def _update_machine(self, system_id: str, form: Form) -> dict[str, Any]:
        machine = self._machine(system_id)
        machine |= self._checked(form, machine, {})
        return self._shown(machine)

    def _commission(self, system_id: str, form: Form) -> dict[str, Any]:
        machine = self._machine(system_id)
        if form:
            self._odd("fields of commission")
        if machine["status_name"] not in _COMMISSIONED_FROM:
            raise Refused(409, f"not while it is {machine['status_name']}")
        self._start_commissioning(machine)
        return self._shown(machine)

    def _start_commissioning(self, machine: dict[str, Any]) -> None:
        """The machine stays as it is where no rack reaches its BMC."""
        uri = str(machine["power_parameters"].get("power_on_uri", ""))
        subnets = [ipaddress.ip_network(each) for some in self.racks.values() for each in some]
        if uri and not any(
            ipaddress.ip_address(urllib.parse.urlsplit(uri).hostname or "") in subnet
            for subnet in subnets
        ):
            raise Refused(503, f"no rack for {machine['hostname']}")
        machine |= {"status_name": "Commissioning", "power_state": "on"}

    def _checked(
        self, form: Form, machine: Mapping[str, Any], refused: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return what a form changes in a machine; refuses all that is wrong at once, with what
        was found before."""
        given = {name: values[0] for name, values in form.items()}
        known = {f"{_PREFIX}{each}" for each in _POWER.get(given.get("power_type", "webhook"), {})}
        if odd := [name for name in form if name not in {*_FIELDS, *known}]:
            self._odd(f"the fields {odd} of a machine")
        changes: dict[str, Any] = {
            name: given[name]
            for name in ("architecture", "hostname", "power_type", "zone")
            if given.get(name)
        }
        others = [
            each
            for each in (*self.machines.values(), *self._other_nodes())
            if each["system_id"] != machine["system_id"]
        ]
        if "hostname" in changes:
            label, _, domain = changes["hostname"].partition(".")
            changes["hostname"] = label
            if domain not in ("", "maas") or not _LABEL.fullmatch(label) or len(label) > 63:
                refused["hostname"] = [_WRONG]
            elif label in [each["hostname"] for each in others]:
                refused["hostname"] = [_TAKEN]
            elif _LIKE_AN_ADDRESS.fullmatch(label):
                changes["hostname"] = f"random-{self.last_number}"
        if changes.get("zone", "default") not in self.zones:
            refused["zone"] = [_WRONG]
        power = self._checked_power(given, machine, refused)
        if refused:
            raise Refused(400, refused)
        if power["power_type"] == "webhook" and any(
            each.get("power_type") == "webhook"
            and _compared(each["power_parameters"]) == _compared(power["power_parameters"])
            and _compared(power["power_parameters"])
            for each in others
        ):
            raise Refused(409, _CONFLICT)
        return {**changes, **power}

    def _checked_power(
        self, given: Mapping[str, str], machine: Mapping[str, Any], refused: dict[str, list[str]]
    ) -> dict[str, Any]:
        """Return power type and parameters; unless the check is skipped, defaults are added and
        what is missing or unknown is refused."""
        power_type = given.get("power_type", machine["power_type"])
        if power_type not in _POWER:
            refused["power_type"] = [_WRONG]
            return {}
        parameters = {
            name.removeprefix(_PREFIX): value
            for name, value in given.items()
            if name.startswith(_PREFIX) and name != _SKIP
        }
        kept: dict[str, str] = machine["power_parameters"]
        merged = {**(kept if power_type == machine["power_type"] else {}), **parameters}
        touched = "power_type" in given or parameters
        if touched and given.get(_SKIP) != "true" and "power_type" not in refused:
            defaults = _POWER[power_type]
            merged = {n: v for n, v in defaults.items() if v is not None} | merged
            missing = [name for name, value in defaults.items() if value is None]
            if set(missing) - merged.keys() or merged.keys() - defaults.keys():
                refused["power_parameters"] = [_REQUIRED]
            elif merged.get("power_verify_ssl", "n") not in ("n", "y"):
                refused["power_parameters"] = [_WRONG]
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
            for each in (*self.machines.values(), *self._other_nodes())
            for nic in each["interface_set"]
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
        nics = [each for each in machine["interface_set"] if each["id"] == number]
        if number is not None and not nics:
            raise Refused(404, "no such interface")
        if machine["status_name"] not in statuses:
            raise Refused(409, f"not while it is {machine['status_name']}")
        mac = form.get("mac_address", [""])[0]
        words = self._mac_refusal(mac)
        if words or "-" in mac:
            raise Refused(400, {"mac_address": [words if mac else _REQUIRED]})
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
            self._odd(f"a new name for the tag {name}")
            self._checked_name(form, r"[\w-]+", self.tags)
        self.tags[name] = form["comment"][0].strip()
        return {"name": name, "comment": self.tags[name]}

    def _update_nodes(self, name: str, form: Form) -> dict[str, int]:
        self._tag(name)
        if not form or form.keys() - {"add", "remove"}:
            self._odd(f"the fields {sorted(form)} of update_nodes")
        count = {"added": 0, "removed": 0}
        for verb in ("add", "remove"):
            # The real one passes over machines that it does not have.
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
        """Note fields that are not ours; the real one ignores them, or says what is missing."""
        if form.keys() != set(names) or any(len(values) != 1 for values in form.values()):
            self._odd(f"the fields {sorted(form)} of {of}")


@dataclasses.dataclass(frozen=True)
class _Route:
    """Who answers a call, and what another than an administrator is answered with 403; None: the
    same."""

    method: str
    path: str
    handler: Callable[..., Any]
    op: str = ""
    refusal: str | None = None


def _compared(parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the parameters that no two BMCs have alike: those that are not secret."""
    return {name: value for name, value in parameters.items() if name not in _SECRETS}


# -- In reach ---------------------------------------------------------------------------------


class _InProcess(adapters.BaseAdapter):
    """Carries requests to a region of this process, without a socket."""

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
        """There is nothing to close."""


def client(region: Region, key: str = KEY, ca_file: Path | None = None) -> MAAS:
    """A client of the region: over HTTP if it is served, otherwise in this process."""
    url = region.url or "http://region.invalid:5240/MAAS"
    adapter = None if region.url else _InProcess(region)
    return MAAS(url, pydantic.SecretStr(key), ca_file, adapter=adapter)


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that gave up waiting is no error."""


@contextlib.contextmanager
def served(region: Region | None = None, *, certificate: Path | None = None) -> Generator[Region]:
    """Serve a region on a port of its own, over HTTPS with a PEM file of certificate and key."""
    made = region or Region()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # a whole answer at once, as real servers send it

        def handle_one(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            if len(body) < length:  # whoever sent it was killed
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
