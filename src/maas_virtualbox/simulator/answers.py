# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The result of a simulated program."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a program printed, and its exit code."""

    stdout: str = ""
    stderr: str = ""
    exit_code: int = 0


class VBoxError(Exception):
    """An error that VBoxManage prints; its text is the whole of standard error."""

    def __init__(self, stderr: str, exit_code: int = 1, stdout: str = "") -> None:
        super().__init__(stderr)
        self.answer = Answer(stdout, stderr, exit_code)
