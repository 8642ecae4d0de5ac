# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""A real SSH server on paramiko: key login, one command a channel, ten channels a connection.

What a command does is decided by a function given to it; nothing here knows of VirtualBox.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
from typing import TYPE_CHECKING

import paramiko
from paramiko import common

from maas_virtualbox.transport import paramiko_transport, ssh_keys

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_MAX_SESSIONS = 10  # sshd's default
_STDIN_PATIENCE_S = 0.5
_PIECE = 64 * 1024


class DroppedError(Exception):
    """Raised by the command function to break the connection."""


class SSHServer:
    """Listens on 127.0.0.1 until closed. Thread-safe."""

    def __init__(
        self,
        user: str,
        client_key: paramiko.PKey,
        execute: Callable[[str, Callable[[], bool]], tuple[bytes, bytes, int]],
        port: int = 0,
    ) -> None:
        """Start listening.

        Args:
            user: the only account.
            client_key: the key it accepts.
            execute: carries a command out; gets it and a function that tells whether the client
                has gone, returns stdout, stderr and exit code.
            port: TCP port; 0 for any.
        """
        self.change_host_key()
        self.logins_refused = False
        """While true, no key is accepted."""
        self._user = user
        self.authorised = {client_key.get_base64()}
        """The public keys it accepts, in base64."""
        self._execute = execute
        self._sessions: set[paramiko.Transport] = set()
        self._lock = threading.Lock()
        self._listener = self._listen(port)
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        """Stop listening and break all connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            sessions = list(self._sessions)
            self._sessions.clear()
        for session in sessions:
            session.close()

    def change_host_key(self) -> None:
        """Present a new host key from the next connection on."""
        private_key = ssh_keys.new_private_key()
        self.host_key = paramiko.Ed25519Key.from_private_key(io.StringIO(private_key))

    def reopen(self) -> None:
        """Listen again on the same port."""
        self._listener = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(
            target=self._accept, args=(listener,), name="simulator", daemon=True
        ).start()
        return listener

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        session = paramiko_transport.new_transport(sock)
        session.add_server_key(self.host_key)
        with self._lock:
            self._sessions.add(session)
        try:
            session.start_server(event=threading.Event(), server=_Session(self, session))
            # Channels are served where they are requested; but paramiko closes one that nobody
            # holds any more.
            held: list[paramiko.Channel] = []
            while session.is_active():
                channel = session.accept(1.0)
                held = [other for other in held if not other.closed]
                if channel is not None:
                    held.append(channel)
        except (paramiko.SSHException, OSError, EOFError) as error:
            log.debug("session ended: %s", error)
        finally:
            session.close()
            with self._lock:
                self._sessions.discard(session)

    def accepts(self, user: str, key: paramiko.PKey) -> bool:
        """Whether a login is good."""
        right = key.get_base64() in self.authorised
        return user == self._user and right and not self.logins_refused

    def serve(self, session: paramiko.Transport, channel: paramiko.Channel, command: str) -> None:
        """Carry a command out and answer on its channel."""
        try:
            stdout, stderr, code = self._execute(command, lambda: channel.closed)
            # In pieces, because sendall copies all that is left for every packet.
            for start in range(0, len(stdout), _PIECE):
                channel.sendall(stdout[start : start + _PIECE])
            channel.sendall_stderr(stderr)
            channel.send_exit_status(code)
            channel.close()
        except DroppedError:
            session.close()
        except (OSError, EOFError, paramiko.SSHException) as error:
            log.debug("the client left: %s", error)


class _Session(paramiko.ServerInterface):
    """What one client may do."""

    def __init__(self, server: SSHServer, session: paramiko.Transport) -> None:
        self._server = server
        self._session = session
        self._channels: list[int] = []

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        good = self._server.accepts(username, key)
        return common.AUTH_SUCCESSFUL if good else common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        if kind != "session":
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        if len(self._channels) >= _MAX_SESSIONS:
            return common.OPEN_FAILED_CONNECT_FAILED
        self._channels.append(chanid)
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        def run() -> None:
            # The answer must not overtake the reply to this request. A client closes its end of
            # standard input after the reply; one that leaves it open is answered a little later.
            channel.settimeout(_STDIN_PATIENCE_S)
            try:
                with contextlib.suppress(TimeoutError):
                    channel.recv(1)
                channel.settimeout(None)
                self._server.serve(self._session, channel, command.decode("utf-8", "replace"))
            finally:
                self._channels.remove(channel.get_id())

        threading.Thread(target=run, daemon=True).start()
        return True
