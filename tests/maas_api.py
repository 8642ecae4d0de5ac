# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A MAAS region that is not there: the calls of its REST API that we make, and no others.

Strict: an unknown call or field is an error and stays in `Region.strange`; a key that is not
signed as MAAS wants it, a MAC, hostname or BMC that somebody has, a zone that is not there, and a
user who is no administrator are refused in MAAS's words. A new machine is commissioned unless the
form says otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import io
import json
import re
import ssl
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any, cast

import pydantic
import requests
from requests import adapters

from maas_virtualbox import maas

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

KEY = "kq3VbConsumer:hT5mToken:w9%Secret"
"""An administrator's."""
USER_KEY = "user:user-token:user-secret"
"""Somebody else's."""

Form = dict[str, list[str]]

_ARCHITECTURES = ("amd64/generic", "arm64/generic")
_POWER = {
    "": set[str](),
    "manual": set[str](),
    "ipmi": {"power_address"},
    "webhook": {
        "power_on_uri",
        "power_off_uri",
        "power_query_uri",
        "power_on_regex",
        "power_off_regex",
        "power_token",
        "power_user",
        "power_pass",
        "power_verify_ssl",
    },
}
_REQUIRED = {
    "ipmi": {"power_address"},
    "webhook": {"power_on_uri", "power_off_uri", "power_query_uri"},
}
_HOSTNAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")
_NIC_STATUSES = ("New", "Ready", "Allocated", "Broken", "Failed testing")


class Refused(Exception):
    """An answer that is none of success."""

    def __init__(self, status: int, body: object) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body if isinstance(body, str) else json.dumps(body)


class Dead(Exception):
    """The connection ends without an answer."""


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
        self.racks = {"rack1": ["10.0.0.0/24", "2001:db8::/64"]}
        self.version = "3.7.3"
        self.calls: list[Call] = []
        self.strange: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.most_at_once = 0
        self.delay_s = 0.0
        self.forced: list[tuple[int, str]] = []
        """Answers to the next requests, whatever they are; the last one is given for ever."""
        self.dies_after_writes: int | None = None
        self.loses_answer_to = ""
        """A path whose writes are carried out, and not answered."""
        self.url = ""
        self._lock = threading.Lock()
        self._now = 0
        self.last_number = 0
        """Of what has a number: machines and interfaces."""

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

    def add_machine(self, hostname: str, **options: Any) -> dict[str, Any]:
        """A machine somebody else made; `macs`, `power` (type and parameters), or any field."""
        self.last_number += 1
        macs = options.pop("macs", ())
        power_type, parameters = options.pop("power", ("", {}))
        made: dict[str, Any] = {
            "system_id": f"sys{self.last_number:03}",
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

    # -- A request ----------------------------------------------------------------------------

    def answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, str]:
        """Return status and body. Raises `Dead`."""
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            time.sleep(self.delay_s)
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
        admin = self._log_in(headers)
        if query:
            raise self._odd(f"parameters of {method} {target}")
        form = self._read_form(headers, body)
        path = url.path.removeprefix("/MAAS")
        version, _, path = path.removeprefix("/api/").partition("/")
        for verb, pattern, wanted, needs_admin, handler in self._routes():
            match = re.fullmatch(pattern, path)
            if (verb, wanted) != (method, op) or not match:
                continue
            if version != "2.0" and (version, path) != ("1.0", "zones/"):
                raise self._odd(f"the API {version} for {path}")
            if needs_admin and not admin:
                raise Refused(403, "This method is reserved for admin users.")
            result = handler(*match.groups(), *([form] if method != "GET" else []))
            self.calls.append(Call(method, path, op, form))
            if method != "GET" and self.loses_answer_to and path.startswith(self.loses_answer_to):
                raise Dead
            return 200, "OK" if result is None else json.dumps(result)
        raise self._odd(f"the call {method} {target}", 404)

    def _read_form(self, headers: Mapping[str, str], body: bytes) -> Form:
        if not body:
            return {}
        if headers.get("Content-Type") != "application/x-www-form-urlencoded":
            raise self._odd(f"a body of type {headers.get('Content-Type')}")
        return urllib.parse.parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True)

    def _log_in(self, headers: Mapping[str, str]) -> bool:
        header = headers.get("Authorization", "")
        pairs = (part.strip().partition("=") for part in header.removeprefix("OAuth ").split(","))
        found = {name: urllib.parse.unquote(value.strip('"')) for name, _, value in pairs}
        signature = found.get("oauth_signature", "")
        key = ":".join(
            [
                found.get("oauth_consumer_key", ""),
                found.get("oauth_token", ""),
                urllib.parse.unquote(signature.removeprefix("&")),
            ]
        )
        good = (
            header.startswith("OAuth ")
            and found.get("oauth_signature_method") == "PLAINTEXT"
            and found.get("oauth_version") == "1.0"
            and found.get("oauth_nonce")
            and found.get("oauth_timestamp", "").isdecimal()
            and signature.startswith("&")
            and key in self.users
        )
        if not good:
            raise Refused(401, f"Authorization Error: Invalid access token: {key}")
        self.user = self.users[key]
        return self.user[1]

    def _odd(self, what: str, status: int = 400) -> Refused:
        self.strange.append(what)
        return Refused(status, f"unknown here: {what}")

    def _routes(self) -> list[tuple[str, str, str, bool, Callable[..., Any]]]:
        return [
            ("GET", r"machines/", "", False, self._machines),
            ("GET", r"machines/", "power_parameters", True, self._power_parameters),
            ("GET", r"rackcontrollers/", "", False, self._racks),
            ("GET", r"tags/", "", False, self._tags),
            ("GET", r"users/", "whoami", False, self._whoami),
            ("GET", r"version/", "", False, lambda: {"version": self.version}),
            ("GET", r"zones/", "", False, self._zones),
            ("POST", r"machines/", "", False, self._create_machine),
            ("POST", r"nodes/(\w+)/interfaces/", "create_physical", True, self._create_physical),
            ("POST", r"tags/", "", True, self._create_tag),
            ("POST", r"tags/([\w-]+)/", "update_nodes", True, self._update_nodes),
            ("POST", r"zones/", "", True, self._create_zone),
            ("PUT", r"machines/(\w+)/", "", True, self._update_machine),
            ("PUT", r"nodes/(\w+)/interfaces/(\d+)/", "", True, self._update_interface),
            ("PUT", r"tags/([\w-]+)/", "", True, self._update_tag),
        ]

    # -- Reads --------------------------------------------------------------------------------

    def _machines(self) -> list[dict[str, Any]]:
        return [
            {name: value for name, value in each.items() if name != "power_parameters"}
            | {"zone": {"name": each["zone"], "description": self.zones[each["zone"]]}}
            for each in self.machines.values()
        ]

    def _power_parameters(self) -> dict[str, dict[str, str]]:
        return {name: each["power_parameters"] for name, each in self.machines.items()}

    def _racks(self) -> list[dict[str, Any]]:
        return [
            {
                "hostname": name,
                "interface_set": [
                    {"name": "eth0", "links": [{"id": 1, "mode": "dhcp"}]},
                    {"name": "eth1", "links": [{"subnet": {"cidr": cidr}} for cidr in subnets]},
                ],
            }
            for name, subnets in self.racks.items()
        ]

    def _tags(self) -> list[dict[str, str]]:
        return [{"name": name, "comment": text} for name, text in self.tags.items()]

    def _whoami(self) -> dict[str, Any]:
        return {"username": self.user[0], "is_superuser": self.user[1]}

    def _zones(self) -> list[dict[str, str]]:
        return [{"name": name, "description": text} for name, text in self.zones.items()]

    # -- Writes -------------------------------------------------------------------------------

    def _create_machine(self, form: Form) -> dict[str, Any]:
        commission = form.pop("commission", ["true"])[0] == "true"
        macs = form.pop("mac_addresses", [])
        if form.get("architecture", [""])[0] not in _ARCHITECTURES:
            words = f"'{form.get('architecture', [''])[0]}' is not a valid architecture."
            raise Refused(400, {"architecture": [words]})
        for mac in macs:
            self._check_mac(mac, "mac_addresses")
        if not macs or len(set(macs)) != len(macs):
            raise Refused(400, {"mac_addresses": ["One or more MAC addresses is invalid."]})
        changes = self._checked(form, {"power_type": "", "power_parameters": {}, "system_id": ""})
        admin = self.user[1]
        made = self.add_machine(changes.pop("hostname", f"random-{self.last_number}"), macs=macs)
        made |= changes
        if commission and admin:
            made |= {"status_name": "Commissioning", "power_state": "on"}
        form |= {"mac_addresses": macs, "commission": [str(commission).lower()]}
        return self._machines()[-1]

    def _update_machine(self, system_id: str, form: Form) -> dict[str, Any]:
        machine = self._machine(system_id)
        machine |= self._checked(form, machine)
        return next(each for each in self._machines() if each["system_id"] == system_id)

    def _checked(self, form: Form, machine: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a form changes in a machine."""
        power_type = form.get("power_type", [machine["power_type"]])[0]
        prefix = "power_parameters_"
        known = {f"{prefix}{name}" for name in _POWER.get(power_type, ())}
        known |= {"architecture", "hostname", "power_type", f"{prefix}skip_check", "zone"}
        if odd := [name for name in form if name not in known or len(form[name]) != 1]:
            raise self._odd(f"the fields {odd} of a machine")
        changes = {name: values[0] for name, values in form.items() if not name.startswith(prefix)}
        others = [
            each for each in self.machines.values() if each["system_id"] != machine["system_id"]
        ]
        hostname = changes.get("hostname")
        if hostname is not None and not _HOSTNAME.fullmatch(hostname):
            raise Refused(400, {"hostname": ["Invalid hostname."]})
        if hostname in [each["hostname"] for each in others]:
            raise Refused(400, {"hostname": ["Node with this Hostname already exists."]})
        if changes.get("zone", "default") not in self.zones:
            raise Refused(400, {"zone": [f"'{changes['zone']}' is not a valid zone."]})
        parameters = dict(
            machine["power_parameters"] if power_type == machine["power_type"] else {}
        )
        parameters |= {
            name.removeprefix(prefix): values[0]
            for name, values in form.items()
            if name.startswith(prefix) and not name.endswith("skip_check")
        }
        if _REQUIRED.get(power_type, set()) - parameters.keys():
            raise Refused(400, {"power_parameters": ["This field is required."]})
        if parameters and any(
            (each["power_type"], each["power_parameters"]) == (power_type, parameters)
            for each in others
        ):
            raise Refused(409, f"BMC with these parameters already exists: {parameters}")
        return {**changes, "power_type": power_type, "power_parameters": parameters}

    def _machine(self, system_id: str) -> dict[str, Any]:
        if system_id not in self.machines:
            raise Refused(404, "No Machine matches the given query.")
        return self.machines[system_id]

    def _check_mac(self, mac: str, field: str) -> None:
        used = {
            nic["mac_address"] for each in self.machines.values() for nic in each["interface_set"]
        }
        if not _MAC.fullmatch(mac):
            raise Refused(400, {field: [f"'{mac}' is not a valid MAC address."]})
        if mac in used:
            raise Refused(400, {field: [f"MAC address {mac} already in use."]})

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
        if form.keys() != {"mac_address"}:
            raise self._odd(f"the fields {sorted(form)} of an interface")
        if machine["status_name"] not in statuses:
            raise Refused(409, "Cannot update interface because the machine is not New, …")
        mac = form["mac_address"][0]
        self._check_mac(mac, "mac_address")
        if number is None:
            self._add_interface(machine, mac)
            return machine["interface_set"][-1]
        nics = [each for each in machine["interface_set"] if each["id"] == number]
        if not nics:
            raise Refused(404, "No Interface matches the given query.")
        nics[0]["mac_address"] = mac
        return nics[0]

    def _create_tag(self, form: Form) -> dict[str, str]:
        name = self._one(form, "name", "comment", of="a tag")
        if not re.fullmatch(r"[\w-]+", name):
            raise Refused(400, {"name": ["Invalid tag name."]})
        if name in self.tags:
            raise Refused(400, {"name": ["Tag with this Name already exists."]})
        self.tags[name] = form["comment"][0].strip()
        return {"name": name, "comment": self.tags[name]}

    def _update_tag(self, name: str, form: Form) -> dict[str, str]:
        if name not in self.tags:
            raise Refused(404, "No Tag matches the given query.")
        if self._one(form, "name", "comment", of="a tag") != name:
            raise self._odd(f"a new name for the tag {name}")
        self.tags[name] = form["comment"][0].strip()
        return {"name": name, "comment": self.tags[name]}

    def _update_nodes(self, name: str, form: Form) -> dict[str, int]:
        if name not in self.tags:
            raise Refused(404, "No Tag matches the given query.")
        if not form or form.keys() - {"add", "remove"}:
            raise self._odd(f"the fields {sorted(form)} of update_nodes")
        for system_id in form.get("add", ()):
            tags = self._machine(system_id)["tag_names"]
            tags += [] if name in tags else [name]
        for system_id in form.get("remove", ()):
            self._machine(system_id)["tag_names"].remove(name)
        return {"added": len(form.get("add", ())), "removed": len(form.get("remove", ()))}

    def _create_zone(self, form: Form) -> dict[str, str]:
        name = self._one(form, "name", "description", of="a zone")
        if not re.fullmatch(r"\w[ \w-]*", name):
            raise Refused(400, {"name": ["Enter a valid value."]})
        if name in self.zones:
            raise Refused(400, {"name": ["Physical zone with this Name already exists."]})
        self.zones[name] = form["description"][0]
        return {"name": name, "description": self.zones[name]}

    def _one(self, form: Form, *names: str, of: str) -> str:
        if form.keys() != set(names) or any(len(values) != 1 for values in form.values()):
            raise self._odd(f"the fields {sorted(form)} of {of}")
        return form[names[0]][0]


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
            for name, value in cast("dict[str, str | bytes]", dict(request.headers)).items()
        }
        try:
            status, text = self._region.answer(
                request.method or "",
                str(target),
                headers,
                body.encode() if isinstance(body, str) else bytes(body),
            )
        except Dead:
            raise requests.ConnectionError("the region is dead") from None
        response = requests.Response()
        response.status_code = status
        response.raw = io.BytesIO(text.encode())
        return response

    def close(self) -> None:
        """There is nothing to close."""


def client(region: Region, key: str = KEY, ca_file: Path | None = None) -> maas.MAAS:
    """A client of the region: over HTTP if it is served, otherwise in this process."""
    url = region.url or "http://region.invalid:5240/MAAS"
    carrier = None if region.url else _InProcess(region)
    return maas.MAAS(url, pydantic.SecretStr(key), ca_file, carrier=carrier)


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
