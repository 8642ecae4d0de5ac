# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned host keys in a file others may have written: nothing is accepted for want of a pin."""

from __future__ import annotations

import io
import stat
from typing import TYPE_CHECKING

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import maas_virtualbox as mv
from maas_virtualbox import hosts
from maas_virtualbox.transport.host_keys import KnownHosts

if TYPE_CHECKING:
    from pathlib import Path


def new_ed25519() -> paramiko.PKey:
    """A key as sshd makes it first."""
    private = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return paramiko.Ed25519Key.from_private_key(io.StringIO(private.decode()))


(HOST,) = mv.parse_hosts("ivan@10.0.0.5:2222")
KEY, OTHER = new_ed25519(), new_ed25519()
ECDSA = paramiko.ECDSAKey.generate()


def line(name: str, key: paramiko.PKey) -> str:
    """One line of a known_hosts file, without its end."""
    return f"{name} {key.get_name()} {key.get_base64()}"


def fingerprint(key: paramiko.PKey) -> str:
    return hosts.fingerprint(key.asbytes())


def test_the_first_contact_writes_one_line(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"

    KnownHosts(file).check(HOST, KEY)

    assert file.read_text() == line("[10.0.0.5]:2222", KEY) + "\n"


def test_a_second_contact_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    KnownHosts(file).check(HOST, KEY)
    before = file.read_text()

    KnownHosts(file).check(HOST, KEY)

    assert file.read_text() == before


def test_a_new_file_and_its_folder_are_private(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_hosts"

    KnownHosts(file).check(HOST, KEY)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_first_contact_is_said_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    known = KnownHosts()

    known.check(HOST, KEY)

    assert fingerprint(KEY) in caplog.text


def test_memory_is_forgotten_with_its_object() -> None:
    KnownHosts().check(HOST, KEY)

    known = KnownHosts()
    known.check(HOST, OTHER)

    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, KEY)


@pytest.mark.parametrize("in_file", [False, True])
def test_another_key_is_refused_with_both_fingerprints(tmp_path: Path, in_file: bool) -> None:
    known = KnownHosts(tmp_path / "known_hosts" if in_file else None)
    known.check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged) as caught:
        known.check(HOST, OTHER)

    assert (caught.value.pinned, caught.value.presented) == (
        (fingerprint(KEY),),
        fingerprint(OTHER),
    )
    assert fingerprint(KEY) in str(caught.value)
    assert fingerprint(OTHER) in str(caught.value)


def test_a_refused_key_is_not_pinned(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)

    assert OTHER.get_base64() not in file.read_text()


def test_a_key_of_another_type_is_refused() -> None:
    known = KnownHosts()
    known.check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, ECDSA)


def test_any_of_several_pinned_keys_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    name = "[10.0.0.5]:2222"
    file.write_text(f"{line(name, KEY)}\n{line(name, ECDSA)}\n")

    KnownHosts(file).check(HOST, ECDSA)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


def test_hosts_have_pins_of_their_own() -> None:
    ports = mv.parse_hosts("ivan@10.0.0.5:22, ivan@10.0.0.5:2222")
    known = KnownHosts()

    known.check(ports[0], KEY)
    known.check(ports[1], OTHER)

    with pytest.raises(mv.HostKeyChanged):
        known.check(ports[0], OTHER)


def test_accounts_of_one_address_share_its_pin() -> None:
    ivan, root = mv.parse_hosts("ivan@10.0.0.5, root@10.0.0.5")
    known = KnownHosts()
    known.check(ivan, KEY)

    with pytest.raises(mv.HostKeyChanged):
        known.check(root, OTHER)


def test_a_name_among_several_on_a_line_is_found(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("lab.example,[10.0.0.5]:2222", KEY) + "\n")

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


def test_a_hashed_name_of_another_host_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line(paramiko.HostKeys.hash_host("10.0.0.6"), OTHER) + "\n")

    KnownHosts(file).check(HOST, KEY)

    assert line("[10.0.0.5]:2222", KEY) in file.read_text().splitlines()


def test_the_host_lists_key_is_enough_without_a_pin(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    (host,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(KEY)}")

    KnownHosts(file).check(host, KEY)

    assert not file.exists()


def test_a_key_that_is_not_the_host_lists_is_refused_at_first_contact() -> None:
    (host,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(KEY)}")

    with pytest.raises(mv.HostKeyChanged, match="host-key= option"):
        KnownHosts().check(host, OTHER)


@pytest.mark.parametrize("key", [KEY, ECDSA], ids=["ed25519", "ecdsa"])
def test_a_pin_cut_off_anywhere_accepts_no_other_key(tmp_path: Path, key: paramiko.PKey) -> None:
    file = tmp_path / "known_hosts"
    whole = line("[10.0.0.5]:2222", key)

    for length in range(1, len(whole)):
        file.write_text(whole[:length])
        with pytest.raises(mv.HostDown):
            KnownHosts(file).check(HOST, OTHER)


@pytest.mark.parametrize(
    "text",
    [
        "@revoked * ssh-ed25519 AAAA",
        "@cert-authority *.example ssh-ed25519 AAAA",
        "10.0.0.6 ssh-ed25519 AAAA",
        "10.0.0.6",
        "10.0.0.6 ssh-ed25519 ====",
        "10.0.0.6 ssh-ed25519 \x00",
    ],
)
def test_a_line_that_cannot_be_read_refuses_also_other_hosts(tmp_path: Path, text: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{line('[10.0.0.5]:2222', KEY)}\n{text}\n")

    with pytest.raises(mv.HostUnreachable, match=r"cannot read .*; not connecting"):
        KnownHosts(file).check(HOST, KEY)


def test_a_file_that_is_not_text_refuses(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(b"\xff\xfe\n")

    with pytest.raises(mv.HostUnreachable, match="cannot read the known hosts file"):
        KnownHosts(file).check(HOST, KEY)


def test_a_pin_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("in the way of the folder")

    with pytest.raises(mv.HostUnreachable, match="not connecting"):
        KnownHosts(folder / "known_hosts").check(HOST, KEY)


@pytest.mark.parametrize("comment", ["", " root@other"])
def test_a_pin_after_a_line_without_an_end_is_kept(tmp_path: Path, comment: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("other.example", ECDSA) + comment)
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


@pytest.mark.parametrize("key", [KEY, ECDSA], ids=["ed25519", "ecdsa"])
def test_the_type_of_a_pin_in_a_file_is_asked_for_first(
    tmp_path: Path, key: paramiko.PKey
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("[10.0.0.5]:2222", key) + "\n")

    algorithms = KnownHosts(file).algorithms(HOST)

    assert algorithms[0] == key.get_name()


def test_without_a_pin_all_algorithms_are_asked_for_in_opensshs_order() -> None:
    algorithms = KnownHosts().algorithms(HOST)

    assert algorithms == (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )


def test_a_pin_changes_the_order_only() -> None:
    known = KnownHosts()
    known.check(HOST, ECDSA)

    assert sorted(known.algorithms(HOST)) == sorted(KnownHosts().algorithms(HOST))


def test_replace_changes_the_lines_of_one_host_only(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    others = [line("10.0.0.5", KEY), "# a note", line("attic", OTHER)]
    file.write_text("\n".join([line("[10.0.0.5]:2222", KEY), *others]))

    known = KnownHosts(file)
    known.replace(HOST, OTHER)

    known.check(HOST, OTHER)
    assert file.read_text().splitlines() == [*others, line("[10.0.0.5]:2222", OTHER)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, KEY)
