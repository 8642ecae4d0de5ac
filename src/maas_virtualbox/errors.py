# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""All errors that this library raises.

`Error.retry` says whether the caller should retry: true where the same call may succeed a little
later, false ("permanent") where a person has to change something first. The library itself has
already retried what is worth retrying before the call's deadline.

`Error.code` classifies an error for programs, logs and metrics. The text is for people: it names
the host or VM, says what happened and what to do. No error carries a secret.
"""

from __future__ import annotations

import enum
import typing

if typing.TYPE_CHECKING:
    from collections.abc import Sequence


class ErrorCode(str, enum.Enum):
    """The classification of errors: all values of `Error.code`."""

    AMBIGUOUS_VM = "ambiguous-vm"
    CLOSED = "closed"
    CONFIG = "config"
    CONTESTED_VM = "contested-vm"
    FAILED = "failed"
    """None of the others."""
    HOST_DOWN = "host-down"
    HOST_KEY_CHANGED = "host-key-changed"
    KNOWN_HOSTS_BROKEN = "known-hosts-broken"
    LOGIN_REFUSED = "login-refused"
    ORPHANED_PROCESS = "orphaned-process"
    TIMEOUT = "timeout"
    UNKNOWN_HOST = "unknown-host"
    UNKNOWN_VM = "unknown-vm"
    VBOXMANAGE_MISSING = "vboxmanage-missing"
    VM_UNREACHABLE = "vm-unreachable"

    # VBoxManage's errors; `virtualbox.error_codes` says which is which.
    CPU_TAKEN = "cpu-taken"
    INACCESSIBLE = "inaccessible"
    LOCALE = "locale"
    LOCKED = "locked"
    NETWORK = "network"
    NOT_FOUND = "not-found"
    NOT_READY = "not-ready"
    NOT_RUNNING = "not-running"
    OTHER = "other"
    RESTRICTED_KEY = "restricted-key"
    SERVICE = "service"
    START_FAILED = "start-failed"
    SYNTAX = "syntax"
    WRONG_STATE = "wrong-state"

    def __str__(self) -> str:
        return self.value


class Error(Exception):
    """Base of all errors of this library; never raised directly."""

    code: ErrorCode = ErrorCode.FAILED
    """The classification of the error."""

    hint: str = ""
    """How a person can fix it; empty where the text says it already."""

    retry: bool = False
    """Whether the same call may succeed later although nobody changed anything."""


# -- Configuration ------------------------------------------------------------------------------


class ConfigError(Error):
    """A configuration file cannot be used; the text names the line and the option. Permanent."""

    code = ErrorCode.CONFIG


class HostListError(ConfigError):
    """A host list, or an entry of one, is wrong; the text names the entry. Permanent."""


class IdentityError(ConfigError):
    """A private key file cannot be used; the text says why. Permanent."""


class VMSpecError(ConfigError):
    """The specification of a new VM is wrong; the text names the option. Permanent."""

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option
        """The option that is wrong; empty if options contradict each other."""


# -- A host -------------------------------------------------------------------------------------


class HostError(Error):
    """A host cannot be used, so the power of its VMs is unknown. Base of the errors below."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host}: {reason}")
        self.host = host
        """The name of the host."""
        self.reason = reason
        """The text without the host's name."""


class Closed(HostError):
    """The program has closed the fleet. Permanent: create another `Fleet`."""

    code = ErrorCode.CLOSED


class HostSetupRefused(HostError):
    """The extension scripts cannot be installed on a host; the text says why. Permanent."""


class KnownHostsBroken(HostError, ConfigError):
    """The known_hosts file cannot be read, or cannot identify the host; the text names the line.
    Permanent until a person corrects the file."""

    code = ErrorCode.KNOWN_HOSTS_BROKEN


class VBoxManageMissing(HostError):
    """The host has no VBoxManage in the expected places. Permanent until a person installs it."""

    code = ErrorCode.VBOXMANAGE_MISSING


class HostDown(HostError):
    """A host does not answer, or refuses the connection. Retry later, unless a subclass says that
    it is permanent."""

    code = ErrorCode.HOST_DOWN
    retry = True


class BadOutput(HostDown):
    """A host's answer is cut off, too long, or not what the program prints. Retry once."""


class OversizedOutput(BadOutput):
    """A host's answer exceeds a limit of size or number, and was not read to its end.

    Permanent until something changes on the host: it would send the same answer again.
    """

    retry = False


class CommandTimeout(HostDown):
    """A command was not answered before its deadline. Whether it took effect is unknown: read the
    VM's state, then retry."""


class ConnectionLost(HostDown):
    """The connection broke while a command ran. Whether it took effect is unknown: read the VM's
    state, then retry."""


class HostKeyChanged(HostDown):
    """The host presented a key other than the pinned one. Permanent until a person accepts it."""

    code = ErrorCode.HOST_KEY_CHANGED
    retry = False

    def __init__(self, host: str, reason: str, *, pinned: Sequence[str], presented: str) -> None:
        super().__init__(host, reason)
        self.pinned = tuple(pinned)
        """Fingerprints (`SHA256:…`) that would have been accepted."""
        self.presented = presented
        """Fingerprint (`SHA256:…`) of the key that the host presented."""


class HostUnreachable(HostDown):
    """No connection: the port is closed, there is no route, the name does not resolve, or nothing
    answers in time. Retry later."""


class LoginRefused(HostDown):
    """The host does not accept the key for this user. Permanent until a person adds the key."""

    code = ErrorCode.LOGIN_REFUSED
    retry = False


class VMUnreachable(HostDown):
    """The VM was not found on any host that is up, and this host, which is down, may own it.
    Retry later, unless `retry` is false: then the host's own error is permanent."""

    code = ErrorCode.VM_UNREACHABLE

    def __init__(self, host: str, message: str, *, retry: bool) -> None:
        super().__init__(host, message)
        self.args = (message,)  # it names the host already
        self.retry = retry


# -- VBoxManage's own errors --------------------------------------------------------------------


class VBoxManageError(Error):
    """VBoxManage reported an error; `code` classifies it. `retry` says whether to retry."""

    def __init__(
        self,
        host: str,
        *,
        code: ErrorCode,
        virtualbox_code: str,
        message: str,
        hint: str,
        retry: bool,
    ) -> None:
        super().__init__(
            f"{host}: {message}"
            + (f" ({virtualbox_code})" if virtualbox_code else "")
            + (f": {hint}" if hint else "")
        )
        self.host = host
        """The name of the host."""
        self.code = code
        self.virtualbox_code = virtualbox_code
        """VirtualBox's own code, such as `VBOX_E_OBJECT_NOT_FOUND`; empty when it gave none."""
        self.message = message
        """The first sentence of VirtualBox's own message."""
        self.hint = hint
        self.retry = retry


# -- Which VM or host ---------------------------------------------------------------------------


class UnknownHost(Error):
    """The host list has no host of this name or zone. Permanent until the list changes."""

    code = ErrorCode.UNKNOWN_HOST


class UnknownVM(Error):
    """No VM matches the selector, and all hosts were asked. Permanent until a VM is created or
    renamed."""

    code = ErrorCode.UNKNOWN_VM


class AmbiguousVM(Error):
    """Several VMs match the selector; the text lists them. Permanent: use a UUID, or name a host
    or zone."""

    code = ErrorCode.AMBIGUOUS_VM

    def __init__(self, message: str, *, candidates: Sequence[str]) -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)
        """The VMs that match, each as `host/name {uuid}`."""


class ContestedVM(AmbiguousVM):
    """A host lists a VM that belongs to another host. Permanent until a person decides; see
    `Fleet.trust_vm`."""

    code = ErrorCode.CONTESTED_VM


# -- Power --------------------------------------------------------------------------------------


class PowerError(Error):
    """A VM did not reach the requested power state; the text says why. Permanent unless `retry`
    is true."""

    def __init__(self, message: str, *, log_tail: Sequence[str] = (), retry: bool = False) -> None:
        super().__init__(message)
        self.log_tail = tuple(log_tail)
        """The last lines of the VM's VBox.log, oldest first; empty where they do not help."""
        self.retry = retry


class OrphanedProcess(PowerError):
    """VirtualBox reports the VM as off, but a process still runs it. Nothing was done, because a
    second process on the same disks would destroy them. Permanent until a person ends the process.

    This happens when VirtualBox's IPC folder in /tmp is removed (measured).
    """

    code = ErrorCode.ORPHANED_PROCESS


class PowerTimeout(PowerError):
    """The VM did not reach the requested state before the deadline; it may still do so. Retry."""

    code = ErrorCode.TIMEOUT

    def __init__(self, message: str) -> None:
        super().__init__(message, retry=True)


# -- Creating and deleting VMs ------------------------------------------------------------------


class CreationError(Error):
    """A VM was not created; nothing of it is left unless the text says so. Permanent unless
    `retry` is true: the specification does not fit the host."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class DeletionError(Error):
    """A VM was not deleted: it is not managed by this library, it runs, or disks that others use
    would be deleted too. The text says what to do. Permanent unless `retry` is true."""

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


# -- MAAS ---------------------------------------------------------------------------------------


class MAASError(Error):
    """MAAS's API did not answer as expected; the text says how. Permanent unless `retry` is
    true."""

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
        """The HTTP status of the refusal; 0 without an answer, or if it was not MAAS's."""
        self.fields = frozenset(fields)
        """The fields of the request that MAAS refused, if it named any."""
        self.reason = reason
        """MAAS's own explanation; may be empty."""


class NotCommissioned(MAASError):
    """MAAS has a machine and its power parameters, but did not commission it. Retry later."""
