# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VM a selector means, from what is known about the hosts."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox import errors
from maas_virtualbox.config.host_list import HostConfig, parse_hosts
from maas_virtualbox.fleet import selectors
from maas_virtualbox.fleet.selectors import KnownHost, Match, Scope, Selector
from maas_virtualbox.virtualbox.settings_xml import NIC, VMSettings
from maas_virtualbox.virtualbox.states import VMState

UUID = "95581d29-3e5e-472e-8f12-f452e8095714"
OTHER = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"
TAIL = "f4:52:e8:09:57:14"
MAC, MAC_2 = "08:00:27:00:00:01", "08:00:27:00:00:02"
A, B = parse_hosts("ivan@10.0.0.5 name=a zone=left, ivan@10.0.0.6 name=b zone=right")


def vm(uuid: str, name: str, *macs: str) -> VMSettings:
    """A VM with NICs of these MACs."""
    nics = tuple(NIC(n, mac, "82540EM", "nat", "", cable=True) for n, mac in enumerate(macs, 1))
    return VMSettings(uuid, name, "", VMState.POWEROFF, nics=nics)


def host(config: HostConfig, *vms: VMSettings, reason: str = "") -> KnownHost:
    """A host with these VMs, which is down if there is a reason."""
    error = errors.HostUnreachable(config.name, reason) if reason else None
    return KnownHost(config, {vm.uuid: vm for vm in vms}, error)


def found(selector: str, *vms: VMSettings) -> list[VMSettings]:
    """The VMs that a selector matches on one host that is up."""
    return [
        match.vm for match in selectors.find_matches(Selector.parse(selector), [host(A, *vms)])
    ]


def resolve(
    selector: str,
    *hosts: KnownHost,
    first: dict[str, HostConfig] | None = None,
    scope: Scope | None = None,
) -> Match:
    """The VM that a selector means."""
    parsed = dataclasses.replace(Selector.parse(selector), scope=scope or Scope())
    return selectors.resolve(parsed, hosts, first or {})


# -- What a selector matches --------------------------------------------------------------------

NODE = vm(UUID, "node1", MAC, MAC_2)
LOST = VMSettings(UUID, "node1", "", VMState.INACCESSIBLE, accessible=False)
HEAD = VMSettings(UUID, "node1", "", VMState.POWEROFF)


@pytest.mark.parametrize(
    ("selector", "candidate"),
    [
        (UUID, NODE),
        (UUID.upper(), NODE),
        (f"{{{UUID}}}", NODE),
        (f" {UUID}\n", NODE),
        (MAC, NODE),
        ("08-00-27-00-00-02", NODE),
        (TAIL, NODE),
        ("F4-52-E8-09-57-14", NODE),
        ("f452.e809.5714", NODE),
        ("F452E8095714", NODE),
        ("node1", NODE),
        (" lead ", vm(UUID, " lead ")),
        ("new\nline", vm(UUID, "new\nline")),
        ("-dash", vm(UUID, "-dash")),
        ('he said "hi"', vm(UUID, 'he said "hi"')),
        ("<inaccessible>", vm(UUID, "<inaccessible>")),
        (OTHER, vm(UUID, OTHER)),
        (UUID, LOST),
        (TAIL, LOST),
    ],
)
def test_selector_matches_one_vm(selector: str, candidate: VMSettings) -> None:
    bystander = vm("00000000-0000-4000-8000-000000000001", "bystander")

    assert found(selector, bystander, candidate) == [candidate]


@pytest.mark.parametrize(
    ("selector", "candidate"),
    [
        ("", NODE),
        ("NODE1", NODE),
        ("node1 ", NODE),
        ("node", NODE),
        ("node11", NODE),
        ("*", NODE),
        (UUID[:8], NODE),
        ("08:00:27:00:00:03", NODE),
        ("node1", LOST),
        ("", LOST),
        (MAC, HEAD),
    ],
)
def test_selector_matches_no_vm(selector: str, candidate: VMSettings) -> None:
    assert found(selector, candidate) == []


@pytest.mark.parametrize("rival", [vm(OTHER, UUID), vm(OTHER, "x", TAIL)])
def test_selector_prefers_the_vm_with_the_uuid(rival: VMSettings) -> None:
    assert found(UUID, rival, NODE) == [NODE]


@pytest.mark.parametrize(
    ("selector", "rival"),
    [(TAIL, vm(OTHER, "x", TAIL)), (MAC, vm(OTHER, MAC)), ("node1", vm(OTHER, "node1"))],
)
def test_selector_matches_names_macs_and_tails_alike(selector: str, rival: VMSettings) -> None:
    assert found(selector, NODE, rival) == [NODE, rival]


def test_selector_of_a_uuid_alone_matches_no_name() -> None:
    selector = Selector(UUID, uuid=UUID)

    assert selectors.find_matches(selector, [host(A, vm(OTHER, UUID))]) == []


@given(st.text())
def test_selector_can_be_any_text(text: str) -> None:
    named = vm(OTHER, text)

    assert found(text, named, NODE)[:1] in ([named], [NODE])


@given(st.uuids().map(str))
def test_selector_can_be_any_uuid(uuid: str) -> None:
    wanted = vm(uuid, "node2")

    assert found(uuid, NODE, wanted) == [wanted]


# -- Which of the matches is meant --------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "first", "expected"),
    [
        ([host(A, NODE), host(B)], {}, A),
        ([host(A), host(B, NODE)], {}, B),
        ([host(A, NODE), host(B, reason="refused")], {}, A),
        ([host(A, NODE, reason="refused"), host(B)], {}, A),
        ([host(A, NODE), host(B, NODE)], {UUID: B}, B),
        ([host(A, NODE), host(B, NODE, reason="refused")], {UUID: B}, B),
        ([host(A, vm(OTHER, "node1")), host(B, NODE)], {OTHER: B}, B),
    ],
)
def test_resolve_finds_the_host(
    hosts: list[KnownHost], first: dict[str, HostConfig], expected: HostConfig
) -> None:
    assert resolve("node1", *hosts, first=first) == Match(expected, NODE)


@pytest.mark.parametrize(
    ("scope", "expected"),
    [(Scope(host="a"), A), (Scope(zone="right"), B), (Scope("b", "right"), B)],
)
def test_resolve_searches_only_the_scope(scope: Scope, expected: HostConfig) -> None:
    hosts = [host(A, NODE), host(B, vm(OTHER, "node1"))]

    assert resolve("node1", *hosts, scope=scope).host == expected


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        (Scope(host="c"), "no host 'c' in the host list; it has a (zone left), b (zone right)"),
        (Scope(zone="c"), "no zone 'c' in the host list; it has a (zone left), b (zone right)"),
        (
            Scope("a", "right"),
            "no host 'a' and zone 'right' in the host list; it has a (zone left), b (zone right)",
        ),
    ],
)
def test_resolve_in_an_unknown_scope(scope: Scope, message: str) -> None:
    with pytest.raises(errors.UnknownHost) as caught:
        resolve("node1", host(A), host(B), scope=scope)

    assert str(caught.value) == message


def test_resolve_of_an_unknown_vm() -> None:
    with pytest.raises(errors.UnknownVM) as caught:
        resolve("x", host(A, NODE), host(B))

    assert str(caught.value) == (
        "no VM matches 'x'; asked: a (ivan@10.0.0.5), b (ivan@10.0.0.6). Each account of a host"
        " has its own VMs: does the VM belong to another account?"
    )


def test_resolve_without_hosts() -> None:
    with pytest.raises(errors.UnknownVM, match="no VM matches 'x'; asked: no hosts"):
        resolve("x")


@pytest.mark.parametrize("selector", ["node01", UUID])
def test_resolve_while_a_host_is_down(selector: str) -> None:
    named_like_it = vm(OTHER, UUID)

    with pytest.raises(errors.VMUnreachable) as caught:
        resolve(selector, host(A, named_like_it), host(B, reason="connection refused"))

    assert str(caught.value) == (
        f"VM {selector!r} not found. Host b, which may own it, is unreachable: connection refused"
    )
    assert (caught.value.host, caught.value.retry) == ("b", True)


def test_resolve_while_a_host_is_down_for_good() -> None:
    down = KnownHost(B, {}, errors.LoginRefused("b", "login refused"))

    with pytest.raises(errors.VMUnreachable) as caught:
        resolve("x", host(A), down)

    assert not caught.value.retry


def test_resolve_of_several_vms() -> None:
    with pytest.raises(errors.AmbiguousVM) as caught:
        resolve("node1", host(A, NODE), host(B, vm(OTHER, "node1")))

    assert str(caught.value) == (
        f"'node1' matches 2 VMs: a/node1 {{{UUID}}}, b/node1 {{{OTHER}}}; use a UUID, or name the"
        " host or the zone"
    )
    assert caught.value.candidates == (f"a/node1 {{{UUID}}}", f"b/node1 {{{OTHER}}}")


def test_resolve_of_many_vms_lists_ten() -> None:
    twins = [vm(f"00000000-0000-4000-8000-{number:012}", "node1") for number in range(12)]

    with pytest.raises(errors.AmbiguousVM, match=r"12 VMs: .* and 2 more; use") as caught:
        resolve("node1", host(A, *twins))

    assert str(caught.value).count("a/node1") == 10


def test_resolve_of_one_vm_on_two_hosts_at_first_sight() -> None:
    with pytest.raises(errors.AmbiguousVM, match=f"trust-vm {UUID} --host NAME"):
        resolve(UUID, host(A, NODE), host(B, NODE))


def test_resolve_of_a_contested_vm() -> None:
    impostor = vm(UUID, "stolen")

    with pytest.raises(errors.ContestedVM) as caught:
        resolve("stolen", host(A, NODE), host(B, impostor), first={UUID: A})

    assert str(caught.value) == (
        f"VM {UUID} on b belongs to a, which is down or lists it too. Unregister it on one of"
        f" them, or decide: maas-virtualbox trust-vm {UUID} --host b"
    )
    assert caught.value.candidates == (f"a/{{{UUID}}}", f"b/{{{UUID}}}")


@pytest.mark.parametrize("scope", [Scope(), Scope(host="b")])
def test_resolve_of_a_contested_vm_whose_host_is_down(scope: Scope) -> None:
    hosts = [host(A, reason="connection refused"), host(B, NODE)]

    with pytest.raises(errors.VMUnreachable) as caught:
        resolve(UUID, *hosts, first={UUID: A}, scope=scope)

    assert str(caught.value) == (
        f"VM {UUID} belongs to host a, which is unreachable: connection refused"
    )
