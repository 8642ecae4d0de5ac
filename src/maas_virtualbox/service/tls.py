# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Load the TLS certificate of the service, and load it again after a renewal."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from maas_virtualbox import errors

if TYPE_CHECKING:
    from maas_virtualbox.config.config_file import Config


def create_context(config: Config) -> ssl.SSLContext | None:
    """Return the context for HTTPS, or None if the configuration names no certificate.

    Raises:
        ConfigError: as `load_certificate`.
    """
    if config.tls_certificate_file is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, config)
    return context


def load_certificate(context: ssl.SSLContext, config: Config) -> None:
    """Load the certificate and its key. New connections use them.

    Raises:
        ConfigError: a file cannot be read, or they are not a certificate with its key.
    """
    certificate, key = config.tls_certificate_file, config.tls_key_file
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
            f"tls-certificate-file: {certificate} and tls-key-file: {key} are not a PEM"
            f" certificate with its key: {error.reason or error}"
        ) from None
