# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""YAML documents people wrote: options with dashes in their names, and the line of a wrong one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar, cast

import pydantic
import yaml

from maas_virtualbox import errors

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping
    from pathlib import Path

_Options = TypeVar("_Options", bound="Options")

_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than_equal": "at least {ge:g}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "missing": "a value",
    "string_type": "text",
}
"""What people are told of pydantic's errors, by their type."""


class Options(pydantic.BaseModel):
    """Options as people write them: immutable, with dashes in names; unknown ones are errors."""

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda field: field.replace("_", "-"),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


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


def load(
    path: Path, kind: type[_Options], *, what: str, expected: str, secret: bool = False
) -> _Options:
    """Read a file of options; see `read`.

    Raises:
        ConfigError: the file is missing, or as `read`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be read: {error.strerror}") from None
    return read(content, kind, what=what, expected=expected, secret=secret)


def read(
    content: bytes, kind: type[_Options], *, what: str, expected: str, secret: bool = False
) -> _Options:
    """Read the content of a file of options.

    Args:
        content: all of it.
        kind: what it has to be.
        what: how messages begin, such as `secrets-file /etc/…`.
        expected: what such a file has, for one that has something else.
        secret: never to quote its text.

    Raises:
        ConfigError: it is not YAML, or an option is unknown or wrong; the text names the line and
            the option.
    """
    try:
        document = parse(content.decode())
    except UnicodeDecodeError:
        raise errors.ConfigError(f"{what}: cannot be read: it is not UTF-8 text") from None
    except NotYAML as error:
        raise errors.ConfigError(
            f"{what}: not valid YAML" if secret else f"{what}{error}"
        ) from None
    values = document.content
    if not isinstance(values, dict):
        raise errors.ConfigError(f"{what}: expected {expected}")
    try:
        return kind.model_validate(cast("dict[str, object]", values))
    except pydantic.ValidationError as error:
        location = error.errors(include_input=False)[0]["loc"]
        option = str(location[0]).replace("_", "-") if location else ""
        reason = explain(error)
        if option and option not in reason:
            reason = f"{option}: {reason}"
        raise errors.ConfigError(f"{what}{document.where(option)}: {reason}") from None


def check(kind: type[_Options], values: Mapping[str, object]) -> _Options:
    """Check options that are no file's.

    Raises:
        ValueError: one is unknown or wrong; the text is one sentence that names it.
    """
    try:
        return kind.model_validate(dict(values))
    except pydantic.ValidationError as error:
        raise ValueError(" ".join(explain(error).split())) from None


def explain(error: pydantic.ValidationError) -> str:
    """Return pydantic's first complaint as a sentence that begins with the option's name.

    Where pydantic itself complains of a value, the sentence is `OPTION: expected …`. It never
    quotes the value, which may be secret.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    option = ".".join(str(part).replace("_", "-") for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"unknown option {option!r}"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(first["type"])
    if expected is None:
        return f"{option}: {first['msg']}"
    text = expected.format(**first.get("ctx", {})).replace("'", "")
    return f"{option}: expected {text}"


def matching(what: str, pattern: re.Pattern[str], expected: str) -> pydantic.AfterValidator:
    """Return what lets a text pass that is empty or matches a pattern whole.

    Args:
        what: the text's name in the message, such as `user`.
        pattern: what it has to match.
        expected: the same in words.
    """

    def check(text: str) -> str:
        if text and not pattern.fullmatch(text):
            raise ValueError(f"the {what} {text!r} is not allowed: {expected}")
        return text

    return pydantic.AfterValidator(check)
