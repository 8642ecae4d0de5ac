# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The fence agent's options, lines on standard input, and metadata."""

from __future__ import annotations

import dataclasses

import defusedxml.ElementTree
import pytest

from maas_virtualbox import ConfigError
from maas_virtualbox.cli import fence_agent

HOST = ("--ip=10.0.0.5", "--username=ivan")


def test_read_arguments_turns_lines_into_options() -> None:
    lines = [
        "# a comment\n",
        "\n",
        "action=off\n",
        " ip=10.0.0.5 \n",
        "username=ivan\n",
        "plug=a=b",
    ]

    options = fence_agent.parse(fence_agent.read_arguments(lines))

    assert (options.action, options.ip, options.username) == ("off", "10.0.0.5", "ivan")
    assert options.plug == "a=b"


@pytest.mark.parametrize("line", ["nodename=node1", "#plug=node1", "plug=", "plug", "=x", "ssh=1"])
def test_read_arguments_ignores_what_it_does_not_know(line: str) -> None:
    assert fence_agent.read_arguments([line]) == []


def test_read_arguments_accepts_quotes_and_dashes() -> None:
    assert fence_agent.read_arguments(['plug=" my vm "', "identity-file=/k"]) == [
        "--plug= my vm ",
        "--identity-file=/k",
    ]


@pytest.mark.parametrize(
    ("value", "level"), [("1", 1), ("yes", 1), ("true", 1), ("0", 0), ("No", 0), ("off", 0)]
)
def test_read_arguments_takes_verbose_as_yes_or_no(value: str, level: int) -> None:
    line = f"verbose={value}"

    assert (
        fence_agent.parse([*HOST, "-n", "a", *fence_agent.read_arguments([line])]).verbose == level
    )


def test_parse_accepts_the_short_options_of_fence_vbox() -> None:
    arguments = [
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

    options = fence_agent.parse(arguments)

    assert (options.ip, options.ipport, options.username) == ("10.0.0.5", 2222, "ivan")
    assert (options.identity_file, options.plug) == ("/key", "node1")
    assert (options.action, options.verbose) == ("status", 2)


def test_parse_defaults_to_reboot() -> None:
    assert fence_agent.parse([*HOST, "--plug=node1"]).action == "reboot"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no host: use ip"),
        (["--ip=h", "--plug=a"], "no host: use ip"),
        ([*HOST], "no VM: use plug"),
        ([*HOST, "-o", "status"], "no VM: use plug"),
        ([*HOST, "-n", "a", "-o", "explode"], "unknown action 'explode'"),
        ([*HOST, "-n", "a", "-u", "ssh"], "invalid int value: 'ssh'"),
        ([*HOST, "-n", "a", "--delay=nan"], "expected seconds from 0 to 3600, not 'nan'"),
        ([*HOST, "-n", "a", "--delay=-1"], "not '-1'"),
        ([*HOST, "-n", "a", "--power-timeout=0"], "power_timeout must be greater than 0"),
        ([*HOST, "-n", "a", "--config=c.yaml"], "not both"),
        (["--config=c.yaml", "--host-key=SHA256:x", "-n", "a"], "not both"),
        ([*HOST, "node1"], "unexpected arguments"),
    ],
)
def test_parse_names_what_is_wrong(arguments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fence_agent.parse(arguments)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    "arguments", [["--password=hunter2"], ["-p", "hunter2"], ["-phunter2"], ["--p=hunter2"]]
)
def test_parse_refuses_a_password_without_quoting_it(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"unknown options: --?p") as caught:
        fence_agent.parse([*HOST, "--plug=node1", *arguments])

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("action", ["list", "list-status", "monitor", "validate-all"])
def test_parse_of_an_action_on_hosts_needs_no_plug(action: str) -> None:
    assert fence_agent.parse([*HOST, "-o", action]).plug == ""


def test_default_timeouts_are_below_pacemakers() -> None:
    options = fence_agent.parse([*HOST, "--plug=node1"])

    assert options.find_timeout < 20
    assert (options.action, options.timeout < 60) == ("reboot", True)


def test_metadata_names_every_parameter_and_action() -> None:
    agent = defusedxml.ElementTree.fromstring(fence_agent.metadata())

    options = fence_agent.parse([*HOST, "--plug=node1"])
    names = {parameter.get("name") for parameter in agent.iter("parameter")}
    assert agent.get("name") == "fence_maas_virtualbox"
    assert names == {field.name for field in dataclasses.fields(options)}
    assert [action.get("name") for action in agent.iter("action")] == list(fence_agent.ACTIONS)


def test_metadata_marks_the_required_parameters() -> None:
    agent = defusedxml.ElementTree.fromstring(fence_agent.metadata())

    required = {
        parameter.get("name")
        for parameter in agent.iter("parameter")
        if parameter.get("required") == "1"
    }
    assert required == {"action", "plug"}
