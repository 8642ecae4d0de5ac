# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens: what they open, how they are derived, and the file their secret is in."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import stat
from typing import TYPE_CHECKING

import pydantic
import pytest
from hypothesis import given, strategies

from maas_virtualbox import errors, tokens

if TYPE_CHECKING:
    from pathlib import Path

UUID = "90529436-6acf-5a54-ad77-350f4c802e0f"
OTHER = "90529436-6acf-5a54-ad77-350f4c802e00"
HOUR = datetime.timedelta(hours=1)
SECRET = "x" * 32


@pytest.fixture
def secrets() -> tokens.Secrets:
    return tokens.Secrets.new()


def test_a_vm_token_is_the_hmac_of_its_uuid() -> None:
    secrets = tokens.Secrets(master=pydantic.SecretStr(SECRET))
    digest = hmac.new(SECRET.encode(), f"maas-virtualbox vm {UUID}".encode(), hashlib.sha256)
    token = secrets.vm_token(UUID)
    assert base64.urlsafe_b64decode(token + "=") == digest.digest()


def test_each_token_opens_its_own(secrets: tokens.Secrets) -> None:
    assert secrets.opens(secrets.vm_token(UUID), UUID) == "vm"
    assert secrets.opens(secrets.vm_token(UUID), OTHER) == ""
    assert secrets.opens(secrets.admin_token(), UUID) == "admin"
    assert secrets.opens(secrets.admin_token(), "") == "admin"
    assert secrets.opens(secrets.admin_token(), tokens.METRICS) == "admin"
    assert secrets.opens(secrets.metrics_token(), tokens.METRICS) == "metrics"
    assert secrets.opens(secrets.metrics_token(), UUID) == ""
    assert secrets.opens(secrets.metrics_token(), "") == ""
    assert secrets.opens(secrets.vm_token(UUID), tokens.METRICS) == ""
    assert secrets.opens(secrets.vm_token(""), "") == ""
    assert secrets.opens(tokens.Secrets.new().admin_token(), UUID) == ""


@given(strategies.text())
def test_no_other_text_opens_anything(text: str) -> None:
    assert tokens.Secrets(master=pydantic.SecretStr(SECRET)).opens(text, UUID) == ""


def test_after_a_rotation_both_are_good_until_the_grace_ends(secrets: tokens.Secrets) -> None:
    rotated = secrets.rotated(HOUR)
    assert rotated.opens(secrets.vm_token(UUID), UUID) == "vm"
    assert rotated.opens(rotated.vm_token(UUID), UUID) == "vm"
    assert rotated.vm_token(UUID) != secrets.vm_token(UUID)
    over = secrets.rotated(-HOUR)
    assert over.opens(secrets.vm_token(UUID), UUID) == ""
    assert over.opens(secrets.admin_token(), "") == ""
    twice = rotated.rotated(HOUR)
    assert twice.opens(secrets.vm_token(UUID), UUID) == ""


def test_a_file_is_read_as_it_was_written_and_is_the_owners_alone(
    secrets: tokens.Secrets, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "secrets.yaml"
    for written in (secrets, secrets.rotated(HOUR)):
        tokens.save(path, written)
        assert tokens.load(path) == written
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_group_that_may_read_may_still(secrets: tokens.Secrets, tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    tokens.save(path, secrets)
    path.chmod(0o640)
    tokens.save(path, secrets.rotated(HOUR))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected master:"),
        ("[1]", "expected master:"),
        ("master: : :", "not valid YAML"),
        (f"master: '{SECRET[:31]}'", "line 1: master"),
        ("\nmaster: 12", "line 2: master"),
        (f"master: {SECRET}\nprevious-valid-until: soon", "line 2: previous-valid-until"),
        (f"master: {SECRET}\nprevious-valid-until: 2026-01-01T00:00:00", "timezone"),
        (f"master: {SECRET}\nspare: {SECRET}", "unknown option 'spare'"),
    ],
)
def test_a_bad_file_is_explained_and_never_quoted(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "secrets.yaml"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(errors.ConfigError) as raised:
        tokens.load(path)
    assert str(raised.value).startswith(f"secrets-file {path}")
    assert words in str(raised.value)
    assert SECRET[:31] not in str(raised.value)


def test_secrets_show_nothing_of_themselves(secrets: tokens.Secrets) -> None:
    master = secrets.master.get_secret_value()
    for shown in (repr(secrets), str(secrets), secrets.model_dump_json()):
        assert master not in shown


def test_a_folder_that_cannot_be_written_is_named(secrets: tokens.Secrets, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigError, match="cannot be written: Not a directory"):
        tokens.save(tmp_path / "file" / "secrets.yaml", secrets)
