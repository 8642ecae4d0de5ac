# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The service's log: one line for each event, whatever it contains."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Literal

import pytest

from maas_virtualbox import logs

if TYPE_CHECKING:
    from collections.abc import Generator

HOSTILE = "node\nERROR forged \x1b[31m\u2028line"


@pytest.fixture(autouse=True)
def handlers() -> Generator[None]:
    """Restore the configuration of the log."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(
    capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"], **fields: object
) -> str:
    logs.configure("info", log_format)
    logging.getLogger("maas_virtualbox.test").info("name %s", HOSTILE, extra={"fields": fields})
    logging.getLogger("maas_virtualbox.test").debug("not shown")
    return capsys.readouterr().err


def test_text_is_one_line_with_controls_escaped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    assert logged(capsys, "text") == "INFO name node\\nERROR forged \\x1b[31m\\u2028line\n"
    monkeypatch.delenv("JOURNAL_STREAM")
    assert logged(capsys, "text").split(" ", 1)[0].endswith("Z")


def test_json_is_one_object_with_the_fields_of_the_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = logged(capsys, "json", vm="a/b", milliseconds=12)
    assert text.count("\n") == 1
    entry = json.loads(text)
    assert entry["message"] == f"name {HOSTILE}"
    assert entry["level"] == "info"
    assert entry["vm"] == "a/b"
    assert entry["milliseconds"] == 12


def test_traceback_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info", "json")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logging.getLogger("x").exception("it broke")
    assert "boom" in json.loads(capsys.readouterr().err)["traceback"]
