# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The process of the power service: start, reload and stop it.

SIGHUP reads the configuration and the secrets again. Requests in progress finish with what they
began with.

SIGTERM and SIGINT stop the service within ten seconds. Actions that take longer continue in
VirtualBox, and their clients receive an answer that tells them to ask again. Until then, the
service answers queries as usual and refuses new actions only: a host that hangs is not a reason to
refuse the requests for all others.

This module owns the life of the process. `listener` opens the sockets and accepts the connections,
and `app` handles the requests.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING

import uvicorn

from maas_virtualbox import errors, logs
from maas_virtualbox.config import config_file, tokens
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.fleet.fleet import Fleet
from maas_virtualbox.maas import connection
from maas_virtualbox.service import app, connections, systemd, tls
from maas_virtualbox.service.auth import Authenticator
from maas_virtualbox.service.dispatcher import Dispatcher
from maas_virtualbox.service.listener import Listener, open_sockets

if TYPE_CHECKING:
    import socket
    from pathlib import Path
    from types import FrameType
    from typing import NoReturn

    from starlette.applications import Starlette

    from maas_virtualbox.config.config_file import Config
    from maas_virtualbox.config.tokens import Secrets

log = logging.getLogger(__name__)

_ACTIONS_STOP_TIMEOUT_S = 6.0
"""Seconds for actions in progress to end after SIGTERM."""

_REQUESTS_STOP_TIMEOUT_S = 3
"""Seconds for requests to be answered after that. A query waits at most 2.5 s for a host. The two
timeouts together are below ten seconds."""

_FIXED_OPTIONS = ("listen", "socket_file", "tls_certificate_file", "tls_key_file")
"""Options that need a restart. The content of the files is read again by a reload."""


def run(path: Path) -> None:
    """Serve what a configuration file describes until SIGTERM or SIGINT.

    Raises:
        ConfigError: the configuration cannot be used. Nothing was started.
    """
    # Threads that parse a host's output give way to others after 1 ms instead of 5 ms.
    sys.setswitchinterval(0.001)
    service = Service(path)
    # The files were just read, so SIGHUP is not needed before the event loop handles it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # uvicorn raises SIGTERM again when it has stopped.
    signal.signal(signal.SIGTERM, _exit)
    try:
        service.server.run()
    finally:
        service.remove_socket_file()


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


class Service:
    """One power service: its configuration, fleet and server.

    `run` creates it. It belongs to the event loop that the server runs.
    """

    def __init__(self, path: Path) -> None:
        """Read the configuration and open the sockets.

        Raises:
            ConfigError: the configuration cannot be used.
        """
        self._path = path
        stored = systemd.take_stored_sockets()
        self._config, self._secrets, self._fleet = _load(path)
        self.tls = tls.create_context(self._config)
        self._dispatcher: Dispatcher | None = None
        self._authenticator: Authenticator | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._reload_requested = asyncio.Event()
        self._are_sockets_stored = False
        self.sockets = open_sockets(self._config, stored)
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
                timeout_graceful_shutdown=_REQUESTS_STOP_TIMEOUT_S,
            ),
            self,
        )
        logs.configure(self._config.log_level, self._config.log_format)

    def _application(self) -> Starlette:
        """Create the application. uvicorn calls this in its event loop."""
        self._dispatcher = Dispatcher()
        self._authenticator = Authenticator(self._secrets, self._dispatcher.metrics)
        return app.application(self._authenticator, self._dispatcher)

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of the application. Exists while the server runs."""
        assert self._dispatcher is not None
        return self._dispatcher

    def compute_limits(self) -> connections.ConnectionLimits:
        """Return how many client connections may be open with the present hosts."""
        return connections.compute_limits(host.config for host in self._fleet.hosts)

    def remove_socket_file(self) -> None:
        """Remove the UNIX socket's file, unless the next process needs it."""
        if self._config.socket_file is not None and not self._are_sockets_stored:
            self._config.socket_file.unlink(missing_ok=True)

    async def start(self) -> None:
        """Start the tasks that run beside the server, and notify systemd."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_signal_handler(signal.SIGHUP, self.reload)
        except (NotImplementedError, RuntimeError, ValueError):
            log.debug("not in the main thread: SIGHUP is not handled")
        self._tasks = [
            asyncio.create_task(self.dispatcher.adopt(self._fleet)),
            asyncio.create_task(self._reload_on_request()),
            asyncio.create_task(self._notify_watchdog()),
        ]
        for task in self._tasks:
            task.add_done_callback(_log_exception)
        scheme = "https" if self.tls else "http"
        address, port = self.sockets.tcp.getsockname()[:2]
        status = (
            f"serving {len(self._fleet.hosts)} hosts at"
            f" {scheme}://{config_file.Listen(address, port)}"
        )
        log.info("%s", status)
        sockets = [self.sockets.tcp] + ([self.sockets.unix] if self.sockets.unix else [])
        self._are_sockets_stored = systemd.store_sockets(sockets)
        systemd.notify_ready(status)

    async def stop(self) -> None:
        """Wait for actions to end. Answer those that take longer."""
        systemd.notify_stopping()
        for task in self._tasks:
            task.cancel()
        await self.dispatcher.stop(_ACTIONS_STOP_TIMEOUT_S)

    def reload(self) -> None:
        """Request that the configuration and the secrets are read again."""
        self._reload_requested.set()

    async def _reload_on_request(self) -> None:
        while True:
            await self._reload_requested.wait()
            self._reload_requested.clear()
            systemd.notify_reloading()
            try:
                status = await self._reload()
            except errors.Error as error:
                log.error("not reloaded, nothing was changed: %s", error)  # noqa: TRY400
                status = f"not reloaded: {error}"
            except Exception as error:
                log.exception("not reloaded, nothing was changed")
                status = f"not reloaded: {error!r}"
            systemd.notify_ready(status.splitlines()[0])

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
            tls.load_certificate(self.tls, self._config)
        logs.configure(new.log_level, new.log_format)
        assert self._authenticator is not None
        self._authenticator.secrets = secrets
        self._fleet = fleet
        self.server.update_limits()
        await self.dispatcher.adopt(fleet)
        log.info("reloaded: serving %d hosts", len(fleet.hosts))
        return f"serving {len(fleet.hosts)} hosts"

    async def _notify_watchdog(self) -> None:
        """Notify systemd's watchdog as long as the event loop runs."""
        seconds = systemd.watchdog_timeout()
        while seconds is not None:
            systemd.notify_alive()
            await asyncio.sleep(seconds / 3)


def _log_exception(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("a task of the service has failed; the service continues", exc_info=error)


class _Server(uvicorn.Server):
    """uvicorn with `Listener` instead of its own servers. It starts and stops the service."""

    def __init__(self, server_config: uvicorn.Config, service: Service) -> None:
        super().__init__(server_config)
        self._service = service
        self._tcp: Listener | None = None
        self._unix: Listener | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        await super().startup([])
        service, metrics = self._service, self._service.dispatcher.metrics
        limits = service.compute_limits()
        self._tcp = Listener(self, service.sockets.tcp, limits.tcp, metrics, tls=service.tls)
        if service.sockets.unix is not None:
            self._unix = Listener(self, service.sockets.unix, limits.unix, metrics, is_local=True)
        await service.start()

    def update_limits(self) -> None:
        """Set the limits of connections for the present hosts."""
        limits = self._service.compute_limits()
        if self._tcp is not None:
            self._tcp.set_limit(limits.tcp)
        if self._unix is not None:
            self._unix.set_limit(limits.unix)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._service.stop()  # meanwhile, the server answers queries
        for listener in (self._tcp, self._unix):
            if listener is not None:
                listener.close()
        await super().shutdown(sockets)
        await self._service.dispatcher.close()


def _load(path: Path) -> tuple[Config, Secrets, Fleet]:
    """Read all files and prepare the fleet. Connects to no host, but to MAAS for `from-zones`."""
    new = config_file.load(path)
    listed = connection.find_hosts(new, Deadline.after(connection.ZONES_TIMEOUT_S))
    if not listed:
        raise errors.ConfigError(f"{path}: hosts: expected at least one, such as user@address")
    if new.secrets_file is None:
        raise errors.ConfigError(
            f"{path}: secrets-file: expected a path; create the file with"
            " `maas-virtualbox rotate-tokens`"
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
