# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Host lists from the zones of MAAS, as in 2015."""

from __future__ import annotations

import contextlib
import http.server
import json
import subprocess
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

import pydantic
import pytest

from maas_virtualbox import errors, maas
from maas_virtualbox.simulator import Simulator

from tests.service import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

KEY = "consumer:token:sec%ret"


class Region:
    """A MAAS region that knows its zones and nothing else."""

    def __init__(self, answers: list[tuple[int, str]]) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        region = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                region.requests.append((self.path, dict(self.headers)))
                code, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(code)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """The URL one would give."""
        return f"http://127.0.0.1:{self.server.server_port}/MAAS"


@contextlib.contextmanager
def region(*answers: tuple[int, str]) -> Generator[Region]:
    """A region that gives these answers, the last one for ever."""
    made = Region(list(answers))
    thread = threading.Thread(target=made.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join(10)


def zones(**descriptions: str) -> str:
    """The answer to GET zones/."""
    return json.dumps(
        [{"id": 1, "name": "default", "description": "", "resource_uri": "/x"}]
        + [
            {"id": 2, "name": name, "description": text, "resource_uri": "/x"}
            for name, text in descriptions.items()
        ]
    )


def ask(url: str, key: str = KEY) -> list[maas.Zone]:
    """Ask for the zones."""
    with maas.MAAS(url, pydantic.SecretStr(key)) as client:
        return client.zones()


def test_a_request_is_signed_as_maas_wants_it() -> None:
    with region((200, zones(a="x@10.0.0.5"))) as made:
        assert ask(made.url) == [maas.Zone("default", ""), maas.Zone("a", "x@10.0.0.5")]
        ((path, headers),) = made.requests
    assert path == "/MAAS/api/2.0/zones/"
    fields = dict(
        part.strip().split("=", 1)
        for part in headers["Authorization"].removeprefix("OAuth ").split(",")
    )
    assert fields["oauth_signature_method"] == '"PLAINTEXT"'
    assert fields["oauth_consumer_key"] == '"consumer"'
    assert fields["oauth_token"] == '"token"'
    signature = urllib.parse.unquote(fields["oauth_signature"].strip('"'))
    assert signature == "&" + urllib.parse.quote("sec%ret")


def test_maas_1_is_asked_where_it_answers() -> None:
    with region((200, zones())) as made:
        ask(f"{made.url}/api/1.0/")
        assert made.requests[0][0] == "/MAAS/api/1.0/zones/"


@pytest.mark.parametrize(
    ("answer", "words", "again"),
    [
        ((401, "Authorization Error: 'Expired timestamp'"), "401; is the API key right?", False),
        ((403, "<html>"), "403; is the key an administrator's?", False),
        ((404, ""), "MAAS answered 404", False),
        ((302, ""), "MAAS answered 302", False),
        ((500, "oops"), "MAAS answered 500: oops", True),
        ((200, "<html>"), "no JSON", False),
        ((200, '{"a": 1}'), "no zones of MAAS", False),
        ((200, "[1]"), "no zones of MAAS", False),
    ],
)
def test_what_maas_may_answer_is_one_sentence(
    answer: tuple[int, str], words: str, *, again: bool
) -> None:
    with region(answer) as made, pytest.raises(errors.MAASError) as raised:
        ask(made.url)
    assert words in str(raised.value)
    assert raised.value.retry is again
    assert "sec" not in str(raised.value)


def test_a_busy_maas_is_asked_again() -> None:
    with region((503, ""), (503, ""), (200, zones())) as made:
        assert len(ask(made.url)) == 1
        assert len(made.requests) == 3


def test_no_maas_at_all_is_one_sentence_without_the_key() -> None:
    with pytest.raises(errors.MAASError, match="no answer from MAAS: ConnectionError") as raised:
        ask("http://127.0.0.1:9/MAAS")
    assert raised.value.retry
    assert "sec" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "key"), [("10.0.0.2", KEY), ("http://x/MAAS", "a:b"), ("http://x/MAAS", "a::b")]
)
def test_a_wrong_url_or_key_is_found_before_anything_is_sent(url: str, key: str) -> None:
    with pytest.raises(errors.ConfigError, match="expected"):
        ask(url, key)


def test_descriptions_name_hosts(caplog: pytest.LogCaptureFixture) -> None:
    found = maas.hosts_from_zones(
        [
            maas.Zone("default", ""),
            maas.Zone("rack", "the old rack, ask Ivan"),
            maas.Zone("izMBP13", " ivan@10.0.0.5\n"),
            maas.Zone("izMBP15", "ivan@10.0.0.6:2222 vboxmanage=/opt/VBoxManage"),
            maas.Zone("evil", "x@y; touch /tmp/pwned"),
            maas.Zone("evil2", "$(touch pwned)@y"),
            maas.Zone("two", "a@b, c@d"),
            maas.Zone("bad\nname", "a@b"),
        ]
    )
    assert [(host.account, host.zone, host.name) for host in found] == [
        ("ivan@10.0.0.5", "izMBP13", "izMBP13"),
        ("ivan@10.0.0.6:2222", "izMBP15", "izMBP15"),
    ]
    for name in ("evil", "evil2", "two"):
        assert f"zone {name} names no host" in caplog.text


def test_from_the_command_line_and_nothing_in_a_description_is_run(tmp_path: Path) -> None:
    pwned = tmp_path / "pwned"
    with Simulator(vms=2) as simulator:
        listed = zones(izMBP13=simulator.host_entry, evil=f"x@y; touch {pwned}")
        key_file = tmp_path / "key"
        key_file.write_text(f"{KEY}\n")
        with region((200, listed)) as made:
            config = tmp_path / "config.yaml"
            config.write_text(
                f"hosts: from-zones\nmaas-url: {made.url}\nmaas-api-key-file: {key_file}\n"
                f"ssh-private-key-file: {simulator.key_file}\n"
                f"known-hosts-file: {tmp_path / 'pins'}\n"
            )
            done = subprocess.run(
                [PROGRAM, "--config", config, "list", "--format", "json"],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
    assert {vm["zone"] for vm in json.loads(done.stdout)} == {"izMBP13"}
    assert "zone evil names no host" in done.stderr
    assert not pwned.exists()
