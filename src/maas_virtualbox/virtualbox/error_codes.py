# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The error code, the hint and the message for what VBoxManage prints as an error.

The rules are from real errors of VirtualBox 7.2 on Linux and, for macOS and Windows, from other
people's issue threads. `host` decides what is retried, and until when.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.errors import ErrorCode

if TYPE_CHECKING:
    from maas_virtualbox.transport import CommandResult


@dataclasses.dataclass(frozen=True, slots=True)
class _Rule:
    code: ErrorCode
    pattern: re.Pattern[str]
    hint: str
    retry: bool


def _rule(code: ErrorCode, pattern: str, hint: str = "", *, retry: bool = False) -> _Rule:
    return _Rule(code, re.compile(pattern), hint, retry)


# The first rule that matches the whole error text applies. Rules for codes come before rules for
# messages, because messages may be translated. Where a code has several meanings, the rule for the
# message comes first.
_RULES = (
    _rule(ErrorCode.RESTRICTED_KEY, "(?m)^maas-virtualbox gate: refused"),
    _rule(
        ErrorCode.INACCESSIBLE,
        "object functionality is limited",
        "VirtualBox cannot read the VM's settings file; open VirtualBox on the host to see why",
    ),
    _rule(
        ErrorCode.LOCKED, r"An unexpected process \(PID=\w{1,20}\) has tried to lock", retry=True
    ),
    _rule(
        ErrorCode.CPU_TAKEN,
        "VERR_VMX_IN_VMX_ROOT_MODE|VERR_SVM_IN_USE",
        "KVM uses the processor's virtualization; stop its VMs, or boot the host with"
        " kvm.enable_virt_at_load=0",
    ),
    _rule(
        ErrorCode.NETWORK,
        "VERR_INTNET_FLT_IF_NOT_FOUND|Nonexistent host networking interface",
        "the network interface that the VM is attached to does not exist on the host; list the"
        " interfaces with VBoxManage list bridgedifs and VBoxManage list hostonlyifs",
    ),
    _rule(
        ErrorCode.NETWORK,
        "Host-only adapters are no longer supported",
        "macOS needs a host-only network instead; run VBoxManage hostonlynet add, then attach the"
        " VM with --nic1 hostonlynet",
    ),
    _rule(
        ErrorCode.LOCALE,
        "VERR_PROC_NO_ARG_TRANSLATION|VERR_NO_TRANSLATION",
        "VirtualBox's service was started without a UTF-8 locale; close all VMs and windows of"
        " VirtualBox, and try again",
    ),
    _rule(
        ErrorCode.NOT_FOUND,
        "VBOX_E_OBJECT_NOT_FOUND|0x80bb0001",
        "each account of a host has its own VMs; check that this is the right account",
    ),
    _rule(
        ErrorCode.LOCKED,
        "VBOX_E_INVALID_OBJECT_STATE|0x80bb0007",
        "another program is changing the VM; try again",
        retry=True,
    ),
    _rule(ErrorCode.WRONG_STATE, "VBOX_E_INVALID_VM_STATE|0x80bb0002"),
    _rule(ErrorCode.NOT_READY, "E_ACCESSDENIED|0x80070005", retry=True),
    _rule(
        ErrorCode.SERVICE,
        "NS_ERROR_SOCKET_FAIL|0xC1F30200|NS_ERROR_FACTORY_NOT_REGISTERED"
        "|0x80040154|NS_ERROR_ABORT|NS_ERROR_CALL_FAILED|NS_ERROR_NOT_AVAILABLE|E_NOINTERFACE"
        "|RPC_E_|RPC_S_|CO_E_SERVER_EXEC_FAILURE",
        "VirtualBox's service (VBoxSVC) did not start, or died; try again",
        retry=True,
    ),
    _rule(
        ErrorCode.SERVICE,
        "Failed to create the VirtualBox object",
        "run VBoxManage list vms on the host to see why; its VirtualBox.xml may be damaged",
    ),
    _rule(
        ErrorCode.START_FAILED,
        "terminated unexpectedly during startup|VM session was aborted"
        "|session was closed before any attempt|terminated prematurely during startup",
    ),
    _rule(
        ErrorCode.OTHER,
        "invalid guest OS type",
        "list the known types on the host with VBoxManage list ostypes",
    ),
    _rule(
        ErrorCode.OTHER,
        r"to save the settings file \(VERR_ALREADY_EXISTS\)",
        "move that folder away on the host, or use another name",
    ),
    _rule(ErrorCode.OTHER, "VERR_DISK_FULL", "free some space on the host"),
    _rule(ErrorCode.NOT_RUNNING, "is not currently running"),
    _rule(ErrorCode.SYNTAX, "Usage - |Unknown option|Invalid parameter|Invalid command"),
    _rule(ErrorCode.START_FAILED, "NS_ERROR_FAILURE|E_FAIL|0x80004005"),
    _rule(ErrorCode.OTHER, ""),
)

_ERROR_LINE = re.compile(r"^VBoxManage(?:\.exe)?: (?:fatal )?error: ?(.*)$", re.MULTILINE)
# A name, not the number of "exit code 1 (0x1)".
_VIRTUALBOX_CODE = re.compile(r"\bcode ([A-Z]\w{1,60}) \(0x", re.IGNORECASE)
_DETAIL_LINE = re.compile(
    r"(Failed to create medium$|Details: |Code \w{1,60} \(0x|Context: |Location: "
    r"|/\S+\[\d{1,9}\] \()"
)
_MAX_TEXT = 256 * 1024
"""Limit of the error text in bytes; the longest that was seen has 40 KiB, including the usage."""
_MAX_MESSAGE = 1000
"""Limit of the message in characters."""
_MAX_OTHER_LINE = 300
"""Limit of a quoted line that is not an error line of VBoxManage, in characters."""


def parse_error(host: str, result: CommandResult) -> errors.VBoxManageError | None:
    """Return the error that VBoxManage reported; None if the call succeeded.

    Args:
        host: the name of the host.
        result: the result of the call. Exit code 0 is not sufficient for success, because some
            calls print an error and exit with 0 (measured).
    """
    text = result.stderr[:_MAX_TEXT].decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line for line in _ERROR_LINE.findall(text) if line.strip()]
    if not lines and result.exit_code == 0:
        return None
    virtualbox_code = _VIRTUALBOX_CODE.search(text)
    rule = next(rule for rule in _RULES if rule.pattern.search(text))
    return errors.VBoxManageError(
        host,
        code=rule.code,
        virtualbox_code=virtualbox_code[1] if virtualbox_code else "",
        message=_message(lines, text, result.exit_code)[:_MAX_MESSAGE],
        hint=rule.hint,
        retry=rule.retry,
    )


def _message(lines: list[str], text: str, exit_code: int) -> str:
    """Return the first error line that is not a detail; otherwise the first error line, or the
    last line of all."""
    if lines:
        return next((line for line in lines if not _DETAIL_LINE.match(line)), lines[0])
    last_line = text.strip().rpartition("\n")[2][:_MAX_OTHER_LINE]
    return f"VBoxManage failed: {last_line or f'exit code {exit_code}'}"
