# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every error VirtualBox 7.2.22 was made to print, and what it is taken for."""

from __future__ import annotations

import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maas_virtualbox import errors
from maas_virtualbox.errors import ErrorCode
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.virtualbox import error_codes

SAMPLES = pathlib.Path(__file__).parent / "samples"

# Recorded stderr → what it means.
MEANING = {
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
    """What the library makes of a recorded stderr."""
    stderr = (SAMPLES / f"{name}.err").read_bytes()
    error = error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.1))
    assert error is not None
    return error


@pytest.mark.parametrize(("name", "fault"), MEANING.items())
def test_a_recorded_error_is_of_its_sort(name: str, fault: ErrorCode) -> None:
    error = read(name)

    assert error.code == fault


@pytest.mark.parametrize(("name", "fault"), MEANING.items())
def test_only_locks_and_a_lost_service_are_retried(name: str, fault: ErrorCode) -> None:
    error = read(name)

    assert error.retry is (fault in RETRIED)


@pytest.mark.parametrize(
    "name", [name for name, fault in MEANING.items() if fault in HINTED and name != "odd-unicode"]
)
def test_an_error_a_person_can_do_something_about_says_what(name: str) -> None:
    error = read(name)

    assert error.hint
    assert str(error).endswith(error.hint)


@pytest.mark.parametrize(
    "name",
    sorted(set(MEANING) - {"createmedium-exists", "svckill-midcall", "odd-long", "odd-unicode"}),
)
def test_virtualboxs_first_sentence_is_quoted(name: str) -> None:
    text = (SAMPLES / f"{name}.err").read_text(encoding="utf-8")
    sentence = text.partition("VBoxManage: error: ")[2].partition("\n")[0]

    error = read(name)

    assert error.message == sentence
    assert str(error).startswith(f"lab: {sentence}")


def test_a_disk_that_cannot_be_made_is_said_why() -> None:
    error = read("createmedium-exists")

    assert error.message.startswith("Could not create the medium storage unit '/home/vbox/")


@pytest.mark.parametrize("name", ["createvm-ostype", "modifyvm-rename-exists"])
def test_a_wish_that_does_not_fit_is_said_what_to_do_about(name: str) -> None:
    assert read(name).hint


def test_a_refusal_by_the_gate_is_no_error_of_virtualbox() -> None:
    stderr = (
        b"maas-virtualbox gate: refused: this key may only switch VMs. If maas-virtualbox was\n"
    )

    error = error_codes.parse_error("lab", CommandResult(77, b"", stderr, 0.1))

    assert error is not None
    assert (error.code, error.retry) == (ErrorCode.RESTRICTED_KEY, False)


def test_no_recorded_error_is_left_untested() -> None:
    recorded = {file.stem for file in SAMPLES.glob("*.err")}

    assert recorded == {*MEANING, "broken-virtualbox-xml", "after-svckill-poweroff"}


def test_an_error_with_exit_code_0_is_an_error() -> None:
    error = read("discardstate-none", exit_code=0)

    assert (error.code, error.retry) == (ErrorCode.WRONG_STATE, False)


def test_recorded_progress_is_no_error() -> None:
    progress = (SAMPLES / "after-svckill-poweroff.err").read_bytes()

    error = error_codes.parse_error("lab", CommandResult(0, b"", progress, 0.1))

    assert b"100%" in progress
    assert error is None


def test_progress_before_an_error_does_not_hide_it() -> None:
    stderr = b"0%...10%...\nVBoxManage: error: Machine 'x' is not currently running.\n"

    error = error_codes.parse_error("lab", CommandResult(1, b"", stderr, 0.1))

    assert error is not None
    assert (error.code, error.message) == (
        ErrorCode.NOT_RUNNING,
        "Machine 'x' is not currently running.",
    )


def test_an_error_with_windows_line_ends_is_read_alike() -> None:
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
def test_the_code_of_an_error_is_read(name: str, code: str) -> None:
    error = read(name)

    assert error.virtualbox_code == code


def test_the_exit_code_of_a_vms_process_is_not_the_errors_code() -> None:
    error = read("startvm-no-driver")

    assert error.virtualbox_code == "NS_ERROR_FAILURE"


def test_of_an_error_without_a_sentence_the_first_line_is_quoted() -> None:
    error = read("svckill-midcall")

    assert error.message.startswith("Code NS_ERROR_ABORT (0x80004004) - Operation aborted")


def test_a_broken_virtualbox_xml_is_no_failed_start() -> None:
    error = read("broken-virtualbox-xml")

    assert error.code != ErrorCode.START_FAILED


@pytest.mark.parametrize(
    "words",
    [
        "The machine 'KVM' VERR_SVM_IN_USE is not there",
        "VERR_VMX_IN_VMX_ROOT_MODE",
        "VERR_INTNET_FLT_IF_NOT_FOUND",
        "Nonexistent host networking interface, name 'vboxnet0'",
        "Host-only adapters are no longer supported!",
    ],
)
def test_a_host_that_has_to_be_changed_is_said_how_and_not_asked_again(words: str) -> None:
    stderr = f"VBoxManage: error: {words}\n".encode()

    error = error_codes.parse_error("lab", CommandResult(1, b"", stderr, 0.1))

    assert error is not None
    assert (bool(error.hint), error.retry) == (True, False)


@given(st.integers(1, 255), st.binary())
def test_any_failure_has_words(exit_code: int, stderr: bytes) -> None:
    error = error_codes.parse_error("lab", CommandResult(exit_code, b"", stderr, 0.1))

    assert error is not None
    assert error.message
