# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Pinned host keys: which keys are accepted, and that an unreadable file accepts none."""

from __future__ import annotations

import base64
import io
import stat
from concurrent import futures
from typing import TYPE_CHECKING

import paramiko
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

import maas_virtualbox as mv
from maas_virtualbox.config import atomic_files, host_list
from maas_virtualbox.transport.host_keys import KnownHosts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def new_ed25519() -> paramiko.PKey:
    """Create a key of the type that sshd prefers."""
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
    """Return a line of a known_hosts file, without the newline."""
    return f"{name} {key.get_name()} {key.get_base64()}"


def fingerprint(key: paramiko.PKey) -> str:
    return host_list.fingerprint(key.asbytes())


def test_first_connection_writes_one_line(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"

    KnownHosts(file).check(HOST, KEY)

    assert file.read_text() == line("[10.0.0.5]:2222", KEY) + "\n"


def test_second_connection_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    KnownHosts(file).check(HOST, KEY)
    before = file.read_text()

    KnownHosts(file).check(HOST, KEY)

    assert file.read_text() == before


def test_new_file_and_its_folder_are_private(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_hosts"

    KnownHosts(file).check(HOST, KEY)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_first_connection_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    known = KnownHosts()

    known.check(HOST, KEY)

    assert fingerprint(KEY) in caplog.text


def test_pin_without_a_file_ends_with_its_object() -> None:
    KnownHosts().check(HOST, KEY)

    known = KnownHosts()
    known.check(HOST, OTHER)

    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, KEY)


@pytest.mark.parametrize("in_file", [False, True])
def test_other_key_is_refused_with_both_fingerprints(tmp_path: Path, in_file: bool) -> None:
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
    assert not caught.value.retry


def test_refused_key_is_not_pinned(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)

    assert OTHER.get_base64() not in file.read_text()


def test_key_of_another_type_is_refused() -> None:
    known = KnownHosts()
    known.check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, ECDSA)


def test_each_of_several_pinned_keys_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    name = "[10.0.0.5]:2222"
    file.write_text(f"{line(name, KEY)}\n{line(name, ECDSA)}\n")

    KnownHosts(file).check(HOST, ECDSA)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


def test_pin_applies_to_one_host_only() -> None:
    ports = mv.parse_hosts("ivan@10.0.0.5:22, ivan@10.0.0.5:2222")
    known = KnownHosts()

    known.check(ports[0], KEY)
    known.check(ports[1], OTHER)

    with pytest.raises(mv.HostKeyChanged):
        known.check(ports[0], OTHER)


def test_pin_applies_to_all_accounts_of_an_address() -> None:
    ivan, root = mv.parse_hosts("ivan@10.0.0.5, root@10.0.0.5")
    known = KnownHosts()
    known.check(ivan, KEY)

    with pytest.raises(mv.HostKeyChanged):
        known.check(root, OTHER)


def test_name_among_several_on_a_line_is_found(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("lab.example,[10.0.0.5]:2222", KEY) + "\n")

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


def test_hashed_name_of_another_host_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line(paramiko.HostKeys.hash_host("10.0.0.6"), OTHER) + "\n")

    KnownHosts(file).check(HOST, KEY)

    assert line("[10.0.0.5]:2222", KEY) in file.read_text().splitlines()


def test_host_list_key_is_accepted_without_a_pin(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    (host,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(KEY)}")

    KnownHosts(file).check(host, KEY)

    assert not file.exists()


def test_first_key_that_the_host_list_lacks_is_refused() -> None:
    (host,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(KEY)}")

    with pytest.raises(mv.HostKeyChanged, match="host-key= option"):
        KnownHosts().check(host, OTHER)


@pytest.mark.parametrize("key", [KEY, ECDSA], ids=["ed25519", "ecdsa"])
def test_truncated_pin_accepts_no_other_key(tmp_path: Path, key: paramiko.PKey) -> None:
    file = tmp_path / "known_hosts"
    whole = line("[10.0.0.5]:2222", key)

    for length in range(1, len(whole)):
        file.write_text(whole[:length])
        with pytest.raises((mv.ConfigError, mv.HostKeyChanged)):
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
        f"@unknown 10.0.0.6 {KEY.get_name()} {KEY.get_base64()}",
        f"|1|x|y {KEY.get_name()} {KEY.get_base64()}",
        f"10.0.0.6,{paramiko.HostKeys.hash_host('attic')} {KEY.get_name()} {KEY.get_base64()}",
        f"\ufeff10.0.0.6 {KEY.get_name()} {KEY.get_base64()}",
        f"10.0.0.6 {ECDSA.get_name()} {KEY.get_base64()}",
        f", {KEY.get_name()} {KEY.get_base64()}",
    ],
)
def test_invalid_line_refuses_other_hosts_too(tmp_path: Path, text: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"{line('[10.0.0.5]:2222', KEY)}\n{text}\n")

    with pytest.raises(mv.ConfigError, match="line 2: "):
        KnownHosts(file)


def test_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_bytes(b"\xff\xfe\n")

    with pytest.raises(mv.ConfigError, match="it is not UTF-8 text"):
        KnownHosts(file)


def test_pin_that_cannot_be_written_refuses_the_key(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    known = KnownHosts(folder / "known_hosts")
    folder.write_text("in the way of the folder")

    for _ in range(2):
        with pytest.raises(mv.KnownHostsBroken):
            known.check(HOST, KEY)


def test_file_that_becomes_unwritable_is_permanent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = KnownHosts(tmp_path / "known_hosts")

    def refuse(path: Path, _change: object) -> bool:
        raise mv.ConfigError(f"{path}: cannot be written: Read-only file system")

    monkeypatch.setattr(atomic_files, "update", refuse)
    with pytest.raises(mv.KnownHostsBroken, match=r"cannot write .*: Read-only") as caught:
        known.check(HOST, KEY)

    assert not caught.value.retry


@pytest.mark.parametrize("comment", ["", " root@other"])
def test_pin_after_a_line_without_newline_is_kept(tmp_path: Path, comment: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("other.example", ECDSA) + comment)
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, OTHER)


@pytest.mark.parametrize("key", [KEY, ECDSA], ids=["ed25519", "ecdsa"])
def test_algorithms_begin_with_the_type_of_a_pin_in_a_file(
    tmp_path: Path, key: paramiko.PKey
) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("[10.0.0.5]:2222", key) + "\n")

    algorithms = KnownHosts(file).algorithms(HOST)

    assert algorithms[0] == key.get_name()


def test_algorithms_without_a_pin_have_openssh_order() -> None:
    algorithms = KnownHosts().algorithms(HOST)

    assert algorithms == (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )


def test_algorithms_with_a_pin_are_the_same_set() -> None:
    known = KnownHosts()
    known.check(HOST, ECDSA)

    assert sorted(known.algorithms(HOST)) == sorted(KnownHosts().algorithms(HOST))


def test_replace_changes_the_lines_of_one_host_only(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    others = [line("10.0.0.5", KEY), "# a comment", line("attic", OTHER)]
    file.write_text("\n".join([line("[10.0.0.5]:2222", KEY), *others]))

    known = KnownHosts(file)
    known.replace(HOST, OTHER)

    known.check(HOST, OTHER)
    assert file.read_text().splitlines() == [*others, line("[10.0.0.5]:2222", OTHER)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with pytest.raises(mv.HostKeyChanged):
        known.check(HOST, KEY)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("u@Host.Example.COM", "host.example.com"),
        ("u@host.example.com", "HOST.Example.Com"),
        ("u@host.example.com", "*.example.com"),
        ("u@host.example.com", "other,h?st.*"),
        ("u@host.example.com", "[host.example.com]:22"),
        ("u@host.example.com", paramiko.HostKeys.hash_host("[host.example.com]:22")),
        ("u@host.example.com:2222", "[HOST.example.com]:2222"),
        ("u@host.example.com:2222", "*"),
        ("u@[2001:db8::1]", "2001:0DB8:0::1"),
        ("u@[2001:db8::1]:2222", "[2001:db8:0:0::1]:2222"),
    ],
)
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["", "BOM"])
def test_pin_is_found_in_every_notation_of_its_host(
    tmp_path: Path, entry: str, name: str, start: str
) -> None:
    (host,) = mv.parse_hosts(entry)
    file = tmp_path / "known_hosts"
    file.write_text(f"{start}{line(name, KEY)}\n", encoding="utf-8")
    known = KnownHosts(file)

    with pytest.raises(mv.HostKeyChanged):
        known.check(host, OTHER)
    known.check(host, KEY)


def test_negated_host_has_no_pin(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line("*,!10.0.0.5,![10.0.0.5]:2222", OTHER) + "\n")

    KnownHosts(file).check(HOST, KEY)

    assert line("[10.0.0.5]:2222", KEY) in file.read_text()


def test_pin_of_a_type_that_is_not_negotiated_counts(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    fields = (b"ssh-dss", b"p", b"q", b"g", b"y")
    data = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
    file.write_text(f"[10.0.0.5]:2222 ssh-dss {base64.b64encode(data).decode()}\n")

    with pytest.raises(mv.HostKeyChanged, match=host_list.fingerprint(data)):
        KnownHosts(file).check(HOST, KEY)


def test_revoked_key_is_neither_accepted_nor_pinned(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    text = f"@revoked * {KEY.get_name()} {KEY.get_base64()}\n"
    file.write_text(text)
    known = KnownHosts(file)

    for call in (known.check, known.replace):
        with pytest.raises(mv.HostKeyChanged, match="@revoked"):
            call(HOST, KEY)

    assert file.read_text() == text


def test_host_with_a_cert_authority_is_not_pinned(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"@cert-authority * {OTHER.get_name()} {OTHER.get_base64()}\n")
    known = KnownHosts(file)

    with pytest.raises(mv.KnownHostsBroken, match=r"line 1 of .* certified keys"):
        known.check(HOST, KEY)
    known.replace(HOST, KEY)
    known.check(HOST, KEY)


def test_replace_keeps_other_hosts_on_the_same_line(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    hashed = paramiko.HostKeys.hash_host("[10.0.0.5]:2222")
    texts = [line("attic,[10.0.0.5]:2222", KEY), line("10.0.0.*,[10.0.0.*]:*", KEY)]
    file.write_text("\n".join([*texts, line(hashed, KEY)]) + "\n")

    KnownHosts(file).replace(HOST, OTHER)

    assert file.read_text().splitlines() == [
        line("attic", KEY),
        line("10.0.0.*,[10.0.0.*]:*,![10.0.0.5]:2222", KEY),
        line("[10.0.0.5]:2222", OTHER),
    ]


def test_first_connection_loses_against_a_parallel_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "known_hosts"
    update = atomic_files.update

    def late(path: Path, change: Callable[[bytes | None], bytes]) -> bool:
        monkeypatch.setattr(atomic_files, "update", update)
        KnownHosts(file).check(HOST, OTHER)  # as another process, between reading and writing
        return update(path, change)

    monkeypatch.setattr(atomic_files, "update", late)
    with pytest.raises(mv.HostKeyChanged):
        KnownHosts(file).check(HOST, KEY)

    assert file.read_text() == line("[10.0.0.5]:2222", OTHER) + "\n"


@pytest.mark.parametrize("in_file", [False, True])
def test_pins_of_parallel_threads_are_all_kept(tmp_path: Path, in_file: bool) -> None:
    known = KnownHosts(tmp_path / "known_hosts" if in_file else None)
    listed = mv.parse_hosts(", ".join(f"u@host{number}" for number in range(40)))
    (other,) = mv.parse_hosts("u@other")

    with futures.ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(known.check, host, KEY) for host in listed]
        calls += [pool.submit(known.replace, other, key) for key in (KEY, OTHER) * 10]
    for call in calls:
        call.result()

    assert all(known.pinned(host) for host in (*listed, other))


def test_pin_outlives_the_program_in_a_private_file(tmp_path: Path) -> None:
    file = tmp_path / "state" / "known_hosts"
    KnownHosts(file).check(HOST, KEY)

    with pytest.raises(mv.HostKeyChanged, match=str(file)):
        KnownHosts(file).check(HOST, OTHER)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text().startswith("[10.0.0.5]:2222 ssh-ed25519 ")


def test_host_list_key_takes_precedence_over_the_file(tmp_path: Path) -> None:
    known = KnownHosts(tmp_path / "known_hosts")
    known.check(HOST, KEY)
    (pinned,) = mv.parse_hosts(f"ivan@10.0.0.5:2222 host-key={fingerprint(OTHER)}")

    known.check(pinned, OTHER)
    with pytest.raises(mv.HostKeyChanged, match="host-key="):
        known.check(pinned, KEY)


def test_hashed_name_is_found(tmp_path: Path) -> None:
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
def test_invalid_line_is_a_configuration_error(tmp_path: Path, line: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(line + "\n")

    with pytest.raises(mv.ConfigError, match=f"known hosts file {file}: line 1: ") as caught:
        KnownHosts(file)

    assert not caught.value.retry


def test_file_that_becomes_invalid_refuses_connections(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    known = KnownHosts(file)
    file.write_text("10.0.0.6 ssh-ed25519\n")

    for call in (known.check, known.replace):
        with pytest.raises(mv.KnownHostsBroken, match=r"known hosts file .*: line 1: ") as caught:
            call(HOST, KEY)
        assert not caught.value.retry

    assert file.read_text() == "10.0.0.6 ssh-ed25519\n"


def test_fleet_refuses_an_invalid_file(tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("?\n")

    with pytest.raises(mv.ConfigError, match="line 1: expected 'names type key'"):
        mv.Fleet([HOST], known_hosts=tmp_path / "known_hosts")


def test_unreadable_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(mv.ConfigError, match=r"known hosts file .*: it is a folder"):
        KnownHosts(tmp_path)


def test_algorithms_begin_with_the_type_of_a_pin_in_memory() -> None:
    known = KnownHosts()
    ecdsa = paramiko.ECDSAKey.generate()
    known.check(HOST, ecdsa)

    assert known.algorithms(HOST)[0] == ecdsa.get_name()
    assert "rsa-sha2-512" in known.algorithms(HOST)
    assert "ssh-rsa" not in known.algorithms(HOST)
