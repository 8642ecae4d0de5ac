# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service as a process of its own, for tests to start, talk to, and ill-treat."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from maas_virtualbox import tokens
from maas_virtualbox.power_parameters import PowerParameters
from maas_virtualbox.simulator import maas

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

PROGRAM = Path(sys.executable).with_name("maas-virtualbox")

_START_S = 20.0

_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ServiceProcess:
    """A power service with files of its own. A context manager: started, and ended for sure."""

    def __init__(
        self,
        folder: Path,
        hosts: list[str],
        key_file: Path,
        *,
        environment: Mapping[str, str] | None = None,
        **options: object,
    ) -> None:
        self.program = PROGRAM
        self.config_file = folder / "service.yaml"
        self.log_file = folder / "service.log"
        self.port = free_port()
        self.secrets = tokens.Secrets.new()
        self.options: dict[str, object] = {
            "hosts": hosts,
            "ssh-private-key-file": str(key_file),
            "known-hosts-file": str(folder / "known_hosts"),
            "secrets-file": str(folder / "secrets.yaml"),
            "listen": f"127.0.0.1:{self.port}",
            **{name.replace("_", "-"): value for name, value in options.items()},
        }
        tokens.save(folder / "secrets.yaml", self.secrets)
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def started(self) -> bool:
        """Whether it ever was."""
        return self._process is not None

    @property
    def tls(self) -> bool:
        """Whether it speaks HTTPS."""
        return "tls-key-file" in self.options

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, ended or not."""
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """All it has logged."""
        return self.log_file.read_text()

    def write_config(self) -> None:
        """Write the options to the configuration file."""
        self.config_file.write_text(yaml.safe_dump(self.options))

    def start(self, *, wait: bool = True) -> None:
        """Start it; returns when it is ready."""
        self.write_config()
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "serve", "--config", self.config_file],
                stderr=log,
                stdout=log,
                env=self._environment,
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until every host was asked once."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the service does not get ready:\n{self.log}")

    def wait_for_log(self, words: str) -> None:
        """Wait until it has logged something."""
        until = time.monotonic() + _START_S
        while words not in self.log:
            assert time.monotonic() < until, self.log
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def stop(self, timeout: float = 15.0) -> int:
        """Stop it as systemd does; returns its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    # -- Talking to it ------------------------------------------------------------------------

    def uri(self, path: str) -> str:
        """The URI of a path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def parameters(self, uuid: str) -> PowerParameters:
        """What MAAS is given for a VM."""
        token = self.secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address="127.0.0.1", port=self.port, tls=self.tls)

    def driver(self, uuid: str, **options: Any) -> maas.Driver:
        """MAAS's driver for a VM."""
        return maas.Driver(self.parameters(uuid), **options)

    def request(
        self, method: str, path: str, token: str = "", timeout: float = 40.0
    ) -> tuple[int, str]:
        """Make a request; returns status and body."""
        connection = (
            http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=timeout, context=_UNVERIFIED
            )
            if self.tls
            else http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        )
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Make a GET request."""
        return self.request("GET", path, token)

    def api(self, path: str) -> Any:
        """Ask the API with the admin token."""
        code, body = self.get(path, self.secrets.admin_token())
        assert code == 200, body
        return json.loads(body)

    def metric(self, line: str) -> float:
        """One metric, such as `maas_virtualbox_host_up{host="a",zone=""}`; 0 if not there."""
        code, body = self.get("/metrics", self.secrets.admin_token())
        assert code == 200, body
        found = [text.rpartition(" ")[2] for text in body.splitlines() if text.startswith(line)]
        return float(found[0]) if found else 0.0

    def exchange(self, content: bytes, timeout: float = 40.0) -> bytes:
        """Send bytes over a connection of their own and return all that comes back."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as connection:
            connection.sendall(content)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    def served_certificate(self) -> str:
        """The certificate it presents now, as PEM without white space."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)
        return "".join(pem.split())

    def memory_kib(self) -> int:
        """Its resident memory (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
