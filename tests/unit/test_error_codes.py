# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Error codes, hints and messages of errors that VirtualBox 7.2.22 printed."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox import errors
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.virtualbox import error_codes

_CODE = "VBoxManage: error: Details: code {} (0x{}), component MachineWrap, interface IMachine\n"
LOCKED = _CODE.format("VBOX_E_INVALID_OBJECT_STATE", "80bb0007")
DENIED = _CODE.format("E_ACCESSDENIED", "80070005")
FAILURE = _CODE.format("NS_ERROR_FAILURE", "80004005")


def parse(text: str, *, exit_code: int = 1) -> error_codes.errors.VBoxManageError | None:
    """Parse a message of VBoxManage."""
    stderr = f"VBoxManage: error: {text}".encode()
    return error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.0))


@pytest.mark.parametrize(
    ("text", "code", "retry"),
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
def test_error_code_is_from_the_code_before_the_message(
    text: str, code: ErrorCode, retry: bool
) -> None:
    found = parse(text)

    assert found is not None
    assert (found.code, found.retry) == (code, retry)
    assert text.partition("\n")[0] in str(found)


def test_error_without_text_names_the_exit_code() -> None:
    found = error_codes.parse_error("lab", CommandResult(3, b"", b"", 0.1))

    assert found is not None
    assert "exit code 3" in str(found)


def test_fatal_error_is_an_error() -> None:
    text = b"VBoxManage: fatal error: RTR3Init: VERR_NO_TRANSLATION\n"
    found = error_codes.parse_error("lab", CommandResult(3, b"", text, 0.1))

    assert found is not None
    assert found.code == ErrorCode.LOCALE


SAMPLES = pathlib.Path(__file__).parent / "samples"

# Recorded stderr → its error code.
CODES = {
    "after-svckill-list-runningvms": ErrorCode.SERVICE,
    "clonevm-dup": ErrorCode.OTHER,
    "closemedium-attached": ErrorCode.OTHER,
    "closemedium-missing": ErrorCode.OTHER,
    "controlvm-acpi-stopped": ErrorCode.NOT_RUNNING,
    "controlvm-bad-verb": ErrorCode.NOT_RUNNING,
    "controlvm-bad-verb-running": ErrorCode.SYNTAX,
    "controlvm-inaccessible": ErrorCode.INACCESSIBLE,
    "controlvm-pause-twice": ErrorCode.WRONG_STATE,
    "controlvm-poweroff-aborted": ErrorCode.NOT_RUNNING,
    "controlvm-poweroff-saved": ErrorCode.NOT_RUNNING,
    "controlvm-poweroff-stopped": ErrorCode.NOT_RUNNING,
    "controlvm-poweroff-unknown": ErrorCode.NOT_FOUND,
    "controlvm-reset-stopped": ErrorCode.NOT_RUNNING,
    "controlvm-resume-twice": ErrorCode.WRONG_STATE,
    "createmedium-exists": ErrorCode.OTHER,
    "createvm-duplicate": ErrorCode.OTHER,
    "createvm-ostype": ErrorCode.OTHER,
    "createvm-uuid-exists": ErrorCode.OTHER,
    "discardstate-none": ErrorCode.WRONG_STATE,
    "discardstate-running": ErrorCode.LOCKED,
    "engine-default": ErrorCode.START_FAILED,
    "engine-hwvirt": ErrorCode.START_FAILED,
    "engine-native-api": ErrorCode.START_FAILED,
    "guru-acpi": ErrorCode.WRONG_STATE,
    "guru-pause": ErrorCode.WRONG_STATE,
    "guru-reset": ErrorCode.WRONG_STATE,
    "guru-savestate": ErrorCode.OTHER,
    "guru-startvm": ErrorCode.LOCKED,
    "ipc-dir-foreign-owner": ErrorCode.SERVICE,
    "modifyvm-boot-bad": ErrorCode.OTHER,
    "modifyvm-inaccessible": ErrorCode.INACCESSIBLE,
    "modifyvm-mac-colons": ErrorCode.OTHER,
    "modifyvm-mac-multicast": ErrorCode.OTHER,
    "modifyvm-memory": ErrorCode.OTHER,
    "modifyvm-nic": ErrorCode.OTHER,
    "modifyvm-nic-model": ErrorCode.OTHER,
    "modifyvm-rename-exists": ErrorCode.OTHER,
    "modifyvm-running": ErrorCode.LOCKED,
    "modifyvm-running-mac": ErrorCode.LOCKED,
    "modifyvm-saved": ErrorCode.WRONG_STATE,
    "modifyvm-unknown": ErrorCode.NOT_FOUND,
    "odd-empty": ErrorCode.SYNTAX,
    "odd-equals": ErrorCode.OTHER,
    "odd-long": ErrorCode.OTHER,
    "odd-unicode": ErrorCode.LOCALE,
    "showvminfo-case": ErrorCode.NOT_FOUND,
    "showvminfo-inaccessible": ErrorCode.INACCESSIBLE,
    "showvminfo-inaccessible-byname": ErrorCode.NOT_FOUND,
    "showvminfo-leadingdash": ErrorCode.SYNTAX,
    "showvminfo-leadingdash2": ErrorCode.SYNTAX,
    "showvminfo-name-is-uuid-of-none": ErrorCode.NOT_FOUND,
    "showvminfo-unknown": ErrorCode.NOT_FOUND,
    "showvminfo-unknown-uuid": ErrorCode.NOT_FOUND,
    "snapshot-restore-unknown": ErrorCode.NOT_FOUND,
    "startvm-already-running": ErrorCode.LOCKED,
    "startvm-bad-type": ErrorCode.OTHER,
    "startvm-fails-host-network": ErrorCode.START_FAILED,
    "startvm-gui-missing": ErrorCode.OTHER,
    "startvm-help": ErrorCode.SYNTAX,
    "startvm-inaccessible": ErrorCode.INACCESSIBLE,
    "startvm-no-driver": ErrorCode.START_FAILED,
    "startvm-paused": ErrorCode.LOCKED,
    "startvm-two": ErrorCode.NOT_FOUND,
    "startvm-unknown": ErrorCode.NOT_FOUND,
    "storageattach-controller": ErrorCode.OTHER,
    "storagectl-exists": ErrorCode.OTHER,
    "svckill-midcall": ErrorCode.SERVICE,
    "unregistervm-running": ErrorCode.LOCKED,
    "unregistervm-unknown": ErrorCode.NOT_FOUND,
}
RETRIED = {ErrorCode.LOCKED, ErrorCode.SERVICE}
HINTED = {
    ErrorCode.INACCESSIBLE,
    ErrorCode.LOCALE,
    ErrorCode.LOCKED,
    ErrorCode.NOT_FOUND,
    ErrorCode.SERVICE,
}


def read(name: str, *, exit_code: int = 1) -> errors.VBoxManageError:
    """Parse a recorded stderr."""
    stderr = (SAMPLES / f"{name}.err").read_bytes()
    error = error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.1))
    assert error is not None
    return error


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_recorded_error_has_its_code(name: str, code: ErrorCode) -> None:
    error = read(name)

    assert error.code == code


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_recorded_error_is_retried_for_locks_and_the_service(name: str, code: ErrorCode) -> None:
    error = read(name)

    assert error.retry is (code in RETRIED)


@pytest.mark.parametrize(
    "name", [name for name, code in CODES.items() if code in HINTED and name != "odd-unicode"]
)
def test_recorded_error_ends_with_its_hint(name: str) -> None:
    error = read(name)

    assert error.hint
    assert str(error).endswith(error.hint)


@pytest.mark.parametrize(
    "name",
    sorted(set(CODES) - {"createmedium-exists", "svckill-midcall", "odd-long", "odd-unicode"}),
)
def test_message_is_the_first_sentence_of_virtualbox(name: str) -> None:
    text = (SAMPLES / f"{name}.err").read_text(encoding="utf-8")
    sentence = text.partition("VBoxManage: error: ")[2].partition("\n")[0]

    error = read(name)

    assert error.message == sentence
    assert str(error).startswith(f"lab: {sentence}")


def test_message_of_a_disk_error_is_the_reason() -> None:
    error = read("createmedium-exists")

    assert error.message.startswith("Could not create the medium storage unit '/home/vbox/")


@pytest.mark.parametrize("name", ["createvm-ostype", "modifyvm-rename-exists"])
def test_error_of_createvm_or_rename_has_a_hint(name: str) -> None:
    assert read(name).hint


def test_refusal_by_gate_means_a_restricted_key() -> None:
    stderr = b"maas-virtualbox gate: refused: this restricted key may only\n"

    error = error_codes.parse_error("lab", CommandResult(77, b"", stderr, 0.1))

    assert error is not None
    assert (error.code, error.retry) == (ErrorCode.RESTRICTED_KEY, False)


def test_samples_are_all_tested() -> None:
    recorded = {file.stem for file in SAMPLES.glob("*.err")}

    assert recorded == {*CODES, "broken-virtualbox-xml", "after-svckill-poweroff"}


def test_error_with_exit_code_0_is_an_error() -> None:
    error = read("discardstate-none", exit_code=0)

    assert (error.code, error.retry) == (ErrorCode.WRONG_STATE, False)


def test_recorded_progress_is_not_an_error() -> None:
    progress = (SAMPLES / "after-svckill-poweroff.err").read_bytes()

    error = error_codes.parse_error("lab", CommandResult(0, b"", progress, 0.1))

    assert b"100%" in progress
    assert error is None


def test_error_after_progress_is_found() -> None:
    stderr = b"0%...10%...\nVBoxManage: error: Machine 'x' is not currently running.\n"

    error = error_codes.parse_error("lab", CommandResult(1, b"", stderr, 0.1))

    assert error is not None
    assert (error.code, error.message) == (
        ErrorCode.NOT_RUNNING,
        "Machine 'x' is not currently running.",
    )


def test_error_with_windows_line_ends_is_the_same() -> None:
    stderr = (SAMPLES / "modifyvm-saved.err").read_bytes().replace(b"\n", b"\r\n")
    stderr = stderr.replace(b"VBoxManage:", b"VBoxManage.exe:")

    error = error_codes.parse_error("lab", CommandResult(1, b"", stderr, 0.1))

    assert error is not None
    assert str(error) == str(read("modifyvm-saved"))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("controlvm-inaccessible", "E_ACCESSDENIED"),
        ("modifyvm-running", "VBOX_E_INVALID_OBJECT_STATE"),
        ("showvminfo-unknown", "VBOX_E_OBJECT_NOT_FOUND"),
        ("ipc-dir-foreign-owner", "NS_ERROR_SOCKET_FAIL"),
        ("engine-default", "NS_ERROR_FAILURE"),
        ("controlvm-poweroff-stopped", ""),
    ],
)
def test_virtualbox_code_is_read(name: str, code: str) -> None:
    error = read(name)

    assert error.virtualbox_code == code


def test_virtualbox_code_is_not_the_exit_code_of_a_process() -> None:
    error = read("startvm-no-driver")

    assert error.virtualbox_code == "NS_ERROR_FAILURE"


def test_message_without_a_sentence_is_the_first_line() -> None:
    error = read("svckill-midcall")

    assert error.message.startswith("Code NS_ERROR_ABORT (0x80004004) - Operation aborted")


def test_broken_virtualbox_xml_is_not_a_failed_start() -> None:
    error = read("broken-virtualbox-xml")

    assert error.code != ErrorCode.START_FAILED


@pytest.mark.parametrize(
    "text",
    [
        "The machine 'KVM' VERR_SVM_IN_USE is not there",
        "VERR_VMX_IN_VMX_ROOT_MODE",
        "VERR_INTNET_FLT_IF_NOT_FOUND",
        "Nonexistent host networking interface, name 'vboxnet0'",
        "Host-only adapters are no longer supported!",
    ],
)
def test_error_that_needs_a_change_has_a_hint_and_no_retry(text: str) -> None:
    stderr = f"VBoxManage: error: {text}\n".encode()

    error = error_codes.parse_error("lab", CommandResult(1, b"", stderr, 0.1))

    assert error is not None
    assert (bool(error.hint), error.retry) == (True, False)


@given(st.integers(1, 255), st.binary())
def test_error_of_any_text_has_a_message(exit_code: int, stderr: bytes) -> None:
    error = error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.1))

    assert error is not None
    assert error.message
