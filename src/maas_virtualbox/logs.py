# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Log formats and their set-up: one line for each event on standard error, as text or JSON.

A program calls `log_to_stderr`, the power service calls `configure`. The library itself only logs.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
from typing import Literal

from maas_virtualbox.escape import printable, printable_lines


class LineFormatter(logging.Formatter):
    """Formats a log event as one `printable` line, with a traceback below it."""

    def __init__(self, prefix: str = "") -> None:
        """Begin each line with a prefix, such as `maas-virtualbox: `."""
        super().__init__()
        self._prefix = prefix

    def prefix(self, record: logging.LogRecord) -> str:
        """Return the beginning of a line."""
        del record
        return self._prefix

    def format(self, record: logging.LogRecord) -> str:
        """Return the text of an event."""
        text = f"{self.prefix(record)}{printable(record.getMessage())}"
        if record.exc_info:
            text += "\n" + printable_lines(self.formatException(record.exc_info))
        return text


class _Text(LineFormatter):
    """`2026-11-21T10:00:00.123Z INFO …`; without the time where the journal adds it."""

    def prefix(self, record: logging.LogRecord) -> str:
        time = "" if "JOURNAL_STREAM" in os.environ else f"{_time(record)} "
        return f"{time}{record.levelname} "


class _JSON(logging.Formatter):
    """One JSON object for each line. The fields of an event are beside its message."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


def configure(level: str, log_format: Literal["text", "json"]) -> None:
    """Configure the root logger. A later call replaces the configuration."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JSON() if log_format == "json" else _Text())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    # uvicorn warns about each malformed request, so a hostile client could fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def log_to_stderr(level: int, prefix: str) -> None:
    """Write a program's log to standard error, and begin each line with a prefix."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(prefix))
    logging.basicConfig(level=level, handlers=[handler])


def _time(record: logging.LogRecord) -> str:
    moment = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
