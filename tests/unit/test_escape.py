# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Text from outside is shown completely, but cannot control a terminal."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given, strategies

from maas_virtualbox import escape, logs
from maas_virtualbox.cli import extension_script, output
from maas_virtualbox.service.responses import JSONResponse

HOSTILE = (
    "\x00\t\n\r\x1b\x7f\x80\x85\x9b\x9f\xad\u061c\u200b\u200e\u200f\u2028\u2029"
    "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\udc9b\U000e0001"
)
NAME = f"M\xfcller \U0001f600 {HOSTILE}"

values = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
    max_leaves=10,
)


def is_safe(text: str) -> bool:
    return all(char.isprintable() or char == "\n" for char in text)


def test_printable_escapes_what_is_not_visible() -> None:
    shown = escape.printable(NAME)

    assert shown.startswith("M\xfcller \U0001f600 \\x00\\t\\n")
    assert all(char.isprintable() for char in shown)
    assert shown.encode().decode("unicode_escape").endswith(HOSTILE)


@given(values)
def test_printable_json_is_safe_and_equivalent(value: object) -> None:
    shown = escape.printable_json(value)

    assert is_safe(shown)
    assert json.loads(shown) == value


def test_print_rows_as_json_escapes_c1_and_bidi(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_rows((), (), output.Format.JSON, [{"name": NAME}])

    printed = capsys.readouterr().out
    assert is_safe(printed)
    assert "M\xfcller" in printed
    assert "\\u009b" in printed
    assert "\\u202e" in printed
    assert json.loads(printed) == [{"name": NAME}]


@pytest.mark.parametrize("as_format", [output.Format.TABLE, output.Format.PLAIN])
def test_print_rows_escapes_cells(
    capsys: pytest.CaptureFixture[str], as_format: output.Format
) -> None:
    output.print_rows(("NAME", "MACS"), [(NAME, (NAME, NAME))], as_format, None)

    printed = capsys.readouterr().out.replace("\t", "")
    assert is_safe(printed)
    assert printed.count("\\u202e") == 3


def test_json_response_is_ascii() -> None:
    body = JSONResponse({"name": NAME}).body

    assert bytes(body).isascii()
    assert is_safe(bytes(body).decode())
    assert json.loads(bytes(body)) == {"name": NAME}


def test_line_formatter_escapes_messages(capsys: pytest.CaptureFixture[str]) -> None:
    formatter = logs.LineFormatter("program: ")
    try:
        raise ValueError(NAME)
    except ValueError:
        record = logging.LogRecord("x", 30, "", 0, "%s", (NAME,), sys.exc_info())

    text = formatter.format(record)

    assert is_safe(text)
    assert text.startswith("program: M\xfcller")
    assert text.splitlines()[1].startswith("Traceback")
    assert capsys.readouterr().err == ""


def test_extension_script_escapes_its_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert extension_script.run(None, "on", NAME) == extension_script.NO_VM  # type: ignore[arg-type]

    assert is_safe(capsys.readouterr().err)
