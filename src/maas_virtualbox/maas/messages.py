# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every message about VMs and machines in MAAS, with its hint.

`planner`, `apply` and `check` decide when a message applies. docs/reference/enlistment.md lists
all messages, and a test compares the two.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What is wrong, and what a person can do about it. May contain `{placeholders}`."""

    text: str
    hint: str = ""

    def of(self, **values: object) -> Message:
        """Return the message with values for its placeholders."""
        return Message(self.text.format(**values), self.hint.format(**values))

    def __str__(self) -> str:
        return f"{self.text}: {self.hint}" if self.hint else self.text


# -- MAAS as a whole ----------------------------------------------------------------------------

NO_IMAGES = Message(
    "MAAS has no boot images and rejects every machine",
    "import an image on MAAS's page Images, or with: maas NAME boot-resources import",
)
NO_IMAGE = Message(
    "MAAS has no boot image for {architecture} and rejects machines of this architecture",
    "import an image on MAAS's page Images and wait until the import is complete; if the VM has"
    " the wrong guest OS type: VBoxManage modifyvm VM --ostype Ubuntu_64",
)
NO_RACK = Message(
    "MAAS has no rack controller: it can neither control the power of machines nor commission"
    " them",
    "add a rack controller with: sudo maas init rack; or, with the charm maas-region: juju config"
    " maas-region enable_rack_mode=true",
)
VERIFY_SSL_BROKEN = Message(
    "MAAS {version} cannot control the power of machines that have power_verify_ssl=y",
    "turn off Verify SSL connections in MAAS, or upgrade MAAS to 3.5.5, or to 3.6.1 or newer",
)
VERIFY_SSL_IGNORED = Message(
    "MAAS {version} does not verify certificates, even with power_verify_ssl=y",
    "upgrade MAAS to 3.5.5, or to 3.6.1 or newer",
)

# -- Responses to a write, and interruptions ----------------------------------------------------

CONFLICT = Message(
    "MAAS reports a conflict (409)",
    "enlist again; if the conflict persists, another machine in MAAS has these power parameters:"
    " delete that machine",
)
CONFLICT_REASON = Message(
    "MAAS reports a conflict (409): {reason}", "resolve it in MAAS, then enlist again"
)
NOT_COMMISSIONED = Message(
    "MAAS has the machine but cannot commission it (503), usually because no rack controller"
    " reaches the power service",
    "run maas-virtualbox maas check, then enlist again with --commission",
)
FINISHING = Message(
    "interrupted: finishing the machines in progress", "the next run enlists the others"
)
INTERRUPTED = Message(
    "interrupted: {done} of {total} machines written", "enlist again for the others"
)

# -- VMs for which nothing is written -----------------------------------------------------------

MAC_OF_NODE = Message(
    "its MAC {address} belongs to the {kind} {name} in MAAS",
    "VBoxManage modifyvm {uuid} --macaddress{slot} auto; or, if the {kind} is this VM, delete the"
    " {kind} in MAAS",
)
MAC_OF_VM = Message(
    "its MAC {address} also belongs to {vms}",
    "VBoxManage modifyvm {uuid} --macaddress{slot} auto",
)
MAC_OF_MACHINE = Message(
    "its new MAC {address} belongs to the machine {machine} in MAAS",
    "delete that machine in MAAS, or correct its MACs there",
)
MAC_LATER = Message(
    "its new MAC {address} cannot be added while the machine is {status}",
    "enlist again when the machine is Ready",
)
NAME_OF_VM = Message(
    "it would get the same hostname as {vms}",
    "rename it: VBoxManage modifyvm {uuid} --name NAME; or enlist one host at a time with --host"
    " {host}: if MAAS already has the hostname, the host's name is appended",
)
UUID_OF_VM = Message(
    "several hosts have a VM with its UUID: {hosts}",
    "the VM was copied with its UUID: unregister it on all hosts but one",
)
ZONE_NAME = Message(
    "MAAS does not accept the zone name {zone}: only letters, digits, spaces, - and _",
    "give {host} another zone= in the host list",
)
SEVERAL_HAVE_URIS = Message(
    "several machines have its power URIs: {machines}",
    "delete all but one of these machines in MAAS",
)
SEVERAL_FIT = Message(
    "several machines have its MACs, UUID or tag: {machines}",
    "delete all but one of these machines in MAAS",
)
FITS_OTHERS = Message(
    "the machine {machine} in MAAS also matches {vms}",
    "delete that machine in MAAS, or correct its MACs there",
)
IS_ANOTHER = Message(
    "the machine {machine} in MAAS matches, but belongs to {vm}",
    "delete that machine in MAAS, or correct its MACs there",
)
OTHER_POWER_TYPE = Message(
    "the machine {machine} in MAAS has {power}", "use --take-over to replace it"
)
INACCESSIBLE = Message(
    "VirtualBox cannot read its settings", "run maas-virtualbox check for the reason"
)
NO_NIC = Message(
    "it has no network adapter, and MAAS identifies machines by their MACs",
    "VBoxManage modifyvm {uuid} --nic1 hostonly",
)
ORPHAN = Message(
    "none of the hosts has its VM",
    "delete the machine in MAAS, or add the VM's host to the host list",
)
