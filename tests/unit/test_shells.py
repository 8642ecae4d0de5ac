# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Command lines: quoting, framing, and limits of the shells they go through."""

from __future__ import annotations

import base64
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import shells

PROGRAM = r"C:\Program Files\Oracle\VirtualBox\VBoxManage.exe"
text_without_null = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def decoded(command: str) -> str:
    """The PowerShell script of a Windows command line."""
    return base64.b64decode(command.rpartition(" ")[2]).decode("utf-16-le")


@given(st.lists(text_without_null, max_size=4))
def test_posix_arguments_come_out_as_they_went_in(arguments: list[str]) -> None:
    command = shells.Posix().run("/usr/lib/virtualbox/VBoxManage", arguments)

    assert shlex.split(command)[5:] == arguments


@pytest.mark.parametrize("long", [False, True])
def test_posix_scripts_are_one_line_any_login_shell_passes_on(long: bool) -> None:
    shell = shells.Posix()

    commands = [
        shell.poll("0" * 16, "/x", settings="all", long=long),
        shell.probe("0" * 16, ""),
        shell.inspect("0" * 16, "/x", "/home"),
    ]

    for command in commands:
        assert "\n" not in command
        assert "!" not in command
        assert "\\\\" not in command
        assert command.startswith("exec env LC_ALL=C.UTF-8 /bin/sh -c ")


def test_sections_pass_over_a_greeting_and_need_an_end() -> None:
    answer = 'Welcome!\n\nN1 running\n"a"\n\nN1 end 0\n'

    parts = shells.sections("N1", answer.encode())

    assert parts is not None
    assert [(part.name, part.detail, part.text) for part in parts] == [
        ("running", "", '"a"\n'),
        ("end", "0", ""),
    ]
    assert shells.sections("N1", answer[:-10].encode()) is None
    assert shells.sections("N1", b"") is None


def test_a_frame_with_another_nonce_is_text() -> None:
    parts = shells.sections("N1", b"\nN1 running\n\nN2 end 0\n\nN1 end 0\n")

    assert parts is not None
    assert "N2 end 0" in parts[0].text


@given(text_without_null)
def test_powershell_literals_hold_any_text(text: str) -> None:
    command = shells.Windows().tail(text, 5)

    literal = decoded(command).partition("$F='")[2].partition("';gc ")[0]
    assert literal.count("'") % 2 == 0
    for quote in "'\u2018\u2019\u201a\u201b":
        literal = literal.replace(quote * 2, quote)
    assert literal == text


def test_windows_commands_fit_in_cmds_8191_characters() -> None:
    shell = shells.Windows()

    commands = [
        shell.poll("0" * 16, PROGRAM, settings="all", long=True),
        shell.probe("0" * 16, PROGRAM),
        shell.inspect("0" * 16, PROGRAM, "C:\\" + "x" * 200),
        shell.run(PROGRAM, ["startvm", "95581d29-3e5e-472e-8f12-f452e8095714"]),
    ]

    assert max(map(len, commands)) < 8191
    assert all(set('"&|<>^%') & set(command) == set() for command in commands)


def test_a_double_quote_is_not_passed_to_a_windows_program() -> None:
    with pytest.raises(ValueError, match="quote"):
        shells.Windows().run(PROGRAM, ['createvm --name "x"'])
