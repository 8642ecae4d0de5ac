# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The files this project writes on other people's machines, as jinja2 templates."""

from __future__ import annotations

import functools
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_PACKAGED = Path(__file__).with_name("templates")
_IN_THE_TREE = Path(__file__).parents[2] / "templates"


def render(name: str, **values: object) -> str:
    """Render a template.

    Args:
        name: its path below `templates/`, without `.j2`.
        values: what it is given; one that it misses is an error.
    """
    return _environment().get_template(f"{name}.j2").render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415 - an extra; and slow to load for who renders nothing

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([_PACKAGED, _IN_THE_TREE]),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - shell and unit files; what varies is quoted by `quoted`
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quoted"] = shlex.quote
    environment.filters["python"] = repr
    return environment
