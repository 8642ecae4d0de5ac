# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The client over HTTP: login, retries, timeouts, limits and errors."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import pathlib
import socket
import subprocess
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING

import pydantic
import pytest

from maas_virtualbox import errors
from maas_virtualbox.config import tokens
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.maas import enlistment
from maas_virtualbox.maas.client import MAAS
from maas_virtualbox.maas.enlistment import EnlistmentSettings

from tests import fake_maas
from tests.fake_maas import KEY, Region
from tests.service import free_port
from tests.vms import mac, ten, vm

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

HERE = EnlistmentSettings(tokens.Secrets.new(), "10.0.0.2", 5307)
REFERENCE = pathlib.Path(__file__).parents[2] / "docs" / "reference" / "enlistment.md"
SECRET_PARTS = ("kq3VbConsumer", "hT5mToken", "w9%Secret", "w9%25Secret")


@pytest.fixture
def region() -> Generator[Region]:
    """A region on a free port. The test fails if it receives an unexpected call."""
    with fake_maas.served() as made:
        yield made
    assert not made.unexpected


def enlist(region: Region, key: str = KEY) -> enlistment.Outcome:
    """Enlist ten VMs on two hosts."""
    with fake_maas.client(region, key) as client:
        known = enlistment.read(client)
        return enlistment.apply(client, enlistment.plan(ten(), known, HERE))


def test_call_is_signed_with_plaintext_oauth(region: Region) -> None:
    with fake_maas.client(region) as client:
        assert client.whoami().is_admin
        (headers,) = region.headers

    fields = dict(
        part.strip().split("=", 1)
        for part in headers["Authorization"].removeprefix("OAuth ").split(",")
    )
    assert fields["oauth_signature_method"] == '"PLAINTEXT"'
    assert fields["oauth_consumer_key"] == '"kq3VbConsumer"'
    assert fields["oauth_token"] == '"hT5mToken"'
    signature = urllib.parse.unquote(fields["oauth_signature"].strip('"'))
    assert signature == "&" + urllib.parse.quote("w9%Secret")


def test_apply_over_http_reuses_connections(region: Region) -> None:
    outcome = enlist(region)

    assert outcome.failures == ()
    parameters = region.machine("a-node1")["power_parameters"]
    assert parameters == dataclasses.asdict(HERE.power_parameters(ten()[0].uuid))


def test_apply_sends_eight_calls_in_parallel(region: Region) -> None:
    vms = [vm(f"node{number}", mac(number)) for number in range(60)]
    with fake_maas.client(region) as client:
        plan = enlistment.plan(vms, enlistment.read(client), HERE)
        region.delay_s = 0.01
        seen: list[enlistment.Result] = []
        outcome = enlistment.apply(client, plan, progress=seen.append)

    assert (len(outcome.done), len(seen)) == (60, 60)
    assert region.most_at_once == 8


@pytest.mark.parametrize(
    ("status", "body", "text", "is_retry"),
    [
        (401, "Authorization Error: 'Expired timestamp'", "is the API key right?", False),
        (
            403,
            "<html>Forbidden</html>",
            "403; does the API key belong to an admin",
            False,
        ),
        (404, "", "is this not the URL of MAAS", False),
        (409, "Busy with\nsomething", "MAAS answered 409: Busy with", False),
        (
            400,
            '{"hostname": ["Taken.", "Really."], "x": "y"}',
            "400: hostname: Taken.; x: y",
            False,
        ),
        (500, "oops \x1b[31m", r"MAAS answered 500: oops \x1b[31m", True),
        (503, "<html>", "MAAS answered 503", True),
        (200, "<html>Welcome</html>", "is not JSON; is this the URL of MAAS", False),
        (200, '{"a": 1}', "does not contain the machines of MAAS", False),
        (200, "[1]", "does not contain the machines of MAAS", False),
        (
            302,
            "http://10.0.0.66/MAAS/?next=x",
            "MAAS has moved to http://10.0.0.66/MAAS/: correct",
            False,
        ),
    ],
)
def test_failed_read_is_one_sentence(
    region: Region, status: int, body: str, text: str, is_retry: bool
) -> None:
    region.forced = [(status, body)]

    with pytest.raises(errors.MAASError) as raised:
        enlist(region)

    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "/api/2.0/" in str(raised.value)
    assert raised.value.retry is is_retry
    assert region.writes == []
    assert region.machines == {}


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (401, "Authorization Error", "is the API key right?"),
        (403, "", "does the API key belong to an administrator?"),
        (503, "", "MAAS answered 503"),
        (200, "<html>", "is not JSON"),
        (302, "http://elsewhere/", "MAAS has moved to http://elsewhere/"),
    ],
)
def test_apply_with_failing_maas_ends_with_one_sentence(
    region: Region, status: int, body: str, text: str
) -> None:
    with fake_maas.client(region) as client:
        plan = enlistment.plan(ten(), enlistment.read(client), HERE)
        region.forced = [(status, body)]
        outcome = enlistment.apply(client, plan)
        region.forced = []

    (failure,) = outcome.failures
    assert text in str(failure)
    assert len(outcome.not_tried) == 10
    assert region.machines == {}
    assert enlist(region).failures == ()


def test_apply_at_the_deadline_starts_no_other_machine(region: Region) -> None:
    with fake_maas.client(region) as client:
        plan = enlistment.plan(ten(), enlistment.read(client), HERE)
    region.pauses_after_writes = 3  # two zones and a machine
    key = pydantic.SecretStr(KEY)

    with MAAS(region.url, key, deadline=Deadline.after(2.0)) as client:
        outcome = enlistment.apply(client, plan)
    region.answers.set()

    assert outcome.error is not None
    assert outcome.error.retry
    assert outcome.not_tried
    assert enlist(region).failures == ()
    assert len(region.machines) == 10


def test_apply_with_locked_machine_continues(region: Region) -> None:
    enlist(region)
    moved = dataclasses.replace(HERE, address="10.0.0.9")
    with fake_maas.client(region) as client:
        plan = enlistment.plan(ten(), enlistment.read(client), moved)
        region.forced = [(409, "The machine is locked."), (200, "{}")]
        outcome = enlistment.apply(client, plan)

    (failure,) = outcome.failures
    assert "The machine is locked." in str(failure)
    assert str(failure).startswith(("a/a-node", "b/b-node"))
    assert len(outcome.done) == 9


def test_call_by_a_user_reports_missing_rights(region: Region) -> None:
    with pytest.raises(errors.MAASError, match="403: for administrators only") as raised:
        enlist(region, fake_maas.USER_KEY)

    assert raised.value.status == 403


def test_read_from_a_busy_maas_is_repeated(region: Region) -> None:
    region.forced = [(503, ""), (503, ""), (200, '{"version": "3.7.3"}')]

    with fake_maas.client(region) as client:
        assert client.version() == "3.7.3"

    assert len(region.calls) == 3


def test_create_machine_at_a_busy_maas_is_not_repeated(region: Region) -> None:
    region.forced = [(503, "")]

    with fake_maas.client(region) as client, pytest.raises(errors.MAASError):
        client.create_machine([("architecture", "amd64/generic")])

    assert len(region.calls) == 1


@pytest.mark.parametrize("wrong", ["kq3VbConsumer:hT5mToken:other", "kq3VbConsumer:other:other"])
def test_error_for_401_does_not_contain_the_body(
    region: Region, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    # MAAS quotes the secret that it expected, not the one that the client sent.
    caplog.set_level(logging.DEBUG)
    with fake_maas.client(region, wrong) as client, pytest.raises(errors.MAASError) as raised:
        client.whoami()

    assert str(raised.value).endswith(
        "users/: MAAS answered 401; is the API key right? `maas apikey --username NAME` prints it"
    )
    for part in SECRET_PARTS:
        assert part not in str(raised.value) + caplog.text


def test_repeated_call_ends_at_its_timeout(region: Region) -> None:
    region.forced = [(503, "")]

    with (
        MAAS(region.url, pydantic.SecretStr(KEY), timeout=2.0) as client,
        pytest.raises(errors.MAASError, match="MAAS answered 503"),
    ):
        client.zones()

    assert len(region.calls) <= 3  # after 0.3 s and 0.6 s; another 1.2 s would be too long


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, "Authorization Error"),
        (403, ""),
        (404, ""),
        (302, "http://elsewhere/"),
        (503, "<html>"),
        (200, "<html>"),
        (200, "[1]"),
    ],
)
def test_error_for_a_response_is_documented(region: Region, status: int, body: str) -> None:
    region.forced = [(status, body)]

    with fake_maas.client(region) as client, pytest.raises(errors.MAASError) as raised:
        client.machines()

    text = str(raised.value).partition("machines/: ")[2]
    message = text.replace("http://elsewhere/", "URL").replace("`", "")
    assert f"| `{message}`" in REFERENCE.read_text()


def test_call_without_a_server_is_one_sentence(caplog: pytest.LogCaptureFixture) -> None:
    url = f"http://127.0.0.1:{free_port()}/MAAS"
    with (
        MAAS(url, pydantic.SecretStr(KEY)) as client,
        pytest.raises(
            errors.MAASError, match=r"no response from MAAS \(ConnectionError\)"
        ) as raised,
    ):
        client.zones()

    assert raised.value.retry
    assert url in str(raised.value)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == []  # urllib3's own retries would log one for each attempt


def test_call_to_a_slow_maas_is_not_repeated(region: Region) -> None:
    region.delay_s = 1.5

    with (
        MAAS(region.url, pydantic.SecretStr(KEY), timeout=0.5) as client,
        pytest.raises(errors.MAASError, match=r"within 0\.5 s"),
    ):
        client.zones()

    time.sleep(1.7)
    assert len(region.calls) == 1


@contextlib.contextmanager
def dripping(start: bytes, drop: bytes) -> Generator[str]:
    """Serve a response that never ends. Yields the URL."""

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(start)
            while not stop.wait(0.1):
                connection.sendall(drop)

    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/MAAS"
        finally:
            stop.set()
            thread.join(10)


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", b" "),
    ],
)
def test_call_with_a_dripping_response_ends_at_its_timeout(start: bytes, drop: bytes) -> None:
    with (
        dripping(start, drop) as url,
        MAAS(url, pydantic.SecretStr(KEY), timeout=0.5) as client,
        pytest.raises(errors.MAASError, match=r"no response from MAAS within 0\.5 s"),
    ):
        client.zones()


def test_https_with_a_private_ca_needs_the_ca_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "certificate.pem"
    options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=maas", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", *options.split(), *names, "-keyout", pem, "-out", f"{pem}2"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    ca_file = tmp_path / "certificate.pem2"
    pem.write_text(pem.read_text() + ca_file.read_text())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem.with_name("nosuch.pem")))
    with fake_maas.served(certificate=pem) as region:
        with fake_maas.client(region, ca_file=ca_file) as client:
            assert client.version() == "3.7.3"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        with (
            fake_maas.client(region) as client,
            pytest.raises(errors.MAASError, match="maas-ca-file") as raised,
        ):
            client.version()
    assert not raised.value.retry
    with pytest.raises(errors.ConfigError, match="there is no such file"):
        fake_maas.client(region, ca_file=tmp_path / "nosuch.pem")


def test_log_and_errors_contain_no_secret(
    region: Region, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    enlist(region)
    token = HERE.secrets.vm_token(ten()[0].uuid)
    with fake_maas.client(region) as client:
        region.forced = [(400, f"bad power_token {token}")]
        with pytest.raises(errors.MAASError) as raised:
            client.update_machine("sys001", [("power_parameters_power_token", token)])
    texts += [str(raised.value), repr(client), caplog.text]

    for text in texts:
        assert token not in text
        for part in SECRET_PARTS:
            assert part not in text


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("10.0.0.2", KEY),
        ("http://me:secret@x/MAAS", KEY),
        ("http://x/MAAS", "a:b"),
        ("http://x/MAAS", "a::b"),
        ("http://x/MAAS", "a:b:c\nd"),
    ],
)
def test_client_with_invalid_url_or_key_raises(url: str, key: str) -> None:
    with pytest.raises(errors.ConfigError, match="expected"):
        MAAS(url, pydantic.SecretStr(key))
