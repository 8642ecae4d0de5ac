# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Create and check SSH key pairs as text, for programs that do not store them in files."""

from __future__ import annotations

import re

from cryptography import exceptions
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from maas_virtualbox import errors

_PUBLIC_KEY = re.compile(
    r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]+={0,2}"
)


def new_private_key() -> str:
    """Create an ed25519 key pair. Return the private key in OpenSSH's format."""
    return (
        ed25519.Ed25519PrivateKey.generate()
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        .decode("ascii")
    )


def public_key(private_key: str) -> str:
    """Return the public key of a private key, as `type base64` for authorized_keys.

    Args:
        private_key: OpenSSH or PEM format, ed25519, ecdsa or rsa, without a passphrase.

    Raises:
        IdentityError: the text is something else. The message does not quote it.
    """
    data = private_key.encode()
    try:
        if b"OPENSSH PRIVATE KEY" in data:
            key = serialization.load_ssh_private_key(data, None)
        else:
            key = serialization.load_pem_private_key(data, None)
    except TypeError:
        raise errors.IdentityError("it is protected by a passphrase; use one without") from None
    except (ValueError, exceptions.UnsupportedAlgorithm):
        key = None
    if not isinstance(
        key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    ):
        raise errors.IdentityError("it is not a private key (ed25519, ecdsa or rsa)")
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode("ascii")
    )


def is_public_key(text: str) -> bool:
    """Return whether a text is exactly one public key, `type base64` (ed25519, ecdsa or rsa)."""
    if not _PUBLIC_KEY.fullmatch(text):
        return False
    try:
        serialization.load_ssh_public_key(text.encode())
    except (ValueError, exceptions.UnsupportedAlgorithm):
        return False
    return True
