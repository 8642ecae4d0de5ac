# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The pages: their commands exist and run, and their links work."""

from __future__ import annotations

import ast
import contextlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from maas_virtualbox.cli import main as program
from maas_virtualbox.config import config_file
from maas_virtualbox.simulator import Simulator

from tests.charm import charmcraft, pages
from tools import reference

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

ROOT = charmcraft.ROOT
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "terraform/README.md")),
    *sorted(DOCS.rglob("*.md")),
]
NEEDS = {
    "Ubuntu with charmcraft",
    "a Juju controller",
    "a MAAS",
    "a VirtualBox host",
    "a charm",
}
COMMAND = get_command(program.app)
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""The error of click, of which typer may contain its own copy."""
_TEXTS = (".j2", ".md", ".py", ".yaml")
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES]
)


# --- Commands exist


@every_page
def test_page_has_existing_juju_commands(page: Path) -> None:
    charmcraft.assert_commands_exist(page.read_text())


@pytest.mark.parametrize("folder", ["charm", "templates", "virtualbox-host"])
def test_charm_has_existing_juju_commands(folder: str) -> None:
    texts = [path.read_text() for path in (ROOT / folder).rglob("*") if path.suffix in _TEXTS]
    assert texts
    for text in texts:
        charmcraft.assert_commands_exist(text)


@pytest.mark.parametrize("page", ["docs/reference/charm.md", "docs/tutorial.md"])
@pytest.mark.parametrize("flag", ["--string-args", "--wait"])
def test_page_mentions_the_flag(page: str, flag: str) -> None:
    assert flag in (ROOT / page).read_text()


@pytest.mark.parametrize(
    "wrong",
    [
        "juju run maas-virtualbox/0 get-key",
        "juju run maas-virtualbox/leader get_public_key",
        "juju run maas-virtualbox/0 power vm=node1",
        "juju run maas-virtualbox/0 power vm=node1 change=on now=true",
        "juju run maas-virtualbox/0\n enlist dry_run=true",
        "juju run maas-virtualbox/0 power vm=101 change=on",
        "juju run maas-virtualbox/0 power vm=080027112233 change=on",
        "juju run maas-virtualbox/leader enlist zone=1",
        "juju run maas-virtualbox/leader enlist dry-run=1",
        "juju run --all maas-virtualbox/leader enlist",
        "juju ssh maas-virtualbox/0 journalctl -u maas-virtualbox",
        "juju config maas-virtualbox host=ivan@10.0.0.5",
        "juju config maas-virtualbox off-mode=acpi hosts='a@b zone=c, d@e' zone=c",
        "juju config maas-virtualbox --reset ssh-key",
        "juju deploy ./maas-virtualbox.charm --config off_mode=acpi",
        "juju integrate maas-virtualbox:tls self-signed-certificates",
        "juju bind maas-virtualbox power=rack",
        "juju add-secret key private_key#file=key",
        "juju update-secret key apikey=…",
    ],
)
def test_assert_commands_exist_rejects_a_wrong_command(wrong: str) -> None:
    with pytest.raises(AssertionError):
        charmcraft.assert_commands_exist(f"Type: `{wrong}`, then")


@every_page
def test_page_has_existing_program_commands(page: Path) -> None:
    text = page.read_text()
    for argv in pages.commands(text):
        check(argv)
    for argv in filter(None, pages.commands_in_prose(text)):
        with contextlib.suppress(typer.BadParameter):
            check(argv)


@pytest.mark.parametrize(
    "wrong",
    ["lists", "list --zones x", "--host x list", "maas enlists", "maas enlist --vm x", "on"],
)
def test_check_rejects_a_wrong_program_command(wrong: str) -> None:
    (argv,) = pages.commands(f"```sh\nsudo true | maas-virtualbox {wrong}; true\n```\n")
    with pytest.raises(USAGE_ERROR):
        check(argv)


def check(argv: list[str]) -> None:
    """Parse a command line as the program does. Raise `USAGE_ERROR` if it is invalid."""
    command: Any = COMMAND
    context: Any = command.make_context("maas-virtualbox", list(argv))
    while isinstance(command, TyperGroup):
        name, command, rest = command.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        context = command.make_context(name, rest, parent=context)


# --- Commands run


@pytest.fixture
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Change to a folder with a service.yaml for a simulated host."""
    with Simulator(vms=3) as simulator:
        content = {
            "hosts": f"{simulator.host_entry} name=izMBP13 zone=lab",
            "ssh-private-key-file": str(simulator.key_file),
            "known-hosts-file": "known_hosts",
            "secrets-file": "secrets.yaml",
            "listen": "10.0.0.2:5307",
            "off-timeout": 1,
        }
        (tmp_path / "service.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.chdir(tmp_path)
        yield


def run(*argv: str) -> str:
    """Run the program in this process. Return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        COMMAND.main(list(argv), standalone_mode=False)
    return printed.getvalue()


@pytest.mark.usefixtures("_lab")
def test_page_commands_without_a_mark_run_on_the_simulator() -> None:
    run("rotate-tokens", "--config", "service.yaml")
    ran: set[str] = set()
    for block in blocks("sh"):
        if block.needs:
            continue
        for line in block.lines:
            (argv,) = pages.calls(line)
            if argv[:1] != ["demo"]:  # tests/functional/test_cli.py tests it
                assert run(*argv).strip(), line
                ran.add(argv[argv.index("service.yaml") + 1] if argv[0] == "--config" else argv[0])
    assert ran >= {"admin-token", "check", "create", "delete", "list", "off", "on", "parameters"}


def test_page_programs_without_a_mark_run(capfd: pytest.CaptureFixture[str]) -> None:
    ran = 0
    for block in blocks("python"):
        code = compile(block.text, "a page", "exec")
        if not block.needs:
            exec(code, {})
            ran += 1
    assert ran == 3
    assert "izMBP13 node01 on" in capfd.readouterr().out


def test_page_examples_of_host_lists_and_config_are_valid() -> None:
    for block in blocks("yaml"):
        content = yaml.safe_load(block.text)
        config_file.Config.model_validate(
            content if isinstance(content, dict) else {"hosts": content}
        )


def test_page_blocks_have_known_needs() -> None:
    for block in (*blocks("sh"), *blocks("python")):
        assert set(block.needs) <= NEEDS
        if "juju " in block.text:
            assert "a Juju controller" in block.needs, block.text
    assert not list(blocks("bash")), "a block of commands is called sh"
    assert not list(blocks("console")), "a block of commands is called sh"


def blocks(language: str) -> Iterator[pages.Block]:
    """Return the blocks of a language in all pages of docs/."""
    for page in PAGES:
        if page.is_relative_to(DOCS):
            yield from (
                block for block in pages.blocks(page.read_text()) if block.language == language
            )


# --- Links


@every_page
def test_page_has_working_links(page: Path) -> None:
    assert not broken_links(page)


@pytest.mark.parametrize(
    "wrong", ["[x](nowhere.md)", "[x](#nowhere)", "[x](target.md#nowhere)", "[x](../target.md)"]
)
def test_broken_links_finds_a_wrong_link(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "target.md").write_text("# There\n```\n# nowhere\n```\n")
    page = tmp_path / "docs" / "page.md"
    page.write_text("# Here\n[y](#here) [y](target.md#there) [y](https://example.com/x)")
    assert not broken_links(page)
    page.write_text(wrong)
    assert len(broken_links(page)) == 1


@pytest.mark.parametrize("page", sorted(set(DOCS.rglob("*.md")) - {DOCS / "index.md"}))
def test_index_links_to_every_page(page: Path) -> None:
    assert str(page.relative_to(DOCS)) in pages.links((DOCS / "index.md").read_text())


def broken_links(page: Path) -> list[str]:
    """Return the relative links of a page without a target."""
    broken: list[str] = []
    for link in pages.links(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in pages.anchors(target.read_text())):
            broken.append(link)
    return broken


@pytest.mark.parametrize(
    ("heading", "folder"),
    [("Where things live", "."), ("The library", "src/maas_virtualbox"), ("The charm", "charm")],
)
def test_contributing_names_existing_files(heading: str, folder: str) -> None:
    section = (ROOT / "CONTRIBUTING.md").read_text().partition(f" {heading}\n")[2]
    rows = section.partition("\n#")[0].split("\n| `")[1:]
    named = {name.strip("`/") for row in rows for name in row.partition(" | ")[0].split()}
    assert len(named) > 5
    assert not {name for name in named if not (ROOT / folder / name).exists()}


# --- The reference


def test_reference_is_up_to_date() -> None:
    written = reference.PAGE.read_text(encoding="utf-8")
    assert written == reference.render(charmcraft.read()), "make docs"


def test_reference_has_every_status() -> None:
    described = "\n".join(text for _, text, _ in reference.STATUSES)
    missing = [text for text in statuses() if text not in described]
    assert not missing, "tools/reference.py has no row for these"


def statuses() -> Iterator[str]:
    """Yield the longest constant part of each status in the charm's code."""
    makers = ("Blocked", "Waiting", "WorkloadError")
    found = 0
    for path in sorted((ROOT / "charm").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict) and path.name == "statuses.py":
                yield from map(longest_constant, node.values)
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = ast.unparse(node.func).rpartition(".")[2]
            text = longest_constant(node.args[0])
            if (name in makers or name.endswith("Status")) and text:
                found += 1
                yield text
    assert found > 10


def longest_constant(node: ast.expr) -> str:
    """Return the longest constant part of a string or f-string; empty for other expressions."""
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    texts = [part.value for part in parts if isinstance(part, ast.Constant)]
    return max((str(text) for text in texts), key=len, default="").strip(" :;,(`")
