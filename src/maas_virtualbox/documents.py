# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""YAML documents people wrote: their content, and the line on which an option stands."""

from __future__ import annotations

import dataclasses
from typing import cast

import yaml


class NotYAML(ValueError):
    """A text is no YAML document; reads `, line 3: not valid YAML: …`, to follow its name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A parsed document."""

    content: object
    """Plain values: dict, list, str, int, …"""

    tree: yaml.Node | None
    """The same with the places it was read from."""

    def where(self, option: str) -> str:
        """Return `, line 3` for an option of the topmost mapping; empty if it is not there."""
        if isinstance(self.tree, yaml.MappingNode):
            pairs = cast("list[tuple[yaml.Node, yaml.Node]]", self.tree.value)
            for key, _ in pairs:
                if key.value == option:
                    return f", line {key.start_mark.line + 1}"
        return ""


def parse(text: str) -> Document:
    """Read one YAML document.

    Raises:
        NotYAML: it cannot be read, or holds values that are none (a 13th month).
    """
    try:
        return Document(yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise NotYAML(f"{line}: not valid YAML: {problem}") from None
    except RecursionError:
        raise NotYAML(": not valid YAML: it is nested too deeply") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # PyYAML's constructors let these through for !!bool x, !!timestamp x, 2001-13-45.
        raise NotYAML(f": not valid YAML: {error}") from None
