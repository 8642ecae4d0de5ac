# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power parameters of a VM in MAAS."""

from __future__ import annotations

import shlex

import pytest

from maas_virtualbox import errors
from maas_virtualbox.config import config_file
from maas_virtualbox.maas import power_parameters
from maas_virtualbox.maas.power_parameters import PowerParameters

UUID = "90529436-6acf-5a54-ad77-350f4c802e0f"


def test_of_returns_the_uris_of_one_vm() -> None:
    made = PowerParameters.of(UUID, "TOKEN", address="10.0.0.2", port=5307, tls=False)
    assert made.power_on_uri == f"http://10.0.0.2:5307/vm/{UUID}/on"
    assert made.power_off_uri == f"http://10.0.0.2:5307/vm/{UUID}/off"
    assert made.power_query_uri == f"http://10.0.0.2:5307/vm/{UUID}/query"
    assert made.power_token == "TOKEN"
    assert "TOKEN" not in repr(made)


def test_of_with_ipv6_and_tls_returns_https_uris() -> None:
    made = PowerParameters.of(UUID, "T", address="2001:db8::2", port=443, tls=True)
    assert made.power_on_uri == f"https://[2001:db8::2]:443/vm/{UUID}/on"


def test_maas_command_is_quoted_for_a_shell() -> None:
    made = PowerParameters.of(UUID, "TOKEN", address="10.0.0.2", port=5307, tls=False)
    words = shlex.split(made.maas_command("abc123", "admin"))
    assert words[:5] == ["maas", "admin", "machine", "update", "abc123"]
    assert r"power_parameters_power_on_regex=status.*\:.*running" in words
    assert "power_type=webhook" in words
    assert "power_parameters_skip_check=true" in words


def test_reachable_address_of_a_literal_is_itself() -> None:
    assert power_parameters.reachable_address(config_file.Listen("10.0.0.2")) == "10.0.0.2"


def test_address_problem_reports_loopback() -> None:
    assert power_parameters.address_problem("10.0.0.2") == ""
    assert "127.0.0.1" in power_parameters.address_problem("127.0.0.1")
    with pytest.raises(errors.ConfigError, match="literal IP address"):
        power_parameters.address_problem("maas.example")
