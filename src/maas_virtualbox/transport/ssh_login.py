# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Log in to a host over SSH: connect, check the host key, authenticate.

The result is an authenticated `paramiko.Transport`. What runs over it belongs to `ssh_connection`,
and when to try again belongs to `ssh`.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

import paramiko
from paramiko import pkey, ssh_exception

from maas_virtualbox import errors
from maas_virtualbox.transport import paramiko_transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from maas_virtualbox.config import host_list
    from maas_virtualbox.deadline import Deadline
    from maas_virtualbox.transport import host_keys

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")

_MAX_REASON = 300
"""Characters of a host's own text that an error message shows."""

# Names that not every system has. With these values, the kernel notices a silent peer in about
# 30 s even if no command runs.
_KEEPALIVE_OPTIONS = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


def load_identity(path: Path | str) -> paramiko.PKey:
    """Read a private key file (OpenSSH or PEM format, without a passphrase).

    Raises:
        IdentityError: the file is missing, unreadable, encrypted or not a private key.
    """
    try:
        return paramiko.PKey.from_path(Path(path).expanduser())
    except OSError as error:
        reason = error.strerror or str(error)
    except (TypeError, paramiko.PasswordRequiredException):
        reason = "it is protected by a passphrase; load it in ssh-agent or use one without"
    except (ValueError, paramiko.SSHException, pkey.UnknownKeyType):
        reason = "it is not a private key this client can read (ed25519, ecdsa or rsa)"
    raise errors.IdentityError(f"the private key {path} cannot be used: {reason}")


def presented_key(
    host: host_list.HostConfig, known_hosts: host_keys.KnownHosts, deadline: Deadline
) -> paramiko.PKey:
    """Return the key that a host presents, of the type of a pinned key if there is one.

    Neither pins nor checks the key.

    Raises:
        HostUnreachable: the host did not answer before the deadline.
    """
    transport = _connect(host, deadline)
    try:
        return _negotiate(transport, host, known_hosts.algorithms(host), deadline)
    finally:
        transport.close()


def log_in(
    host: host_list.HostConfig,
    known_hosts: host_keys.KnownHosts,
    identity: paramiko.PKey | None,
    deadline: Deadline,
) -> paramiko.Transport:
    """Connect to a host, check its key and authenticate.

    Args:
        host: the host and the account.
        known_hosts: decides whether the host key is accepted.
        identity: the private key. None: the keys of ssh-agent, then the usual files in `~/.ssh`.
        deadline: for all of it.

    Raises:
        HostUnreachable: no connection, or no answer before the deadline. Retry later.
        LoginRefused: the host accepts none of the keys. Permanent.
        HostKeyChanged: the host presents another key than the pinned one. Permanent.
        KnownHostsBroken: the known_hosts file cannot be used. Permanent.
    """
    transport = _connect(host, deadline)
    try:
        key = _negotiate(transport, host, known_hosts.algorithms(host), deadline)
        known_hosts.check(host, key)
        _authenticate(transport, host, identity, deadline)
    except BaseException:
        transport.close()
        raise
    return transport


def reason_of(error: BaseException | None) -> str:
    """Return what an error of paramiko says, cut to a length for messages."""
    text = str(error) or type(error).__name__ if error else "no reason given"
    return text[:_MAX_REASON]


def _connect(host: host_list.HostConfig, deadline: Deadline) -> paramiko.Transport:
    name, seconds = str(host), deadline.remaining
    try:
        sock = _connect_socket((host.address, host.port), deadline)
    except (TimeoutError, futures.TimeoutError):
        raise errors.HostUnreachable(
            name, f"{host.account} does not answer within {seconds:.0f} s; is it on and awake?"
        ) from None
    except socket.gaierror as error:
        raise errors.HostUnreachable(
            name, f"the name {host.address} does not resolve: {error.strerror}"
        ) from error
    except OSError as error:
        raise errors.HostUnreachable(
            name,
            f"cannot connect to {host.account}: {error.strerror or error}; is its SSH server"
            " (macOS: Remote Login) on?",
        ) from error
    _set_options(sock)
    return paramiko_transport.new_transport(paramiko_transport.LimitedSocket(sock))


def _connect_socket(address: tuple[str, int], deadline: Deadline) -> socket.socket:
    """Open a TCP connection, on another thread: resolving a name has no timeout of its own."""
    connected: futures.Future[socket.socket] = futures.Future()

    def connect() -> None:
        try:
            # Without time left, create_connection would not block at all.
            timeout = max(0.001, deadline.remaining)
            connected.set_result(socket.create_connection(address, timeout=timeout))
        except BaseException as error:  # noqa: BLE001 - it is raised on the thread that waits
            connected.set_exception(error)

    threading.Thread(target=connect, name=f"connect {address[0]}", daemon=True).start()
    try:
        return connected.result(deadline.remaining)
    except futures.TimeoutError:
        connected.add_done_callback(_close_late)
        raise


def _close_late(connected: futures.Future[socket.socket]) -> None:
    if connected.exception() is None:
        connected.result().close()


def _set_options(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE_OPTIONS.items():
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _negotiate(
    transport: paramiko.Transport,
    host: host_list.HostConfig,
    algorithms: tuple[str, ...],
    deadline: Deadline,
) -> paramiko.PKey:
    """Exchange keys. Return the host key that the host presented."""
    name = str(host)
    transport.get_security_options().key_types = algorithms
    done = threading.Event()
    transport.start_client(event=done)
    if not done.wait(deadline.remaining):
        raise errors.HostUnreachable(
            name, f"{host.account} accepted the connection but does not speak SSH in time"
        )
    if not transport.is_active():
        error = transport.get_exception()
        if isinstance(error, ssh_exception.IncompatiblePeer):
            raise errors.HostUnreachable(
                name, f"{error}; its SSH server is too old (OpenSSH 7.2 or newer is needed)"
            )
        raise errors.HostUnreachable(
            name,
            f"{host.account} closed the connection before the login: {reason_of(error)}; after"
            " refused logins, sshd does this to an address for a minute (PerSourcePenalties)",
        )
    return transport.get_remote_server_key()


def _authenticate(
    transport: paramiko.Transport,
    host: host_list.HostConfig,
    identity: paramiko.PKey | None,
    deadline: Deadline,
) -> None:
    keys = list(_own_keys() if identity is None else [identity])
    for key in keys:
        done = threading.Event()
        transport.auth_publickey(host.user, key, event=done)
        if not done.wait(deadline.remaining):
            raise errors.HostUnreachable(
                str(host), f"{host.account} does not answer the login in time"
            )
        if transport.is_authenticated():
            return
        if not transport.is_active():
            break
    if keys:
        hint = f"add this key to ~/.ssh/authorized_keys there: {_public_line(keys)}"
    else:
        hint = "no private key was given and neither ssh-agent nor ~/.ssh has one"
    raise errors.LoginRefused(str(host), f"login refused for user {host.user}: {hint}")


def _own_keys() -> Iterator[paramiko.PKey]:
    """Yield the keys of ssh-agent, and those in the usual files."""
    with contextlib.suppress(paramiko.SSHException, OSError):
        yield from paramiko.Agent().get_keys()
    for name in _DEFAULT_KEYS:
        path = Path("~/.ssh", name).expanduser()
        if path.exists():
            with contextlib.suppress(errors.IdentityError):
                yield load_identity(path)


def _public_line(keys: Sequence[paramiko.PKey]) -> str:
    return f"{keys[0].get_name()} {keys[0].get_base64()}" + (
        f" (or one of {len(keys) - 1} others that were tried)" if len(keys) > 1 else ""
    )
