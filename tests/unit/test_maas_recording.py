# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fake MAAS answers what a real region answered: a recording of 3.7.3 is replayed against it.

Status, kind of body, the fields of an error, and every value that both have must be the same, and
the fake may offer no field that the real one lacks. Sentences may differ.
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
"""The end of a body that the recording has only the beginning of."""
UNREAD = ("capabilities", "subversion", "email", "is_local", "resource_uri")
"""Fields at the top of an answer that the fake does not need."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """A request and the real region's answer."""

    number: int
    """Its place in the recording, from 0."""
    case: str
    method: str
    path: str
    query: str
    form: tuple[tuple[str, str], ...]
    status: int
    body: str

    @property
    def call(self) -> str:
        """Without the API's prefix."""
        path = self.path.removeprefix("/MAAS/api/2.0/")
        return f"{self.method} {path}" + (f"?{self.query}" if self.query else "")

    def __str__(self) -> str:
        return f"pair {self.number} ({self.case}: {self.call})"


@functools.cache
def recorded() -> tuple[Pair, ...]:
    """Read the recording; skips the test where it is not there."""
    if not RECORDING.is_file():
        pytest.skip(  # prepare.sh says so; nobody can install it
            f"the recording of a real region, {RECORDING}, is not there: the fake MAAS is not"
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
    """Return why a pair is not replayed; empty: it is."""
    if not pair.path.startswith("/MAAS/api/"):
        return "no call of the API"
    if pair.method == "DELETE" and pair.status < 400:
        return "nothing of ours is deleted"
    if pair.call.startswith("PUT zones/"):
        return "zones are changed by people alone"
    return ""


# -- What happened on the region between the recorded pairs --------------------------------------


def unrecorded(pair: Pair, region: Region) -> None:
    """Do what the recording shows the effects of, and not the requests."""
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
    """The tags that a pair lists."""
    return whole(recorded()[number].body)


def first_enlistment(region: Region) -> None:
    """Of ten VMs' creations, only the first is recorded. The other machines' hostnames, MACs and
    interfaces are in the answers to later pairs."""
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
    """Ten machines follow the power service's address; the change of one is recorded."""
    for machine in region.machines.values():
        powers = machine["power_parameters"]
        powers |= {
            name: value.replace(f"//{before}:", f"//{after}:") for name, value in powers.items()
        }


def appear(region: Region, number: int, *system_ids: str) -> None:
    """Machines are made that a pair lists; of a body that is cut, what is there."""
    powers = whole(recorded()[number].body)
    for system_id in system_ids:
        made = region.add_machine(f"made-{system_id}", power=("webhook", powers[system_id]))
        give_id(region, made, system_id)


# -- The replay ---------------------------------------------------------------------------------


def give_id(region: Region, made: dict[str, Any], system_id: str) -> None:
    """Give a machine of the fake the real one's id."""
    del region.machines[made["system_id"]]
    made["system_id"] = system_id
    region.machines[system_id] = made


def key_of(pair: Pair) -> str:
    """Whose key signed a request; empty: none did."""
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
    """The headers that matter."""
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
    """Replay the recording against one fake; its machines get the real ones' ids.

    Yields each pair that is replayed, and the fake's status and body.
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
    """Call a machine that was just made as the real region did."""
    if pair.status == 503:  # it was made in spite of that: pair 222 puts its tag on it
        give_id(region, made, "x7tkxx")
        return
    real = whole(pair.body)
    give_id(region, made, real["system_id"])
    made["hostname"] = real["hostname"]
    take_interface_ids(made, real["interface_set"])


def take_interface_ids(machine: dict[str, Any], real: list[dict[str, Any]]) -> None:
    """Number interfaces as the real region did."""
    ids = {interface["mac_address"]: interface["id"] for interface in real}
    for interface in machine["interface_set"]:
        interface["id"] = ids.get(interface["mac_address"], interface["id"])


def whole(body: str) -> Any:
    """Read JSON, of which the recording may have the beginning only: what is whole of it."""
    if not body.endswith(CUT):
        return json.loads(body)
    lines = body.removesuffix(CUT).splitlines()[:-1]
    while lines[-1].rstrip().endswith(("{", "[")):
        lines.pop()
    text = "\n".join(lines).rstrip().removesuffix(",")
    closing: list[str] = []
    for line in lines:  # an item a line, as MAAS prints it
        stripped = line.strip()
        if stripped.startswith(("}", "]")):
            closing.pop()
        if stripped.endswith(("{", "[")):
            closing.append("}" if stripped.endswith("{") else "]")
    return json.loads(text + "".join(reversed(closing)))


def kind(body: str) -> str:
    """What sort of body it is: what a client can rely on in an error."""
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
    """Compare what both have, and find fields that the fake made up.

    A list's items are compared by their names, as MAAS keeps to no order.
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
    elif ours != real and not is_made_up(where, pair, cast("object", ours)):
        yield f"{pair}{where}: {ours!r}, and the real region has {real!r}"


def is_made_up(where: str, pair: Pair, value: object) -> bool:
    """Whether a value is any that nobody else has: an id, or a name where none was given."""
    if pair.method != "POST":
        return False
    if where.endswith(".hostname"):
        return value not in dict(pair.form).values()
    return where.endswith((".system_id", ".id"))


def by_name(value: object) -> object:
    """Return a list of objects by what tells these apart; anything else as it is."""
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
        "no call of the API": 3,
        "nothing of ours is deleted": 1,
        "zones are changed by people alone": 1,
    }
    assert sum(1 for _ in replayed()) == len(recorded()) - 5 >= 230
