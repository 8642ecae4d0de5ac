# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The picture of the README shows what the program prints today."""

from __future__ import annotations

import html
import re

from tools import picture


def texts(svg: str) -> str:
    """Return the text of a picture, with the measured seconds replaced."""
    lines = html.unescape(" ".join(re.findall(r">([^<]+)</text>", svg)))
    return re.sub(r"\b[0-9]+\.[0-9]{2}\b", "0.00", lines)


def test_picture_is_up_to_date() -> None:
    assert texts(picture.draw()) == texts(picture.PICTURE.read_text()), "run make picture"


def test_picture_contains_no_path_port_or_link() -> None:
    svg = picture.PICTURE.read_text()

    assert not re.search(r"127\.0\.0\.1|/tmp|/home|url\(http|src=", svg)
