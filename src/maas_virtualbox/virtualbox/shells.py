# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The command lines that this library sends; the only module that quotes anything.

`Shell` has one method for each request to a host, and one implementation for each sort of shell.

The scripts are fixed texts; everything that varies is an argument. Each is one line, without `!`
and without doubled or quote-escaping backslashes inside single quotes, so that any login shell
(sh, bash, zsh, fish, tcsh) passes it to /bin/sh unchanged.

Scripts frame their output with lines `<nonce> <section> <detail>`, which `sections` reads. The
nonce is new for every command. So no VM's settings can forge a frame, the greeting of a login
script is ignored, and output without its `end` is known to be cut off. The rest of a settings file
beyond `MAX_FILE` bytes stays on the host: a section `oversize` follows it.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from maas_virtualbox.virtualbox.settings_xml import MAX_FILE, normalise_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

SettingsRead = Literal["heads", "all"]
"""How much of each settings file to read: the `<Machine>` line, or all of it."""


StartGuard = Literal["any", "readable", "unsaved"]
"""Which VMs that no process runs a guarded start may start: any; those whose settings file can be
read; or, of these, only those without a saved state."""


class Shell(Protocol):
    """How to write each request to one sort of host as one command line."""

    def inspect(self, nonce: str, program: str, folder: str) -> str:
        """Sections user, kill, linger, disk, dhcp, end: facts for the checks of a host."""
        ...

    def poll(self, nonce: str, program: str, *, settings: SettingsRead, long: bool) -> str:
        """Sections running, processes, registry, machine (one for each VM), oversize, end."""
        ...

    def power_off(self, nonce: str, program: str, uuid: str) -> str:
        """If a process runs a VM: power it off and wait up to 2 s until its process is gone.

        Sections call, called EXIT-CODE, done, end. Without `done` it is not off for certain: if
        the exit code is 0 or there was no call, the sections of a poll stand before the end.
        """
        ...

    def probe(self, nonce: str, configured: str) -> str:
        """Sections system, user, program, version, end."""
        ...

    def run(self, program: str, argv: Sequence[str]) -> str:
        """One VBoxManage call; its exit code is that of the command."""
        ...

    def start(self, nonce: str, program: str, uuid: str, guard: StartGuard) -> str:
        """Unless a process runs a VM or the guard forbids it: start the VM and check that a
        process runs it. Sections as of `power_off`."""
        ...

    def tail(self, path: str, lines: int) -> str:
        """The last lines of a text file."""
        ...


# -- POSIX: Linux and macOS -------------------------------------------------------------------

_FRAME = r"""m() { printf '\n%s %s\n' "$N" "$*"; }; """

PROBE = (
    "N=$1; " + _FRAME + "m system; uname -s; m user; id -un; m program; "
    # The program itself comes before the wrapper of Debian and Oracle in PATH: the wrapper costs
    # 8 ms, prints warnings on stdout, and removes the IPC folder of running VMs when it sees no
    # VBoxSVC.
    'for p in "$2" /usr/lib/virtualbox/VBoxManage /opt/VirtualBox/VBoxManage '
    "/Applications/VirtualBox.app/Contents/MacOS/VBoxManage /usr/local/bin/VBoxManage "
    '"$(command -v VBoxManage)" "$(command -v vboxmanage)"; do [ -x "$p" ] && break; '
    '[ "$p" = "$2" ] && [ -n "$p" ] && break; done; '
    'printf "%s" "$p"; m version; "$p" --version; m end $?'
)

# Sets $d to the folder of VirtualBox.xml, and defines `a MODE UUID`, which runs `registry.awk`.
# VirtualBox saves a file as F-tmp, renames F to F-prev and F-tmp to F. In between there is no F:
# without another attempt, an account would seem to have no VMs (measured while VMs were created).
_REGISTRY = (
    'for d in "${VBOX_USER_HOME:-/nowhere}" "${XDG_CONFIG_HOME:-$HOME/.config}/VirtualBox" '
    '"$HOME/.VirtualBox" "$HOME/Library/VirtualBox" /nowhere; do '
    '[ -f "$d/VirtualBox.xml" ] || [ -f "$d/VirtualBox.xml-prev" ] && break; done; '
    'a() { [ "$d" = /nowhere ] && return; for k in 1 2 3 4 5 6; do '
    'LC_ALL=C awk -v n="$N" -v m="$1" -v u="$2" -v d="$d" '
    f'-v max={MAX_FILE} "$A" "$d/VirtualBox.xml" 2>/dev/null && return; '
    "sleep 0.02 2>/dev/null || sleep 1; done; return 1; }; "
)

_ACCOUNT = "I=$(id -u); "
_PROCESSES = 'ps -ww -U "$I" -o pid= -o args='

# Defines `r`, which prints a line for each process that runs the VM $U. The last `-startvm` of a
# process counts: the VM's name, which is not to be trusted, stands before it.
_RUNS = _ACCOUNT + "r() { " + _PROCESSES + ' | sed -n "s/.*-startvm [ {]*/@/;/^@$U/p"; }; '

# Expects $S, what to read of each settings file, and the options of `list` as arguments.
_STATE = (
    'm running; "$P" -q list "$@" runningvms; s=$?; '
    "m processes; " + _PROCESSES + ' | grep -e "-startvm [0-9a-f{]"; '
    'm registry; printf "%s" "$d"; a "$S" "" || m unreadable; m end $s'
)

POLL = "N=$1; P=$2; S=$3; A=$4; shift 4; " + _FRAME + _REGISTRY + _ACCOUNT + _STATE

# The guard reads the settings file first and the processes last, immediately before the call.
START = (
    "N=$1; P=$2; U=$3; G=$4; A=$5; S=heads; shift 5; " + _FRAME + _REGISTRY + _RUNS + "c() { "
    'm call; "$P" -q startvm "$U" --type headless 2>&1; s=$?; m called $s; '
    "[ $s = 0 ] || { m end $s; exit 0; }; "
    '[ -z "$(r)" ] || { m done; m end 0; exit 0; }; }; '
    'case $G$(a saved "$U") in any*|readable*saved|unsavedunsaved) [ -n "$(r)" ] || c ;; esac; '
    + _STATE
)

# While it waits it prints a dot every 15 ms, which ends it if the connection is gone. A `sleep`
# that takes whole seconds only makes fewer rounds.
POWER_OFF = (
    "N=$1; P=$2; U=$3; A=$4; S=heads; shift 4; " + _FRAME + _REGISTRY + _RUNS + "c() { "
    'm call; "$P" -q controlvm "$U" poweroff 2>&1; s=$?; m called $s; '
    "[ $s = 0 ] || { m end $s; exit 0; }; i=0; "
    'while [ -n "$(r)" ]; do i=$((i+1)); [ $i -gt 100 ] && return; printf .; '
    "sleep 0.01 2>/dev/null || { sleep 1; i=$((i+50)); }; done; m done; m end 0; exit 0; }; "
    '[ -z "$(r)" ] || c; ' + _STATE
)

INSPECT = (
    "N=$1; P=$2; F=$3; " + _FRAME + "m user; id -un; m kill; "
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
    """A UTF-8 locale of the host. In the POSIX locale VBoxManage ends lists at the first non-ASCII
    name and exits with 0 (measured)."""

    def inspect(self, nonce: str, program: str, folder: str) -> str:
        return self._script(INSPECT, nonce, program, folder)

    def poll(self, nonce: str, program: str, *, settings: SettingsRead, long: bool) -> str:
        arguments = ["--long"] if long else []
        return self._script(POLL, nonce, program, settings, _awk(), *arguments)

    def power_off(self, nonce: str, program: str, uuid: str) -> str:
        return self._script(POWER_OFF, nonce, program, _checked(uuid), _awk())

    def probe(self, nonce: str, configured: str) -> str:
        return self._script(PROBE, nonce, configured)

    def run(self, program: str, argv: Sequence[str]) -> str:
        return shlex.join(["exec", "env", f"LC_ALL={self.locale}", program, "-q", *argv])

    def start(self, nonce: str, program: str, uuid: str, guard: StartGuard) -> str:
        return self._script(START, nonce, program, _checked(uuid), guard, _awk())

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


@functools.cache
def _awk() -> str:
    """Return `registry.awk` as one line without comments."""
    text = Path(__file__).with_name("registry.awk").read_text(encoding="utf-8")
    code = (line for line in text.splitlines() if not line.startswith("#"))
    return " ".join(" ".join(code).split())


def _checked(uuid: str) -> str:
    """Return a UUID that the scripts may use in patterns. Raises `ValueError` for other text."""
    if not uuid or normalise_uuid(uuid) != uuid:
        raise ValueError(f"not a UUID in lower case: {uuid!r}")
    return uuid


# -- Windows: PowerShell, under cmd.exe or PowerShell as login shell --------------------------

_PREAMBLE = (
    "$ProgressPreference='SilentlyContinue';"
    "[Console]::OutputEncoding=[Text.UTF8Encoding]::new($false);"
)

_WINDOWS_FRAME = 'function m($t){"`n$N $t"};'

_WINDOWS_PROBE = (
    _WINDOWS_FRAME + "m system;'Windows';m user;$env:USERNAME;m program;"
    '$p=@($C,"$env:VBOX_MSI_INSTALL_PATH\\VBoxManage.exe","$env:VBOX_INSTALL_PATH\\VBoxManage.exe",'
    '"$env:ProgramFiles\\Oracle\\VirtualBox\\VBoxManage.exe",'
    "(Get-Command VBoxManage -EA 0).Source)|?{$_ -and (Test-Path -LiteralPath $_ -PathType Leaf)}"
    '|Select -First 1;if($C){$p=$C};$p;m version;& $p --version;m "end $LASTEXITCODE"'
)

# Sets $d to the folder of VirtualBox.xml, $t to its text and $e to its entries; waits while it is
# being replaced. `file` returns the path of an entry's settings file, `head` the <Machine> line of
# a file. The names of variables ignore case.
_WINDOWS_REGISTRY = (
    '$d=if($env:VBOX_USER_HOME){$env:VBOX_USER_HOME}else{"$env:USERPROFILE\\.VirtualBox"};'
    '$x="$d\\VirtualBox.xml";$k=0;'
    "while(-not ($t=gc -Raw -Encoding UTF8 -LiteralPath $x -EA 0) -and "
    '(Test-Path "$d\\VirtualBox.xml*") -and $k -lt 6){$k++;sleep -Milliseconds 20};'
    "$e=if($t){([xml]$t).VirtualBox.Global.MachineRegistry.MachineEntry};"
    'function file($v){if([IO.Path]::IsPathRooted($v.src)){$v.src}else{"$d\\$($v.src)"}};'
    "function head($f){gc -Encoding UTF8 -TotalCount 99 -LiteralPath $f -EA 0|"
    "?{$_ -match '<Machine '}|Select -First 1};"
)

_WINDOWS_STATE = (
    "m running;& $P -q list @L runningvms;$c=$LASTEXITCODE;m processes;"
    "Get-CimInstance Win32_Process -Filter \"CommandLine like '%-startvm %'\"|"
    '%{"$($_.ProcessId) $($_.CommandLine)"};'
    "m registry;if($t){$d;$e|?{$_}|%{$f=file $_;"
    'm "machine $($_.uuid) $([Security.SecurityElement]::Escape($_.src))";'
    "if($S -ne 'all'){head $f}"
    f"elseif((gi -LiteralPath $f -EA 0).Length -gt {MAX_FILE}){{m oversize}}"
    "else{gc -Encoding UTF8 -LiteralPath $f -EA 0}}}else{'/nowhere'};"
    'm "end $c"'
)

_WINDOWS_POLL = _WINDOWS_FRAME + _WINDOWS_REGISTRY + _WINDOWS_STATE

_WINDOWS_RUNS = (
    "function runs{Get-CimInstance Win32_Process -Filter "
    "\"CommandLine like '%-startvm $U%' or CommandLine like '%-startvm {$U}%'\"};"
)

# Windows PowerShell makes an object of each line on stderr: "$_" is its text.
_WINDOWS_START = (
    "$L=@();$S='heads';" + _WINDOWS_FRAME + _WINDOWS_REGISTRY + _WINDOWS_RUNS + "$h=$e|"
    '?{$_.uuid -eq "{$U}"}|%{head (file $_)};'
    "$w=$G -eq 'any' -or ($h -and "
    "($G -eq 'readable' -or ($h -replace '\"[^\"]*\"') -notmatch ' stateFile='));"
    'if($w -and -not (runs)){m call;& $P -q startvm $U --type headless 2>&1|%{"$_"};'
    '$c=$LASTEXITCODE;m "called $c";if($c){m "end $c";exit};if(runs){m done;m \'end 0\';exit}};'
    + _WINDOWS_STATE
)

_WINDOWS_POWER_OFF = (
    "$L=@();$S='heads';" + _WINDOWS_FRAME + _WINDOWS_REGISTRY + _WINDOWS_RUNS + "if(runs){m call;"
    '& $P -q controlvm $U poweroff 2>&1|%{"$_"};'
    '$c=$LASTEXITCODE;m "called $c";if($c){m "end $c";exit};'
    "$i=0;while((runs) -and $i -lt 20){$i++;sleep -Milliseconds 50};"
    "if($i -lt 20){m done;m 'end 0';exit}};" + _WINDOWS_STATE
)

_WINDOWS_INSPECT = (
    _WINDOWS_FRAME + "m user;$env:USERNAME;m kill;m linger;m disk;"
    "$q=Get-PSDrive (Split-Path -Qualifier $F).TrimEnd(':');"
    '"$F $([int](($q.Used+$q.Free)/1KB)) $([int]($q.Used/1KB)) $([int]($q.Free/1KB)) 0% $F";'
    'm dhcp;& $P -q list dhcpservers;m "end $LASTEXITCODE"'
)


@dataclasses.dataclass(frozen=True, slots=True)
class Windows:
    """PowerShell, called in a way that every login shell of Windows passes on unchanged.

    Written from the documentation, and never run on a Windows host.
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

    def power_off(self, nonce: str, program: str, uuid: str) -> str:
        return self._script(_WINDOWS_POWER_OFF, N=nonce, P=program, U=_checked(uuid))

    def probe(self, nonce: str, configured: str) -> str:
        return self._script(_WINDOWS_PROBE, N=nonce, C=configured)

    def run(self, program: str, argv: Sequence[str]) -> str:
        if any('"' in word for word in argv):
            # Windows PowerShell passes double quotes to programs wrongly.
            raise ValueError("an argument for VBoxManage on Windows must not contain a quote")
        words = " ".join(_literal(word) for word in ("-q", *argv))
        return self._script(f"& $P {words};exit $LASTEXITCODE", P=program)

    def start(self, nonce: str, program: str, uuid: str, guard: StartGuard) -> str:
        return self._script(_WINDOWS_START, N=nonce, P=program, U=_checked(uuid), G=guard)

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
    """Quote for PowerShell, where only quotes are special within single quotes: curly ones too."""
    for quote in "'\u2018\u2019\u201a\u201b":
        text = text.replace(quote, quote * 2)
    return f"'{text}'"
