# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Draws docs/picture.svg, a terminal with real commands of the program: `make picture`.

The commands run on two simulated hosts with five VMs each. The names, UUIDs and MACs are the same
in every run; only the measured seconds differ.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from rich import console, terminal_theme, text

from maas_virtualbox import simulator
from maas_virtualbox.config import host_list

if TYPE_CHECKING:
    from collections.abc import Generator

PICTURE = Path(__file__).parents[1] / "docs" / "picture.svg"

COLUMNS = 108
HOSTS = {"izMBP13": range(1, 6), "izMBP15": range(6, 11)}
CONFIG = "lab.yaml"
COMMANDS = (
    ("--config", CONFIG, "on", "node01", "node02", "node06", "08:00:27:00:00:07"),
    ("--config", CONFIG, "list"),
    ("--config", CONFIG, "off", "node02"),
)


def main() -> None:
    """Write the picture."""
    PICTURE.write_text(draw())


def draw() -> str:
    """Run the commands and return the picture, as SVG."""
    with tempfile.TemporaryDirectory() as folder, _simulated_hosts(Path(folder)):
        outputs = [_run(command, Path(folder)) for command in COMMANDS]
    terminal = console.Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for command, output in zip(COMMANDS, outputs, strict=True):
        line = f"maas-virtualbox {' '.join(command)}"
        terminal.print(text.Text.assemble(("$ ", "green"), (line, "bold")))
        terminal.print(text.Text.from_ansi(output.strip("\n")), end="\n\n")
    svg = terminal.export_svg(
        title="maas-virtualbox", theme=terminal_theme.MONOKAI, unique_id="picture"
    )
    # GitHub loads no fonts for a picture: the viewer's own monospaced font is used.
    return re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)


@contextlib.contextmanager
def _simulated_hosts(folder: Path) -> Generator[None]:
    """Start the simulated hosts, and write a configuration file for them."""
    entries: list[str] = []
    with contextlib.ExitStack() as stack:
        key_file: Path | None = None
        for name, numbers in HOSTS.items():
            host = stack.enter_context(
                simulator.Simulator(
                    user="ivan", timings=simulator.Timings.real(), key_file=key_file
                )
            )
            key_file = key_file or host.key_file
            for number in numbers:
                vm = host.virtualbox.add_vm(
                    f"node{number:02}", macs=[f"08:00:27:00:00:{number:02x}"]
                )
                vm.attachment = "bridged"
            fingerprint = host_list.key_fingerprint(host.host_key)
            entries.append(f"{host.host_entry} name={name} zone={name} host-key={fingerprint}")
        config = {
            "hosts": ", ".join(entries),
            "ssh-private-key-file": str(key_file),
            "known-hosts-file": str(folder / "known_hosts"),
            "vm-hosts-file": str(folder / "vm-hosts.json"),
        }
        (folder / CONFIG).write_text(yaml.safe_dump(config))
        yield


def _run(command: tuple[str, ...], folder: Path) -> str:
    """Run the program on a terminal. Return what it writes to standard output."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
    with subprocess.Popen(
        [Path(sys.executable).with_name("maas-virtualbox"), *command],
        cwd=folder,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)},
    ) as process:
        os.close(theirs)
        output = b""
        # On Linux, reading fails with EIO when the program has closed its end.
        with contextlib.suppress(OSError):
            while piece := os.read(ours, 65536):
                output += piece
        os.close(ours)
        assert process.stderr
        errors = process.stderr.read().decode()
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{errors}")
    return output.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    main()
