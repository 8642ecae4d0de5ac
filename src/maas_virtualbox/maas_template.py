# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The patched power template of MAAS 1.4 to 1.9: installed, found rewritten, and taken back.

The template MAAS's package brought is kept aside and comes back byte for byte. Files are replaced
whole, with the owner and mode of the one before.
"""

from __future__ import annotations

import contextlib
import dataclasses
import stat
from pathlib import Path

from maas_virtualbox import errors, files, templates

TEMPLATE = Path("etc/maas/templates/power/ether_wake.template")
KEPT = Path("var/lib/maas-virtualbox/ether_wake.template.original")
EXTENSIONS = "VBox_extensions"
SCRIPTS = ("power_on", "power_off", "power_down", "power_check")

_OURS = b"maas-virtualbox wrote this power template"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the template and the scripts are told."""

    program: Path
    """The `maas-virtualbox` that the scripts start where no service runs."""
    python: Path
    """The interpreter of the scripts; they need its standard library only."""
    config_file: Path
    socket_file: Path
    """The power service's UNIX socket."""
    user: str = "maas"
    """The user MAAS runs templates as."""
    path: str = _PATH
    """Where the template looks for etherwake and wakeonlan."""


def install(root: Path, wanted: Settings, *, force: bool = False) -> list[str]:
    """Put the template and the scripts in place; returns what changed, in sentences.

    Args:
        root: `/`, or a folder that stands for it.
        wanted: what they are told.
        force: replace a template that is neither MAAS's own nor ours, keeping it aside.

    Raises:
        ConfigError: there is no such template, or it is one this program does not expect; nothing
            was changed.
    """
    template, kept = root / TEMPLATE, root / KEPT
    home, owner = _home(root, wanted.user)
    try:
        present = template.read_bytes()
    except OSError as error:
        raise errors.ConfigError(
            f"{template}: {error.strerror}; the power template is for MAAS 1.4 to 1.9, newer ones"
            " take `maas-virtualbox parameters`"
        ) from None
    if not _is_ours(present) and not force:
        _check_expected(template, present)
    done: list[str] = []
    for name in SCRIPTS:
        values = {field: str(value) for field, value in vars(wanted).items()}
        text = templates.render(f"{EXTENSIONS}/{name}", **values).encode()
        if files.write(home / EXTENSIONS / name, text, 0o755, owner, folder_owner=owner):
            done.append(f"{home / EXTENSIONS / name}: written")
    if not _is_ours(present):
        upgraded = kept.exists()
        before = template.stat()
        if files.write(
            kept, present, stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
        ):
            why = "rewritten, as by an upgrade of MAAS; " if upgraded else ""
            done.append(f"{template}: {why}kept at {kept}")
    rendered = templates.render(
        "ether_wake.template", kept=kept, path=wanted.path, extensions=str(home / EXTENSIONS)
    ).encode()
    before = template.stat()
    if files.write(
        template, rendered, stat.S_IMODE(before.st_mode), (before.st_uid, before.st_gid)
    ):
        done.append(f"{template}: written")
    return done


def remove(root: Path, user: str = "maas") -> list[str]:
    """Take the scripts away and put the original template back; returns what changed.

    A template that MAAS's package has rewritten since stays as it is. Where `install` never was,
    nothing is touched: the scripts there may be those of 2015.
    """
    template, kept = root / TEMPLATE, root / KEPT
    if not kept.exists():
        return []
    done: list[str] = []
    if template.exists() and _is_ours(template.read_bytes()):
        before = kept.stat()
        files.write(
            template,
            kept.read_bytes(),
            stat.S_IMODE(before.st_mode),
            (before.st_uid, before.st_gid),
        )
        done.append(f"{template}: the original is back")
    kept.unlink()
    with contextlib.suppress(OSError):
        kept.parent.rmdir()
    with contextlib.suppress(errors.ConfigError):
        extensions = _home(root, user)[0] / EXTENSIONS
        for name in SCRIPTS:
            if (extensions / name).exists():
                (extensions / name).unlink()
                done.append(f"{extensions / name}: removed")
        with contextlib.suppress(OSError):
            extensions.rmdir()
    return done


def rewritten(root: Path) -> str:
    """Tell whether MAAS's package has rewritten our template since it was installed: a sentence,
    or nothing."""
    template = root / TEMPLATE
    if not (root / KEPT).exists() or not template.exists() or _is_ours(template.read_bytes()):
        return ""
    return f"{template}: rewritten, as by an upgrade of MAAS: maas-virtualbox install-template"


def _is_ours(content: bytes) -> bool:
    return _OURS in content.partition(b"\n")[0]


def _check_expected(template: Path, content: bytes) -> None:
    if b"mac_address" not in content or not (b"etherwake" in content or b"wakeonlan" in content):
        reason = "it is no Wake-on-LAN template of MAAS"
    elif b"VBox_extensions" in content:
        reason = "it is patched already, as by the scripts of 2015"
    else:
        return
    raise errors.ConfigError(
        f"{template}: {reason}; restore MAAS's own, or say --force to keep this one aside"
    )


def _home(root: Path, user: str) -> tuple[Path, tuple[int, int]]:
    """Return the user's home below `root`, and its numbers."""
    passwd = root / "etc/passwd"
    with contextlib.suppress(OSError):
        for line in passwd.read_text(encoding="utf-8", errors="replace").splitlines():
            fields = line.split(":")
            if len(fields) >= 6 and fields[0] == user:
                return root / fields[5].lstrip("/"), (int(fields[2]), int(fields[3]))
    raise errors.ConfigError(f"{passwd}: there is no user {user!r}; is MAAS installed here?")
