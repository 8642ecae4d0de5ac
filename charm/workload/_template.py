# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The patched power template of MAAS 1.4 to 1.9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maas_virtualbox import errors
from maas_virtualbox.maas import power_template
from workload._errors import WorkloadError
from workload._files import CONFIG_FILE, CURRENT, NAME, SOCKET

if TYPE_CHECKING:
    from pathlib import Path

MAAS_USER = "maas"


def is_patched(root: Path, choice: str) -> bool:
    """Return whether the template must be patched.

    Args:
        root: The folder that represents `/`.
        choice: The option power-template: auto, on or off.

    Raises:
        WorkloadError: The choice is "on", but this machine does not have the template.
    """
    exists = (root / power_template.TEMPLATE).exists()
    if choice == "on" and not exists:
        raise WorkloadError(
            "power-template: expected auto or off, because this machine has no"
            f" /{power_template.TEMPLATE}, which MAAS 1.4 to 1.9 has"
        )
    return exists and choice != "off"


def ensure(root: Path, *, patched: bool) -> None:
    """Install the patched template, or restore MAAS's own template.

    Raises:
        WorkloadError: The template cannot be changed.
    """
    settings = power_template.TemplateSettings(
        program=root / CURRENT / "bin" / NAME,
        python=root / CURRENT / "venv/bin/python",
        config_file=root / CONFIG_FILE,
        socket_file=root / SOCKET,
        user=MAAS_USER,
    )
    try:
        if patched:
            power_template.install(root, settings)
        else:
            power_template.remove(root)
    except errors.ConfigError as error:
        raise WorkloadError(
            f"power-template: {error}{'; or set power-template=off' if patched else ''}"
        ) from None
