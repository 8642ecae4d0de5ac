# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists: what people write, and what they are told when it cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import maas_virtualbox as mv

FINGERPRINT = "SHA256:" + "a" * 43
PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJj7xkWZ2k5m2Xl4m6mR0a0n8g8n3m0m2Xl4m6mR0a0 ivan@lab"
)


def test_entries_are_apart_by_commas_or_newlines() -> None:
    hosts = mv.parse_hosts("ivan@10.0.0.5 zone=a, ivan@10.0.0.6:2222\n# a note\nroot@lab.example")

    assert [host.account for host in hosts] == [
        "ivan@10.0.0.5",
        "ivan@10.0.0.6:2222",
        "root@lab.example",
    ]


def test_yaml_lists_and_mappings_say_the_same() -> None:
    short = mv.parse_hosts("ivan@10.0.0.5:2222 zone=attic name=mac")
    mapping = "{address: 10.0.0.5, user: ivan, port: 2222, zone: attic, name: mac}"

    assert mv.parse_hosts("- ivan@10.0.0.5:2222 zone=attic name=mac") == short
    assert mv.parse_hosts(f"- {mapping}") == short
    assert mv.parse_hosts(f"hosts:\n  - {mapping}") == short
    assert mv.parse_hosts("- {host: 'ivan@10.0.0.5:2222', zone: attic, name: mac}") == short


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("a@[fe80::1]:2222", "fe80::1", 2222),
        ("a@[fe80::1]", "fe80::1", 22),
        ("a@fe80::1", "fe80::1", 22),
        ("a@::1", "::1", 22),
    ],
)
def test_ipv6_literals(text: str, address: str, port: int) -> None:
    (host,) = mv.parse_hosts(text)

    assert (host.address, host.port) == (address, port)


@pytest.mark.parametrize("text", ["local", "laptop", "- local", "- {name: laptop}"])
def test_a_host_without_an_account_is_this_machine(text: str) -> None:
    (host,) = mv.parse_hosts(text)

    assert host.is_local


def test_quotes_hold_blanks_and_commas_and_backslashes_are_letters() -> None:
    (host,) = mv.parse_hosts(
        r'a@h vboxmanage="C:\Program Files\Oracle\VirtualBox\VBoxManage.exe" zone="lab 1"'
    )

    assert host.vboxmanage == r"C:\Program Files\Oracle\VirtualBox\VBoxManage.exe"
    assert host.zone == "lab 1"


def test_host_keys_are_kept_as_fingerprints_however_they_are_written() -> None:
    blob = PUBLIC_KEY.split()[1]
    (host,) = mv.parse_hosts(f'a@h host-key={blob} host-key="{PUBLIC_KEY}" host-key={FINGERPRINT}')

    assert len(host.host_key) == 2
    assert all(key.startswith("SHA256:") for key in host.host_key)


def test_a_host_alone_in_its_zone_is_called_by_it() -> None:
    hosts = mv.parse_hosts("a@h1 zone=attic, a@h2 zone=cellar, a@h3 zone=cellar, a@h4 name=x")

    assert [host.name for host in hosts] == ["attic", "h2", "h3", "x"]


def test_two_accounts_of_one_machine_have_different_names() -> None:
    hosts = mv.parse_hosts("a@h, b@h")

    assert [host.name for host in hosts] == ["a@h:22", "b@h:22"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a@h, A@h, a@H", "a@H is named twice"),
        ("local, laptop", "named twice"),
        ("a@h name=x, b@i name=x", "the name 'x' is given to two hosts"),
        ("a@h, @h", "entry 2 '@h': the user before @ is empty"),
        ("a@h;reboot", "entry 1 'a@h;reboot': the address 'h;reboot'"),
        ("$(id)@h", r"the user '$(id)' is not allowed"),
        ("a@h zone=`id`", "the zone '`id`' is not allowed"),
        ("a@h vboxmanage=/x;y", "the vboxmanage path '/x;y' is not allowed"),
        ("a@h vboxmanage=VBoxManage", "expected|not allowed"),
        ("a@h zon=x", "unknown option 'zon'; options are host-key, name, vboxmanage, zone"),
        ("a@h zone", "expected option=value, not 'zone'"),
        ("a@h zone=", "the option zone has no value"),
        ("a@h zone=x zone=y", "the option zone is given twice"),
        ("a@h host-key=AAAA", "host-key must be a fingerprint"),
        ("a@h:0", "port"),
        ("a@h:99999", "port"),
        ("a@h:ssh", "the port 'ssh' is not a number"),
        ("a@[h]:22", "'h' in brackets is not an IPv6 address"),
        ("a@", "the address ''"),
        ('a@h zone="x', "a quote is not closed"),
        ("touch /tmp/x", "expected option=value"),
        ("- a@h\n- {adress: h}", "entry 2: unknown option 'adress'"),
        ("- {address: h}", "the user is empty"),
        ("- {host: a@h, address: h}", "not both"),
        ("- 5", "entry 1: expected user@address or a mapping"),
        ("- a: [", "line 1: not valid YAML"),
        ("hosts: 5", "expected a list"),
        ("{hosts: [], more: 1}", "not more"),
    ],
)
def test_a_bad_entry_is_named(text: str, complaint: str) -> None:
    with pytest.raises(mv.HostListError) as caught:
        mv.parse_hosts(text)

    assert any(part in str(caught.value) for part in complaint.split("|"))


@given(st.text())
def test_any_text_is_a_host_list_or_a_clear_error(text: str) -> None:
    try:
        hosts = mv.parse_hosts(text)
    except mv.HostListError as error:
        complaint = str(error)
    else:
        assert len({host.name for host in hosts}) == len(hosts)
        return

    assert complaint.startswith(("host list: ", "host list, line "))


@given(
    user=st.text(min_size=1, max_size=12),
    address=st.text(min_size=1, max_size=12),
    path=st.text(max_size=12),
)
def test_no_shell_character_gets_into_a_host(user: str, address: str, path: str) -> None:
    entry = {"user": user, "address": address, "vboxmanage": f"/{path}"}
    try:
        (host,) = mv.parse_hosts([entry])
    except mv.HostListError:
        return

    assert not set(host.user + host.address + host.vboxmanage) & set(";|&$`<>\"'\n\r\0*?!")


@given(
    user=st.from_regex(r"[a-z][a-z0-9_.-]{0,8}", fullmatch=True),
    address=st.from_regex(r"[a-z][a-z0-9]{0,8}(\.[a-z][a-z0-9]{0,8}){0,2}", fullmatch=True),
    port=st.integers(1, 65535),
    zone=st.from_regex(r"[a-z][a-z0-9 -]{0,8}", fullmatch=True),
)
def test_what_is_written_is_what_is_read(user: str, address: str, port: int, zone: str) -> None:
    (host,) = mv.parse_hosts(f'{user}@{address}:{port} zone="{zone}"')

    assert (host.user, host.address, host.port, host.zone) == (user, address, port, zone)
