# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every message about VMs and machines in MAAS, with its hint. docs/reference/enlistment.md lists
them; a test compares the two.

Texts only: when a message applies is decided in `planning`, `enlistment` and `check`.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """What is wrong, and what a person can do about it. `{names}` stand for what `of` is given."""

    text: str
    hint: str = ""

    def of(self, **values: object) -> Message:
        """Return it with values for its names."""
        return Message(self.text.format(**values), self.hint.format(**values))

    def __str__(self) -> str:
        return f"{self.text}: {self.hint}" if self.hint else self.text


# -- MAAS as a whole ----------------------------------------------------------------------------

NO_IMAGES = Message(
    "MAAS has no images and refuses every machine",
    "import one on its page Images, or with: maas NAME boot-resources import",
)
NO_IMAGE = Message(
    "MAAS has no image for {architecture} and refuses such machines",
    "import one on its page Images, and wait until the import is complete; or, if that is the"
    " wrong guest type, VBoxManage modifyvm VM --ostype Ubuntu_64",
)
NO_RACK = Message(
    "MAAS has no rack controller: it can neither switch nor commission a machine",
    "add one with: sudo maas init rack; or, with the charm maas-region, juju config maas-region"
    " enable_rack_mode=true",
)
VERIFY_SSL_BROKEN = Message(
    "MAAS {version} fails at each power request to a machine that has power_verify_ssl=y",
    "switch Verify SSL connections off in MAAS, or upgrade MAAS: 3.5.5, 3.6.1 and newer work",
)
VERIFY_SSL_IGNORED = Message(
    "MAAS {version} checks no certificate, even where power_verify_ssl=y",
    "upgrade MAAS: 3.5.5, 3.6.1 and newer check it",
)

# -- What MAAS answers to a write ---------------------------------------------------------------

CONFLICT = Message(
    "MAAS reports a conflict (409)",
    "enlist again; if it stays, another machine in MAAS has these power parameters: delete it",
)
CONFLICT_REASON = Message(
    "MAAS reports a conflict (409): {reason}", "resolve it in MAAS, then enlist again"
)
NOT_COMMISSIONED = Message(
    "MAAS has the machine and cannot commission it (503), mostly because no rack controller"
    " reaches the power service",
    "see maas-virtualbox maas check, then enlist again with --commission",
)
FINISHING = Message(
    "interrupted: finishing the machines under way", "the next run does the others"
)
INTERRUPTED = Message(
    "interrupted: {done} of {total} machines written", "enlist again for the others"
)

# -- VMs for which nothing is done --------------------------------------------------------------

MAC_OF_NODE = Message(
    "its MAC {address} is that of the {kind} {name} in MAAS",
    "VBoxManage modifyvm {uuid} --macaddress{slot} auto; or, if that is the VM itself, delete the"
    " {kind} in MAAS",
)
MAC_OF_VM = Message(
    "its MAC {address} is also that of {vms}", "VBoxManage modifyvm {uuid} --macaddress{slot} auto"
)
MAC_OF_MACHINE = Message(
    "its new MAC {address} is that of {machine} in MAAS",
    "delete that machine in MAAS, or correct its MACs there",
)
MAC_LATER = Message(
    "its new MAC {address} has to wait while the machine is {status}",
    "enlist again when it is Ready",
)
NAME_OF_VM = Message(
    "its name is also that of {vms}",
    "rename it: VBoxManage modifyvm {uuid} --name NAME; or enlist its host alone, --host {host}:"
    " where the name is taken in MAAS, it gets its host's added",
)
UUID_OF_VM = Message(
    "its UUID is on several hosts: {hosts}",
    "a VM was copied with its UUID: unregister it on all hosts but one",
)
ZONE_NAME = Message(
    "MAAS accepts no zone named {zone}: letters, digits, blanks, - and _ only",
    "give {host} another zone= in the host list",
)
SEVERAL_HAVE_URIS = Message(
    "several machines have its URIs: {machines}", "delete all but one of these machines in MAAS"
)
SEVERAL_FIT = Message(
    "several machines have its MACs, UUID or mark: {machines}",
    "delete all but one of these machines in MAAS",
)
FITS_OTHERS = Message(
    "{machine} in MAAS fits {vms} as well",
    "delete that machine in MAAS, or correct its MACs there",
)
IS_ANOTHER = Message(
    "{machine} in MAAS, which fits, is {vm}",
    "delete that machine in MAAS, or correct its MACs there",
)
OTHER_POWER_TYPE = Message("{machine} in MAAS has {power}", "--take-over gives it ours")
INACCESSIBLE = Message(
    "VirtualBox cannot read its settings", "maas-virtualbox check shows the reason"
)
NO_NIC = Message(
    "it has no network card, and MAAS knows machines by their MACs",
    "VBoxManage modifyvm {uuid} --nic1 hostonly",
)
ORPHAN = Message(
    "its VM is on none of the hosts",
    "delete the machine in MAAS, or put the VM's host on the host list",
)
