# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command lines this library sends, and the only place where anything is quoted.

A host is asked in one of five ways, and each has one method per kind of shell: `probe` (what
is this host), `poll` (which VMs are up, and what do their settings files say), `run` (one
VBoxManage call), `tail` (the end of a log file), `inspect` (facts for the doctor).

The scripts are fixed texts; all that varies travels as their arguments. They are one line each,
without `!` and without doubled or quote-escaping backslashes inside single quotes, so that any
login shell (sh, bash, zsh, fish, tcsh) hands them to /bin/sh unchanged.

Scripts frame their answer with lines `<nonce> <section> <detail>`; `sections` takes it apart. The
nonce is new for every command, so nothing a VM's settings contain can forge a frame, a greeting
that a login script prints is passed over, and an answer without its `end` was cut off. Of a
settings file beyond `MAX_FILE` the rest stays on the host: a section `oversize` follows it.
"""

from __future__ import annotations

import base64
import dataclasses
import shlex
from typing import TYPE_CHECKING, Literal, Protocol

from maas_virtualbox.virtualbox.settings_xml import MAX_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

SettingsRead = Literal["heads", "all"]
"""How much of each settings file to read: the `<Machine>` line, or all of it."""


class Shell(Protocol):
    """How to put a request to one kind of host as one command line."""

    def inspect(self, nonce: str, program: str, folder: str) -> str:
        """Sections user, kill, linger, disk, dhcp, end: facts the doctor judges."""
        ...

    def poll(self, nonce: str, program: str, *, settings: SettingsRead, long: bool) -> str:
        """Sections running, processes, registry, machine (one a VM), oversize, end."""
        ...

    def probe(self, nonce: str, configured: str) -> str:
        """Sections system, user, program, version, end."""
        ...

    def run(self, program: str, argv: Sequence[str]) -> str:
        """One VBoxManage call; its exit code is the command's."""
        ...

    def tail(self, path: str, lines: int) -> str:
        """The last lines of a text file."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One framed part of a script's answer."""

    name: str
    detail: str
    """The rest of the frame's line."""
    body: memoryview
    """What follows that line, as the host sent it: a view, as answers may be large."""

    @property
    def text(self) -> str:
        """The body as text, decoded at each use."""
        return _decode(self.body)


def count_sections(nonce: str, output: bytes) -> int:
    """Return how many frames an answer has."""
    return output.count(_frame(nonce))


def sections(nonce: str, output: bytes) -> list[Section] | None:
    """Take a script's answer apart; None when its `end` is missing, that is, it was cut off."""
    frame = _frame(nonce)
    view = memoryview(output)
    found: list[Section] = []
    position = output.find(frame)
    while position >= 0:
        position += len(frame)
        following = output.find(frame, position)
        end = following if following >= 0 else len(output)
        line_end = output.find(b"\n", position, end)
        if line_end < 0:
            line_end = end
        name, _, detail = _decode(view[position:line_end]).removesuffix("\r").partition(" ")
        found.append(Section(name, detail, view[line_end + 1 : end]))
        position = following
    return found if found and found[-1].name == "end" else None


def _frame(nonce: str) -> bytes:
    return f"\n{nonce} ".encode()


def _decode(body: memoryview) -> str:
    # The newline of a carriage return at the end is that of the next frame.
    return str(body, "utf-8", "replace").replace("\r\n", "\n").removesuffix("\r")


# -- POSIX: Linux and macOS -------------------------------------------------------------------

_MARK = r"""m() { printf '\n%s %s\n' "$N" "$*"; }; """

PROBE = (
    "N=$1; " + _MARK + "m system; uname -s; m user; id -un; m program; "
    # The program itself before the wrapper of Debian and Oracle in PATH: the wrapper costs 8 ms,
    # prints warnings on stdout, and removes the IPC folder of running VMs when it sees no VBoxSVC.
    'for p in "$2" /usr/lib/virtualbox/VBoxManage /opt/VirtualBox/VBoxManage '
    "/Applications/VirtualBox.app/Contents/MacOS/VBoxManage /usr/local/bin/VBoxManage "
    '"$(command -v VBoxManage)" "$(command -v vboxmanage)"; do [ -x "$p" ] && break; '
    '[ "$p" = "$2" ] && [ -n "$p" ] && break; done; '
    'printf "%s" "$p"; m version; "$p" --version; m end $?'
)

# Prints, for every VM VirtualBox.xml names, a frame with its UUID and its settings file (still as
# XML has it), then the file or its <Machine> line. VirtualBox writes one element a line, and
# non-ASCII characters as &#x…; references, which have to become UTF-8 to open the file.
_AWK = r"""
function hex(s,  i,n) { n = 0; for (i = 1; i <= length(s); i++)
 n = n * 16 + index("0123456789ABCDEF", toupper(substr(s, i, 1))) - 1; return n }
function utf(n) { if (n < 128) return sprintf("%c", n);
 if (n < 2048) return sprintf("%c%c", 192 + int(n / 64), 128 + n % 64);
 if (n < 65536) return sprintf("%c%c%c", 224 + int(n / 4096),
 128 + int(n / 64) % 64, 128 + n % 64);
 return sprintf("%c%c%c%c", 240 + int(n / 262144), 128 + int(n / 4096) % 64,
 128 + int(n / 64) % 64, 128 + n % 64) }
function entity(c) { if (c == "amp") return "&";
 if (c == "lt") return "<"; if (c == "gt") return ">";
 if (c == "quot") return "\""; if (c == "apos") return sprintf("%c", 39);
 if (substr(c, 1, 2) == "#x") return utf(hex(substr(c, 3)));
 if (substr(c, 1, 1) == "#") return utf(substr(c, 2) + 0); return "&" c ";" }
function plain(s,  o,p) { o = ""; while ((p = index(s, "&")) > 0) { o = o substr(s, 1, p - 1);
 s = substr(s, p + 1); p = index(s, ";"); o = o entity(substr(s, 1, p - 1)); s = substr(s, p + 1) }
 return o s }
function value(s, k) { if (sub(".* " k "=\"", "", s)) sub("\".*", "", s); else s = ""; return s }
/<MachineEntry / { u = value($0, "uuid"); s = value($0, "src"); f = plain(s);
 if (substr(f, 1, 1) == "/") f = f; else f = d "/" f;
 printf "\n%s machine %s %s\n", n, u, s;
 b = 0; while ((getline l < f) > 0) {
 if ((b += length(l) + 1) > LIMIT) { printf "\n%s oversize\n", n; break }
 if (m == "all") print l; else if (l ~ /<Machine /) { print l; break } }
 close(f) }
""".replace("LIMIT", str(MAX_FILE))

POLL = (
    "N=$1; P=$2; S=$3; A=$4; shift 4; " + _MARK + 'm running; "$P" -q list "$@" runningvms; s=$?; '
    'm processes; ps -ww -U "$(id -u)" -o pid= -o args= | grep -e "-startvm [0-9a-f{]"; '
    'm registry; for d in "${VBOX_USER_HOME:-/nowhere}" '
    '"${XDG_CONFIG_HOME:-$HOME/.config}/VirtualBox" "$HOME/.VirtualBox" '
    '"$HOME/Library/VirtualBox" /nowhere; do [ -f "$d/VirtualBox.xml" ] && break; done; '
    'printf "%s" "$d"; [ "$d" = /nowhere ] || '
    'LC_ALL=C awk -v n="$N" -v m="$S" -v d="$d" "$A" "$d/VirtualBox.xml"; m end $s'
)

INSPECT = (
    "N=$1; P=$2; F=$3; " + _MARK + "m user; id -un; m kill; "
    "busctl get-property org.freedesktop.login1 /org/freedesktop/login1 "
    "org.freedesktop.login1.Manager KillUserProcesses 2>/dev/null || "
    "cat /etc/systemd/logind.conf /etc/systemd/logind.conf.d/*.conf 2>/dev/null | "
    'grep "^KillUserProcesses"; '
    'm linger; ls /var/lib/systemd/linger 2>/dev/null; m disk; df -Pk "$F" | tail -n 1; '
    'm dhcp; "$P" -q list dhcpservers; m end $?'
)


# Older macOS spells base64 -d as -D.
_INSTALL = (
    'd=$HOME/$1; f=$d/$2; umask 077; mkdir -p "$d" && t=$(mktemp "$d/.new.XXXXXX") || exit 1; '
    'printf "%s" "$3" | base64 -d > "$t" 2>/dev/null || printf "%s" "$3" | base64 -D > "$t" || '
    '{ rm -f "$t"; exit 1; }; '
    '[ -x "$f" ] && cmp -s "$t" "$f" && rm -f "$t" && echo same && exit 0; '
    'chmod 700 "$t" && mv -f "$t" "$f" && echo changed'
)

_REMOVE = (
    'd=$HOME/$1; shift; for n in "$@"; do [ -f "$d/$n" ] && rm -f "$d/$n" && echo "$n"; done; '
    'rmdir "$d" 2>/dev/null; exit 0'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Posix:
    """Any login shell on Linux or macOS."""

    locale: str = "C.UTF-8"
    """A UTF-8 locale of the host. In the POSIX locale VBoxManage cuts lists off at the first
    non-ASCII name and exits 0 (measured)."""

    def inspect(self, nonce: str, program: str, folder: str) -> str:
        return self._script(INSPECT, nonce, program, folder)

    def poll(self, nonce: str, program: str, *, settings: SettingsRead, long: bool) -> str:
        arguments = ["--long"] if long else []
        return self._script(POLL, nonce, program, settings, _one_line(_AWK), *arguments)

    def probe(self, nonce: str, configured: str) -> str:
        return self._script(PROBE, nonce, configured)

    def run(self, program: str, argv: Sequence[str]) -> str:
        return shlex.join(["exec", "env", f"LC_ALL={self.locale}", program, "-q", *argv])

    def tail(self, path: str, lines: int) -> str:
        return shlex.join(["exec", "tail", "-n", str(lines), path])

    def home(self) -> str:
        """Prints the account's home folder."""
        return self._script('printf "%s" "$HOME"')

    def install(self, folder: str, name: str, content: str) -> str:
        """Write an executable file below the home folder; prints changed or same."""
        encoded = base64.b64encode(content.encode()).decode()
        return self._script(_INSTALL, folder, name, encoded)

    def remove(self, folder: str, names: Sequence[str]) -> str:
        """Remove files below the home folder; prints the names of those that were there."""
        return self._script(_REMOVE, folder, *names)

    def _script(self, script: str, *arguments: str) -> str:
        return shlex.join(
            ["exec", "env", f"LC_ALL={self.locale}", "/bin/sh", "-c", script, "sh", *arguments]
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())


# -- Windows: PowerShell, under cmd.exe or PowerShell as login shell --------------------------

_PREAMBLE = (
    "$ProgressPreference='SilentlyContinue';"
    "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false);"
)

_WINDOWS_PROBE = (
    'function m($t){"`n$N $t"};'
    "m system;'Windows';m user;$env:USERNAME;m program;"
    '$p=@($C,"$env:VBOX_MSI_INSTALL_PATH\\VBoxManage.exe","$env:VBOX_INSTALL_PATH\\VBoxManage.exe",'
    '"$env:ProgramFiles\\Oracle\\VirtualBox\\VBoxManage.exe",'
    "(Get-Command VBoxManage -EA 0).Source)|?{$_ -and (Test-Path -LiteralPath $_ -PathType Leaf)}"
    '|Select -First 1;if($C){$p=$C};$p;m version;& $p --version;m "end $LASTEXITCODE"'
)

_WINDOWS_POLL = (
    'function m($t){"`n$N $t"};'
    "m running;& $P -q list @L runningvms;$s=$LASTEXITCODE;m processes;"
    "Get-CimInstance Win32_Process -Filter \"CommandLine like '%-startvm %'\"|"
    '%{"$($_.ProcessId) $($_.CommandLine)"};'
    '$d=if($env:VBOX_USER_HOME){$env:VBOX_USER_HOME}else{"$env:USERPROFILE\\.VirtualBox"};'
    '$x="$d\\VirtualBox.xml";m registry;if(Test-Path -LiteralPath $x){$d;'
    "([xml](gc -Raw -Encoding UTF8 -LiteralPath $x))"
    ".VirtualBox.Global.MachineRegistry.MachineEntry|"
    '?{$_}|%{$f=$_.src;m "machine $($_.uuid) $([Security.SecurityElement]::Escape($f))";'
    'if(-not [IO.Path]::IsPathRooted($f)){$f="$d\\$f"};'
    "if($S -ne 'all'){gc -Encoding UTF8 -TotalCount 99 -LiteralPath $f -EA 0|"
    "?{$_ -match '<Machine '}|Select -First 1}"
    f"elseif((gi -LiteralPath $f -EA 0).Length -gt {MAX_FILE}){{m oversize}}"
    "else{gc -Encoding UTF8 -LiteralPath $f -EA 0}}}else{'/nowhere'};"
    'm "end $s"'
)

_WINDOWS_INSPECT = (
    'function m($t){"`n$N $t"};m user;$env:USERNAME;m kill;m linger;m disk;'
    "$q=Get-PSDrive (Split-Path -Qualifier $F).TrimEnd(':');"
    '"$F $([int](($q.Used+$q.Free)/1KB)) $([int]($q.Used/1KB)) $([int]($q.Free/1KB)) 0% $F";'
    'm dhcp;& $P -q list dhcpservers;m "end $LASTEXITCODE"'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """PowerShell, called in a way that every login shell of Windows passes on unchanged.

    Read in documentation, not run on a Windows host: see the README's table.
    """

    def inspect(self, nonce: str, program: str, folder: str) -> str:
        return self._script(_WINDOWS_INSPECT, N=nonce, P=program, F=folder)

    def poll(self, nonce: str, program: str, *, settings: SettingsRead, long: bool) -> str:
        flags = "--long" if long else ""
        return self._script(
            f"$L=@({_literal(flags) if flags else ''});" + _WINDOWS_POLL,
            N=nonce,
            P=program,
            S=settings,
        )

    def probe(self, nonce: str, configured: str) -> str:
        return self._script(_WINDOWS_PROBE, N=nonce, C=configured)

    def run(self, program: str, argv: Sequence[str]) -> str:
        if any('"' in word for word in argv):
            # Windows PowerShell passes double quotes to programs wrongly; refuse, never guess.
            raise ValueError("an argument for VBoxManage on Windows must not contain a quote")
        words = " ".join(_literal(word) for word in ("-q", *argv))
        return self._script(f"& $P {words};exit $LASTEXITCODE", P=program)

    def tail(self, path: str, lines: int) -> str:
        return self._script(f"gc -Encoding UTF8 -Tail {lines} -LiteralPath $F", F=path)

    def _script(self, script: str, **variables: str) -> str:
        assignments = "".join(f"${name}={_literal(text)};" for name, text in variables.items())
        encoded = base64.b64encode((_PREAMBLE + assignments + script).encode("utf-16-le"))
        return (
            "powershell -NoProfile -NonInteractive -OutputFormat Text"
            f" -EncodedCommand {encoded.decode()}"
        )


def _literal(text: str) -> str:
    """Quote for PowerShell: in single quotes only quotes mean anything, the curly ones too."""
    for quote in "'\u2018\u2019\u201a\u201b":
        text = text.replace(quote, quote * 2)
    return f"'{text}'"
