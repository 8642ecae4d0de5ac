# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Compares the fake region with a recording of a real region (MAAS 3.7.3).

The status, the type of the body, the fields of an error, and every value that both have must be
the same. The fake must not have fields that the real region lacks. Texts may differ.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import pathlib
import urllib.parse
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests import fake_maas
from tests.fake_maas import Region

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDING = pathlib.Path(__file__).parents[3] / "shared" / "maas" / "api-3.7.3.jsonl"
ADMIN, USER = fake_maas.KEY, fake_maas.USER_KEY
CUT = "… (cut)"
"""The end of a body that was truncated in the recording."""
UNREAD = ("capabilities", "subversion", "email", "is_local", "resource_uri")
"""Top-level fields of a response that the fake does not need."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A request and the response of the real region."""

    number: int
    """Its position in the recording, from 0."""
    case: str
    method: str
    path: str
    query: str
    form: tuple[tuple[str, str], ...]
    status: int
    body: str

    @property
    def call(self) -> str:
        """The call without the API's prefix."""
        path = self.path.removeprefix("/MAAS/api/2.0/")
        return f"{self.method} {path}" + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        return f"pair {self.number} ({self.case}: {self.call})"


@functools.cache
def recorded() -> tuple[Pair, ...]:
    """Read the recording. Skip the test if there is none."""
    if not RECORDING.is_file():
        pytest.skip(  # prepare.sh says so; nobody can install it
            f"there is no recording of a real region ({RECORDING}): the fake region is not"
            " compared with it"
        )
    pairs: list[Pair] = []
    for number, line in enumerate(RECORDING.read_text().splitlines()):
        raw = json.loads(line)
        pairs.append(
            Pair(
                number,
                raw["case"],
                raw["method"],
                raw["path"],
                raw["query"],
                tuple((name, value) for name, value in raw["form"]),
                raw["status"],
                raw["body"] or "",
            )
        )
    return tuple(pairs)


def why_not(pair: Pair) -> str:
    """Return why a pair is not replayed; empty if it is."""
    if not pair.path.startswith("/MAAS/api/"):
        return "not a call of the API"
    if pair.method == "DELETE" and pair.status < 400:
        return "this project deletes nothing"
    if pair.call.startswith("PUT zones/"):
        return "only people change zones"
    return ""


# -- What happened on the region between the recorded pairs --------------------------------------


def unrecorded(pair: Pair, region: Region) -> None:
    """Make the changes whose requests are missing in the recording."""
    steps: dict[int, Callable[[Region], object]] = {
        13: lambda region: region.images.append("amd64"),
        15: lambda region: region.zones.update(izMBP15="john@127.0.0.1:25222"),
        20: first_enlistment,
        40: lambda region: give_addresses(region, "192.0.2.2", "192.0.2.77"),
        45: lambda region: give_addresses(region, "192.0.2.77", "192.0.2.2"),
        133: lambda region: region.zones.update({"z-2": "d"}),  # pair 132 is not replayed
        193: lambda region: appear(region, 193, "bfw3w8", "t4qr4w"),
        236: lambda region: region.zones.update(big="carl@127.0.0.1:25223"),
        238: lambda region: appear(region, 238, "dahgc4", "gw7ytk"),
        240: lambda region: region.tags.update(
            {item["name"]: item["comment"] for item in tags(240)}
        ),
    }
    if step := steps.get(pair.number):
        step(region)


def tags(number: int) -> list[dict[str, str]]:
    """Return the tags in the response of a pair."""
    return whole(recorded()[number].body)


def first_enlistment(region: Region) -> None:
    """Create nine machines, because only the first of ten requests is recorded. The responses of
    later pairs contain their hostnames, MACs and interfaces."""
    interfaces = {"alpha05": 3, "alpha04": 4, "alpha03": 5, "alpha02": 6, "beta01": 7}
    comments = {tag["name"]: tag["comment"] for tag in tags(23)}
    for system_id, powers in whole(recorded()[20].body).items():
        if system_id in region.machines:
            continue
        uuid = powers["power_on_uri"].split("/")[-2]
        name = comments[f"virtualbox-{uuid}"].removeprefix("VirtualBox VM ")
        kind, number = name[:-2], name[-2:]
        made = region.add_machine(
            name,
            macs=[f"08:00:27:{'aa' if kind == 'alpha' else 'bb'}:00:{number}"],
            zone="izMBP13" if kind == "alpha" else "izMBP15",
            power=("webhook", dict(powers)),
            tag_names=[f"virtualbox-{uuid}"],
        )
        made["interface_set"][0]["id"] = interfaces.get(name, 0)
        give_id(region, made, system_id)
    region.tags |= comments


def give_addresses(region: Region, before: str, after: str) -> None:
    """Change the address in the URIs of ten machines. Only one such request is recorded."""
    for machine in region.machines.values():
        powers = machine["power_parameters"]
        powers |= {
            name: value.replace(f"//{before}:", f"//{after}:") for name, value in powers.items()
        }


def appear(region: Region, number: int, *system_ids: str) -> None:
    """Add machines from the response of a pair, which may be truncated."""
    powers = whole(recorded()[number].body)
    for system_id in system_ids:
        made = region.add_machine(f"made-{system_id}", power=("webhook", powers[system_id]))
        give_id(region, made, system_id)


# -- The replay ---------------------------------------------------------------------------------


def give_id(region: Region, made: dict[str, Any], system_id: str) -> None:
    """Give a machine of the fake the ID of the real machine."""
    del region.machines[made["system_id"]]
    made["system_id"] = system_id
    region.machines[system_id] = made


def key_of(pair: Pair) -> str:
    """Return the API key of a request; empty if it had none."""
    consumer, token, secret = ADMIN.split(":")
    others = {
        "login wrong key": f"other:{token}:{secret}",
        "login wrong secret": f"{consumer}:{token}:other",
        "key: token unknown": f"{consumer}:nosuchtoken:{secret}",
        "key: secret wrong": f"{consumer}:{token}:other",
        "key: consumer unknown": f"other:{token}:{secret}",
    }
    if pair.case.startswith("no login"):
        return ""
    by_user = "by a user" in pair.case or pair.case in ("whoami: user", "bob checks")
    return others.get(pair.case) or (USER if by_user or pair.case.startswith("bob") else ADMIN)


def headers_of(pair: Pair) -> dict[str, str]:
    """Return the headers that the region reads."""
    made: dict[str, str] = {}
    if pair.form:
        made["Content-Type"] = "application/x-www-form-urlencoded"
    if key := key_of(pair):
        consumer, token, secret = (urllib.parse.quote(part, safe="") for part in key.split(":"))
        signature = urllib.parse.quote(f"&{secret}", safe="")
        made["Authorization"] = (
            'OAuth oauth_nonce="1", oauth_timestamp="1", oauth_version="1.0",'
            f' oauth_signature_method="PLAINTEXT", oauth_consumer_key="{consumer}",'
            f' oauth_token="{token}", oauth_signature="{signature}"'
        )
    return made


def replayed() -> Iterator[tuple[Pair, int, str]]:
    """Replay the recording with one fake. Its machines get the IDs of the real machines.

    Yields each replayed pair with the status and body of the fake.
    """
    region = Region()
    region.images, region.racks, region.regions = [], {}, ["vm"]
    for pair in recorded():
        unrecorded(pair, region)
        if why_not(pair):
            continue
        target = pair.path + (f"?{pair.query}" if pair.query else "")
        body = urllib.parse.urlencode(pair.form).encode()
        known = set(region.machines)
        status, answer = region.answer(pair.method, target, headers_of(pair), body)
        yield pair, status, answer
        for system_id in region.machines.keys() - known:
            take_ids(region, region.machines[system_id], pair)
        if pair.query == "op=create_physical" and status == pair.status == 200:
            real = whole(pair.body)
            take_interface_ids(region.machines[real["system_id"]], [real])


def take_ids(region: Region, made: dict[str, Any], pair: Pair) -> None:
    """Give a new machine the ID and hostname of the real machine."""
    if pair.status == 503:  # it was created nevertheless: pair 222 adds its tag
        give_id(region, made, "x7tkxx")
        return
    real = whole(pair.body)
    give_id(region, made, real["system_id"])
    made["hostname"] = real["hostname"]
    take_interface_ids(made, real["interface_set"])


def take_interface_ids(machine: dict[str, Any], real: list[dict[str, Any]]) -> None:
    """Give interfaces the IDs of the real interfaces."""
    ids = {interface["mac_address"]: interface["id"] for interface in real}
    for interface in machine["interface_set"]:
        interface["id"] = ids.get(interface["mac_address"], interface["id"])


def whole(body: str) -> Any:
    """Parse JSON. Of truncated JSON, return the complete items."""
    if not body.endswith(CUT):
        return json.loads(body)
    lines = body.removesuffix(CUT).splitlines()[:-1]
    while lines[-1].rstrip().endswith(("{", "[")):
        lines.pop()
    text = "\n".join(lines).rstrip().removesuffix(",")
    closing: list[str] = []
    for line in lines:  # MAAS prints one item on each line
        stripped = line.strip()
        if stripped.startswith(("}", "]")):
            closing.pop()
        if stripped.endswith(("{", "[")):
            closing.append("}" if stripped.endswith("{") else "]")
    return json.loads(text + "".join(reversed(closing)))


def kind(body: str) -> str:
    """Return the type of a body."""
    if not body.strip():
        return "empty"
    if body.lstrip().startswith("<"):
        return "HTML"
    try:
        json.loads(body.removesuffix(CUT)) if not body.endswith(CUT) else whole(body)
    except ValueError:
        return "text"
    return "JSON"


def differences(ours: object, real: object, pair: Pair, where: str = "") -> Iterator[str]:
    """Yield the differences between values that both have, and fields that only the fake has.

    The items of lists are compared by name, because MAAS does not sort them.
    """
    ours, real = by_name(ours), by_name(real)
    if isinstance(ours, dict) and isinstance(real, dict):
        fields, real_fields = cast("dict[str, Any]", ours), cast("dict[str, Any]", real)
        for name in fields.keys() - real_fields.keys() if not pair.body.endswith(CUT) else ():
            yield f"{pair}{where}.{name}: the real region has none"
        for name in fields.keys() & real_fields.keys():
            yield from differences(fields[name], real_fields[name], pair, f"{where}.{name}")
        for name in real_fields.keys() - fields.keys():
            if where == "" and pair.method == "GET" and name not in UNREAD:
                yield f"{pair}.{name}: the fake has none"
    elif ours != real and not is_generated(where, pair, cast("object", ours)):
        yield f"{pair}{where}: {ours!r}, and the real region has {real!r}"


def is_generated(where: str, pair: Pair, value: object) -> bool:
    """Whether the region generated a value: an ID, or a hostname that was not in the request."""
    if pair.method != "POST":
        return False
    if where.endswith(".hostname"):
        return value not in dict(pair.form).values()
    return where.endswith((".system_id", ".id"))


def by_name(value: object) -> object:
    """Return the objects of a list by their names; any other value unchanged."""
    items = cast("list[object]", value) if isinstance(value, list) else []
    if not (items and isinstance(items[0], dict)):
        return cast("object", value)
    keys = ("mac_address", "system_id", "name")
    objects = cast("list[dict[str, object]]", items)
    return {next(str(item[key]) for key in keys if key in item): item for item in objects}


def test_fake_responds_like_the_recorded_region() -> None:
    wrong: list[str] = []
    for pair, status, answer in replayed():
        if (status, kind(answer)) != (pair.status, kind(pair.body)):
            wrong.append(
                f"{pair}: {status} {kind(answer)} {answer[:60]!r}, and the real region"
                f" {pair.status} {kind(pair.body)} {pair.body[:60]!r}"
            )
        elif kind(answer) == "JSON":
            ours, real = json.loads(answer), whole(pair.body)
            if status == 200:
                wrong += differences(ours, real, pair)
            elif ours.keys() != real.keys():
                wrong.append(f"{pair}: refuses {ours}, and the real region {real}")
    assert not wrong, "\n".join(wrong)


def test_recording_is_replayed_almost_completely() -> None:
    reasons = collections.Counter(why for pair in recorded() if (why := why_not(pair)))

    assert reasons == {
        "not a call of the API": 3,
        "this project deletes nothing": 1,
        "only people change zones": 1,
    }
    assert sum(1 for _ in replayed()) == len(recorded()) - 5 >= 230
