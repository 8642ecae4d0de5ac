# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Every parser of what a host sends needs time and memory in proportion to the text.

Each parser reads a text and then a text of the same shape that is four times as long. A linear
parser takes four times as long and a quadratic one sixteen times; eight times is the limit. The
time is the processor time of this thread, so that other processes do not change it.
"""

from __future__ import annotations

import contextlib
import functools
import time
import tracemalloc
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maas_virtualbox.host import checks
from maas_virtualbox.provisioning import ownership
from maas_virtualbox.transport import CommandResult
from maas_virtualbox.virtualbox import error_codes, long_list, parsers, shells
from maas_virtualbox.virtualbox import settings_xml as settings_files
from maas_virtualbox.virtualbox.states import VMState
from maas_virtualbox.virtualbox.vboxmanage import Installation, Surroundings

if TYPE_CHECKING:
    from collections.abc import Callable


_SMALLEST = 2048
_LARGEST = 128 * 1024
_STEP = 4
"""How many times longer the second text is."""
_MEASURABLE_S = 0.001
_MAX_GROWTH = 8.0
_MEMORY_SIZE = 16 * 1024
_MAX_MEMORY = 60
"""Bytes of memory for each byte of text."""

Shape = tuple[str, str, str]
"""A beginning, a part that is repeated to make a text of any size, and an end."""

ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
NAMES = {ONE: "x" * 5000, **{f"{n:08x}-0000-0000-0000-000000000000": "y" * n for n in range(99)}}


def machine_of(name: str) -> settings_files.VMSettings:
    return settings_files.VMSettings(ONE, name, "/x.vbox", VMState.POWEROFF)


def error_of(text: str) -> object:
    return error_codes.parse_error("h", CommandResult(1, b"", text.encode(), 0.0))


def frames_of(text: str) -> object:
    # `VBoxManage` refuses an answer with more sections than this.
    sent = b"\nN1".join(text.encode().split(b"\nN1")[:2000])
    return [part.text for part in parsers.parse_sections("N1", sent + b"\nN1 end 0\n") or ()]


def release_of(text: str) -> object:
    return Installation("Linux", "u", "/x", text, shells.Posix()).release


PARSERS: dict[str, Callable[[str], object]] = {
    "vm list": parsers.parse_vm_list,
    "vm list with known names": lambda text: parsers.parse_vm_list(text, NAMES),
    "showvminfo": parsers.parse_machine_readable,
    "long list": long_list.parse_long_list,
    "hard disks": parsers.parse_hard_disks,
    "networks": parsers.parse_networks,
    "OS types": parsers.parse_os_types,
    "dhcp servers": parsers.parse_dhcp_servers,
    "processes": parsers.parse_processes,
    "created file": parsers.parse_created_file,
    "extra data": parsers.parse_extra_data,
    "disk free": parsers.parse_disk_free,
    "state": parsers.parse_state,
    "frames": frames_of,
    "error": error_of,
    "settings file": lambda text: settings_files.parse_settings(ONE, "/x.vbox", text),
    "path in XML": settings_files.unescape,
    "UUID": settings_files.normalise_uuid,
    "MAC": settings_files.parse_mac,
    "version": release_of,
    "name of an incomplete VM": lambda text: ownership.parse_incomplete(machine_of(text)),
    "model of a NIC": lambda text: checks.check_vm(
        "h",
        settings_files.VMSettings(
            ONE,
            "n",
            "/x.vbox",
            VMState.POWEROFF,
            nics=(settings_files.NIC(1, "m", text, "nat", "", cable=True),),
        ),
        Surroundings(kills_at_logout=False, disk_free=None, dhcp_networks=()),
    ),
}

TOKENS = (
    *'"\\\n\r {}<>&;=:,./-()[]',
    *("0", "1", "a", "A", "x", "é", "\U0001f600", "\0"),
    *(
        "  ",
        "\r\n",
        '="',
        '\\"',
        "\\\\",
        '" {',
        f"{{{ONE}}}",
        f'" {{{ONE}}}\n',
        ONE,
        f"UUID: {ONE}",
    ),
    *("Name:", "Name:  ", "Name:  <inaccessible!>\n", "UUID:  ", f"UUID:  {ONE}\n", "Groups: /\n"),
    *("Guest OS: x\n", "Encryption: \n", "Platform Architecture: x86\n", "State:  running (since"),
    *("NIC 1:  ", "MAC: 080027AABBCC", ", Attachment: ", ", Cable connected: on", ", Type: "),
    *("VMState=", 'VMState="running"\n', "Location: /x\n", "\nIn use by VMs:", f"(UUID: {ONE})"),
    *("NetworkName:", "Enabled: Yes\n", "Settings file: '", "'", "Value: ", "Value: x\n"),
    *(
        " 77 /VBoxHeadless ",
        "-startvm",
        f" --startvm {ONE}",
        "\nN1 ",
        "\nN1 machine ",
        "\nN1 end 0",
    ),
    *("VBoxManage: error: ", "An unexpected process ", " has tried to lock", "code E_FAIL (0x"),
    *("Could not rename the directory ", "VERR_ALREADY_EXISTS", "/x[1] (", "Code ", "code "),
    *("<Machine ", f'<Machine uuid="{{{ONE}}}" name="', "<VirtualBox>", "</VirtualBox>", "/>"),
    *("<a>", "</a>", "<a b='c'/>", "<Snapshot>", "<Adapter ", "<!--", "-->", "<![CDATA[", "&amp;"),
    *("&#x41;", "&lol;", "<!DOCTYPE x [", "<!ENTITY lol 'x'>", "]>", "<?xml version='1.0'?>"),
    *(" (being made by maas-virtualbox on ", "host process 1)", "1.2", "8254", "virtio", "08:00:"),
)

HEAD = f"Name:  x\nGroups:  /\nGuest OS:  x\nUUID:  {ONE}\nState:  running\n"

SHAPES: dict[str, Shape] = {
    "quotes that never end": ('name="', "\\\n", ""),
    "backslashes before a quote": ('name="', "\\", '"\nVMState="running"\n'),
    "escaped quotes": ('name="', '\\"', '"\nVMState="running"\n'),
    "keys": ("", "a=1\n", 'VMState="running"\n'),
    "a line that is all key": ("", "a", ""),
    "lines without keys": ("", '"\n', ""),
    "VMs": ("", f'"x" {{{ONE}}}\n', ""),
    "one VM with a forged list for a name": ('"x', f'" {{{ONE}}}', f'" {{{ONE}}}\n'),
    "a name that never ends": ('"', "x", ""),
    "names that fit no VM": ('"', f'x" {{{ONE}}} \n"', f'" {{{ONE}}}\n'),
    "heads without an end": ("", "Name:  x\n", ""),
    "heads with the wrong margin": ("", f"Name: x\nGroups: /\nGuest OS: x\nUUID:   {ONE}\n", ""),
    "heads, then wrong ends": ("Name: \n" * 5000, f"Groups: /\nGuest OS: x\nUUID:   {ONE}\n", ""),
    "blanks after a head": ("Name:", " ", ""),
    "a real head and lines": (
        HEAD,
        "a\n",
        "",
    ),
    "NICs that never end": (
        f"{HEAD}NIC 1: MAC: 080027AABBCC, Attachment: x",
        ", Cable connected: on",
        "",
    ),
    "processes": ("", f"  77 VBoxHeadless --comment x --startvm {ONE} --vrde config\n", ""),
    "one process, many VMs": ("77 ", f"--startvm {ONE} ", "-startvm"),
    "blanks after startvm": ("77 -startvm", " ", "x"),
    "startvm without end": ("77 ", "-startvm ", ""),
    "digits": ("", "1", " x -startvm"),
    "disks": ("", f"UUID: {ONE}\nLocation: /x\nIn use by VMs: x (UUID: {ONE})\n\n", ""),
    "one disk with many users": (
        f"UUID: {ONE}\nLocation: /x\nIn use by VMs: ",
        f"x (UUID: {ONE})\n",
        "",
    ),
    "empty lines": ("", "\n", ""),
    "networks": ("", "Name: x\n", ""),
    "blanks": ("Name:", " ", ""),
    "numbers": (" ", "1 1 1 ", "1% "),
    "frames": ("", "\nN1 machine {x} y\nz\n", "\nN1 end 0\n"),
    "frames that say nothing": ("", "\nN1 ", "\nN1 end 0\n"),
    "half frames": ("", "\nN1\nN", "\nN1 end 0\n"),
    "processes that lock": ("VBoxManage: error: ", "An unexpected process ", ""),
    "renames that fail": ("VBoxManage: error: ", "Could not rename the directory ", ""),
    "codes": ("VBoxManage: error: ", "code A", ""),
    "code names": ("VBoxManage: error: code ", "A", " ("),
    "details": ("VBoxManage: error: /", "[1", ""),
    "error lines": ("", "VBoxManage: error: Details: \n", ""),
    "elements": ("<VirtualBox>", "<a/>", "</VirtualBox>"),
    "deep elements": ("<VirtualBox>", "<a>", ""),
    "attributes": ("<VirtualBox ", 'a="b" ', "/>"),
    "one large attribute": (
        f'<VirtualBox><Machine uuid="{{{ONE}}}" name="',
        "x",
        '"/></VirtualBox>',
    ),
    "adapters": (
        f'<V><Machine uuid="{{{ONE}}}"><Hardware><Network>',
        '<Adapter slot="0" enabled="true" MACAddress="080027AABBCC"><NAT/></Adapter>',
        "</Network></Hardware></Machine></V>",
    ),
    "boot devices": (
        f'<V><Machine uuid="{{{ONE}}}"><Hardware><Boot>',
        '<Order position="1" device="Network"/>',
        "</Boot></Hardware></Machine></V>",
    ),
    "snapshots": (f'<V><Machine uuid="{{{ONE}}}">', "<Snapshot><Snapshots>", ""),
    "references": ("<V a='", "&#x41;", "'/>"),
    "entities": ("<!DOCTYPE x [<!ENTITY a 'aaaaaaaa'>]><V>", "&a;", "</V>"),
    "a comment": ("<V><!--", "x", "--></V>"),
    "temporary names": ("x", " (being made by maas-virtualbox on a", " process 1)"),
    "a temporary name of a long machine": (
        "x (being made by maas-virtualbox on ",
        "a",
        " process 1",
    ),
    "models": ("", "virtio", ""),
}


@functools.lru_cache(maxsize=16)  # one shape is given to all parsers
def text_of(shape: Shape, size: int) -> str:
    begin, part, end = shape
    return begin + part * (size // len(part)) + end


def seconds(parse: Callable[[str], object], text: str) -> float:
    began = time.thread_time()
    with contextlib.suppress(parsers.InvalidOutput, parsers.TooManyEntries):  # and nothing else
        parse(text)
    return time.thread_time() - began


def growth(parse: Callable[[str], object], shape: Shape) -> float:
    """Return how many times as long the longer text takes, at a size that can be measured."""
    size = _SMALLEST
    short = seconds(parse, text_of(shape, size))
    long = seconds(parse, text_of(shape, _STEP * size))
    while long < _MEASURABLE_S and size < _LARGEST // _STEP:
        size *= _STEP
        short, long = long, seconds(parse, text_of(shape, _STEP * size))
    for repetitions in range(2, 8):
        if long < _MAX_GROWTH * max(short, _MEASURABLE_S / _STEP**2):
            break
        # Too slow, or something disturbed the measurement: repeat it and keep the shortest times.
        texts = text_of(shape, size), text_of(shape, _STEP * size)
        short, long = (min(seconds(parse, text) for _ in range(repetitions)) for text in texts)
    return long / max(short, _MEASURABLE_S / _STEP**2)


def peak_memory(parse: Callable[[str], object], text: str) -> int:
    tracemalloc.start()
    try:
        seconds(parse, text)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("parser", PARSERS)
def test_parser_takes_time_in_proportion(parser: str) -> None:
    slow = {
        name: ratio
        for name, shape in SHAPES.items()
        if (ratio := growth(PARSERS[parser], shape)) >= _MAX_GROWTH
    }

    assert slow == {}


part = st.lists(st.sampled_from(TOKENS), max_size=4).map("".join)
repeated_part = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map("".join)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(part, repeated_part, part)
def test_parsers_take_time_in_proportion_to_any_text(begin: str, repeated: str, end: str) -> None:
    slow = {
        parser: ratio
        for parser, parse in PARSERS.items()
        if (ratio := growth(parse, (begin, repeated, end))) >= _MAX_GROWTH
    }

    assert slow == {}


@pytest.mark.parametrize("parser", PARSERS)
def test_parser_takes_memory_in_proportion(parser: str) -> None:
    large = {
        name: used
        for name, shape in SHAPES.items()
        if (used := peak_memory(PARSERS[parser], text_of(shape, _MEMORY_SIZE)))
        >= _MAX_MEMORY * len(text_of(shape, _MEMORY_SIZE))
    }

    assert large == {}


def test_growth_of_a_quadratic_parser_is_too_large() -> None:
    def parse(text: str) -> None:
        for position in range(0, len(text), 64):
            text.count("x", position)

    assert growth(parse, ("", "a", "")) >= _MAX_GROWTH
