# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""JSON over HTTP: ASCII only, because people read it on terminals, too."""

from __future__ import annotations

import json

from starlette import responses


class JSONResponse(responses.JSONResponse):
    """A JSON document, in which whatever is not ASCII is escaped; it means the same."""

    def render(self, content: object) -> bytes:
        """Return the body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")
