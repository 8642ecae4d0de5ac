# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""VBoxManage's errors, as recorded from VirtualBox 7.2.22, and what they are taken for."""

from __future__ import annotations

import pytest

from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.virtualbox import error_codes

_CODE = "VBoxManage: error: Details: code {} (0x{}), component MachineWrap, interface IMachine\n"
LOCKED = _CODE.format("VBOX_E_INVALID_OBJECT_STATE", "80bb0007")
DENIED = _CODE.format("E_ACCESSDENIED", "80070005")
FAILURE = _CODE.format("NS_ERROR_FAILURE", "80004005")


def error(words: str, *, exit_code: int = 1) -> error_codes.errors.VBoxManageError | None:
    """What the library makes of these words."""
    stderr = f"VBoxManage: error: {words}".encode()
    return error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.0))


@pytest.mark.parametrize(
    ("words", "fault", "retry"),
    [
        (
            "Could not find a registered machine named 'x'\n"
            + _CODE.format("VBOX_E_OBJECT_NOT_FOUND", "80bb0001"),
            ErrorCode.NOT_FOUND,
            False,
        ),
        ("Machine 'x' is not currently running.\n", ErrorCode.NOT_RUNNING, False),
        ("The machine 'x' is already locked by a session\n" + LOCKED, ErrorCode.LOCKED, True),
        ("The machine 'x' already has a lock request pending\n" + LOCKED, ErrorCode.LOCKED, True),
        ("Die Maschine ist schon gesperrt\n" + LOCKED, ErrorCode.LOCKED, True),
        (
            "An unexpected process (PID=0x1) has tried to lock the machine 'x', while only the"
            " process started by LaunchVMProcess is allowed\n" + DENIED,
            ErrorCode.LOCKED,
            True,
        ),
        (
            "The machine is not mutable (state is Saved)\n"
            + _CODE.format("VBOX_E_INVALID_VM_STATE", "80bb0002"),
            ErrorCode.WRONG_STATE,
            False,
        ),
        ("The object is not ready\n" + DENIED, ErrorCode.NOT_READY, True),
        ("The object functionality is limited\n" + DENIED, ErrorCode.INACCESSIBLE, False),
        (
            (
                "Failed to create the VirtualBox object!\n"
                "VBoxManage: error: Code NS_ERROR_SOCKET_FAIL (0xC1F30200) - IPC error\n"
            ),
            ErrorCode.SERVICE,
            True,
        ),
        (
            "The virtual machine 'x' has terminated unexpectedly during startup with exit code 1\n"
            + FAILURE,
            ErrorCode.START_FAILED,
            False,
        ),
        (
            "Cannot attach to 'maas0' in driverless mode (VERR_SUP_DRIVERLESS).\n" + FAILURE,
            ErrorCode.START_FAILED,
            False,
        ),
        (
            "Nonexistent host networking interface, name 'vboxnet0' (VERR_INTERNAL_ERROR)\n"
            + FAILURE,
            ErrorCode.NETWORK,
            False,
        ),
        (
            "VT-x is being used by another hypervisor (VERR_VMX_IN_VMX_ROOT_MODE)\n" + FAILURE,
            ErrorCode.CPU_TAKEN,
            False,
        ),
        (
            "Could not launch the VM process (VERR_PROC_NO_ARG_TRANSLATION)\n",
            ErrorCode.LOCALE,
            False,
        ),
        ("Unknown option: -dash\nUsage - Show configuration\n", ErrorCode.SYNTAX, False),
        ("Something new\n", ErrorCode.OTHER, False),
    ],
)
def test_an_error_is_sorted_by_its_code_before_its_words(
    words: str, fault: ErrorCode, retry: bool
) -> None:
    found = error(words)

    assert found is not None
    assert (found.code, found.retry) == (fault, retry)
    assert words.partition("\n")[0] in str(found)


def test_exit_code_0_with_an_error_is_an_error() -> None:
    # `discardstate` of VirtualBox 7.2.22 on a VM without saved state.
    found = error("Cannot discard the saved state\n" + LOCKED, exit_code=0)

    assert found is not None


def test_progress_on_stderr_is_no_error() -> None:
    done = CommandResult(0, b"", b"0%...10%...20%...100%\n", 0.1)

    assert error_codes.parse_error("lab", done) is None


def test_a_failure_without_words_says_its_exit_code() -> None:
    found = error_codes.parse_error("lab", CommandResult(3, b"", b"", 0.1))

    assert found is not None
    assert "exit code 3" in str(found)


def test_a_fatal_error_is_an_error() -> None:
    text = b"VBoxManage: fatal error: RTR3Init: VERR_NO_TRANSLATION\n"
    found = error_codes.parse_error("lab", CommandResult(3, b"", text, 0.1))

    assert found is not None
    assert found.code == ErrorCode.LOCALE
