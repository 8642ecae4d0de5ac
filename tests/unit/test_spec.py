# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The specification of a new VM."""

from __future__ import annotations

from typing import Any

import pytest

from maas_virtualbox import Error, VMSpec, VMSpecError


def message_of(**options: Any) -> str:
    """Return the message of the error for a wrong specification."""
    with pytest.raises(VMSpecError) as caught:
        VMSpec.model_validate({"name": "node1", **options})
    return str(caught.value)


def test_spec_error_is_an_error_of_this_library() -> None:
    with pytest.raises(Error) as caught:
        VMSpec(name="node1", cpus=0)

    assert isinstance(caught.value, VMSpecError)
    assert (caught.value.option, caught.value.retry) == ("cpus", False)


def test_spec_needs_only_a_name() -> None:
    spec = VMSpec(name="node1")

    assert (spec.cpus, spec.memory, spec.disk) == (1, 2048, 20)
    assert (spec.nic_model, spec.attachment, spec.mac) == ("e1000", "hostonly", "")


@pytest.mark.parametrize(
    "name", ["node1", "my node 01", "výměna-日本語", "a", "10", "a (b)", "x" * 80, "node1.maas"]
)
def test_spec_accepts_ordinary_names(name: str) -> None:
    assert VMSpec(name=name).name == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        " ",
        "-dash",
        " lead",
        "trail ",
        "dot.",
        "../up",
        "a/b",
        "a\\b",
        "C:x",
        'he said "hi"',
        "it's",
        "$(id)",
        "`id`",
        "a;b",
        "a&b",
        "a|b",
        "new\nline",
        "end\n",
        "tab\tname",
        "nul\0",
        "\x1b[31m",
        "<inaccessible>",
        "per%20cent",
        "x" * 81,
        "ž" * 41,
    ],
)
def test_spec_refuses_names_unsafe_for_files_and_shells(name: str) -> None:
    assert "is not allowed: use only letters, digits" in message_of(name=name)


@pytest.mark.parametrize(
    "name", ["11111111-2222-3333-4444-555555555555", "080027aabb01", "08-00-27-aa-bb-01"]
)
def test_spec_refuses_a_name_that_looks_like_a_uuid_or_mac(name: str) -> None:
    assert "it looks like a UUID or a MAC" in message_of(name=name)


def test_spec_refuses_the_name_of_an_incomplete_vm() -> None:
    name = "x (being made by maas-virtualbox on h process 1)"

    assert "it is reserved for incomplete VMs" in message_of(name=name)


@pytest.mark.parametrize("mac", ["08:00:27:AA:BB:01", "080027aabb01", "0800.27aa.bb01"])
def test_spec_accepts_a_mac_in_any_notation(mac: str) -> None:
    assert VMSpec(name="node1", mac=mac).mac == "08:00:27:aa:bb:01"


@pytest.mark.parametrize("mac", ["01:00:27:aa:bb:01", "08:00:27:aa:bb", "x", "08:00:27:aa:bb:0g"])
def test_spec_refuses_a_mac_that_no_nic_can_have(mac: str) -> None:
    assert f"the MAC {mac!r} is not allowed" in message_of(mac=mac)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cpus", 0),
        ("cpus", 65),
        ("memory", 3),
        ("memory", 2097153),
        ("disk", 0),
        ("disk", 4097),
        ("nic_model", "ne2000"),
        ("attachment", "intnet"),
    ],
)
def test_spec_refuses_values_that_virtualbox_refuses(option: str, value: object) -> None:
    assert message_of(**{option: value}).startswith(option.replace("_", "-"))


@pytest.mark.parametrize("network", ["-x", 'a"b', "a'b", "$x", "a\nb", "x" * 201])
def test_spec_refuses_a_network_unsafe_for_shells(network: str) -> None:
    assert "the network " in message_of(attachment="bridged", network=network)


@pytest.mark.parametrize("network", ["eth0", "en0: Wi-Fi (AirPort)", "Intel(R) Ethernet #2"])
def test_spec_accepts_networks_of_all_systems(network: str) -> None:
    assert VMSpec(name="a", attachment="bridged", network=network).network == network


@pytest.mark.parametrize("attachment", ["nat", "none"])
def test_spec_refuses_a_network_without_its_attachment(attachment: str) -> None:
    assert "cannot be used with attachment" in message_of(attachment=attachment, network="eth0")


@pytest.mark.parametrize("os_type", ["Ubuntu 64", "x;y", "-x", "é"])
def test_spec_refuses_an_os_type_that_is_not_an_id(os_type: str) -> None:
    assert "the OS type " in message_of(os_type=os_type)


def test_spec_accepts_dashes_and_refuses_unknown_options() -> None:
    assert VMSpec.model_validate({"name": "a", "nic-model": "virtio"}).nic_model == "virtio"
    assert message_of(colour="red") == "unknown option 'colour'"
