# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Reading the databags of the other side of a relation, which may contain anything."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar

import pydantic

from maas_virtualbox.config import options

if TYPE_CHECKING:
    from collections.abc import Callable

    import ops

log = logging.getLogger(__name__)

_Data = TypeVar("_Data", bound=pydantic.BaseModel)
_T = TypeVar("_T")

_MAX_REASON_LENGTH = 300


def read(
    relation: ops.Relation,
    source: ops.Application | ops.Unit,
    model: type[_Data],
    convert: Callable[[_Data], _T],
) -> _T | None:
    """Read one databag. Return None if it is empty or invalid; if invalid, log a warning.

    Args:
        relation: The relation.
        source: The application or unit whose databag is read.
        model: The model of the databag.
        convert: Converts the data, or raises ValueError if they are invalid.
    """
    # Juju itself puts a unit's addresses into its databag.
    if not {field.alias for field in model.model_fields.values()} & set(relation.data[source]):
        return None
    try:
        return convert(relation.load(model, source))
    except pydantic.ValidationError as error:
        reason = options.explain(error)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    warn(relation, source, reason)
    return None


def warn(relation: ops.Relation, source: ops.Application | ops.Unit, reason: str) -> None:
    """Log that some data are ignored, in one line without control characters."""
    shown = "".join(char if char.isprintable() else "?" for char in reason)
    log.warning(
        "%s: invalid data of %s are ignored: %s",
        relation.name,
        source.name,
        shown[:_MAX_REASON_LENGTH],
    )
