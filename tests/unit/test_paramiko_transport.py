# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The limits for what a hostile peer sends, below any parser."""

from __future__ import annotations

import socket

import paramiko
import pytest

from maas_virtualbox.transport import paramiko_transport


def test_packet_of_4_gb_is_refused_before_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with theirs, paramiko_transport.LimitedSocket(ours) as limited:
        theirs.send(b"x")

        assert limited.recv(32_768) == b"x"
        with pytest.raises(paramiko.SSHException, match="a packet of 4294967280 bytes"):
            limited.recv(0xFFFFFFF0)


def test_data_beyond_the_window_ends_the_connection() -> None:
    window = paramiko_transport.LimitedBuffer()
    window.feed(b"x" * 2**21)

    with pytest.raises(paramiko.SSHException, match="more than its window allows"):
        window.feed(b"x")
    assert len(window.read(2**22)) == 2**21
    window.feed(b"x")
