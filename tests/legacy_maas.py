# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A fake of MAAS 1.4 to 1.9 in a temporary root. It renders and runs power templates."""

from __future__ import annotations

import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from maas_virtualbox.maas import power_template

from tests.service import PROGRAM

VERSIONS = ("1.4", "1.5", "1.7", "1.9")
STOCK = b"""\
# -*- mode: shell-script -*-
mac={{mac_address}}
if [ -x /usr/sbin/etherwake ]; then /usr/sbin/etherwake $mac; else /usr/bin/wakeonlan $mac; fi
"""

_TEMPITA: Any = importlib.import_module("tempita")


class ShellTemplate(_TEMPITA.Template):
    """Tempita as MAAS uses it: it quotes every substituted value for the shell."""

    def _repr(self, value: Any, pos: Any) -> str:
        parent: Any = super()
        return shlex.quote(parent._repr(value, pos))


def render(path: Path, values: dict[str, object]) -> str:
    """Render a power template as MAAS does. An undefined variable is an error."""
    return str(ShellTemplate(path.read_text()).substitute(values))


def variables(version: str, change: str, mac: str) -> dict[str, object]:
    """Return exactly the variables that a version of MAAS passes to the template."""
    found: dict[str, object] = {
        "power_change": change,
        "mac_address": mac,
        "system_id": "node-3a1cf0a1",
        "power_id": "node-3a1cf0a1",
        "power_address": "",
        "power_pass": "",
        "username": "",
        "power_driver": "",
        "config_dir": "/etc/maas/templates/power",
    }
    if version != "1.4":
        found["ip_address"] = None
    if version in ("1.7", "1.9"):
        found |= {"power_off_mode": "", "boot_mode": "fastpath"}
    return found


class LegacyMAAS:
    """A machine with a legacy MAAS: a temporary root with the stock template."""

    def __init__(self, root: Path, config_file: Path, socket_file: Path) -> None:
        self.root = root
        self.template = root / power_template.TEMPLATE
        self.home = root / "var/lib/maas"
        self.bin = root / "bin"
        self.woken_file = root / "woken"
        for folder in (self.template.parent, self.home, self.bin, root / "etc"):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "etc/passwd").write_text(
            f"root:x:0:0::/root:/bin/sh\nmaas:x:{os.getuid()}:{os.getgid()}::/var/lib/maas:/bin/sh\n"
        )
        self.template.write_bytes(STOCK)
        self.template.chmod(0o640)
        etherwake = self.bin / "etherwake"
        etherwake.write_text(f'#!/bin/sh\necho "$@" >> {self.woken_file}\n')
        etherwake.chmod(0o755)
        self.settings = power_template.TemplateSettings(
            program=PROGRAM,
            python=Path(sys.executable),
            config_file=config_file,
            socket_file=socket_file,
            path=f"{self.bin}:/usr/bin:/bin",
        )

    def power(
        self, change: str, mac: str, version: str = "1.9"
    ) -> subprocess.CompletedProcess[str]:
        """Control or query power like MAAS, which sends the rendered text to /bin/sh."""
        script = render(self.template, variables(version, change, mac))
        return subprocess.run(
            ["/bin/sh"],
            input=script,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
            cwd=self.root,
            env={},
        )

    def woken(self) -> list[str]:
        """Return the arguments of all calls of etherwake."""
        return self.woken_file.read_text().splitlines() if self.woken_file.exists() else []
