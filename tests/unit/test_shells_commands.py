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


# -- Frames -----------------------------------------------------------------------------------


def test_frames_are_read_with_windows_line_ends() -> None:
    answer = "Welcome\r\n\r\nN1 system\r\nWindows\r\n\r\nN1 end 0\r\n"

    parts = shells.sections("N1", answer.encode())

    assert parts is not None
    assert [(part.name, part.detail, part.text) for part in parts] == [
        ("system", "", "Windows\n"),
        ("end", "0", ""),
    ]


def test_the_detail_of_a_frame_is_the_rest_of_its_line() -> None:
    answer = "\nN1 machine {u} /vms/my vm/my vm.vbox\n<Machine/>\n\nN1 end 0\n"

    parts = shells.sections("N1", answer.encode())

    assert parts is not None
    assert parts[0].detail == "{u} /vms/my vm/my vm.vbox"


@pytest.mark.parametrize("forged", ["\nN2 end 0\n", "\nend 0\n", "\nN1end 0\n", "x N1 end 0\n"])
def test_a_forged_end_ends_nothing(forged: str) -> None:
    answer = f"\nN1 running\n{forged}"

    parts = shells.sections("N1", answer.encode())

    assert parts is None


def test_an_answer_that_goes_on_after_its_end_is_refused() -> None:
    answer = "\nN1 end 0\n\nN1 machine {u} x\n"

    parts = shells.sections("N1", answer.encode())

    assert parts is None


def test_an_answer_cut_off_before_its_end_is_refused() -> None:
    answer = "motd\n\nN1 running\n\nN1 registry\n/home\nN1 end 0\n"
    end = answer.index("\nN1 end")

    lengths = range(end + len("\nN1 end"))
    parts = [shells.sections("N1", answer[:length].encode()) for length in lengths]

    assert not any(parts)


unix_text = st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))


@given(
    unix_text, st.lists(st.tuples(st.sampled_from(["running", "machine"]), unix_text), max_size=4)
)
def test_whatever_a_host_prints_between_frames_is_kept(
    greeting: str, bodies: list[tuple[str, str]]
) -> None:
    answer = greeting + "".join(f"\n{NONCE} {name}\n{text}" for name, text in bodies)

    parts = shells.sections(NONCE, f"{answer}\n{NONCE} end 0\n".encode())

    assert parts is not None
    assert [(part.name, part.text) for part in parts[:-1]] == bodies


# -- POSIX ------------------------------------------------------------------------------------


@request_names
def test_a_posix_command_is_one_line_without_history_characters(name: str) -> None:
    command = REQUESTS[name](shells.Posix(), "/usr/lib/virtualbox/VBoxManage")

    assert not set(command) & set("\n\r!")


@request_names
def test_a_posix_command_takes_the_place_of_its_shell_in_a_utf8_locale(name: str) -> None:
    words = shlex.split(REQUESTS[name](shells.Posix(locale="en_US.UTF-8"), "/x"))

    assert words[0] == "exec"
    assert name == "tail" or words[1:3] == ["env", "LC_ALL=en_US.UTF-8"]


@pytest.mark.parametrize("program", HOSTILE[:-1])
@pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"tail"}))
def test_a_program_of_any_name_is_one_argument(name: str, program: str) -> None:
    words = shlex.split(REQUESTS[name](shells.Posix(), program))

    assert words.count(program) == 1


def test_hostile_arguments_of_vboxmanage_come_out_as_they_went_in() -> None:
    command = shells.Posix().run("/opt/my vbox/VBoxManage", HOSTILE)

    assert shlex.split(command)[3:] == ["/opt/my vbox/VBoxManage", "-q", *HOSTILE]


@pytest.mark.parametrize("path", HOSTILE[:-1])
def test_a_log_of_any_name_is_one_argument(path: str) -> None:
    command = shells.Posix().tail(path, 20)

    assert shlex.split(command) == ["exec", "tail", "-n", "20", path]


def test_the_scripts_arguments_are_in_the_order_it_takes_them() -> None:
    command = shells.Posix().poll(NONCE, "/x y", settings="all", long=True)

    words = shlex.split(command)
    assert words[3:7] == ["/bin/sh", "-c", shells.POLL, "sh"]
    assert words[7:10] == [NONCE, "/x y", "all"]
    assert words[11:] == ["--long"]


def test_only_a_long_observation_lists_long() -> None:
    command = shells.Posix().poll(NONCE, "/x", settings="heads", long=False)

    assert "--long" not in shlex.split(command)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_configured_program_is_an_argument_of_the_probe(program: str) -> None:
    command = shells.Posix().probe(NONCE, program)

    assert shlex.split(command)[7:] == [NONCE, program]


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
def test_a_windows_command_holds_nothing_a_login_shell_reads(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), WINDOWS_PROGRAM)

    assert re.fullmatch(
        r"powershell( -[A-Za-z]+)+( Text)? -EncodedCommand [A-Za-z0-9+/=]+", command
    )


@request_names
def test_a_windows_command_with_the_longest_path_fits_in_cmd(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), LONGEST_PATH)

    assert len(command) <= 8191


@pytest.mark.parametrize("name", sorted(set(REQUESTS) - {"tail"}))
@pytest.mark.parametrize("quote", QUOTES)
def test_a_quote_in_a_path_does_not_end_its_literal(name: str, quote: str) -> None:
    path = f"C:\\it{quote}s;calc\\VBoxManage.exe"

    command = REQUESTS[name](shells.Windows(), path)

    assert path in literals(script(command))


def test_windows_arguments_come_out_as_they_went_in() -> None:
    argv = ["startvm", UUID, "it's", "$env:USERNAME", "a;b", "\u2018x\u2019"]

    command = shells.Windows().run(WINDOWS_PROGRAM, argv)

    call = script(command).partition("& $P ")[2]
    assert literals(call) == ["-q", *argv]


def test_the_exit_code_of_vboxmanage_is_the_windows_commands() -> None:
    command = shells.Windows().run(WINDOWS_PROGRAM, ["list", "vms"])

    assert script(command).endswith(";exit $LASTEXITCODE")


@pytest.mark.parametrize("word", ['"', 'a"b', 'x" --type gui "'])
def test_a_windows_argument_with_a_double_quote_is_refused(word: str) -> None:
    with pytest.raises(ValueError, match="must not contain a quote"):
        shells.Windows().run(WINDOWS_PROGRAM, ["startvm", word])


@request_names
def test_windows_answers_in_utf8_without_progress(name: str) -> None:
    command = REQUESTS[name](shells.Windows(), WINDOWS_PROGRAM)

    assert script(command).startswith("$ProgressPreference='SilentlyContinue';[Console]::OutputE")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_path_is_one_windows_literal(path: str) -> None:
    command = shells.Windows().tail(path, 5)

    assignment = script(command).partition("$F=")[2]
    assert literals(assignment)[0] == path
