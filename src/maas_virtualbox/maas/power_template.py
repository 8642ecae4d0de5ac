# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Installs and removes the patched power template of MAAS 1.4 to 1.9, and its extension scripts.

The original template is saved, and `remove` restores it byte for byte. Files are replaced
atomically and keep their owner and mode.

MAAS runs the restored template, but the service's user owns the folder in which the original is
saved. Therefore the patched template, which belongs to root, contains the original's digest.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from maas_virtualbox import errors, templates
from maas_virtualbox.config import atomic_files

if TYPE_CHECKING:
    from maas_virtualbox.config.atomic_files import File, Owner

TEMPLATE = Path("etc/maas/templates/power/ether_wake.template")
ORIGINAL = Path("var/lib/maas-virtualbox/ether_wake.template.original")
"""Where the original template is saved."""
EXTENSIONS = "VBox_extensions"
SCRIPTS = ("power_on", "power_off", "power_down", "power_check")

_SIGNATURE = b"maas-virtualbox wrote this power template"
_DIGEST_LINE = re.compile(rb"^# Its SHA-256 is ([0-9a-f]{64})\.$", re.MULTILINE)
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class TemplateSettings:
    """The values in the template and the scripts."""

    program: Path
    """The `maas-virtualbox` that the scripts start if no power service runs."""
    python: Path
    """The interpreter of the scripts, which need only its standard library."""
    config_file: Path
    socket_file: Path
    """The UNIX socket of the power service."""
    user: str = "maas"
    """The user as whom MAAS runs templates."""
    path: str = _PATH
    """Where the template finds etherwake and wakeonlan."""


def install(root: Path, settings: TemplateSettings, *, force: bool = False) -> list[str]:
    """Install the template and the scripts. Return what changed, in sentences.

    Args:
        root: `/`, or another folder for tests.
        settings: the values in the template and the scripts.
        force: replace a template that is neither MAAS's own nor this project's. It is saved.

    Raises:
        ConfigError: there is no template, or an unexpected one. Nothing was changed.
    """
    template, original = root / TEMPLATE, root / ORIGINAL
    extensions, owner = _find_extensions(root, settings.user)
    current = _read_template(template)
    if not _is_patched(current.content) and not force:
        _check_expected(template, current.content)
    changes = _write_scripts(extensions, owner, settings)
    if not _is_patched(current.content):
        changes += _save_original(template, original, current)
    patched = templates.render(
        "ether_wake.template",
        kept=original,
        digest=_original_digest(current.content, original),
        path=settings.path,
        extensions=str(extensions),
    ).encode()
    if atomic_files.write(template, patched, current.mode, current.owner):
        changes.append(f"{template}: written")
    return changes


def remove(root: Path, user: str = "maas") -> list[str]:
    """Remove the scripts and restore the original template. Return what changed, in sentences.

    A template that an upgrade of MAAS has replaced stays. If `install` never ran, nothing changes,
    because the scripts may be the legacy ones.

    Raises:
        ConfigError: the saved file is not the original. Nothing was changed.
    """
    template, original = root / TEMPLATE, root / ORIGINAL
    if not original.exists():
        return []
    changes = _restore_original(template, original)
    atomic_files.remove(original)
    with contextlib.suppress(OSError):
        original.parent.rmdir()
    with contextlib.suppress(errors.ConfigError):
        changes += _remove_scripts(_find_extensions(root, user)[0])
    return changes


def upgrade_warning(root: Path) -> str:
    """Return a warning if an upgrade of MAAS has replaced the patched template; else empty."""
    template = root / TEMPLATE
    if not (root / ORIGINAL).exists() or not template.exists():
        return ""
    if _is_patched(template.read_bytes()):
        return ""
    return (
        f"{template}: an upgrade of MAAS has replaced the patched template: run maas-virtualbox"
        " install-template"
    )


# -- The scripts --------------------------------------------------------------------------------


def _find_extensions(root: Path, user: str) -> tuple[Path, Owner]:
    """Return the folder of the scripts in a user's home below `root`, and the user's IDs."""
    passwd = root / "etc/passwd"
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = passwd.read_text(encoding="utf-8", errors="replace").splitlines()
    for line in lines:
        fields = line.split(":")
        if len(fields) >= 6 and fields[0] == user:
            home = root / fields[5].lstrip("/")
            return home / EXTENSIONS, (int(fields[2]), int(fields[3]))
    raise errors.ConfigError(f"{passwd}: there is no user {user!r}; is MAAS installed here?")


def _write_scripts(extensions: Path, owner: Owner, settings: TemplateSettings) -> list[str]:
    values = {name: str(value) for name, value in vars(settings).items()}
    changes: list[str] = []
    for name in SCRIPTS:
        path = extensions / name
        script = templates.render(f"{EXTENSIONS}/{name}", **values).encode()
        if atomic_files.write(path, script, 0o755, owner, folder_owner=owner):
            changes.append(f"{path}: written")
    return changes


def _remove_scripts(extensions: Path) -> list[str]:
    scripts = [extensions / name for name in SCRIPTS]
    changes = [f"{script}: removed" for script in scripts if atomic_files.remove(script)]
    with contextlib.suppress(OSError):
        extensions.rmdir()
    return changes


# -- The template -------------------------------------------------------------------------------


def _read_template(template: Path) -> File:
    try:
        return atomic_files.read(template)
    except OSError as error:
        raise errors.ConfigError(
            f"{template}: {error.strerror}; the power template is for MAAS 1.4 to 1.9. For newer"
            " versions, use `maas-virtualbox parameters`"
        ) from None


def _is_patched(content: bytes) -> bool:
    return _SIGNATURE in content.partition(b"\n")[0]


def _check_expected(template: Path, content: bytes) -> None:
    """Raise `ConfigError` unless a template is MAAS's own."""
    if b"mac_address" not in content or not (b"etherwake" in content or b"wakeonlan" in content):
        reason = "it is not a Wake-on-LAN template of MAAS"
    elif b"VBox_extensions" in content:
        reason = "it is already patched, probably by the legacy scripts"
    else:
        return
    raise errors.ConfigError(
        f"{template}: {reason}; restore MAAS's own template, or use --force to save and replace"
        " this one"
    )


def _save_original(template: Path, original: Path, current: File) -> list[str]:
    is_upgrade = original.exists()
    if not atomic_files.write(original, current.content, current.mode, current.owner):
        return []
    reason = "an upgrade of MAAS has replaced the patched template; " if is_upgrade else ""
    return [f"{template}: {reason}the original is saved as {original}"]


def _restore_original(template: Path, original: Path) -> list[str]:
    """Restore the original template, unless an upgrade of MAAS has replaced the patched one."""
    if not template.exists():
        return []
    current = atomic_files.read(template)
    if not _is_patched(current.content):
        return []
    content = _read_original(original)
    if content is None or _digest(content) != _named_digest(current.content):
        raise errors.ConfigError(
            f"{original}: this is not MAAS's original template: reinstall MAAS's package to get"
            " it back, and then run remove-template"
        )
    atomic_files.write(template, content, current.mode, current.owner)
    return [f"{template}: the original is restored"]


def _original_digest(current: bytes, original: Path) -> str:
    """Return the digest of the original, for the patched template; empty if it is unknown."""
    if not _is_patched(current):
        return _digest(current)
    content = _read_original(original)
    return _named_digest(current) or ("" if content is None else _digest(content))


def _named_digest(patched: bytes) -> str:
    """Return the digest that a patched template contains, if any."""
    match = _DIGEST_LINE.search(patched)
    return match[1].decode() if match else ""


def _read_original(original: Path) -> bytes | None:
    try:
        return atomic_files.read(original).content
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
