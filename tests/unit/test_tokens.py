# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens: what they give access to, how they are derived, and the file with their secret."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import re
import stat
from concurrent import futures
from typing import TYPE_CHECKING

import pydantic
import pytest
from hypothesis import given, strategies

from maas_virtualbox import errors
from maas_virtualbox.config import tokens

if TYPE_CHECKING:
    from pathlib import Path

UUID = "90529436-6acf-5a54-ad77-350f4c802e0f"
OTHER = "90529436-6acf-5a54-ad77-350f4c802e00"
HOUR = datetime.timedelta(hours=1)
SECRET = "x" * 32


@pytest.fixture
def secrets() -> tokens.Secrets:
    return tokens.Secrets.new()


def test_vm_token_is_the_hmac_of_its_uuid() -> None:
    secrets = tokens.Secrets(master=pydantic.SecretStr(SECRET))
    digest = hmac.new(SECRET.encode(), f"maas-virtualbox vm {UUID}".encode(), hashlib.sha256)
    token = secrets.vm_token(UUID)
    assert base64.urlsafe_b64decode(token + "=") == digest.digest()


def test_role_of_each_token_for_each_resource(secrets: tokens.Secrets) -> None:
    assert secrets.role_of(secrets.vm_token(UUID), UUID) == "vm"
    assert secrets.role_of(secrets.vm_token(UUID), OTHER) is None
    assert secrets.role_of(secrets.admin_token(), UUID) == "admin"
    assert secrets.role_of(secrets.admin_token(), "") == "admin"
    assert secrets.role_of(secrets.admin_token(), tokens.METRICS) == "admin"
    assert secrets.role_of(secrets.metrics_token(), tokens.METRICS) == "metrics"
    assert secrets.role_of(secrets.metrics_token(), UUID) is None
    assert secrets.role_of(secrets.metrics_token(), "") is None
    assert secrets.role_of(secrets.vm_token(UUID), tokens.METRICS) is None
    assert secrets.role_of(secrets.vm_token(""), "") is None
    assert secrets.role_of(tokens.Secrets.new().admin_token(), UUID) is None


@given(strategies.text())
def test_role_of_any_other_text_is_none(text: str) -> None:
    assert tokens.Secrets(master=pydantic.SecretStr(SECRET)).role_of(text, UUID) is None


def test_rotation_keeps_old_tokens_valid_for_the_grace(secrets: tokens.Secrets) -> None:
    rotated = secrets.rotated(HOUR)
    assert rotated.role_of(secrets.vm_token(UUID), UUID) == "vm"
    assert rotated.role_of(rotated.vm_token(UUID), UUID) == "vm"
    assert rotated.vm_token(UUID) != secrets.vm_token(UUID)
    over = secrets.rotated(-HOUR)
    assert over.role_of(secrets.vm_token(UUID), UUID) is None
    assert over.role_of(secrets.admin_token(), "") is None


def test_two_rotations_keep_the_tokens_of_both_valid(secrets: tokens.Secrets) -> None:
    once = secrets.rotated(HOUR)
    twice = once.rotated(2 * HOUR)

    for known in (secrets, once, twice):
        assert twice.role_of(known.vm_token(UUID), UUID) == "vm"
        assert twice.role_of(known.admin_token(), "") == "admin"
    assert [old.valid_until for old in twice.earlier] == [once.previous_valid_until]


def test_earlier_secret_expires_when_planned(secrets: tokens.Secrets) -> None:
    ended = secrets.rotated(-HOUR)
    twice = ended.rotated(HOUR)

    assert twice.role_of(secrets.vm_token(UUID), UUID) is None
    assert twice.role_of(ended.vm_token(UUID), UUID) == "vm"
    assert twice.earlier == ()


@pytest.mark.parametrize("rotations", [1, 2, 3, tokens.MAX_VALID_SECRETS])
def test_rotation_without_grace_ends_all_tokens(secrets: tokens.Secrets, rotations: int) -> None:
    known = [secrets]
    for _ in range(rotations):
        known.append(known[-1].rotated(HOUR))

    last = known[-1].rotated(datetime.timedelta(0))

    assert [last.role_of(old.vm_token(UUID), UUID) for old in known] == [None] * len(known)
    assert last.role_of(last.vm_token(UUID), UUID) == "vm"


def test_rotation_sets_an_end_for_a_secret_without_one(secrets: tokens.Secrets) -> None:
    written = tokens.Secrets(master=secrets.master, previous=tokens.Secrets.new().master)

    rotated = written.rotated(HOUR)

    assert [old.valid_until for old in rotated.earlier] == [rotated.previous_valid_until]


def test_too_many_rotations_name_the_next_possible_time(secrets: tokens.Secrets) -> None:
    rotated = secrets
    for number in range(tokens.MAX_VALID_SECRETS):
        rotated = rotated.rotated(HOUR * (number + 1))
    first = min(old.valid_until for old in rotated.earlier)

    with pytest.raises(errors.ConfigError) as caught:
        rotated.rotated(100 * HOUR)

    assert str(caught.value) == (
        "the tokens of 8 earlier secrets are still valid: rotate again after"
        f" {first.isoformat()}, when the first of them ends, or with a grace of 0 hours, which"
        " ends them all at once"
    )
    assert rotated.role_of(secrets.vm_token(UUID), UUID) == "vm"


def test_one_rotation_is_written_in_the_first_format(secrets: tokens.Secrets) -> None:
    assert set(secrets.rotated(HOUR).content()) == {"master", "previous", "previous-valid-until"}


def test_content_has_only_texts_for_a_juju_secret(secrets: tokens.Secrets) -> None:
    rotated = secrets.rotated(HOUR).rotated(HOUR).rotated(HOUR)

    content = rotated.content()

    assert all(
        re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", key) and len(key) > 2 for key in content
    )
    assert all(isinstance(value, str) for value in content.values())
    assert tokens.Secrets.model_validate(content) == rotated


@pytest.mark.parametrize("there", [False, True])
def test_parallel_rotations_lose_no_secret(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "secrets.yaml"
    if there:
        tokens.save(path, tokens.Secrets.new())
    before = tokens.load(path) if there else None

    with futures.ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(tokens.rotate, path, HOUR) for _ in range(5)]
    done = [call.result() for call in calls]

    after = tokens.load(path)
    assert sorted(done) == [there, True, True, True, True]
    assert len(after.earlier) == (4 if there else 3)
    assert before is None or after.role_of(before.vm_token(UUID), UUID) == "vm"


def test_rotation_keeps_the_mode_and_refuses_a_wrong_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("master: short\n")
    for mode in (0o604, 0o640):
        path.chmod(mode)
        with pytest.raises(errors.ConfigError, match=f"^secrets-file {path}"):
            tokens.rotate(path, HOUR)
    assert path.read_text() == "master: short\n"
    tokens.save(path, tokens.Secrets.new())
    tokens.rotate(path, HOUR)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_saved_file_can_be_read_only_by_its_owner(secrets: tokens.Secrets, tmp_path: Path) -> None:
    path = tmp_path / "new" / "secrets.yaml"
    for written in (secrets, secrets.rotated(HOUR), secrets.rotated(HOUR).rotated(HOUR)):
        tokens.save(path, written)
        assert tokens.load(path) == written
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_save_keeps_the_permissions_of_the_group(secrets: tokens.Secrets, tmp_path: Path) -> None:
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
        (f"master: {SECRET}\nearlier: {SECRET}", "line 2: earlier: expected a list of secrets"),
        (f"master: {SECRET}\nearlier: [{SECRET}]", "line 2: earlier"),
        (f"master: {SECRET}\nearlier: [{{secret: {SECRET}}}]", "line 2: earlier.0.valid-until"),
    ],
)
def test_error_explains_a_wrong_file_and_never_quotes_it(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "secrets.yaml"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(errors.ConfigError) as raised:
        tokens.load(path)
    assert str(raised.value).startswith(f"secrets-file {path}")
    assert words in str(raised.value)
    assert SECRET[:31] not in str(raised.value)


def test_repr_shows_no_secret(secrets: tokens.Secrets) -> None:
    master = secrets.master.get_secret_value()
    for shown in (repr(secrets), str(secrets), secrets.model_dump_json()):
        assert master not in shown


def test_error_names_a_folder_that_cannot_be_written(
    secrets: tokens.Secrets, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.ConfigError, match="cannot be written: Not a directory"):
        tokens.save(tmp_path / "file" / "secrets.yaml", secrets)
