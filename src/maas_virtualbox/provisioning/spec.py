# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""What a VM shall be: the description that `creation` makes VMs from, checked.

A VM for MAAS has BIOS firmware (network boot by EFI broke in several versions of VirtualBox),
boots from the network first and from its disk second, and has one NIC and one disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from maas_virtualbox.config import options
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

Attachment = Literal["hostonly", "bridged", "nat", "none"]
"""What a NIC is attached to; `none`: to nothing, its cable is in."""

NICModel = Literal["e1000", "virtio"]
"""The hardware of a NIC: VirtualBox's 82540EM or virtio."""

NIC_TYPES: Mapping[NICModel, str] = {"e1000": "82540EM", "virtio": "virtio"}
"""VirtualBox's names of them."""

_NAME = re.compile(r"\w(?:[\w .()-]*[\w)-])?")
_LONGEST_NAME = 80
_NETWORK = re.compile(r"[^\x00-\x1f\x7f\"'`$\\-][^\x00-\x1f\x7f\"'`$\\]{0,199}")
_OS_TYPE = re.compile(r"[A-Za-z0-9_]{1,60}")
_NETWORKED = ("hostonly", "bridged")


def _name(text: str) -> str:
    # VirtualBox makes folders and files of names, and writes _ for what it would rather not have
    # there; these letters it takes as they are, so that a VM's folder is called like the VM.
    if not _NAME.fullmatch(text) or len(text.encode()) > _LONGEST_NAME:
        raise ValueError(
            f"the name {text!r} is not allowed: letters, digits, blanks and . _ - ( ) only, at"
            f" most {_LONGEST_NAME} bytes, a letter or digit first and no blank or dot last"
        )
    if settings_xml.normalise_uuid(text) or settings_xml.parse_mac(text):
        raise ValueError(
            f"the name {text!r} is not allowed: it would be taken for a UUID or a MAC"
        )
    if "(being made " in text:
        raise ValueError(f"the name {text!r} is not allowed: VMs being made are called like that")
    return text


def _mac(text: str) -> str:
    mac = settings_xml.parse_mac(text)
    if text and not settings_xml.is_unicast_mac(mac.replace(":", "")):
        raise ValueError(
            f"the MAC {text!r} is not allowed: six pairs of hex digits, not a multicast address"
        )
    return mac


class VMSpec(options.Options):
    """A VM to be made. Immutable and safe to share between threads.

    Raises pydantic's `ValidationError` for what VirtualBox or a shell would misunderstand.
    """

    name: Annotated[str, pydantic.AfterValidator(_name)]
    """Its name, and that of its folder."""
    cpus: Annotated[int, pydantic.Field(ge=1, le=64)] = 1
    """Virtual processors; VirtualBox's limit."""
    memory: Annotated[int, pydantic.Field(ge=4, le=2097152)] = 2048
    """Memory in MiB; VirtualBox's limits. MAAS's own images want 2048 and more."""
    disk: Annotated[int, pydantic.Field(ge=1, le=4096)] = 20
    """Size of the disk in GiB; it takes room on the host as it fills."""
    nic_model: NICModel = "e1000"
    """The NIC's hardware."""
    attachment: Attachment = "hostonly"
    """What the NIC is attached to; MAAS's DHCP server does not reach `nat` and `none`."""
    network: Annotated[
        str, options.matching("network", _NETWORK, "no quotes, $, backslashes or leading dash")
    ] = ""
    """The host's interface for `bridged`, its host-only network for `hostonly`. Empty: the only
    one there is."""
    mac: Annotated[str, pydantic.AfterValidator(_mac)] = ""
    """The NIC's MAC in any notation. Empty: a free one of VirtualBox's range is chosen."""
    os_type: Annotated[
        str,
        options.matching("OS type", _OS_TYPE, "one of those `VBoxManage list ostypes` shows"),
    ] = "Ubuntu_64"
    """VirtualBox's name of the guest's system."""

    @pydantic.model_validator(mode="after")
    def _network_fits(self) -> VMSpec:
        if self.network and self.attachment not in _NETWORKED:
            raise ValueError(
                f"network {self.network!r} does not go with attachment {self.attachment}; say"
                f" {' or '.join(_NETWORKED)}"
            )
        return self
