# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every error this library raises, as a tree.

One question divides the tree: *what can the caller do about it?* `Error.retry` answers it: true
where the same call may well succeed a little later, false where a person has to change something
first. The library itself has by then retried what is worth retrying within the call's deadline.

The text of an error is made for people: which host or VM, what happened in the other side's own
words, and what to type next. No error carries a secret.
"""

from __future__ import annotations

import typing

if typing.TYPE_CHECKING:
    from collections.abc import Sequence


class Error(Exception):
    """Base of all errors of this library; never raised directly."""

    retry: bool = False
    """Whether the same call may succeed later although nobody changed anything."""


class HostListError(Error):
    """A host list could not be understood; the text names the entry. Permanent."""


class ConfigError(Error):
    """A configuration file cannot be used; the text names line and option. Permanent."""


class IdentityError(Error):
    """A private key file cannot be used; the text says why. Permanent."""


class MAASError(Error):
    """MAAS's API does not answer as it should; the text says what. Permanent unless `retry`."""

    def __init__(
        self,
        message: str,
        *,
        retry: bool = False,
        status: int = 0,
        fields: typing.Collection[str] = (),
        reason: str = "",
    ) -> None:
        super().__init__(message)
        self.retry = retry
        self.status = status
        """The HTTP status it refused with; 0 when it gave no answer, or one that is not MAAS's."""
        self.fields = frozenset(fields)
        """The fields of the request that it refused, if it named any."""
        self.reason = reason
        """Why, in MAAS's own words; may be empty."""


class NotCommissioned(MAASError):
    """MAAS has a machine and its power parameters, and did not commission it. Retry later."""


# -- The host as a whole ------------------------------------------------------------------------


class HostDown(Error):
    """A host cannot be asked at all; its VMs' power is unknown. Base of the errors below."""

    retry = True

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        """The name of the host."""
        self.reason = reason
        """The text without the host's name."""


class HostUnreachable(HostDown):
    """No connection: nothing listens, no route, no name, no answer in time. Retry later."""


class VMUnreachable(HostDown):
    """No host in reach has the VM, and this one, which is down, may have it. Retry later."""


class LoginRefused(HostDown):
    """The host does not accept the key for this user. Permanent until someone adds the key."""

    retry = False


class HostKeyChanged(HostDown):
    """The host presented another key than the pinned one. Permanent until someone accepts it."""

    retry = False

    def __init__(self, host: str, reason: str, *, pinned: Sequence[str], presented: str) -> None:
        super().__init__(host, reason)
        self.pinned = tuple(pinned)
        """Fingerprints (`SHA256:…`) that would have been accepted."""
        self.presented = presented
        """Fingerprint (`SHA256:…`) of the key the host presented."""


class KnownHostsBroken(HostDown):
    """The known_hosts file cannot be read, or cannot tell whether the host is the right one; the
    text names the line. Permanent until someone corrects it."""

    retry = False


class Closed(HostDown):
    """The fleet was closed, by the program that made it. Permanent: make another one."""

    retry = False


class ConnectionLost(HostDown):
    """The connection broke while a command ran: whether it took effect is unknown.

    Re-read, then retry.
    """


class CommandTimeout(HostDown):
    """A command gave no complete answer before its deadline: whether it took effect is unknown."""


class BadOutput(HostDown):
    """A host's answer is cut off, too long or not what the program prints. Retry once."""


class OversizedOutput(BadOutput):
    """A host's answer is beyond a limit of size or number, and was not read to its end.

    Permanent until something changes on the host: it would send the same again.
    """

    retry = False


class HostSetupRefused(HostDown):
    """A host cannot be given the extension scripts; the text says why. Permanent."""

    retry = False


class VBoxManageMissing(HostDown):
    """The host has no VBoxManage where one is looked for. Permanent until someone installs it."""

    retry = False


# -- VBoxManage's own errors --------------------------------------------------------------------


class VBoxManageError(Error):
    """VBoxManage reported an error. `kind` says what sort; `retry` follows from it."""

    def __init__(
        self, host: str, *, kind: str, code: str, words: str, hint: str, retry: bool
    ) -> None:
        super().__init__(
            f"{host}: {words}{f' ({code})' if code else ''}{f': {hint}' if hint else ''}"
        )
        self.host = host
        """The name of the host."""
        self.kind = kind
        """The sort of error: one of `faults.Fault`'s values."""
        self.code = code
        """VirtualBox's code, such as `VBOX_E_OBJECT_NOT_FOUND`; empty when it gave none."""
        self.words = words
        """VirtualBox's own first sentence."""
        self.hint = hint
        """What a person can do about it; may be empty."""
        self.retry = retry


# -- Which VM -----------------------------------------------------------------------------------


class UnknownVM(Error):
    """No VM on the hosts asked answers to the selector, and all of them were asked. Permanent."""


class AmbiguousVM(Error):
    """A selector fits several VMs; the text lists them. Permanent: use a UUID, a host, a zone."""

    def __init__(self, message: str, *, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)
        """The VMs it fits, each as `host/name {uuid}`."""


class ContestedVM(AmbiguousVM):
    """A host lists a VM that belongs to another host. Permanent until a person decides; see
    `vm_hosts`."""


# -- Power --------------------------------------------------------------------------------------


class PowerError(Error):
    """A VM did not reach the wished power state; the text says why. Permanent unless `retry`."""

    def __init__(self, message: str, *, log_tail: Sequence[str] = (), retry: bool = False) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)
        """The last lines of the VM's VBox.log, oldest first; empty where they do not help."""
        self.retry = retry


class PowerTimeout(PowerError):
    """The wished state was not reached before the deadline; it may still be reached. Retry."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=True)


class OrphanedProcess(PowerError):
    """VirtualBox says the VM is off while a process runs it: nothing was done, to save its disks.

    It has lost sight of the VM, as it does when its IPC folder in /tmp is removed (measured), and
    would start a second copy on the same disks. Permanent until someone ends the process.
    """


# -- Making and deleting VMs --------------------------------------------------------------------


class CreationError(Error):
    """A VM was not made; nothing of it is left unless the text says so. Permanent unless `retry`.

    Permanent means that the wish does not fit the host: a name or MAC that is taken, a network
    that is not there, a key that is bound to the gate.
    """

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class DeletionError(Error):
    """A VM was not deleted: it is not ours, it runs, or others' disks would go with it; the text
    says what to do. Permanent unless `retry`."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


_KINDS: tuple[tuple[type[Error], str], ...] = (
    (UnknownVM, "unknown-vm"),
    (ContestedVM, "contested-vm"),
    (AmbiguousVM, "ambiguous-vm"),
    (OrphanedProcess, "split-brain"),
    (PowerTimeout, "timeout"),
    (VMUnreachable, "vm-out-of-reach"),
    (LoginRefused, "login-refused"),
    (HostKeyChanged, "host-key-changed"),
    (VBoxManageMissing, "no-vboxmanage"),
    (HostDown, "host-down"),
)


def kind_of(error: Error) -> str:
    """Return an error's sort in one word, for metrics and programs; `failed` for most."""
    return next((word for kind, word in _KINDS if isinstance(error, kind)), "failed")
