# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists of any text: a clear error or hosts that are safe, and nothing lost on the way."""

from __future__ import annotations

import string

from hypothesis import example, given
from hypothesis import strategies as st

import maas_virtualbox as mv
from maas_virtualbox.config import host_list

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

# Text that gets past the first character, more often than any text would.
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
def test_any_text_is_hosts_or_a_host_list_error(text: str) -> None:
    try:
        parsed = mv.parse_hosts(text)
    except mv.HostListError as error:
        assert str(error).startswith(("host list: ", "host list, line "))  # noqa: PT017 - either outcome is right
        return

    assert all(isinstance(host, host_list.HostConfig) for host in parsed)


def short_form(host: host_list.HostConfig) -> str:
    """The host as a person would write it."""
    address = f"[{host.address}]" if ":" in host.address else host.address
    words = [f"{host.user}@{address}:{host.port}", f'name="{host.name}"']
    words += [f"host-key={key}" for key in host.host_key]
    words += [f'zone="{host.zone}"'] if host.zone else []
    words += [f'vboxmanage="{host.vboxmanage}"'] if host.vboxmanage else []
    return " ".join(words)


@given(valid_hosts)
def test_a_host_comes_back_from_its_short_form(host: host_list.HostConfig) -> None:
    text = short_form(host)

    assert mv.parse_hosts(text) == (host,)


@given(st.lists(valid_hosts, max_size=4, unique_by=lambda host: host.address.lower()))
def test_hosts_come_back_from_a_list_in_their_order(listed: list[host_list.HostConfig]) -> None:
    listed = [host.model_copy(update={"name": f"n{number}"}) for number, host in enumerate(listed)]

    text = ",".join(short_form(host) for host in listed)

    assert mv.parse_hosts(text) == tuple(listed)


@given(valid_hosts)
def test_a_host_comes_back_from_its_mapping(host: host_list.HostConfig) -> None:
    entry = host.model_dump(by_alias=True)

    assert mv.parse_hosts([entry]) == (host,)


# Mostly letters, so that much is accepted, with a hostile character now and then. No %: the scope
# of an IPv6 address has a test of its own.
hostile = st.text(st.sampled_from("abcdXYZ019_.-/:+\\ `$;&|<>*?!'\"\n\r\0()#~é"), max_size=12)


@given(user=hostile, address=hostile, path=hostile)
def test_no_accepted_text_holds_a_shell_character(user: str, address: str, path: str) -> None:
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

    # The account of a Windows machine ends in one dollar sign: the only one that is let in.
    accepted = "".join(
        host.user.removesuffix("$") + host.address + host.vboxmanage for host in parsed
    )
    assert not SHELL & set(accepted)
