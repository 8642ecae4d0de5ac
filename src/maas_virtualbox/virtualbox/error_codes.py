# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VBoxManage's errors, sorted: what each means and what a person can do about it.

The table was read off real errors of VirtualBox 7.2 and, for macOS and Windows, off others' issue
threads. What is retried, and until when, is `host`'s business.
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
class _Row:
    code: ErrorCode
    pattern: re.Pattern[str]
    hint: str = ""
    retry: bool = False


def _row(code: ErrorCode, pattern: str, hint: str = "", *, retry: bool = False) -> _Row:
    return _Row(code, re.compile(pattern), hint, retry)


# The first row that matches anything in the error's whole text decides. Codes stand before words,
# because words may be translated; a word row stands first where one code means several things.
_FAULTS = (
    _row(ErrorCode.RESTRICTED_KEY, "(?m)^maas-virtualbox gate: refused"),
    _row(
        ErrorCode.INACCESSIBLE,
        "object functionality is limited",
        "VirtualBox cannot read the VM's settings file; open VirtualBox on the host to see why",
    ),
    _row(
        ErrorCode.LOCKED, r"An unexpected process \(PID=\w{1,20}\) has tried to lock", retry=True
    ),
    _row(
        ErrorCode.CPU_TAKEN,
        "VERR_VMX_IN_VMX_ROOT_MODE|VERR_SVM_IN_USE",
        "KVM holds the processor; stop its VMs or boot with kvm.enable_virt_at_load=0",
    ),
    _row(
        ErrorCode.NETWORK,
        "VERR_INTNET_FLT_IF_NOT_FOUND|Nonexistent host networking interface",
        "the network interface the VM is attached to does not exist on the host; list them with"
        " `VBoxManage list bridgedifs` and `VBoxManage list hostonlyifs`",
    ),
    _row(
        ErrorCode.NETWORK,
        "Host-only adapters are no longer supported",
        "macOS needs a host-only"
        " network instead: `VBoxManage hostonlynet add`, then --nic1 hostonlynet",
    ),
    _row(
        ErrorCode.LOCALE,
        "VERR_PROC_NO_ARG_TRANSLATION|VERR_NO_TRANSLATION",
        "VirtualBox's service"
        " was started without a UTF-8 locale; close all its VMs and windows and try again",
    ),
    _row(
        ErrorCode.NOT_FOUND,
        "VBOX_E_OBJECT_NOT_FOUND|0x80bb0001",
        "each account of a host has its own VMs; is it another account's?",
    ),
    _row(
        ErrorCode.LOCKED,
        "VBOX_E_INVALID_OBJECT_STATE|0x80bb0007",
        "something else is changing the VM",
        retry=True,
    ),
    _row(ErrorCode.WRONG_STATE, "VBOX_E_INVALID_VM_STATE|0x80bb0002"),
    _row(ErrorCode.NOT_READY, "E_ACCESSDENIED|0x80070005", retry=True),
    _row(
        ErrorCode.SERVICE,
        "NS_ERROR_SOCKET_FAIL|0xC1F30200|NS_ERROR_FACTORY_NOT_REGISTERED"
        "|0x80040154|NS_ERROR_ABORT|NS_ERROR_CALL_FAILED|NS_ERROR_NOT_AVAILABLE|E_NOINTERFACE"
        "|RPC_E_|RPC_S_|CO_E_SERVER_EXEC_FAILURE",
        "VirtualBox's service (VBoxSVC) did not come up or died",
        retry=True,
    ),
    _row(
        ErrorCode.SERVICE,
        "Failed to create the VirtualBox object",
        "run `VBoxManage list vms` there to see why; its VirtualBox.xml may be damaged",
    ),
    _row(
        ErrorCode.START_FAILED,
        "terminated unexpectedly during startup|VM session was aborted"
        "|session was closed before any attempt|terminated prematurely during startup",
    ),
    _row(
        ErrorCode.OTHER,
        "invalid guest OS type",
        "`VBoxManage list ostypes` on the host shows those there are",
    ),
    _row(
        ErrorCode.OTHER,
        r"to save the settings file \(VERR_ALREADY_EXISTS\)",
        "move that folder away on the host, or take another name",
    ),
    _row(ErrorCode.OTHER, "VERR_DISK_FULL", "free some space on the host"),
    _row(ErrorCode.NOT_RUNNING, "is not currently running"),
    _row(ErrorCode.SYNTAX, "Usage - |Unknown option|Invalid parameter|Invalid command"),
    _row(ErrorCode.START_FAILED, "NS_ERROR_FAILURE|E_FAIL|0x80004005"),
    _row(ErrorCode.OTHER, ""),
)

_ERROR_LINE = re.compile(r"^VBoxManage(?:\.exe)?: (?:fatal )?error: ?(.*)$", re.MULTILINE)
# A name, not the number of "exit code 1 (0x1)".
_CODE = re.compile(r"\bcode ([A-Z]\w{1,60}) \(0x", re.IGNORECASE)
_DETAIL_LINE = re.compile(
    r"(Failed to create medium$|Details: |Code \w{1,60} \(0x|Context: |Location: "
    r"|/\S+\[\d{1,9}\] \()"
)
_MAX_TEXT = 256 * 1024
"""Bytes of an error that are looked at; the longest that was seen has 40 KiB, usage included."""
_MAX_WORDS = 1000


def parse_error(host: str, result: CommandResult) -> errors.VBoxManageError | None:
    """Return what VBoxManage complained about, or None if the call succeeded."""
    text = result.stderr[:_MAX_TEXT].decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line for line in _ERROR_LINE.findall(text) if line.strip()]
    if not lines and result.exit_code == 0:
        return None
    words = next((line for line in lines if not _DETAIL_LINE.match(line)), "")
    if not words and lines:
        words = lines[0]
    elif not words:
        words = text.strip().rpartition("\n")[2][:300] or f"exit code {result.exit_code}"
        words = f"VBoxManage failed: {words}"
    code = _CODE.search(text)
    row = next(row for row in _FAULTS if row.pattern.search(text))
    return errors.VBoxManageError(
        host,
        code=row.code,
        virtualbox_code=code[1] if code else "",
        message=words[:_MAX_WORDS],
        hint=row.hint,
        retry=row.retry,
    )
