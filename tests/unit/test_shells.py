# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Each request to a host as a command line: one line, quoted, within the shells' limits."""

from __future__ import annotations

import base64
import re
import shlex
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox.virtualbox import shells

if TYPE_CHECKING:
    from collections.abc import Callable

text_without_null = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NONCE = "0123456789abcdef"
UUID = "95581d29-3e5e-472e-8f12-f452e8095714"
HOSTILE = ["it's", 'say "hi"', "$(id)", "`id`", "a;b&c|d>e", "-dash", "back\\slash", "~", "*", ""]

REQUESTS: dict[str, Callable[[shells.Shell, str], str]] = {
    "inspect": lambda shell, program: shell.inspect(NONCE, program, "/vms"),
    "poll-heads": lambda shell, program: shell.poll(NONCE, program, settings="heads", long=False),
    "poll-long": lambda shell, program: shell.poll(NONCE, program, settings="all", long=True),
    "probe": lambda shell, program: shell.probe(NONCE, program),
    "run": lambda shell, program: shell.run(program, ["startvm", UUID, "--type", "headless"]),
    "tail": lambda shell, _program: shell.tail("/vms/node1/Logs/VBox.log", 20),
}
request_names = pytest.mark.parametrize("name", REQUESTS)


# -- POSIX ------------------------------------------------------------------------------------


@request_names
def test_posix_command_is_one_line_without_history_characters(name: str) -> None:
    command = REQUESTS[name](shells.Posix(), "/usr/lib/virtualbox/VBoxManage")

    assert not set(command) & set("\n\r!")


@request_names
def test_posix_command_replaces_its_shell_in_a_utf8_locale(name: str) -> None:
    words = shlex.split(REQUESTS[name](shells.Posix(locale="en_US.UTF-8"), "/x"))

    assert words[0] == "exec"
    assert name == "tail" or words[1:3] == ["env", "LC_ALL=en_US.UTF-8"]


@pytest.mark.parametrize("program", HOSTILE[:-1])
@pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"tail"}))
def test_posix_program_with_any_name_is_one_argument(name: str, program: str) -> None:
    words = shlex.split(REQUESTS[name](shells.Posix(), program))

    assert words.count(program) == 1


def test_posix_run_passes_hostile_arguments_unchanged() -> None:
    command = shells.Posix().run("/opt/my vbox/VBoxManage", HOSTILE)

    assert shlex.split(command)[3:] == ["/opt/my vbox/VBoxManage", "-q", *HOSTILE]


@pytest.mark.parametrize("path", HOSTILE[:-1])
def test_posix_tail_of_any_path_is_one_argument(path: str) -> None:
    command = shells.Posix().tail(path, 20)

    assert shlex.split(command) == ["exec", "tail", "-n", "20", path]


def test_posix_script_gets_its_arguments_in_order() -> None:
    command = shells.Posix().poll(NONCE, "/x y", settings="all", long=True)

    words = shlex.split(command)
    assert words[3:7] == ["/bin/sh", "-c", shells.POLL, "sh"]
    assert words[7:10] == [NONCE, "/x y", "all"]
    assert words[11:] == ["--long"]


def test_posix_poll_lists_long_only_if_it_is_long() -> None:
    command = shells.Posix().poll(NONCE, "/x", settings="heads", long=False)

    assert "--long" not in shlex.split(command)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_posix_probe_has_any_program_as_an_argument(program: str) -> None:
    command = shells.Posix().probe(NONCE, program)

    assert shlex.split(command)[7:] == [NONCE, program]


@given(st.lists(text_without_null, max_size=4))
def test_posix_run_passes_any_arguments_unchanged(arguments: list[str]) -> None:
    command = shells.Posix().run("/usr/lib/virtualbox/VBoxManage", arguments)

    assert shlex.split(command)[5:] == arguments


# -- Windows ----------------------------------------------------------------------------------

QUOTES = "'\u2018\u2019\u201a\u201b"
WINDOWS_PROGRAM = "C:\\Program Files\\Oracle\\VirtualBox\\VBoxManage.exe"
LONGEST_PATH = "C:\\" + "\u2019" * 257  # MAX_PATH, of characters that are doubled
_LITERAL = re.compile(f"'((?:[^{QUOTES}]|[{QUOTES}][{QUOTES}])*)'")


def script(command: str) -> str:
    """The PowerShell script of a command line."""
    return base64.b64decode(command.rpartition(" -EncodedCommand ")[2]).decode("utf-16-le")


def literals(text: str) -> list[str]:
    """The strings in single quotes of a script, as PowerShell reads them."""
    return [re.sub(f"([{QUOTES}])[{QUOTES}]", r"\1", found) for found in _LITERAL.findall(text)]


@request_names
def test_windows_command_has_no_characters_of_a_login_shell(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), WINDOWS_PROGRAM)

    assert re.fullmatch(
        r"powershell( -[A-Za-z]+)+( Text)? -EncodedCommand [A-Za-z0-9+/=]+", command
    )


@request_names
def test_windows_command_with_the_longest_path_fits_in_cmd(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), LONGEST_PATH)

    assert len(command) <= 8191


@pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"tail"}))
@pytest.mark.parametrize("quote", QUOTES)
def test_windows_literal_with_a_quote_does_not_end(name: str, quote: str) -> None:
    path = f"C:\\it{quote}s;calc\\VBoxManage.exe"

    command = REQUESTS[name](shells.Windows(), path)

    assert path in literals(script(command))


def test_windows_run_passes_arguments_unchanged() -> None:
    argv = ["startvm", UUID, "it's", "$env:USERNAME", "a;b", "\u2018x\u2019"]

    command = shells.Windows().run(WINDOWS_PROGRAM, argv)

    call = script(command).partition("& $P ")[2]
    assert literals(call) == ["-q", *argv]


def test_windows_run_returns_the_exit_code_of_vboxmanage() -> None:
    command = shells.Windows().run(WINDOWS_PROGRAM, ["list", "vms"])

    assert script(command).endswith(";exit $LASTEXITCODE")


@pytest.mark.parametrize("word", ['"', 'a"b', 'x" --type gui "'])
def test_windows_run_refuses_a_double_quote(word: str) -> None:
    with pytest.raises(ValueError, match="must not contain a quote"):
        shells.Windows().run(WINDOWS_PROGRAM, ["startvm", word])


@request_names
def test_windows_command_answers_in_utf8_without_progress(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), WINDOWS_PROGRAM)

    assert script(command).startswith("$ProgressPreference='SilentlyContinue';[Console]::OutputE")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_windows_literal_of_any_path_is_one(path: str) -> None:
    command = shells.Windows().tail(path, 5)

    assignment = script(command).partition("$F=")[2]
    assert literals(assignment)[0] == path
