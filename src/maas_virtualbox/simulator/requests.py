# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Command lines, understood: exactly those that `shells.Posix` writes, and no others.

A request is answered from the model. Nothing is ever handed to a shell.
"""

from __future__ import annotations

import dataclasses
import shlex
from typing import TYPE_CHECKING

from maas_virtualbox.simulator import texts
from maas_virtualbox.simulator.answers import Answer
from maas_virtualbox.virtualbox import settings_xml, shells

if TYPE_CHECKING:
    from maas_virtualbox.simulator.virtualbox import SimulatedVirtualBox

_SCRIPTS = {shells.PROBE: "probe", shells.POLL: "poll", shells.INSPECT: "inspect"}


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """One command line."""

    kind: str
    """probe, poll, inspect, tail, unknown, or VBoxManage's verb (for controlvm, its own)."""

    arguments: tuple[str, ...]
    """What varies: a script's arguments, or VBoxManage's."""

    @property
    def vm(self) -> str:
        """The UUID of the VM it is about; empty if it is about none."""
        return next(
            (uuid for word in self.arguments if (uuid := settings_xml.normalise_uuid(word))), ""
        )


def parse(command: str) -> Request:
    """Understand a command line; one that the library does not write is `unknown`."""
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
        return Request(kind, tuple(rest[3:]))
    if program == texts.PROGRAM and rest[:1] == ["-q"]:
        verb = rest[3] if rest[1] == "controlvm" else rest[1]
        return Request(verb, tuple(rest[1:]))
    return Request("unknown", (command,))


def answer(request: Request, virtualbox: SimulatedVirtualBox, user: str) -> Answer:
    """Do what a request asks."""
    arguments = request.arguments
    if request.kind == "unknown":
        return Answer("", f"simulator: unknown command: {arguments[0]}\n", 127)
    if request.kind == "tail":
        return virtualbox.read_log(arguments[1], int(arguments[0]))
    if request.kind == "probe":
        return _probe(arguments, user)
    if request.kind == "poll":
        return _poll(arguments, virtualbox)
    if request.kind == "inspect":
        return _inspect(arguments, virtualbox, user)
    return virtualbox.call(arguments)


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


def _poll(arguments: tuple[str, ...], virtualbox: SimulatedVirtualBox) -> Answer:
    nonce, _, read, _, *flags = arguments
    listed = virtualbox.call(["list", *flags, "runningvms"])
    machines = [
        (f"machine {{{uuid}}} {file}", f"{text}\n" if text else "")
        for uuid, file, text in virtualbox.registry(whole=read == "all")
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
