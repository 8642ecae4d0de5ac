# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""known_hosts files: OpenSSH's programs interpret them alike, and processes lose no pin."""

from __future__ import annotations

import io
import multiprocessing
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
import pytest
from hypothesis import given, settings, strategies

import maas_virtualbox as mv
from maas_virtualbox.config import host_list
from maas_virtualbox.transport import host_keys, ssh_keys
from maas_virtualbox.transport.host_keys import KnownHosts

from tests.conftest import unavailable
from tests.functional import sshd as real

if TYPE_CHECKING:
    from collections.abc import Generator

_fork = multiprocessing.get_context("fork")


def new_key() -> paramiko.PKey:
    return paramiko.Ed25519Key.from_private_key(io.StringIO(ssh_keys.new_private_key()))


KEYS = [new_key() for _ in range(3)]
NAMES = ("host", "HOST", "host.example.com", "[host]:2222", "[Host.Example.com]:2222", "other")
PATTERNS = ("*", "h?st", "*.EXAMPLE.com", "[*]:2222", "[h*]:*", "!host", "!*.example.com", "!h*")


@pytest.fixture(scope="module", autouse=True)
def openssh() -> None:
    """Skip the tests on a machine without OpenSSH's programs."""
    if not shutil.which("ssh-keygen") or not real.program():
        unavailable("no OpenSSH on this machine (packages openssh-client, openssh-server)")


def line(names: str, key: paramiko.PKey) -> str:
    return f"{names} {key.get_name()} {key.get_base64()}\n"


def found_by_openssh(text: bytes, name: str) -> set[str]:
    """Return the keys that OpenSSH finds for a host."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        command = ["ssh-keygen", "-F", name, "-f", file.name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return {line.split("ssh-ed25519 ")[1].split()[0] for line in lines}


def found_by_us(text: bytes, host: host_list.HostConfig) -> set[str]:
    entries = host_keys.parse_known_hosts(text).find(host_keys.name_of(host))
    return {str(entry.key).split()[1] for entry in entries}


hashed_names = strategies.sampled_from(
    [paramiko.HostKeys.hash_host(name) for name in ("host", "[host]:2222", "other")]
)
name_lists = strategies.lists(
    strategies.sampled_from(NAMES + PATTERNS), min_size=1, max_size=4
).map(",".join)
files = strategies.lists(strategies.one_of(name_lists, hashed_names), min_size=1, max_size=4)
hosts_asked = strategies.sampled_from(
    mv.parse_hosts(
        "u@host, u@HOST.example.com name=a, u@host:2222 name=b, u@other name=c,"
        " u@[::1]:2222 name=d"
    )
)


@settings(max_examples=150)
@given(files, hosts_asked)
def test_find_matches_the_same_lines_as_openssh(
    names: list[str], host: host_list.HostConfig
) -> None:
    text = "".join(line(each, KEYS[number % 3]) for number, each in enumerate(names)).encode()

    assert found_by_us(text, host) == found_by_openssh(text, host_keys.name_of(host))


@settings(max_examples=40)
@given(files, hosts_asked, hosts_asked)
def test_replace_changes_no_other_host(
    names: list[str], host: host_list.HostConfig, other: host_list.HostConfig
) -> None:
    text = "".join(line(each, KEYS[number % 2]) for number, each in enumerate(names)).encode()
    name, others = host_keys.name_of(host), host_keys.name_of(other)
    new = host_keys.PublicKey.of(KEYS[2])

    changed = host_keys.parse_known_hosts(text).with_pins_replaced(name, new)

    assert found_by_openssh(changed, name) == {KEYS[2].get_base64()}
    if others != name:
        assert found_by_openssh(changed, others) == found_by_openssh(text, others)


# -- A real client and a real server ------------------------------------------------------------


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Generator[real.SSHD]:
    """A real sshd."""
    with real.running(tmp_path_factory.mktemp("sshd")) as sshd:
        yield sshd


def asked_openssh(sshd: real.SSHD, file: Path) -> str:
    """Return what OpenSSH's client does with the server's key: accepted, refused or unknown."""
    user, _, _ = sshd.host_entry.partition("@")
    command = ["ssh", "-F", "none", "-i", str(sshd.key_file), "-p", str(sshd.port), "-l", user]
    for option in (
        f"UserKnownHostsFile={file}",
        "GlobalKnownHostsFile=/dev/null",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "UpdateHostKeys=no",
    ):
        command += ["-o", option]
    command += ["127.0.0.1", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode == 0:
        return "accepted"
    return "unknown" if "host key is known for" in done.stderr else "refused"


def asked_us(sshd: real.SSHD, file: Path) -> str:
    (host,) = mv.parse_hosts(sshd.host_entry)
    before = file.read_bytes()
    key = paramiko.Ed25519Key.from_private_key_file(str(sshd.folder / "host"))
    try:
        KnownHosts(file).check(host, key)
    except (mv.HostKeyChanged, mv.KnownHostsBroken):
        return "refused"
    return "accepted" if file.read_bytes() == before else "unknown"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NAME RIGHT\n", "accepted"),
        ("NAME WRONG\n", "refused"),
        ("* RIGHT\n", "accepted"),
        ("* WRONG\n", "refused"),
        ("[127.0.0.?]:* WRONG\n", "refused"),
        ("!NAME,* WRONG\n", "unknown"),
        ("other RIGHT\n", "unknown"),
        (" \tNAME\tRIGHT comment\n", "accepted"),
        ("NAME RIGHT\r\n", "accepted"),
        ("HASHED RIGHT\n", "accepted"),
        ("HASHED WRONG\n", "refused"),
        ("NAME WRONG\nNAME RIGHT\n", "accepted"),
        ("@revoked * RIGHT\n", "refused"),
        ("NAME RIGHT\n@revoked NAME RIGHT\n", "refused"),
        ("@revoked NAME WRONG\nNAME RIGHT\n", "accepted"),
        ("@revoked other RIGHT\nNAME RIGHT\n", "accepted"),
        ("@cert-authority * WRONG\nNAME RIGHT\n", "accepted"),
        ("@cert-authority other WRONG\n", "unknown"),
    ],
)
def test_check_accepts_the_same_keys_as_openssh(
    sshd: real.SSHD, tmp_path: Path, text: str, expected: str
) -> None:
    name = f"[127.0.0.1]:{sshd.port}"
    right, wrong = (
        " ".join((sshd.folder / f"{key}.pub").read_text().split()[:2])
        for key in ("host", "other_host")
    )
    for word, value in {
        "NAME": name,
        "HASHED": paramiko.HostKeys.hash_host(name),
        "RIGHT": right,
        "WRONG": wrong,
    }.items():
        text = text.replace(word, value)
    file = tmp_path / "known_hosts"
    file.write_bytes(text.encode())

    assert (asked_openssh(sshd, file), asked_us(sshd, file)) == (expected, expected)


# -- Parallel processes ------------------------------------------------------------------------


def pin(file: Path, numbers: range) -> None:
    for number in numbers:
        (host,) = mv.parse_hosts(f"u@pinned{number}")
        KnownHosts(file).check(host, KEYS[0])


def replace(file: Path, numbers: range) -> None:
    for number in numbers:
        (host,) = mv.parse_hosts(f"u@replaced{number % 5}")
        KnownHosts(file).replace(host, KEYS[number % 3])


def test_pins_of_parallel_processes_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.touch()
    works = [(pin, range(start, start + 50)) for start in range(0, 150, 50)]
    works += [(replace, range(50)), (replace, range(50))]
    processes = [_fork.Process(target=work, args=(file, numbers)) for work, numbers in works]

    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 5
    names = sorted(text.split()[0] for text in file.read_text().splitlines())
    expected = [f"pinned{number}" for number in range(150)]
    assert names == sorted(expected + [f"replaced{number}" for number in range(5)])
