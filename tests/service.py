# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The power service as a separate process, which tests start, use and disturb."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from maas_virtualbox.config import tokens
from maas_virtualbox.maas.power_parameters import PowerParameters
from maas_virtualbox.simulator import maas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Self

PROGRAM = Path(sys.executable).with_name("maas-virtualbox")

_START_S = 60.0
"""Ends tests that would otherwise wait without limit. It does not limit what is tested."""

# The descriptors of the sockets begin with 3, and LISTEN_PID names the process they are for.
_PASS_SOCKETS = """
import fcntl, json, os, sys
above = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in json.loads(sys.argv[1])]
for number, fd in enumerate(above, 3):
    os.dup2(fd, number)
os.closerange(3 + len(above), 200)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(above))}
os.execv(sys.argv[2], sys.argv[2:])
"""

_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


_random = random.SystemRandom()
"""hypothesis resets the other random number generators."""


def interruptible(*command: object) -> list[str]:
    """Return a command that SIGINT ends, even if background jobs ignore SIGINT here."""
    program = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)"
    become = f"{program}; os.execv(sys.argv[1], sys.argv[1:])"
    return [sys.executable, "-c", become, *map(str, command)]


def free_port() -> int:
    """Return a TCP port on which nobody listens, outside the system's range of source ports.

    A port in that range may become the source port of any connection: of another test, or of a
    connection to this very port, which is then connected to itself.
    """
    while True:
        port = _random.randrange(10_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


class Pulse:
    """Requests something all the time, and measures the longest gap between two answers."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers = 0
        self.longest_gap = 0.0
        """Seconds between two answers with status 200, or since the last one."""
        self.failures: list[str] = []
        """All other results: refused or broken connections, and other statuses."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(timeout=60)

    def _run(self) -> None:
        seen = time.monotonic()
        while not self._stop.wait(0.02):
            try:
                code = self._ask()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                continue
            now = time.monotonic()
            self.longest_gap = max(self.longest_gap, now - seen)
            if code == 200:
                self.answers += 1
                seen = now
            else:
                self.failures.append(str(code))


class ServiceProcess:
    """A power service with its own files. As a context manager, it starts and ends the process."""

    def __init__(
        self,
        folder: Path,
        hosts: list[str],
        key_file: Path,
        *,
        environment: Mapping[str, str] | None = None,
        descriptors: int | None = None,
        **options: object,
    ) -> None:
        """Prepare the service.

        Args:
            folder: the folder for its files.
            hosts: its host list.
            key_file: the private key for the hosts.
            environment: variables in addition to those of the tests.
            descriptors: how many file descriptors it may have. None: as many as the tests.
            options: the options of its configuration file.
        """
        self.program = PROGRAM
        self._descriptors = descriptors
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
                self.process.wait(_START_S)
            except subprocess.TimeoutExpired:
                self.kill()

    @property
    def started(self) -> bool:
        """Whether the service was started."""
        return self._process is not None

    @property
    def tls(self) -> bool:
        """Whether the service uses HTTPS."""
        return "tls-key-file" in self.options

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, which may have ended."""
        assert self._process is not None
        return self._process

    @property
    def log(self) -> str:
        """The whole log."""
        return self.log_file.read_text()

    def write_config(self) -> None:
        """Write the options to the configuration file."""
        self.config_file.write_text(yaml.safe_dump(self.options))

    def make_certificate(self) -> str:
        """Create a new certificate for HTTPS. Return it as PEM without white space."""
        folder = self.config_file.parent
        certificate, key = folder / "crt.pem", folder / "key.pem"
        options = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
        names = ["-subj", "/CN=maas-virtualbox", "-addext", "subjectAltName=IP:127.0.0.1"]
        subprocess.run(
            ["openssl", "req", *options.split(), *names, "-keyout", key, "-out", certificate],
            check=True,
            capture_output=True,
            timeout=30,
        )
        self.options |= {"tls-certificate-file": str(certificate), "tls-key-file": str(key)}
        return "".join(certificate.read_text().split())

    def start(self, *, wait: bool = True, sockets: Sequence[socket.socket] = ()) -> None:
        """Start the service, and wait until it is ready.

        Args:
            wait: whether to wait.
            sockets: listening sockets, which are passed as systemd passes them.
        """
        self.write_config()
        command: list[object] = [PROGRAM, "serve", "--config", self.config_file]
        numbers = [listening.fileno() for listening in sockets]
        if numbers:
            command = [sys.executable, "-c", _PASS_SOCKETS, json.dumps(numbers), *command]
        if self._descriptors is not None:
            command = ["sh", "-c", 'ulimit -n "$0" && exec "$@"', self._descriptors, *command]
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                [str(word) for word in command],
                stderr=log,
                stdout=log,
                env=self._environment,
                pass_fds=numbers,
            )
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until every host was polled once."""
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                if self.get("/readyz")[0] == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the service is not ready:\n{self.log}")

    def wait_for_log(self, text: str, times: int = 1) -> None:
        """Wait until the log contains a text a number of times."""
        until = time.monotonic() + _START_S
        while self.log.count(text) < times:
            assert time.monotonic() < until, self.log
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the process."""
        self.process.kill()
        self.process.wait(10)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def stop(self, timeout: float = _START_S) -> int:
        """Stop the service as systemd does. Return the exit code."""
        self.process.terminate()
        return self.process.wait(timeout)

    # -- Requests ----------------------------------------------------------------------------

    def uri(self, path: str) -> str:
        """Return the URI of a path."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def parameters(self, uuid: str) -> PowerParameters:
        """Return the power parameters of a VM for MAAS."""
        token = self.secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address="127.0.0.1", port=self.port, tls=self.tls)

    def driver(self, uuid: str, **options: Any) -> maas.Driver:
        """Return MAAS's power driver for a VM."""
        return maas.Driver(self.parameters(uuid), **options)

    def request(
        self,
        method: str,
        path: str,
        token: str = "",
        timeout: float = 40.0,
        client: str = "127.0.0.1",
    ) -> tuple[int, str]:
        """Send a request from an address. Return the status and the body."""
        connection = (
            http.client.HTTPSConnection(
                "127.0.0.1",
                self.port,
                timeout=timeout,
                source_address=(client, 0),
                context=_UNVERIFIED,
            )
            if self.tls
            else http.client.HTTPConnection(
                "127.0.0.1", self.port, timeout=timeout, source_address=(client, 0)
            )
        )
        with contextlib.closing(connection):
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def get(self, path: str, token: str = "") -> tuple[int, str]:
        """Send a GET request. Return the status and the body."""
        return self.request("GET", path, token)

    def api(self, path: str) -> Any:
        """Send a GET request with the admin token. Return the parsed body."""
        code, body = self.get(path, self.secrets.admin_token())
        assert code == 200, body
        return json.loads(body)

    def metric(self, line: str) -> float:
        """Return a metric, such as `maas_virtualbox_host_up{host="a",zone=""}`, or 0."""
        code, body = self.get("/metrics", self.secrets.admin_token())
        assert code == 200, body
        found = [text.rpartition(" ")[2] for text in body.splitlines() if text.startswith(line)]
        return float(found[0]) if found else 0.0

    def exchange(self, content: bytes, timeout: float = 40.0, client: str = "127.0.0.1") -> bytes:
        """Send bytes over a new connection. Return the whole response."""
        with socket.create_connection(
            ("127.0.0.1", self.port), timeout=timeout, source_address=(client, 0)
        ) as connection:
            connection.sendall(content)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
            return answer

    def served_certificate(self) -> str:
        """Return the certificate that the service presents, as PEM without white space."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.port), timeout=10)
        return "".join(pem.split())

    def memory_kib(self) -> int:
        """Return the resident memory of the process (Linux)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line)
