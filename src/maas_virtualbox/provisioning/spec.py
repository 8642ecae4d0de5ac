# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The specification of a new VM.

A VM for MAAS has BIOS firmware (EFI network boot was broken in several versions of VirtualBox). It
boots from the network first and from its disk second, and has one NIC and one disk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from maas_virtualbox import errors
from maas_virtualbox.config import options
from maas_virtualbox.virtualbox import settings_xml

if TYPE_CHECKING:
    from collections.abc import Mapping

Attachment = Literal["hostonly", "bridged", "nat", "none"]
"""What a NIC is attached to. With `none`, the cable is connected but leads to no network."""

NICModel = Literal["e1000", "virtio"]
"""The hardware of a NIC: an Intel 82540EM or virtio."""

NIC_TYPES: Mapping[NICModel, str] = {"e1000": "82540EM", "virtio": "virtio"}
"""VirtualBox's names of the models."""

_NAME = re.compile(r"\w(?:[\w .()-]*[\w)-])?")
_MAX_NAME_BYTES = 80
_NETWORK = re.compile(r"[^\x00-\x1f\x7f\"'`$\\-][^\x00-\x1f\x7f\"'`$\\]{0,199}")
_OS_TYPE = re.compile(r"[A-Za-z0-9_]{1,60}")
_ATTACHMENTS_WITH_NETWORK = ("hostonly", "bridged")


def _check_name(name: str) -> str:
    # VirtualBox names a folder and files after the VM, and replaces other characters by "_". With
    # these characters, the folder has exactly the VM's name.
    if not _NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_BYTES:
        raise ValueError(
            f"the name {name!r} is not allowed: use only letters, digits, spaces and . _ - ( ), at"
            f" most {_MAX_NAME_BYTES} bytes, with a letter or digit first and no space or dot last"
        )
    if settings_xml.normalise_uuid(name) or settings_xml.parse_mac(name):
        raise ValueError(f"the name {name!r} is not allowed: it looks like a UUID or a MAC")
    if "(being made " in name:
        raise ValueError(f"the name {name!r} is not allowed: it is reserved for incomplete VMs")
    return name


def _parse_mac(text: str) -> str:
    mac = settings_xml.parse_mac(text)
    if text and not settings_xml.is_unicast_mac(mac.replace(":", "")):
        raise ValueError(
            f"the MAC {text!r} is not allowed: use six pairs of hex digits that are not a"
            " multicast address"
        )
    return mac


class VMSpec(options.Options):
    """The specification of a new VM. Immutable, so threads may share it.

    Raises:
        VMSpecError: an option is unknown, or VirtualBox or a shell would misinterpret its value.
    """

    name: Annotated[str, pydantic.AfterValidator(_check_name)]
    """The name of the VM and of its folder."""
    cpus: Annotated[int, pydantic.Field(ge=1, le=64)] = 1
    """Virtual processors, within VirtualBox's limits."""
    memory: Annotated[int, pydantic.Field(ge=4, le=2097152)] = 2048
    """Memory in MiB, within VirtualBox's limits. MAAS's own images need at least 2048."""
    disk: Annotated[int, pydantic.Field(ge=1, le=4096)] = 20
    """Size of the disk in GiB. Its file grows as the disk fills."""
    nic_model: NICModel = "e1000"
    """The NIC's hardware."""
    attachment: Attachment = "hostonly"
    """What the NIC is attached to. MAAS's DHCP server does not reach `nat` and `none`."""
    network: Annotated[
        str, options.matching("network", _NETWORK, "no quotes, $, backslashes or leading dash")
    ] = ""
    """The host's interface for `bridged`, or its host-only network for `hostonly`. Empty: the only
    one that the host has."""
    mac: Annotated[str, pydantic.AfterValidator(_parse_mac)] = ""
    """The NIC's MAC in any notation. Empty: a free one of VirtualBox's range."""
    os_type: Annotated[
        str,
        options.matching("OS type", _OS_TYPE, "one of those that `VBoxManage list ostypes` shows"),
    ] = "Ubuntu_64"
    """VirtualBox's ID of the guest's operating system."""

    @pydantic.model_validator(mode="after")
    def _check_network(self) -> VMSpec:
        if self.network and self.attachment not in _ATTACHMENTS_WITH_NETWORK:
            raise ValueError(
                f"network {self.network!r} cannot be used with attachment {self.attachment}: use"
                f" attachment {' or '.join(_ATTACHMENTS_WITH_NETWORK)}, or omit the network"
            )
        return self

    @pydantic.model_validator(mode="wrap")
    @classmethod
    def _raise_own_error(
        cls, values: Any, validate: pydantic.ModelWrapValidatorHandler[VMSpec]
    ) -> VMSpec:
        try:
            return validate(values)
        except pydantic.ValidationError as error:
            location = error.errors(include_url=False, include_input=False)[0]["loc"]
            option = str(location[0]).replace("_", "-") if location else ""
            raise errors.VMSpecError(options.explain(error), option=option) from None
