# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The service's process: from its configuration file to a clean stop.

SIGHUP reads the configuration and the secrets anew; requests under way end on what they began on.

SIGTERM and SIGINT stop it within ten seconds: actions that take longer go on in VirtualBox, and
who waits for them is told to ask again. Until then queries are answered as ever, and only new
actions have to be asked for again: what hangs on one host is no reason to miss the requests for
all others.

systemd keeps the listening sockets while it restarts the service, so that nobody is refused: who
connects between two processes is answered by the second. They are kept here and not by a socket
unit because a socket unit listens for a service that is stopped or broken too, and MAAS, which has
no read timeout, would wait for it with its whole rack; and because what the configuration says
then holds alone, whatever the process before it listened on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import ssl
import sys
from typing import TYPE_CHECKING

import uvicorn

from maas_virtualbox import errors
from maas_virtualbox.config import config_file, tokens
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.maas import connection
from maas_virtualbox.service import app, connection_limits, logs, systemd
from maas_virtualbox.service.auth import Access
from maas_virtualbox.service.dispatcher import Dispatcher
from maas_virtualbox.service.listener import Listener

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

    from starlette.applications import Starlette

    from maas_virtualbox.config.config_file import Config
    from maas_virtualbox.config.tokens import Secrets

log = logging.getLogger(__name__)

_BACKLOG = 2048
_ACTIONS_STOP_S = 6.0
_REQUESTS_STOP_S = 3
"""One after the other: from the signal to the end it stays under ten seconds, and a query, which
waits for a host that hangs for 2.5 s at most, has its answer."""

_FIXED_OPTIONS = ("listen", "socket_file", "tls_certificate_file", "tls_key_file")
"""What a running server cannot change; the content of the files is read anew."""


def run(path: Path) -> None:
    """Serve what a configuration file describes, until told to stop.

    Raises:
        ConfigError, HostListError, IdentityError: it cannot be used; nothing was started.
    """
    # A thread that reads what one host sent gives way to the others sooner; the default is 5 ms.
    sys.setswitchinterval(0.001)
    service = Service(path)
    # Before the loop handles SIGHUP it has nothing to say: the files were read just now.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # uvicorn raises SIGTERM again when it has stopped.
    signal.signal(signal.SIGTERM, _leave)
    try:
        service.server.run()
    finally:
        service.forget_local_socket()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


class Service:
    """One power service: what was configured, the fleet, the server."""

    def __init__(self, path: Path) -> None:
        self._path = path
        given = systemd.given_sockets()
        self._config, self._secrets, self._fleet = _load(path)
        self.tls = _tls_context(self._config)
        self._dispatcher: Dispatcher | None = None
        self._access: Access | None = None
        self._chores: list[asyncio.Task[None]] = []
        self._reload_wanted = asyncio.Event()
        self._kept = False
        self.socket, self.local_socket = _listen_everywhere(self._config, given)
        self.server = _Server(
            uvicorn.Config(
                self._application,
                factory=True,
                http="httptools",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_REQUESTS_STOP_S,
            ),
            self,
        )
        logs.configure(self._config.log_level, self._config.log_format)

    def _application(self) -> Starlette:
        """Make the application; uvicorn calls it in its event loop."""
        self._dispatcher = Dispatcher()
        self._access = Access(self._secrets, self._dispatcher.metrics)
        return app.application(self._access, self._dispatcher)

    @property
    def dispatcher(self) -> Dispatcher:
        """What the application dispatches to; there when the server runs."""
        assert self._dispatcher is not None
        return self._dispatcher

    def connection_limits(self) -> tuple[int, int]:
        """Return how many connections of clients there may be, over TCP and the UNIX socket."""
        return connection_limits.limits_for_clients(owner.config for owner in self._fleet.hosts)

    def forget_local_socket(self) -> None:
        """Remove the UNIX socket's file, unless the next process needs it."""
        if self._config.socket_file is not None and not self._kept:
            self._config.socket_file.unlink(missing_ok=True)

    async def started(self) -> None:
        """Begin what goes on beside the server."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        except (NotImplementedError, RuntimeError, ValueError):
            log.debug("not in the main thread: SIGHUP is not handled")
        self._chores = [
            asyncio.create_task(self.dispatcher.adopt(self._fleet)),
            asyncio.create_task(self._keep_reloading()),
            asyncio.create_task(self._keep_alive()),
        ]
        for chore in self._chores:
            chore.add_done_callback(_report_bug)
        scheme = "https" if self.tls else "http"
        address, port = self.socket.getsockname()[:2]
        where = f"{scheme}://{config_file.Listen(address, port)}"
        log.info("serving %d hosts at %s", len(self._fleet.hosts), where)
        self._kept = systemd.keep([each for each in (self.socket, self.local_socket) if each])
        systemd.ready(f"serving {len(self._fleet.hosts)} hosts at {where}")

    async def stop(self) -> None:
        """Let actions end, or hand them back."""
        systemd.stopping()
        for chore in self._chores:
            chore.cancel()
        await self.dispatcher.stop(_ACTIONS_STOP_S)

    def reload(self) -> None:
        """Read configuration and secrets anew, soon."""
        self._reload_wanted.set()

    async def _keep_reloading(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            systemd.reloading()
            try:
                status = await self._reload()
            except errors.Error as error:
                log.error("not reloaded, all stays as it was: %s", error)  # noqa: TRY400
                status = f"not reloaded: {error}"
            except Exception as error:
                log.exception("not reloaded, all stays as it was")
                status = f"not reloaded: {error!r}"
            systemd.ready(status.splitlines()[0])

    async def _reload(self) -> str:
        new, secrets, fleet = await asyncio.to_thread(_load, self._path)
        fixed = [
            name.replace("_", "-")
            for name in _FIXED_OPTIONS
            if getattr(new, name) != getattr(self._config, name)
        ]
        if fixed:
            log.warning("%s: restart the service for this to take effect", ", ".join(fixed))
        elif self.tls is not None:
            _load_certificate(self.tls, self._config)
        logs.configure(new.log_level, new.log_format)
        assert self._access is not None
        self._access.secrets = secrets
        self._fleet = fleet
        self.server.resize()
        await self.dispatcher.adopt(fleet)
        log.info("reloaded: serving %d hosts", len(fleet.hosts))
        return f"serving {len(fleet.hosts)} hosts"

    async def _keep_alive(self) -> None:
        """Tell systemd's watchdog that the event loop turns."""
        seconds = systemd.watchdog_seconds()
        while seconds is not None:
            systemd.still_alive()
            await asyncio.sleep(seconds / 3)


def _report_bug(chore: asyncio.Task[None]) -> None:
    if not chore.cancelled() and (error := chore.exception()) is not None:
        log.error("the service goes on without one of its chores", exc_info=error)


class _Server(uvicorn.Server):
    """uvicorn without its servers, and what the service does when it starts and stops."""

    def __init__(self, server_config: uvicorn.Config, service: Service) -> None:
        super().__init__(server_config)
        self._service = service
        self._listeners: list[Listener] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        await super().startup([])
        service, metrics = self._service, self._service.dispatcher.metrics
        tcp, unix = service.connection_limits()
        self._listeners = [Listener(self, service.socket, tcp, metrics, tls=service.tls)]
        if service.local_socket is not None:
            self._listeners.append(
                Listener(self, service.local_socket, unix, metrics, is_local=True)
            )
        await service.started()

    def resize(self) -> None:
        """Adapt the limits of connections to the hosts there are now."""
        for listener, limit in zip(
            self._listeners, self._service.connection_limits(), strict=False
        ):
            listener.resize(limit)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.stop()  # all the while, the server goes on
        for listener in self._listeners:
            listener.close()
        await super().shutdown(sockets)
        await self._service.dispatcher.close()


def _load(path: Path) -> tuple[Config, Secrets, Fleet]:
    """Read all files and prepare the fleet; connects to no host."""
    new = config_file.load(path)
    listed = connection.find_hosts(new, Deadline.after(connection.ZONES_TIMEOUT_S))
    if not listed:
        raise errors.ConfigError(f"{path}: hosts: expected at least one, such as user@address")
    if new.secrets_file is None:
        raise errors.ConfigError(
            f"{path}: secrets-file: expected a path; `maas-virtualbox rotate-tokens` makes it"
        )
    secrets = tokens.load(new.secrets_file)
    fleet = Fleet(
        listed,
        identity=new.ssh_private_key_file,
        known_hosts=new.known_hosts,
        vm_hosts=new.vm_hosts,
        policy=new.policy,
    )
    return new, secrets, fleet


def _listen_everywhere(
    configured: Config, given: list[socket.socket]
) -> tuple[socket.socket, socket.socket | None]:
    """Listen where the configuration says, on the sockets that are given where they do."""
    listen, path = configured.listen, configured.socket_file
    ready, ready_locally = None, None
    for each in given:
        name = each.getsockname()
        if name[:2] == (listen.address, listen.port):
            ready = each
        elif path is not None and name == str(path) and path.is_socket():
            ready_locally = each
        else:
            # Whoever else has it listens no longer either, and its port can be used.
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
    return ready or _listen(listen), ready_locally or _listen_locally(path)


def _listen(listen: config_file.Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
    try:
        return socket.create_server(
            (listen.address, listen.port),
            family=family,
            backlog=_BACKLOG,
            dualstack_ipv6=family is socket.AF_INET6 and listen.address == "::",
        )
    except OSError as error:
        raise errors.ConfigError(f"listen: {listen} cannot be used: {error.strerror}") from None


def _listen_locally(path: Path | None) -> socket.socket | None:
    """Listen on the UNIX socket; one that a dead service left is replaced."""
    if path is None:
        return None
    listener = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            if path.is_socket() and probe.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()
        # The socket is made with its permissions: by path, they might be given to another file.
        before = os.umask(0o117)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise errors.ConfigError(
            f"socket-file: {path} cannot be used: {error.strerror or error}"
        ) from None
    return listener


def _tls_context(configured: Config) -> ssl.SSLContext | None:
    if configured.tls_certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load_certificate(context, configured)
    return context


def _load_certificate(context: ssl.SSLContext, configured: Config) -> None:
    """Load or renew the certificate; connections from now on are shown it."""
    certificate, key = configured.tls_certificate_file, configured.tls_key_file
    assert certificate is not None
    assert key is not None
    for option, file in (("tls-certificate-file", certificate), ("tls-key-file", key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise errors.ConfigError(
                f"{option}: {file} cannot be read: {error.strerror}"
            ) from None
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise errors.ConfigError(
            f"tls-certificate-file: {certificate} and tls-key-file: {key} are no PEM certificate"
            f" with its key: {error.reason or error}"
        ) from None
