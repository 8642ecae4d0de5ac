# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""registry.awk under each awk that is installed, as a file and as the one line that is sent."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from maas_virtualbox.virtualbox import shells

ONE = "95581d29-3e5e-472e-8f12-f452e8095714"
TWO = "f9fbeea5-59c6-4fa9-a4f5-cb29fc063408"
HEAD = f'<Machine uuid="{{{ONE}}}" name="a"'
AWKS = {"mawk": ["mawk"], "gawk": ["gawk"], "busybox": ["busybox", "awk"], "awk": ["awk"]}
FILE = Path(shells.__file__).with_name("registry.awk")


def sent() -> str:
    """The program as the library sends it."""
    return shlex.split(shells.Posix().poll("n", "/x", settings="heads", long=False))[-1]


class Registry:
    """VirtualBox.xml and settings files, read by one awk."""

    def __init__(self, folder: Path, awk: list[str]) -> None:
        self.folder = folder
        self._awk = awk

    def add(self, uuid: str, source: str, name: str = "", text: str = f"{HEAD}>\n") -> None:
        """Add a VM whose settings file has a name below the folder."""
        with (self.folder / "VirtualBox.xml").open("a") as file:
            file.write(f'  <MachineEntry uuid="{{{uuid}}}" src="{source}"/>\n')
        if name:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def read(self, mode: str, uuid: str = "", limit: int = 1000, path: str = "") -> str:
        """Run the program as a file and as one line; both print the same. Programs in the folder
        `path` take precedence."""
        values = {"n": "N", "m": mode, "u": uuid, "d": str(self.folder), "max": str(limit)}
        options = [word for item in values.items() for word in ("-v", "=".join(item))]
        outputs = {
            subprocess.run(
                [*self._awk, *options, *program, str(self.folder / "VirtualBox.xml")],
                capture_output=True,
                timeout=30,
                check=True,
                env={"PATH": f"{path}:/usr/bin:/bin", "LC_ALL": "C"},
            ).stdout.decode()
            for program in (["-f", str(FILE)], [sent()])
        }
        (output,) = outputs
        return output


@pytest.fixture(params=AWKS)
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    """An empty registry for one awk."""
    awk = AWKS[request.param]
    if not shutil.which(awk[0]):
        pytest.skip(f"no {awk[0]}")
    (tmp_path / "VirtualBox.xml").write_text("<VirtualBox>\n")
    return Registry(tmp_path, awk)


def test_program_is_sent_without_comments_on_one_line() -> None:
    assert not set(sent()) & set("\n!'")
    assert "Copyright" not in sent()
    assert "  " not in sent()


def test_heads_are_the_machine_lines(registry: Registry) -> None:
    registry.add(ONE, "a/a.vbox", "a/a.vbox", f"<?xml?>\n{HEAD}>\n<Hardware/>\n")
    registry.add(TWO, "missing.vbox")

    assert registry.read("heads") == (
        f"\nN machine {{{ONE}}} a/a.vbox\n{HEAD}>\n\nN machine {{{TWO}}} missing.vbox\n"
    )


def test_all_is_the_whole_file_and_its_frame(registry: Registry) -> None:
    registry.add(ONE, "a.vbox", "a.vbox", f"<?xml?>\n{HEAD}>\n<Hardware/>\n")

    assert registry.read("all") == (
        f"\nN machine {{{ONE}}} a.vbox\n<?xml?>\n{HEAD}>\n<Hardware/>\n"
    )


def test_all_waits_for_files_that_are_being_replaced(registry: Registry, tmp_path: Path) -> None:
    registry.add(ONE, "a.vbox")
    registry.add(TWO, "missing.vbox")
    sleep = tmp_path / "bin" / "sleep"
    sleep.parent.mkdir()
    sleep.write_text(f"#!/bin/sh\necho '{HEAD}>' > {tmp_path}/a.vbox\n")
    sleep.chmod(0o755)

    assert registry.read("all", path=str(sleep.parent)) == (
        f"\nN machine {{{ONE}}} a.vbox\n{HEAD}>\n\nN machine {{{TWO}}} missing.vbox\n"
    )


def test_file_beyond_the_limit_is_cut_and_framed(registry: Registry) -> None:
    registry.add(ONE, "a.vbox", "a.vbox", "<a/>\n" * 100)

    output = registry.read("all", limit=50)

    assert output == f"\nN machine {{{ONE}}} a.vbox\n" + "<a/>\n" * 10 + "\nN oversize\n"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("a &amp; b.vbox", "a & b.vbox"),
        ("&lt;&gt;&quot;&apos;.vbox", "<>\"'.vbox"),
        ("n&#xF3;de.vbox", "n\xf3de.vbox"),
        ("&#x161;&#353;.vbox", "\u0161\u0161.vbox"),
        ("&#x1F4BB;.vbox", "\U0001f4bb.vbox"),
        ("&#x20AC;&amp;#65;.vbox", "\u20ac&#65;.vbox"),
    ],
)
def test_path_is_unescaped_to_utf8(registry: Registry, source: str, name: str) -> None:
    registry.add(ONE, source, name)

    assert registry.read("heads") == f"\nN machine {{{ONE}}} {source}\n{HEAD}>\n"


def test_absolute_path_is_used_as_it_is(registry: Registry) -> None:
    path = registry.folder / "elsewhere" / "a.vbox"
    registry.add(ONE, str(path), "elsewhere/a.vbox")

    assert f"{HEAD}>" in registry.read("heads")


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("", "unsaved\n"),
        (' aborted="true"', "unsaved\n"),
        (' stateFile="Snapshots/1.sav"', "saved\n"),
        (' snapshotFolder=" stateFile="', "unsaved\n"),
    ],
)
def test_saved_tells_whether_there_is_a_state_file(
    registry: Registry, attributes: str, expected: str
) -> None:
    registry.add(TWO, "b.vbox", "b.vbox", f'{HEAD} stateFile="x">\n')
    registry.add(ONE, "a.vbox", "a.vbox", f"{HEAD}{attributes}>\n")

    assert registry.read("saved", ONE) == expected


def test_saved_of_an_unreadable_or_unknown_vm_is_empty(registry: Registry) -> None:
    registry.add(ONE, "missing.vbox")
    registry.add(TWO, "b.vbox", "b.vbox", "no settings\n" * 1000)

    assert [registry.read("saved", uuid) for uuid in (ONE, TWO, ONE[:-1] + "0")] == [""] * 3
