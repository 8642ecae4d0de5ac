# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Single entries of a host list, form by form, and what a refused one is told."""

from __future__ import annotations

import base64

import pydantic
import pytest

import maas_virtualbox as mv
from maas_virtualbox.config import host_list

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIGJj7xkWZ2k5m2Xl4m6mR0a0n8g8n3m0m2Xl4m6mR0a0"
ED25519_FINGERPRINT = host_list.fingerprint(base64.b64decode(ED25519))
OTHER_FINGERPRINT = "SHA256:" + "b" * 43


def test_blank_entries_lines_and_notes_are_left_out() -> None:
    text = "\r\n# lab, upstairs\r\n,a@h1,,\r\n\r\n  # cellar\r\nb@h2,\r\n"

    parsed = mv.parse_hosts(text)

    assert [host.account for host in parsed] == ["a@h1", "b@h2"]


@pytest.mark.parametrize("text", ["", " \n,\n", "# only a note", "[]", "hosts: []"])
def test_a_list_may_be_empty(text: str) -> None:
    parsed = mv.parse_hosts(text)

    assert parsed == ()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_comma_does_not_end_an_entry(quote: str) -> None:
    text = f"a@h vboxmanage={quote}/opt/a, b/VBoxManage{quote}, b@i"

    parsed = mv.parse_hosts(text)

    assert [host.vboxmanage for host in parsed] == ["/opt/a, b/VBoxManage", ""]


def test_yaml_may_hold_a_folded_short_form_under_hosts() -> None:
    text = "hosts: a@h1, b@h2"

    parsed = mv.parse_hosts(text)

    assert [host.account for host in parsed] == ["a@h1", "b@h2"]


def test_json_is_read_as_yaml() -> None:
    text = '{"hosts": [{"user": "a", "address": "h", "host-key": "' + OTHER_FINGERPRINT + '"}]}'

    (host,) = mv.parse_hosts(text)

    assert host.host_key == (OTHER_FINGERPRINT,)


def test_parsed_yaml_may_mix_entries_and_mappings() -> None:
    entries = ["a@h1", {"user": "b", "address": "h2", "port": 2222}]

    parsed = mv.parse_hosts(entries)

    assert [host.account for host in parsed] == ["a@h1", "b@h2:2222"]


def test_an_empty_value_in_a_mapping_is_as_if_left_out() -> None:
    text = "- {user: a, address: h, zone: , name: ~}"

    (host,) = mv.parse_hosts(text)

    assert (host.zone, host.name) == ("", "h")


def test_ipv6_addresses_are_kept_in_their_shortest_form() -> None:
    (host,) = mv.parse_hosts("a@[FE80:0:0::0001]:22")

    assert host.address == "fe80::1"


def test_an_ipv6_account_is_shown_in_brackets() -> None:
    (host,) = mv.parse_hosts("a@[fe80::1]:2222")

    assert host.account == "a@[fe80::1]:2222"


def test_an_ipv6_address_may_name_its_network_interface() -> None:
    (host,) = mv.parse_hosts("a@[fe80::1%en0]:2222")

    assert (host.address, host.port) == ("fe80::1%en0", 2222)


def test_two_writings_of_one_ipv6_address_are_one_host() -> None:
    text = "a@[fe80::1], a@[fe80:0::1]"

    with pytest.raises(mv.HostListError, match=r"a@\[fe80::1\] is named twice"):
        mv.parse_hosts(text)


def test_a_windows_domain_is_part_of_the_user() -> None:
    (host,) = mv.parse_hosts(r"LAB\ivan@h")

    assert host.user == "LAB\\ivan"


def test_a_public_key_and_its_fingerprint_pin_the_same() -> None:
    text = f'a@h host-key="ssh-ed25519 {ED25519} root@h" host-key={ED25519_FINGERPRINT}'

    (host,) = mv.parse_hosts(text)

    assert host.host_key == (ED25519_FINGERPRINT,)


def test_several_host_keys_are_kept_in_their_order() -> None:
    text = f"a@h host-key={OTHER_FINGERPRINT} host-key={ED25519}"

    (host,) = mv.parse_hosts(text)

    assert host.host_key == (OTHER_FINGERPRINT, ED25519_FINGERPRINT)


def test_a_mapping_takes_a_list_of_host_keys() -> None:
    keys = [ED25519, OTHER_FINGERPRINT]

    (host,) = mv.parse_hosts([{"user": "a", "address": "h", "host-key": keys}])

    assert host.host_key == (ED25519_FINGERPRINT, OTHER_FINGERPRINT)


def test_more_than_16_host_keys_are_refused() -> None:
    keys = [f"SHA256:{number:043}" for number in range(17)]

    with pytest.raises(mv.HostListError, match=r"entry 1: host-key: .*16"):
        mv.parse_hosts([{"user": "a", "address": "h", "host-key": keys}])


def test_this_machine_is_called_local() -> None:
    (host,) = mv.parse_hosts("local")

    assert (host.name, host.account) == ("local", "this machine")


def test_this_machine_may_have_another_name_and_a_zone() -> None:
    (host,) = mv.parse_hosts("laptop zone=desk")

    assert (host.name, host.zone, host.is_local) == ("laptop", "desk", True)


def test_a_given_name_goes_before_the_zones() -> None:
    (host,) = mv.parse_hosts("a@h zone=attic name=mac")

    assert host.name == "mac"


def test_two_ports_of_one_address_have_different_names() -> None:
    parsed = mv.parse_hosts("a@h:22, a@h:2222")

    assert [host.name for host in parsed] == ["a@h:22", "a@h:2222"]


def test_a_zone_that_is_called_like_another_host_has_to_be_told_apart() -> None:
    text = "a@attic, b@h zone=attic"

    with pytest.raises(mv.HostListError, match="'attic' is given to two hosts, a@attic and b@h"):
        mv.parse_hosts(text)


def test_the_entry_of_a_bad_mapping_is_named_by_its_number() -> None:
    entries = ["a@h1", {"user": "b;id", "address": "h2"}]

    with pytest.raises(mv.HostListError, match="entry 2: the user 'b;id' is not allowed"):
        mv.parse_hosts(entries)


def test_a_yaml_error_names_its_line() -> None:
    text = "hosts:\n  - a@h\n  - {user: b\n"

    with pytest.raises(mv.HostListError, match="line 4: not valid YAML"):
        mv.parse_hosts(text)


def test_an_open_quote_inside_a_yaml_entry_is_named() -> None:
    text = "- a@h\n- b@h zone='x"

    with pytest.raises(mv.HostListError, match=r"entry 2 .*quotation"):
        mv.parse_hosts(text)


@pytest.mark.parametrize("char", list("`$;&|<>(){}*?!'\"# \n\t"))
def test_an_address_with_a_shell_character_is_refused(char: str) -> None:
    entry = {"user": "a", "address": f"h{char}x"}

    with pytest.raises(mv.HostListError, match="entry 1: the address"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("char", list("`$;&|<>*?!'\"\n\t\0"))
def test_a_path_with_a_shell_character_is_refused(char: str) -> None:
    entry = {"user": "a", "address": "h", "vboxmanage": f"/opt/{char}/VBoxManage"}

    with pytest.raises(mv.HostListError, match="entry 1: the vboxmanage path"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "a b", "a\n", "`id`", "$(id)", "a/b", "é"])
def test_a_user_that_is_no_account_name_is_refused(user: str) -> None:
    entry = {"user": user, "address": "h"}

    with pytest.raises(mv.HostListError, match=r"entry 1: the user .* is not allowed"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("port", ["0", "65536", "99999999", "-1", "22x", "", " "])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(mv.HostListError, match=r"entry 1 .*port"):
        mv.parse_hosts([f"a@h:{port}"])


def test_another_program_makes_a_host_by_the_same_rules() -> None:
    with pytest.raises(pydantic.ValidationError, match="the address 'h;id'"):
        host_list.HostConfig(user="a", address="h;id")


def test_a_host_cannot_be_changed() -> None:
    host = host_list.HostConfig(user="a", address="h")

    with pytest.raises(pydantic.ValidationError, match="frozen"):
        host.port = 23  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("scope", [";reboot", "$(id)", "x\nevil ssh-ed25519 AAAA", "a b"])
def test_an_ipv6_scope_with_a_shell_character_is_refused(scope: str) -> None:
    entry = {"user": "a", "address": f"fe80::1%{scope}"}

    with pytest.raises(mv.HostListError, match="entry 1: the address"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize(
    "text",
    [
        "- 2001-13-45",
        "- !!int x",
        "- !!timestamp x",
        "- !!bool x",
        pytest.param("- " + "1" * 5000, id="long-number"),
        pytest.param("[" * 5000, id="deep"),
    ],
)
def test_yaml_that_cannot_be_made_into_values_is_a_host_list_error(text: str) -> None:
    with pytest.raises(mv.HostListError, match="not valid YAML"):
        mv.parse_hosts(text)


def test_this_machine_takes_the_option_name() -> None:
    (host,) = mv.parse_hosts("local name=desk")

    assert (host.name, host.is_local) == ("desk", True)
