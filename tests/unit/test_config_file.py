# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The configuration file: its options, and the errors for wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import maas_virtualbox as mv
from maas_virtualbox.config import config_file

if TYPE_CHECKING:
    from pathlib import Path


def test_load_reads_every_option(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "hosts: ivan@10.0.0.5 zone=attic, ivan@10.0.0.6\n"
        "ssh-private-key-file: /etc/key\n"
        "known-hosts-file: /var/known_hosts\n"
        "off-mode: acpi\noff-timeout: 5\nsaved-state: resume\nstate-max-age: 1\n"
    )

    read = config_file.load(file)

    assert [str(host) for host in read.hosts] == ["attic", "10.0.0.6"]
    assert (str(read.ssh_private_key_file), str(read.known_hosts_file)) == (
        "/etc/key",
        "/var/known_hosts",
    )
    assert read.policy == mv.PowerPolicy("acpi", 5.0, "resume", 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hosts: a@h\noff-mod: acpi\n", "line 2: unknown option 'off-mod'"),
        (
            "hosts: a@h\nsnapshot-age: 2\n",
            "line 2: unknown option 'snapshot-age'; it was renamed to 'state-max-age'",
        ),
        ("hosts: a@h\n\noff-mode: soft\n", "line 3: off-mode"),
        ("off-timeout: 900\n", "line 1: off-timeout"),
        ("hosts:\n- a@h bogus=1\n", "line 1: hosts: expected a host list: entry 1"),
        ("hosts: 5\n", "line 1: hosts"),
        ("hosts: [\n", "not valid YAML"),
        ("just text\n", "expected options"),
        ("", "expected options"),
    ],
)
def test_error_names_the_line_and_the_option(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)

    with pytest.raises(mv.ConfigError) as caught:
        config_file.load(file)

    assert str(file) in str(caught.value)
    assert message in str(caught.value)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(mv.ConfigError, match="cannot be read: No such file"):
        config_file.load(tmp_path / "nosuch.yaml")


def test_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"\xff\xfe\x00")

    with pytest.raises(mv.ConfigError, match="not UTF-8"):
        config_file.load(file)


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("10.0.0.2", "10.0.0.2", 5307),
        ("[::]:5307", "::", 5307),
        ("[2001:db8::1]", "2001:db8::1", 5307),
    ],
)
def test_listen_parses_address_and_port(text: str, address: str, port: int) -> None:
    assert config_file.Listen.parse(text) == config_file.Listen(address, port)
    assert config_file.Listen.parse(str(config_file.Listen(address, port))) == config_file.Listen(
        address, port
    )


@pytest.mark.parametrize(
    "text",
    ["", ":80", "localhost:80", "10.0.0.2:", "10.0.0.2:x", "1.2.3.4:70000", "::1:80", "[::1", "5"],
)
def test_listen_rejects_anything_else(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected address:port|the port"):
        config_file.Listen.parse(text)
