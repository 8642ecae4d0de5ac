# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists: both forms, each option, the error for each wrong entry, and arbitrary text."""

from __future__ import annotations

import base64
import string

import pydantic
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import maas_virtualbox as mv
from maas_virtualbox.config import host_list

FINGERPRINT = "SHA256:" + "a" * 43
PUBLIC_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJj7xkWZ2k5m2Xl4m6mR0a0n8g8n3m0m2Xl4m6mR0a0 ivan@lab"
)
ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIGJj7xkWZ2k5m2Xl4m6mR0a0n8g8n3m0m2Xl4m6mR0a0"
ED25519_FINGERPRINT = host_list.fingerprint(base64.b64decode(ED25519))
OTHER_FINGERPRINT = "SHA256:" + "b" * 43


def test_entries_are_separated_by_commas_or_newlines() -> None:
    hosts = mv.parse_hosts(
        "ivan@10.0.0.5 zone=a, ivan@10.0.0.6:2222\n# a comment\nroot@lab.example"
    )

    assert [host.account for host in hosts] == [
        "ivan@10.0.0.5",
        "ivan@10.0.0.6:2222",
        "root@lab.example",
    ]


def test_yaml_lists_and_mappings_are_equivalent() -> None:
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
def test_address_may_be_an_ipv6_literal(text: str, address: str, port: int) -> None:
    (host,) = mv.parse_hosts(text)

    assert (host.address, host.port) == (address, port)


@pytest.mark.parametrize("text", ["local", "laptop", "- local", "- {name: laptop}"])
def test_host_without_an_account_is_this_machine(text: str) -> None:
    (host,) = mv.parse_hosts(text)

    assert host.is_local


def test_quotes_protect_blanks_and_keep_backslashes() -> None:
    (host,) = mv.parse_hosts(
        r'a@h vboxmanage="C:\Program Files\Oracle\VirtualBox\VBoxManage.exe" zone="lab 1"'
    )

    assert host.vboxmanage == r"C:\Program Files\Oracle\VirtualBox\VBoxManage.exe"
    assert host.zone == "lab 1"


def test_host_key_in_any_format_becomes_a_fingerprint() -> None:
    blob = PUBLIC_KEY.split()[1]
    (host,) = mv.parse_hosts(f'a@h host-key={blob} host-key="{PUBLIC_KEY}" host-key={FINGERPRINT}')

    assert len(host.host_key) == 2
    assert all(key.startswith("SHA256:") for key in host.host_key)


def test_name_of_a_host_alone_in_its_zone_is_the_zone() -> None:
    hosts = mv.parse_hosts("a@h1 zone=attic, a@h2 zone=cellar, a@h3 zone=cellar, a@h4 name=x")

    assert [host.name for host in hosts] == ["attic", "h2", "h3", "x"]


def test_names_of_two_accounts_of_one_machine_differ() -> None:
    hosts = mv.parse_hosts("a@h, b@h")

    assert [host.name for host in hosts] == ["a@h:22", "b@h:22"]


@pytest.mark.parametrize(
    ("text", "message"),
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
def test_error_names_the_entry(text: str, message: str) -> None:
    with pytest.raises(mv.HostListError) as caught:
        mv.parse_hosts(text)

    assert any(part in str(caught.value) for part in message.split("|"))


def test_blank_entries_and_comments_are_ignored() -> None:
    text = "\r\n# lab, upstairs\r\n,a@h1,,\r\n\r\n  # cellar\r\nb@h2,\r\n"

    parsed = mv.parse_hosts(text)

    assert [host.account for host in parsed] == ["a@h1", "b@h2"]


@pytest.mark.parametrize("text", ["", " \n,\n", "# only a comment", "[]", "hosts: []"])
def test_list_may_be_empty(text: str) -> None:
    parsed = mv.parse_hosts(text)

    assert parsed == ()


@pytest.mark.parametrize("quote", ["'", '"'])
def test_quoted_comma_does_not_end_an_entry(quote: str) -> None:
    text = f"a@h vboxmanage={quote}/opt/a, b/VBoxManage{quote}, b@i"

    parsed = mv.parse_hosts(text)

    assert [host.vboxmanage for host in parsed] == ["/opt/a, b/VBoxManage", ""]


def test_yaml_may_have_a_folded_short_form_under_hosts() -> None:
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


def test_empty_value_in_a_mapping_is_ignored() -> None:
    text = "- {user: a, address: h, zone: , name: ~}"

    (host,) = mv.parse_hosts(text)

    assert (host.zone, host.name) == ("", "h")


def test_ipv6_address_is_stored_in_its_shortest_form() -> None:
    (host,) = mv.parse_hosts("a@[FE80:0:0::0001]:22")

    assert host.address == "fe80::1"


def test_account_shows_an_ipv6_address_in_brackets() -> None:
    (host,) = mv.parse_hosts("a@[fe80::1]:2222")

    assert host.account == "a@[fe80::1]:2222"


def test_ipv6_address_may_have_a_scope() -> None:
    (host,) = mv.parse_hosts("a@[fe80::1%en0]:2222")

    assert (host.address, host.port) == ("fe80::1%en0", 2222)


def test_two_notations_of_one_ipv6_address_are_one_host() -> None:
    text = "a@[fe80::1], a@[fe80:0::1]"

    with pytest.raises(mv.HostListError, match=r"a@\[fe80::1\] is named twice"):
        mv.parse_hosts(text)


def test_user_may_have_a_windows_domain() -> None:
    (host,) = mv.parse_hosts(r"LAB\ivan@h")

    assert host.user == "LAB\\ivan"


def test_public_key_and_its_fingerprint_are_equivalent() -> None:
    text = f'a@h host-key="ssh-ed25519 {ED25519} root@h" host-key={ED25519_FINGERPRINT}'

    (host,) = mv.parse_hosts(text)

    assert host.host_key == (ED25519_FINGERPRINT,)


def test_several_host_keys_keep_their_order() -> None:
    text = f"a@h host-key={OTHER_FINGERPRINT} host-key={ED25519}"

    (host,) = mv.parse_hosts(text)

    assert host.host_key == (OTHER_FINGERPRINT, ED25519_FINGERPRINT)


def test_mapping_may_have_a_list_of_host_keys() -> None:
    keys = [ED25519, OTHER_FINGERPRINT]

    (host,) = mv.parse_hosts([{"user": "a", "address": "h", "host-key": keys}])

    assert host.host_key == (ED25519_FINGERPRINT, OTHER_FINGERPRINT)


def test_more_than_16_host_keys_are_refused() -> None:
    keys = [f"SHA256:{number:043}" for number in range(17)]

    with pytest.raises(mv.HostListError, match=r"entry 1: host-key: .*16"):
        mv.parse_hosts([{"user": "a", "address": "h", "host-key": keys}])


def test_name_of_this_machine_is_local() -> None:
    (host,) = mv.parse_hosts("local")

    assert (host.name, host.account) == ("local", "this machine")


def test_this_machine_may_have_another_name_and_a_zone() -> None:
    (host,) = mv.parse_hosts("laptop zone=desk")

    assert (host.name, host.zone, host.is_local) == ("laptop", "desk", True)


def test_option_name_takes_precedence_over_the_zone() -> None:
    (host,) = mv.parse_hosts("a@h zone=attic name=mac")

    assert host.name == "mac"


def test_names_of_two_ports_of_one_address_differ() -> None:
    parsed = mv.parse_hosts("a@h:22, a@h:2222")

    assert [host.name for host in parsed] == ["a@h:22", "a@h:2222"]


def test_zone_with_the_name_of_another_host_is_refused() -> None:
    text = "a@attic, b@h zone=attic"

    with pytest.raises(mv.HostListError, match="'attic' is given to two hosts, a@attic and b@h"):
        mv.parse_hosts(text)


def test_error_in_a_mapping_names_the_entry_by_number() -> None:
    entries = ["a@h1", {"user": "b;id", "address": "h2"}]

    with pytest.raises(mv.HostListError, match="entry 2: the user 'b;id' is not allowed"):
        mv.parse_hosts(entries)


def test_yaml_error_names_the_line() -> None:
    text = "hosts:\n  - a@h\n  - {user: b\n"

    with pytest.raises(mv.HostListError, match="line 4: not valid YAML"):
        mv.parse_hosts(text)


def test_unclosed_quote_in_a_yaml_entry_is_refused() -> None:
    text = "- a@h\n- b@h zone='x"

    with pytest.raises(mv.HostListError, match=r"entry 2 .*quotation"):
        mv.parse_hosts(text)


@pytest.mark.parametrize("char", list("`$;&|<>(){}*?!'\"# \n\t"))
def test_address_with_a_shell_character_is_refused(char: str) -> None:
    entry = {"user": "a", "address": f"h{char}x"}

    with pytest.raises(mv.HostListError, match="entry 1: the address"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("char", list("`$;&|<>*?!'\"\n\t\0"))
def test_path_with_a_shell_character_is_refused(char: str) -> None:
    entry = {"user": "a", "address": "h", "vboxmanage": f"/opt/{char}/VBoxManage"}

    with pytest.raises(mv.HostListError, match="entry 1: the vboxmanage path"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("user", ["-oProxyCommand=x", "a b", "a\n", "`id`", "$(id)", "a/b", "é"])
def test_invalid_user_is_refused(user: str) -> None:
    entry = {"user": user, "address": "h"}

    with pytest.raises(mv.HostListError, match=r"entry 1: the user .* is not allowed"):
        mv.parse_hosts([entry])


@pytest.mark.parametrize("port", ["0", "65536", "99999999", "-1", "22x", "", " "])
def test_invalid_port_is_refused(port: str) -> None:
    with pytest.raises(mv.HostListError, match=r"entry 1 .*port"):
        mv.parse_hosts([f"a@h:{port}"])


def test_constructor_applies_the_same_rules() -> None:
    with pytest.raises(mv.HostListError, match=r"^the address 'h;id'"):
        host_list.HostConfig(user="a", address="h;id")
    with pytest.raises(mv.HostListError, match=r"^unknown option 'prot'$"):
        host_list.HostConfig.model_validate({"user": "a", "address": "h", "prot": 22})


def test_host_is_immutable() -> None:
    host = host_list.HostConfig(user="a", address="h")

    with pytest.raises(pydantic.ValidationError, match="frozen"):
        host.port = 23  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("scope", [";reboot", "$(id)", "x\nevil ssh-ed25519 AAAA", "a b"])
def test_ipv6_scope_with_a_shell_character_is_refused(scope: str) -> None:
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
def test_impossible_yaml_value_is_a_host_list_error(text: str) -> None:
    with pytest.raises(mv.HostListError, match="not valid YAML"):
        mv.parse_hosts(text)


def test_this_machine_may_have_the_option_name() -> None:
    (host,) = mv.parse_hosts("local name=desk")

    assert (host.name, host.is_local) == ("desk", True)


SHELL = frozenset("`$;&|<>*?!'\"\n\r\0")

users = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.+\\-]{0,20}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_ .@:-]{0,20}", fullmatch=True)
addresses = (
    st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,20}[A-Za-z]", fullmatch=True)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
)
paths = st.from_regex(r"(/|[A-Z]:\\)[A-Za-z0-9 ,()=#\\/._-]{1,30}", fullmatch=True)
fingerprints = st.text(string.ascii_letters + string.digits + "+/", min_size=43, max_size=43)
valid_hosts = st.builds(
    host_list.HostConfig,
    user=users,
    address=addresses,
    port=st.integers(1, 65535),
    name=names,
    zone=st.just("") | names,
    vboxmanage=st.just("") | paths,
    host_key=st.lists(fingerprints.map("SHA256:{}".format), max_size=3).map(tuple),
)

# Text that resembles a host list more often than arbitrary text does.
list_text = st.text() | st.text(st.sampled_from("ab@:,='\"#[]{}-&*!?|>% \n\\2h$;"), max_size=60)


@given(list_text)
@example("- {")
@example("hosts:")
@example("- ? [a]\n  : b")
@example("- &a [*a]")
@example("- &a {host: *a}")
@example("a@[::1")
@example("\ufeffa@h")
@example("- \0")
def test_any_text_gives_hosts_or_a_host_list_error(text: str) -> None:
    try:
        parsed = mv.parse_hosts(text)
    except mv.HostListError as error:
        assert str(error).startswith(("host list: ", "host list, line "))  # noqa: PT017 - both outcomes are right
        return

    assert all(isinstance(host, host_list.HostConfig) for host in parsed)
    assert len({host.name for host in parsed}) == len(parsed)


def short_form(host: host_list.HostConfig) -> str:
    """Return a host in the short form."""
    address = f"[{host.address}]" if ":" in host.address else host.address
    words = [f"{host.user}@{address}:{host.port}", f'name="{host.name}"']
    words += [f"host-key={key}" for key in host.host_key]
    words += [f'zone="{host.zone}"'] if host.zone else []
    words += [f'vboxmanage="{host.vboxmanage}"'] if host.vboxmanage else []
    return " ".join(words)


@given(valid_hosts)
def test_short_form_round_trip(host: host_list.HostConfig) -> None:
    text = short_form(host)

    assert mv.parse_hosts(text) == (host,)


@given(st.lists(valid_hosts, max_size=4, unique_by=lambda host: host.address.lower()))
def test_list_round_trip_keeps_the_order(listed: list[host_list.HostConfig]) -> None:
    listed = [host.model_copy(update={"name": f"n{number}"}) for number, host in enumerate(listed)]

    text = ",".join(short_form(host) for host in listed)

    assert mv.parse_hosts(text) == tuple(listed)


@given(valid_hosts)
def test_mapping_round_trip(host: host_list.HostConfig) -> None:
    entry = host.model_dump(by_alias=True)

    assert mv.parse_hosts([entry]) == (host,)


# Mostly letters, so that much is accepted, and some hostile characters. Without %: the scope of an
# IPv6 address has its own test.
hostile = st.text(st.sampled_from("abcdXYZ019_.-/:+\\ `$;&|<>*?!'\"\n\r\0()#~é"), max_size=12)


@given(user=hostile, address=hostile, path=hostile)
def test_accepted_host_has_no_shell_character(user: str, address: str, path: str) -> None:
    parsed: list[host_list.HostConfig] = []
    for entry in (
        {"user": user, "address": "h"},
        {"user": "a", "address": address},
        {"user": "a", "address": "h", "vboxmanage": "/" + path},
    ):
        try:
            parsed += mv.parse_hosts([entry])
        except mv.HostListError:
            continue

    # A dollar sign is accepted only at the end: the account of a Windows machine has one there.
    accepted = "".join(
        host.user.removesuffix("$") + host.address + host.vboxmanage for host in parsed
    )
    assert not SHELL & set(accepted)
