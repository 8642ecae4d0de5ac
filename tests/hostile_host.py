# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A hostile host: an SSH server that answers this library's commands with attacks.

It runs in a separate process with the lowest priority. It therefore affects the other host only by
what the service spends on it. `ATTACKS` has a name for each type of attack.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import random
import struct
import time
import uuid
from typing import TYPE_CHECKING, Any

import paramiko
from paramiko import common

from maas_virtualbox.config import host_list
from maas_virtualbox.simulator import Simulator, Timings, programs, server, texts
from maas_virtualbox.simulator.vms import SimulatedVM
from maas_virtualbox.transport import ssh_login

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from pathlib import Path

    from typing_extensions import Self

QUIET = "quiet"
"""No attack: the answers of a host with one VM that is off."""

HOME = "/home/vbox"
HOSTILE = SimulatedVM(str(uuid.uuid5(uuid.NAMESPACE_DNS, "hostile")), "hostile", ["080027000001"])
_PIECE = 32 * 1024


@dataclasses.dataclass
class Visit:
    """A command that the client has sent, and how to answer it."""

    request: programs.Request
    channel: paramiko.Channel
    session: paramiko.Transport
    goes_on: Callable[[], bool]
    """Returns whether the attack continues and the client is connected."""
    claimed: str
    """The UUID of a VM of the other host."""

    @property
    def nonce(self) -> str:
        """The nonce of the script."""
        return self.request.arguments[0]

    def frame(self, name: str, text: str = "") -> str:
        """Return a frame of the answer to a script."""
        return f"\n{self.nonce} {name}\n{text}"

    def send(self, pieces: Iterable[str | bytes]) -> None:
        """Send standard output until the client disconnects."""
        for piece in pieces:
            if not self.goes_on():
                return
            data = piece.encode("utf-8", "surrogateescape") if isinstance(piece, str) else piece
            for start in range(0, len(data), _PIECE):
                self.channel.sendall(data[start : start + _PIECE])

    def end(self, code: int = 0) -> None:
        """End the command."""
        self.channel.send_exit_status(code)


def well(visit: Visit) -> None:
    """Answer as a good host does."""
    request = visit.request
    if request.kind == "probe":
        parts = [
            visit.frame("system", "Linux\n"),
            visit.frame("user", "vbox\n"),
            visit.frame("program", texts.PROGRAM),
            visit.frame("version", "7.2.22\n"),
            visit.frame("end 0"),
        ]
        visit.send(parts)
    elif request.kind == "poll":
        observed(visit, [])
        return
    visit.end()


def observed(
    visit: Visit,
    machines: Iterable[str | bytes],
    *,
    running: Iterable[str | bytes] = (),
    processes: Iterable[str | bytes] = (),
    registry: str = HOME,
) -> None:
    """Answer a poll with the hostile VM and the output of an attack."""
    whole = visit.request.arguments[2] == "all"
    visit.send([visit.frame("running")])
    visit.send(running)
    visit.send([visit.frame("processes")])
    visit.send(processes)
    visit.send([visit.frame("registry", registry), machine(visit, HOSTILE, whole=whole)])
    visit.send(machines)
    visit.send([visit.frame("end 0")])
    visit.end()


def machine(visit: Visit, vm: SimulatedVM, *, whole: bool = False, text: str = "") -> str:
    """Return the frame of a VM and its settings file."""
    file = texts.settings_file(HOME, vm.name[:100])
    text = text or texts.render_settings(vm, whole=whole)
    return visit.frame(f"machine {{{vm.uuid}}} {file}", f"{text}\n")


def uuid_of(number: int) -> str:
    return f"{number:08x}-1111-4111-8111-111111111111"


def polls(attack: Callable[[Visit], None]) -> Callable[[Visit], None]:
    """Use an attack for polls only."""
    return lambda visit: attack(visit) if visit.request.kind == "poll" else well(visit)


def fill(text: str, size: int) -> Iterable[str]:
    """Yield a text repeatedly, in pieces."""
    piece = text * max(1, _PIECE // len(text))
    return itertools.repeat(piece, size // len(piece))


def endless(text: str | bytes) -> Iterable[str | bytes]:
    return itertools.repeat(text * max(1, _PIECE // len(text)))


def started(visit: Visit) -> list[str]:
    """Report a process of the hostile VM, so that the client calls `showvminfo` for the VM."""
    del visit
    return [texts.process_line(77, "x", HOSTILE.uuid)]


def exponential_quoting(visit: Visit) -> None:
    if visit.request.kind == "showvminfo":
        visit.send(['name="', *fill("\\\n", 900_000), "\n"])
        visit.end()
    elif visit.request.kind == "poll":
        observed(visit, [], processes=started(visit))
    else:
        well(visit)


def endless_details(visit: Visit) -> None:
    if visit.request.kind == "showvminfo":
        visit.send(endless('key="value"\n'))
    elif visit.request.kind == "poll":
        observed(visit, [], processes=started(visit))
    else:
        well(visit)


def endless_errors(visit: Visit) -> None:
    if visit.request.kind == "probe":
        well(visit)
        return
    while visit.goes_on():
        visit.channel.sendall_stderr(b"VBoxManage: error: no\n" * 1000)


def errors_that_nearly_match(visit: Visit) -> None:
    if visit.request.kind == "probe":
        well(visit)
        return
    visit.send([visit.frame("running"), visit.frame("end 1")])
    words = b"An unexpected process Could not rename the directory "
    visit.channel.sendall_stderr(b"VBoxManage: error: " + words * (1_000_000 // len(words)))
    visit.end(1)


def slow_drip(visit: Visit) -> None:
    for char in itertools.chain(f"\n{visit.nonce} running\n", itertools.repeat("x")):
        if not visit.goes_on():
            return
        visit.channel.sendall(char.encode())
        time.sleep(0.01)


def nothing(visit: Visit) -> None:
    while visit.goes_on():
        time.sleep(0.05)


def endless_list(visit: Visit) -> None:
    entries = (f'"x" {{{uuid_of(number)}}}\n' for number in itertools.count())
    pieces = ("".join(itertools.islice(entries, 1000)) for _ in itertools.count())
    observed(visit, [], running=pieces)


def endless_processes(visit: Visit) -> None:
    lines = (texts.process_line(number, "x", uuid_of(number)) for number in itertools.count())
    pieces = ("".join(itertools.islice(lines, 500)) for _ in itertools.count())
    observed(visit, [], processes=pieces)


def huge_names(visit: Visit) -> None:
    vms = [SimulatedVM(uuid_of(number), f"{number}" * 1_000_000, []) for number in range(1, 6)]
    whole = visit.request.arguments[2] == "all"
    observed(
        visit,
        [machine(visit, vm, whole=whole) for vm in vms],
        running=[f'"{"x" * 1_000_000}" {{{HOSTILE.uuid}}}\n'],
    )


def settings_of_60_mb(visit: Visit) -> None:
    text = f'<V><Machine uuid="{{{uuid_of(1)}}}" name="x">'
    observed(visit, [visit.frame(f"machine {{{uuid_of(1)}}} /x", text), *fill("<a/>", 60_000_000)])


def settings_beside_their_limit(visit: Visit) -> None:
    observed(
        visit,
        [
            machine(
                visit,
                SimulatedVM(uuid_of(number), "x", []),
                text=f'<V><Machine uuid="{{{uuid_of(number)}}}" name="x">{"<a/>" * 49_000}'
                f"{' ' * 1_700_000}</Machine></V>",
            )
            for number in range(15)
        ],
    )


def deep_settings(visit: Visit) -> None:
    text = f'<V><Machine uuid="{{{uuid_of(1)}}}" name="x">' + "<a>" * 600_000
    observed(visit, [machine(visit, SimulatedVM(uuid_of(1), "x", []), text=text)])


def entities(visit: Visit) -> None:
    lols = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<!DOCTYPE x [<!ENTITY l0 "lol">{lols}]><V><Machine name="x">&l11;</Machine></V>'
    observed(visit, [machine(visit, SimulatedVM(uuid_of(1), "x", []), text=text)])


def others_uuids(visit: Visit) -> None:
    vm = SimulatedVM(visit.claimed, "node04", ["080027000002"])
    entry = f'"node04" {{{visit.claimed}}}\n'
    observed(visit, [machine(visit, vm, whole=True)], running=[entry])


def forged_frames(visit: Visit) -> None:
    observed(visit, fill(visit.frame("machine {x} y") + visit.frame("end 0"), 6_000_000))


def twenty_thousand_vms(visit: Visit) -> None:
    whole = visit.request.arguments[2] == "all"
    vms = (SimulatedVM(uuid_of(n), f"vm{n}", ["080027000003"]) for n in range(20_000))
    observed(visit, [machine(visit, vm, whole=whole) for vm in vms])


def two_thousand_vms(visit: Visit) -> None:
    whole = visit.request.arguments[2] == "all"
    # Different files each time, so that the client reads all of them at each poll.
    first = random.randrange(2**30)
    vms = (SimulatedVM(uuid_of(first + n), f"vm{n}", ["080027000003"]) for n in range(1990))
    observed(visit, [machine(visit, vm, whole=whole) for vm in vms])


def garbage(visit: Visit) -> None:
    noise = random.Random(1).randbytes(_PIECE) + b"\0" * 1000 + b"\xff\xfe" * 1000
    observed(visit, [noise] * 50, running=[noise] * 50, processes=[noise] * 50)


def huge_line(visit: Visit) -> None:
    observed(visit, [], running=['"', *fill("x", 7_000_000)])


def no_exit_code(visit: Visit) -> None:
    visit.send([visit.frame("running"), visit.frame("processes"), visit.frame("registry", "/x")])
    visit.send([visit.frame("end " + "1" * 10_000)])
    visit.end()


def missing_sections(visit: Visit) -> None:
    visit.send([visit.frame("end 0")])
    visit.end()


def long_list(visit: Visit) -> None:
    if visit.request.kind == "poll":
        observed(visit, [], registry="/nowhere")
    elif visit.request.arguments[:2] == ("list", "--long"):
        visit.send(fill("Name:  x\nGroups: \nUUID:  x\n", 15_000_000))
        visit.end()
    elif visit.request.kind == "list":
        visit.send(fill(f'"x" {{{HOSTILE.uuid}}}\n', 1_900_000))
        visit.end()
    else:
        well(visit)


def ignored_window(visit: Visit) -> None:
    """Continue to send, whatever the client has read."""
    data = b"x" * 30_000
    session: Any = visit.session
    while visit.goes_on():
        message = paramiko.Message()
        message.add_byte(common.cMSG_CHANNEL_DATA)
        message.add_int(visit.channel.remote_chanid)
        message.add_string(data)
        session._send_user_message(message)  # `send` would wait for the window


def ignored_packets(visit: Visit) -> None:
    """Send packets that a client must decrypt and discard."""
    while visit.goes_on():
        visit.session.send_ignore(16)


def packet_of_4_gb(visit: Visit) -> None:
    """Announce a large packet, and begin to send it."""
    sock = visit.session.sock
    sock.sendall(struct.pack(">I", 0xFFFFFFF0))
    while visit.goes_on():
        sock.sendall(b"x" * _PIECE)


ATTACKS: dict[str, Callable[[Visit], None]] = {
    QUIET: well,
    "exponential quoting": exponential_quoting,
    "endless details of a VM": endless_details,
    "endless list": polls(endless_list),
    "endless process list": polls(endless_processes),
    "endless errors": endless_errors,
    "errors that nearly match": errors_that_nearly_match,
    "names of 1 MB": polls(huge_names),
    "settings of 60 MB": polls(settings_of_60_mb),
    "settings beside their limit": polls(settings_beside_their_limit),
    "deep settings": polls(deep_settings),
    "entities": polls(entities),
    "slow drip": polls(slow_drip),
    "no answer": polls(nothing),
    "other hosts' UUIDs": polls(others_uuids),
    "forged frames": polls(forged_frames),
    "20,000 VMs": polls(twenty_thousand_vms),
    "2,000 other VMs each time": polls(two_thousand_vms),
    "garbage": polls(garbage),
    "one huge line": polls(huge_line),
    "no exit code": polls(no_exit_code),
    "missing sections": polls(missing_sections),
    "long list": long_list,
    "ignored window": polls(ignored_window),
    "ignored packets": polls(ignored_packets),
    "packet of 4 GB": polls(packet_of_4_gb),
}


def _nothing_else(_command: str, _gone: Callable[[], bool]) -> tuple[bytes, bytes, int]:
    raise AssertionError("`serve` does it")


class _Server(server.SSHServer):
    """The SSH server. Its answers depend on the attack."""

    attack = QUIET
    claimed = ""

    def serve(self, session: paramiko.Transport, channel: paramiko.Channel, command: str) -> None:
        attack = self.attack
        visit = Visit(
            programs.parse(command),
            channel,
            session,
            lambda: self.attack == attack and session.is_active() and not channel.closed,
            self.claimed,
        )
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            ATTACKS[attack](visit)
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.close()


@dataclasses.dataclass(frozen=True)
class _Started:
    """The message of a process that is ready."""

    entry: str
    key_file: Path
    uuids: list[str]


def _good(pipe: Connection) -> None:
    """Run a good host with four VMs until a message arrives."""
    with Simulator(vms=4, user="good", timings=Timings.real()) as simulator:
        entry = f"{simulator.host_entry} name=good"
        entry += f" host-key={host_list.key_fingerprint(simulator.host_key)}"
        uuids = [vm.uuid for vm in simulator.virtualbox.vms]
        pipe.send(_Started(entry, simulator.key_file, uuids))
        with contextlib.suppress(EOFError):
            pipe.recv()


def _hostile(pipe: Connection, key_file: Path, claimed: str) -> None:
    """Run a hostile host. Receive the names of attacks until the other side closes the pipe."""
    os.nice(19)
    listening = _Server("hostile", ssh_login.load_identity(key_file), _nothing_else)
    listening.claimed = claimed
    key = f"{listening.host_key.get_name()} {listening.host_key.get_base64()}"
    entry = f"hostile@127.0.0.1:{listening.port} name=hostile"
    entry += f" host-key={host_list.key_fingerprint(key)}"
    pipe.send(_Started(entry, key_file, [HOSTILE.uuid]))
    with contextlib.suppress(EOFError):
        while True:
            listening.attack = pipe.recv()
            pipe.send(None)


class TwoHosts:
    """A good host and a hostile one, each in its own process. A context manager."""

    def __init__(self) -> None:
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._good_pipe, good = self._start(_good)
        self._hostile_pipe, hostile = self._start(_hostile, good.key_file, good.uuids[3])
        self.entries = [good.entry, hostile.entry]
        self.key_file = good.key_file
        self.uuids = good.uuids[:4]
        """The UUIDs of the good host's VMs, including the one that the hostile host claims."""
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def attack(self, name: str) -> None:
        """Start or stop an attack of the hostile host."""
        self._hostile_pipe.send(name)
        self._hostile_pipe.recv()

    def _start(
        self, target: Callable[..., None], *arguments: object
    ) -> tuple[Connection, _Started]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
        process.start()
        theirs.close()
        self._exits.enter_context(_ended(process, ours))
        return ours, ours.recv()


@contextlib.contextmanager
def _ended(process: SpawnProcess, pipe: Connection) -> Generator[None]:
    try:
        yield
    finally:
        pipe.close()
        process.join(5)
        if process.is_alive():
            process.kill()
            process.join()
