# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Reading what the other side of a relation says, which may be anything."""

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

_LONGEST_REASON = 300


def read(
    relation: ops.Relation,
    source: ops.Application | ops.Unit,
    kind: type[_Data],
    use: Callable[[_Data], _T],
) -> _T | None:
    """Read one databag; None if it is empty or, with a warning in the log, cannot be used.

    Args:
        relation: which.
        source: whose databag.
        kind: what is expected there.
        use: makes of it what is wanted, or raises ValueError.
    """
    # Juju itself puts a unit's addresses there.
    if not {field.alias for field in kind.model_fields.values()} & set(relation.data[source]):
        return None
    try:
        return use(relation.load(kind, source))
    except pydantic.ValidationError as error:
        reason = options.explain(error)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    warn(relation, source, reason)
    return None


def warn(relation: ops.Relation, source: ops.Application | ops.Unit, reason: str) -> None:
    """Log that something is left out, in one line whatever it holds."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in reason)
    log.warning(
        "%s: what %s says is left out: %s", relation.name, source.name, shown[:_LONGEST_REASON]
    )
