# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Which VMs may be wished for."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from maas_virtualbox import VMSpec
from maas_virtualbox.config.options import explain


def complaint(**options: Any) -> str:
    """What is said of a wish that is refused."""
    with pytest.raises(pydantic.ValidationError) as caught:
        VMSpec.model_validate({"name": "node1", **options})
    return explain(caught.value)


def test_a_name_is_enough() -> None:
    spec = VMSpec(name="node1")

    assert (spec.cpus, spec.memory, spec.disk) == (1, 2048, 20)
    assert (spec.nic_model, spec.attachment, spec.mac) == ("e1000", "hostonly", "")


@pytest.mark.parametrize(
    "name", ["node1", "my node 01", "výměna-日本語", "a", "10", "a (b)", "x" * 80, "node1.maas"]
)
def test_names_people_give_are_allowed(name: str) -> None:
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
def test_names_files_and_shells_would_misunderstand_are_refused(name: str) -> None:
    assert "is not allowed: letters, digits" in complaint(name=name)


@pytest.mark.parametrize(
    "name", ["11111111-2222-3333-4444-555555555555", "080027aabb01", "08-00-27-aa-bb-01"]
)
def test_a_name_that_would_be_taken_for_a_uuid_or_a_mac_is_refused(name: str) -> None:
    assert "would be taken for a UUID or a MAC" in complaint(name=name)


def test_a_name_that_says_it_is_being_made_is_refused() -> None:
    name = "x (being made by maas-virtualbox on h process 1)"

    assert "VMs being made are called like that" in complaint(name=name)


@pytest.mark.parametrize("mac", ["08:00:27:AA:BB:01", "080027aabb01", "0800.27aa.bb01"])
def test_a_mac_is_taken_in_any_notation(mac: str) -> None:
    assert VMSpec(name="node1", mac=mac).mac == "08:00:27:aa:bb:01"


@pytest.mark.parametrize("mac", ["01:00:27:aa:bb:01", "08:00:27:aa:bb", "x", "08:00:27:aa:bb:0g"])
def test_a_mac_no_nic_can_have_is_refused(mac: str) -> None:
    assert f"the MAC {mac!r} is not allowed" in complaint(mac=mac)


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
def test_what_virtualbox_would_refuse_is_refused_by_its_name(option: str, value: object) -> None:
    assert complaint(**{option: value}).startswith(option.replace("_", "-"))


@pytest.mark.parametrize("network", ["-x", 'a"b', "a'b", "$x", "a\nb", "x" * 201])
def test_a_network_a_shell_would_misunderstand_is_refused(network: str) -> None:
    assert "the network " in complaint(attachment="bridged", network=network)


@pytest.mark.parametrize("network", ["eth0", "en0: Wi-Fi (AirPort)", "Intel(R) Ethernet #2"])
def test_networks_of_all_systems_are_allowed(network: str) -> None:
    assert VMSpec(name="a", attachment="bridged", network=network).network == network


@pytest.mark.parametrize("attachment", ["nat", "none"])
def test_a_network_without_an_attachment_that_has_one_is_refused(attachment: str) -> None:
    assert "does not go with attachment" in complaint(attachment=attachment, network="eth0")


@pytest.mark.parametrize("os_type", ["Ubuntu 64", "x;y", "-x", "é"])
def test_an_os_type_is_a_word(os_type: str) -> None:
    assert "the OS type " in complaint(os_type=os_type)


def test_options_may_be_written_with_dashes_and_unknown_ones_are_refused() -> None:
    assert VMSpec.model_validate({"name": "a", "nic-model": "virtio"}).nic_model == "virtio"
    assert complaint(colour="red") == "unknown option 'colour'"
