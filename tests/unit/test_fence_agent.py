# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent's options, lines on standard input, and metadata."""

from __future__ import annotations

import defusedxml.ElementTree
import pytest

from maas_virtualbox import ConfigError
from maas_virtualbox.cli import fence_agent

HOST = ("--ip=10.0.0.5", "--username=ivan")


def test_lines_stand_for_options() -> None:
    lines = [
        "# a comment\n",
        "\n",
        "action=off\n",
        " ip=10.0.0.5 \n",
        "username=ivan\n",
        "plug=a=b",
    ]

    options = fence_agent.parse(fence_agent.arguments(lines))

    assert (options.action, options.ip, options.username) == ("off", "10.0.0.5", "ivan")
    assert options.plug == "a=b"


@pytest.mark.parametrize("line", ["nodename=node1", "#plug=node1", "plug=", "plug", "=x", "ssh=1"])
def test_lines_that_say_nothing_to_this_agent_are_ignored(line: str) -> None:
    assert fence_agent.arguments([line]) == []


def test_a_name_on_standard_input_may_be_quoted_and_have_dashes() -> None:
    assert fence_agent.arguments(['plug=" my vm "', "identity-file=/k"]) == [
        "--plug= my vm ",
        "--identity-file=/k",
    ]


@pytest.mark.parametrize(
    ("value", "level"), [("1", 1), ("yes", 1), ("true", 1), ("0", 0), ("No", 0), ("off", 0)]
)
def test_verbose_on_standard_input_is_a_yes_or_a_no(value: str, level: int) -> None:
    line = f"verbose={value}"

    assert fence_agent.parse([*HOST, "-n", "a", *fence_agent.arguments([line])]).verbose == level


def test_short_options_are_those_of_fence_vbox() -> None:
    words = [
        "-a",
        "10.0.0.5",
        "-u",
        "2222",
        "-l",
        "ivan",
        "-k",
        "/key",
        "-n",
        "node1",
        "-o",
        "STATUS",
        "-vv",
    ]

    options = fence_agent.parse(words)

    assert (options.ip, options.ipport, options.username) == ("10.0.0.5", 2222, "ivan")
    assert (options.identity_file, options.plug) == ("/key", "node1")
    assert (options.action, options.verbose) == ("status", 2)


def test_the_action_is_reboot_unless_another_is_named() -> None:
    assert fence_agent.parse([*HOST, "--plug=node1"]).action == "reboot"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "which host"),
        (["--ip=h", "--plug=a"], "which host"),
        ([*HOST], "which VM"),
        ([*HOST, "-o", "status"], "which VM"),
        ([*HOST, "-n", "a", "-o", "explode"], "no action 'explode'"),
        ([*HOST, "-n", "a", "-u", "ssh"], "invalid int value: 'ssh'"),
        ([*HOST, "-n", "a", "--delay=nan"], "'nan' is not a number from 0 to 3600"),
        ([*HOST, "-n", "a", "--delay=-1"], "'-1' is not a number"),
        ([*HOST, "-n", "a", "--power-timeout=0"], "a timeout of 0 seconds"),
        ([*HOST, "-n", "a", "--config=c.yaml"], "not both"),
        (["--config=c.yaml", "--host-key=SHA256:x", "-n", "a"], "not both"),
        ([*HOST, "node1"], "words that are no options"),
    ],
)
def test_wrong_options_are_named(words: list[str], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fence_agent.parse(words)

    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    "words", [["--password=hunter2"], ["-p", "hunter2"], ["-phunter2"], ["--p=hunter2"]]
)
def test_a_password_is_refused_and_not_repeated(words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"unknown: --?p") as caught:
        fence_agent.parse([*HOST, "--plug=node1", *words])

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("action", ["list", "list-status", "monitor", "validate-all"])
def test_what_is_about_a_host_needs_no_plug(action: str) -> None:
    assert fence_agent.parse([*HOST, "-o", action]).plug == ""


def test_the_default_times_are_within_pacemakers() -> None:
    options = fence_agent.parse([*HOST, "--plug=node1"])

    look = options.login_timeout + options.shell_timeout
    assert look < 20
    assert look + 2 * options.power_timeout < 60


def test_the_metadata_names_every_parameter_and_action() -> None:
    agent = defusedxml.ElementTree.fromstring(fence_agent.metadata())

    options = fence_agent.parse([*HOST, "--plug=node1"])
    names = {parameter.get("name") for parameter in agent.iter("parameter")}
    assert agent.get("name") == "fence_maas_virtualbox"
    assert names == {field for field in dir(options) if not field.startswith("_")}
    assert [action.get("name") for action in agent.iter("action")] == list(fence_agent.ACTIONS)


def test_the_metadata_says_which_parameters_are_needed() -> None:
    agent = defusedxml.ElementTree.fromstring(fence_agent.metadata())

    needed = {each.get("name") for each in agent.iter("parameter") if each.get("required") == "1"}
    assert needed == {"action", "plug"}
