# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The patched power template of MAAS 1.4 to 1.9: installed, found rewritten, and taken back.

The template MAAS's package brought is kept aside and comes back byte for byte. Files are replaced
atomically, with the owner and mode of the one before.

The service's user owns the folder in which it is kept, and MAAS runs what comes back. Therefore
our template, which is root's, names the digest of the one that was kept.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
from pathlib import Path

from maas_virtualbox import errors, templates
from maas_virtualbox.config import atomic_files

TEMPLATE = Path("etc/maas/templates/power/ether_wake.template")
KEPT = Path("var/lib/maas-virtualbox/ether_wake.template.original")
EXTENSIONS = "VBox_extensions"
SCRIPTS = ("power_on", "power_off", "power_down", "power_check")

_OURS = b"maas-virtualbox wrote this power template"
_KEPT_DIGEST = re.compile(rb"^# Its SHA-256 is ([0-9a-f]{64})\.$", re.MULTILINE)
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
        before = atomic_files.read(template)
    except OSError as error:
        raise errors.ConfigError(
            f"{template}: {error.strerror}; the power template is for MAAS 1.4 to 1.9, newer ones"
            " take `maas-virtualbox parameters`"
        ) from None
    ours = _is_ours(before.content)
    if not ours and not force:
        _check_expected(template, before.content)
    done: list[str] = []
    for name in SCRIPTS:
        values = {field: str(value) for field, value in vars(wanted).items()}
        text = templates.render(f"{EXTENSIONS}/{name}", **values).encode()
        if atomic_files.write(home / EXTENSIONS / name, text, 0o755, owner, folder_owner=owner):
            done.append(f"{home / EXTENSIONS / name}: written")
    if not ours:
        upgraded = kept.exists()
        if atomic_files.write(kept, before.content, before.mode, before.owner):
            why = "rewritten, as by an upgrade of MAAS; " if upgraded else ""
            done.append(f"{template}: {why}kept at {kept}")
    rendered = templates.render(
        "ether_wake.template",
        kept=kept,
        digest=(_kept_digest(before.content) or _digest(_read(kept)))
        if ours
        else _digest(before.content),
        path=wanted.path,
        extensions=str(home / EXTENSIONS),
    ).encode()
    if atomic_files.write(template, rendered, before.mode, before.owner):
        done.append(f"{template}: written")
    return done


def remove(root: Path, user: str = "maas") -> list[str]:
    """Take the scripts away and put the original template back; returns what changed.

    A template that MAAS's package has rewritten since stays as it is. Where `install` never was,
    nothing is touched: the scripts there may be those of 2015.

    Raises:
        ConfigError: what was kept is not the original any more; nothing was changed.
    """
    template, kept = root / TEMPLATE, root / KEPT
    if not kept.exists():
        return []
    done: list[str] = []
    if template.exists() and _is_ours((before := atomic_files.read(template)).content):
        original = _read(kept)
        if original is None or _digest(original) != _kept_digest(before.content):
            raise errors.ConfigError(
                f"{kept}: it is not MAAS's original any more: install MAAS's package again, which"
                " brings its template back, and then run remove-template"
            )
        atomic_files.write(template, original, before.mode, before.owner)
        done.append(f"{template}: the original is back")
    atomic_files.remove(kept)
    with contextlib.suppress(OSError):
        kept.parent.rmdir()
    with contextlib.suppress(errors.ConfigError):
        extensions = _home(root, user)[0] / EXTENSIONS
        scripts = [extensions / name for name in SCRIPTS]
        done += [f"{script}: removed" for script in scripts if atomic_files.remove(script)]
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


def _kept_digest(ours: bytes) -> str:
    """Return the digest that our template names; empty where a version of ours named none."""
    found = _KEPT_DIGEST.search(ours)
    return found[1].decode() if found else ""


def _read(kept: Path) -> bytes | None:
    """Return what is kept; None where it cannot be read."""
    try:
        return atomic_files.read(kept).content
    except OSError:
        return None


def _digest(content: bytes | None) -> str:
    return "" if content is None else hashlib.sha256(content).hexdigest()


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
