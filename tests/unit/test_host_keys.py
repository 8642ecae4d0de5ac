# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned host keys: nothing is ever accepted because a file could not be read."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import paramiko
import pytest

import maas_virtualbox as mv
from maas_virtualbox.config import host_list
from maas_virtualbox.simulator import server
from maas_virtualbox.transport.host_keys import KnownHosts

if TYPE_CHECKING:
    from pathlib import Path

(HOST,) = mv.parse_hosts("ivan@10.0.0.5:2222")
KEY, OTHER = server.new_key()[0], server.new_key()[0]


def fingerprint(key: paramiko.PKey) -> str:
    return host_list.fingerprint(key.asbytes())


@pytest.mark.parametrize("in_file", [False, True])
def test_the_first_key_is_pinned_and_another_refused(tmp_path: Path, in_file: bool) -> None:
    known = KnownHosts(tmp_path / "known_hosts" if in_file else None)
    known.check(HOST, KEY)
    known.check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged) as caught:
        known.check(HOST, OTHER)

    assert fingerprint(KEY) in str(caught.value)
    assert caught.value.presented == fingerprint(OTHER)
    assert not caught.value.retry


def test_a_pin_outlives_the_program_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_hosts"
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged, match=str(file)):
        KnownHosts(file).check(HOST, OTHER)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("[10.0.0.5]:2222 ssh-ed25519 ")


def test_the_host_lists_key_wins_over_the_file(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    known.check(HOST, KEY)
    (pinned,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(OTHER)}")

    known.check(pinned, OTHER)
    with pytest.raises(mv.HostKeyChanged, match="host-key="):
        known.check(pinned, KEY)


def test_a_hashed_name_is_found(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    name = paramiko.HostKeys.hash_host("[10.0.0.5]:2222")
    file.write_text(f"# mine\n\n{name} {KEY.get_name()} {KEY.get_base64()} comment\n")

    KnownHosts(file).check(HOST, KEY)
    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


@pytest.mark.parametrize(
    "line",
    [
        "[10.0.0.5]:2222 ssh-ed25519",
        "[10.0.0.5]:2222 ssh-ed25519 AAAA",
        "@revoked [10.0.0.5]:2222 ssh-ed25519 AAAA",
    ],
)
def test_a_broken_line_is_a_wrong_configuration(tmp_path: Path, line: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line + "\n")

    with pytest.raises(mv.ConfigError, match=f"known hosts file {file}: line 1: ") as caught:
        KnownHosts(file)

    assert not caught.value.retry


def test_a_file_that_breaks_later_stops_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    known = KnownHosts(file)
    file.write_text("10.0.0.6 ssh-ed25519\n")

    for call in (known.check, known.replace):
        with pytest.raises(mv.KnownHostsBroken, match=r"known hosts file .*: line 1: ") as caught:
            call(HOST, KEY)
        assert not caught.value.retry

    assert file.read_text() == "10.0.0.6 ssh-ed25519\n"


def test_a_fleet_is_not_made_with_a_broken_file(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("?\n")

    with pytest.raises(mv.ConfigError, match="line 1: expected 'names type key'"):
        mv.Fleet([HOST], known_hosts=tmp_path / "known_hosts")


def test_a_file_that_cannot_be_read_is_a_wrong_configuration(tmp_path: Path) -> None:
    with pytest.raises(mv.ConfigError, match=r"known hosts file .*: it is a folder"):
        KnownHosts(tmp_path)


def test_the_pinned_type_is_asked_for_first() -> None:
    known = KnownHosts()
    ecdsa = paramiko.ECDSAKey.generate()
    known.check(HOST, ecdsa)

    assert known.algorithms(HOST)[0] == ecdsa.get_name()
    assert "rsa-sha2-512" in known.algorithms(HOST)
    assert "ssh-rsa" not in known.algorithms(HOST)
