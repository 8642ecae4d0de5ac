# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The programs of the simulated host: parses command lines and answers them from the model.

It knows exactly the command lines that `shells.Posix` writes. Nothing is ever passed to a shell.
"""

from __future__ import annotations

import dataclasses
import shlex
import time
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.texts import Answer
from maas_virtualbox.virtualbox import settings_xml, shells

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from maas_virtualbox.simulator.virtualbox import SimulatedVirtualBox

_SCRIPTS = {
    shells.INSPECT: "inspect",
    shells.POLL: "poll",
    shells.POWER_OFF: "poweroff",
    shells.PROBE: "probe",
    shells.START: "startvm",
}
_GUARDED = (shells.START, shells.POWER_OFF)
_MAX_WAIT_S, _WAIT_S = 2.0, 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One command line."""

    kind: str
    """probe, poll, inspect, tail, unknown, or VBoxManage's verb (for controlvm, its own). A
    guarded start is `startvm`, a guarded power-off `poweroff`."""

    arguments: tuple[str, ...]
    """What varies: a script's arguments, or VBoxManage's."""

    is_guarded: bool = False
    """Whether it is a guarded start or power-off."""

    @property
    def vm(self) -> str:
        """The UUID of the VM it is about; empty if it is about none."""
        return next(
            (uuid for word in self.arguments if (uuid := settings_xml.normalise_uuid(word))), ""
        )


def parse(command: str) -> Request:
    """Parse a command line; one that the library does not write is `unknown`."""
    try:
        words = shlex.split(command)
    except ValueError:
        return Request("unknown", (command,))
    if words[:3] == ["exec", "tail", "-n"]:
        return Request("tail", tuple(words[3:]))
    if words[:2] != ["exec", "env"] or not words[2:3] or not words[2].startswith("LC_ALL="):
        return Request("unknown", (command,))
    program, *rest = words[3:]
    if program == "/bin/sh" and len(rest) > 3 and (kind := _SCRIPTS.get(rest[1])):
        return Request(kind, tuple(rest[3:]), is_guarded=rest[1] in _GUARDED)
    if program == texts.PROGRAM and rest[:1] == ["-q"]:
        verb = rest[3] if rest[1] == "controlvm" else rest[1]
        return Request(verb, tuple(rest[1:]))
    return Request("unknown", (command,))


def answer(
    request: Request,
    virtualbox: SimulatedVirtualBox,
    user: str,
    failure: Answer | None = None,
) -> Answer:
    """Do what a request asks.

    Args:
        request: the request.
        virtualbox: the model.
        user: the account's name.
        failure: what VBoxManage prints instead of changing a VM. It replaces the output of the
            request, or that of the call in a guarded start or power-off.
    """
    arguments = request.arguments
    if request.is_guarded:
        change = _start if request.kind == "startvm" else _power_off
        return change(arguments, virtualbox, failure)
    if failure is not None:
        return failure
    answers: dict[str, Callable[[], Answer]] = {
        "inspect": lambda: _inspect(arguments, virtualbox, user),
        "poll": lambda: _poll(arguments, virtualbox),
        "probe": lambda: _probe(arguments, user),
        "tail": lambda: virtualbox.read_log(arguments[1], int(arguments[0])),
        "unknown": lambda: Answer("", f"simulator: unknown command: {arguments[0]}\n", 127),
    }
    return answers.get(request.kind, lambda: virtualbox.call(arguments))()


def _framed(nonce: str, *parts: tuple[str, str]) -> str:
    return "".join(f"\n{nonce} {name}\n{text}" for name, text in parts)


def _probe(arguments: tuple[str, ...], user: str) -> Answer:
    nonce, configured = arguments
    program = configured or texts.PROGRAM
    if program != texts.PROGRAM:
        text = _framed(nonce, ("program", program), ("version", ""), ("end 127", ""))
        return Answer(text, f"/bin/sh: {program}: not found\n")
    return Answer(
        _framed(
            nonce,
            ("system", "Linux\n"),
            ("user", f"{user}\n"),
            ("program", program),
            ("version", f"{texts.VERSION}\n"),
            ("end 0", ""),
        )
    )


def _start(
    arguments: tuple[str, ...], virtualbox: SimulatedVirtualBox, failure: Answer | None
) -> Answer:
    nonce, _, uuid, guard, _ = arguments
    saved = _saved(virtualbox, uuid)
    allowed = guard == "any" or (saved != "" and guard == "readable") or saved == guard
    if not allowed or _runs(virtualbox, uuid):
        return _state(nonce, virtualbox)
    call = failure or virtualbox.call(["startvm", uuid, "--type", "headless"])
    return _switched(nonce, virtualbox, call, is_done=lambda: _runs(virtualbox, uuid))


def _power_off(
    arguments: tuple[str, ...], virtualbox: SimulatedVirtualBox, failure: Answer | None
) -> Answer:
    nonce, _, uuid, _ = arguments
    if not _runs(virtualbox, uuid):
        return _state(nonce, virtualbox)

    def is_gone() -> bool:
        limit = time.monotonic() + _MAX_WAIT_S
        while (runs := _runs(virtualbox, uuid)) and time.monotonic() < limit:
            time.sleep(_WAIT_S)
        return not runs

    call = failure or virtualbox.call(["controlvm", uuid, "poweroff"])
    return _switched(nonce, virtualbox, call, is_done=is_gone)


def _switched(
    nonce: str, virtualbox: SimulatedVirtualBox, call: Answer, *, is_done: Callable[[], bool]
) -> Answer:
    """What a guarded start or power-off prints after its call."""
    called = _framed(nonce, ("call", call.stdout + call.stderr), (f"called {call.exit_code}", ""))
    if call.exit_code != 0:
        return Answer(called + _framed(nonce, (f"end {call.exit_code}", "")))
    if is_done():
        return Answer(called + _framed(nonce, ("done", ""), ("end 0", "")))
    state = _state(nonce, virtualbox)
    return Answer(called + state.stdout, state.stderr)


def _runs(virtualbox: SimulatedVirtualBox, uuid: str) -> bool:
    return f"startvm {uuid}" in virtualbox.process_list()


def _saved(virtualbox: SimulatedVirtualBox, uuid: str) -> str:
    """What a VM's settings file says: saved, unsaved, or nothing if it cannot be read."""
    for known, _, text in virtualbox.registry(whole=False):
        if known == uuid and "<Machine " in text:
            return "saved" if ' stateFile="' in text else "unsaved"
    return ""


def _poll(arguments: tuple[str, ...], virtualbox: SimulatedVirtualBox) -> Answer:
    nonce, _, read, _, *flags = arguments
    return _state(nonce, virtualbox, flags, whole=read == "all")


def _state(
    nonce: str, virtualbox: SimulatedVirtualBox, flags: Sequence[str] = (), *, whole: bool = False
) -> Answer:
    listed = virtualbox.call(["list", *flags, "runningvms"])
    machines = [
        (f"machine {{{uuid}}} {file}", f"{text}\n" if text else "")
        for uuid, file, text in virtualbox.registry(whole=whole)
    ]
    text = _framed(
        nonce,
        ("running", listed.stdout),
        ("processes", virtualbox.process_list()),
        ("registry", f"{virtualbox.home}/.config/VirtualBox"),
        *machines,
        (f"end {listed.exit_code}", ""),
    )
    return Answer(text, listed.stderr)


def _inspect(arguments: tuple[str, ...], virtualbox: SimulatedVirtualBox, user: str) -> Answer:
    nonce, _, folder = arguments
    servers = virtualbox.call(["list", "dhcpservers"])
    return Answer(
        _framed(
            nonce,
            ("user", f"{user}\n"),
            ("kill", "b false\n"),
            ("linger", ""),
            ("disk", f"/dev/vda1 263174212 12582912 83886080 14% {folder}\n"),
            ("dhcp", servers.stdout),
            (f"end {servers.exit_code}", ""),
        ),
        servers.stderr,
    )
