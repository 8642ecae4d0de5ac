# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The base class of all options that people write, and the YAML files that hold them.

Errors name the option as people write it (`off-timeout`) and, for a file, its line. What an option
means belongs to the model that declares it: host lists, the configuration file, tokens, VM specs
and the options of the charms. No network is used here.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast

import pydantic
import yaml

from maas_virtualbox import errors

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping
    from pathlib import Path

_Model = TypeVar("_Model", bound="Options")

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
"""What a value must be, for pydantic's error types."""


class Options(pydantic.BaseModel):
    """Base class of models whose options people write.

    Immutable. Option names have dashes, and an unknown option is an error.
    """

    model_config = pydantic.ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda field: field.replace("_", "-"),
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    renamed_options: ClassVar[Mapping[str, str]] = {}
    """The present names of options by their earlier names, for error messages."""


class NotYAML(ValueError):
    """A text is not a YAML document.

    The message begins with the line, `, line 3: not valid YAML: …`, so that it can follow the
    name of the file.
    """


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML document."""

    content: object
    """Plain values: dict, list, str, int, …"""

    tree: yaml.Node | None
    """The syntax tree, which knows the line of each value."""

    def line_of(self, option: str) -> str:
        """Return `, line 3` for a top-level option; empty if the document does not have it."""
        if isinstance(self.tree, yaml.MappingNode):
            pairs = cast("list[tuple[yaml.Node, yaml.Node]]", self.tree.value)
            for key, _ in pairs:
                if key.value == option:
                    return f", line {key.start_mark.line + 1}"
        return ""


def parse_yaml(text: str) -> Document:
    """Parse one YAML document.

    Raises:
        NotYAML: it is not valid YAML, or has an impossible value such as a 13th month.
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
        # PyYAML's constructors raise these for !!bool x, !!timestamp x and 2001-13-45.
        raise NotYAML(f": not valid YAML: {error}") from None


def load(
    path: Path, model: type[_Model], *, what: str, expected: str, secret: bool = False
) -> _Model:
    """Read a file of options. The arguments are those of `parse`.

    Raises:
        ConfigError: the file cannot be read, or its content is wrong; see `parse`.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise errors.ConfigError(f"{what}: cannot be read: {error.strerror}") from None
    return parse(content, model, what=what, expected=expected, secret=secret)


def parse(
    content: bytes, model: type[_Model], *, what: str, expected: str, secret: bool = False
) -> _Model:
    """Parse and validate the content of a file of options.

    Args:
        content: the whole content of the file.
        model: the options that it may have.
        what: the beginning of error messages, such as `secrets-file /etc/…`.
        expected: what such a file contains, for a file that is not a mapping of options.
        secret: whether error messages must not quote the content.

    Raises:
        ConfigError: it is not YAML, or an option is unknown or has a wrong value. The message
            names the line and the option.
    """
    try:
        document = parse_yaml(content.decode())
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
        return model.model_validate(cast("dict[str, object]", values))
    except pydantic.ValidationError as error:
        option, reason = _explain_option(error, model)
        raise errors.ConfigError(f"{what}{document.line_of(option)}: {reason}") from None


def validate(model: type[_Model], values: Mapping[str, object]) -> _Model:
    """Validate options that do not come from a file.

    Raises:
        ValueError: an option is unknown or has a wrong value. The message is one sentence that
            names the option.
    """
    try:
        return model.model_validate(dict(values))
    except pydantic.ValidationError as error:
        raise ValueError(" ".join(explain(error, model).split())) from None


def explain(error: pydantic.ValidationError, model: type[Options] = Options) -> str:
    """Return the first error of a validation as a sentence that begins with the option's name.

    For errors that pydantic itself detects, the sentence is `OPTION: expected …`. It never quotes
    the value, which may be secret.

    Args:
        error: pydantic's.
        model: the model that was validated; an unknown option is looked up in its
            `renamed_options`.
    """
    first = error.errors(include_url=False, include_input=False)[0]
    option = ".".join(str(part).replace("_", "-") for part in first["loc"])
    if first["type"] == "extra_forbidden":
        new_name = model.renamed_options.get(option)
        hint = f"; it was renamed to {new_name!r}" if new_name else ""
        return f"unknown option {option!r}{hint}"
    if first["type"] == "value_error":
        return first["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(first["type"])
    if expected is None:
        return f"{option}: {first['msg']}"
    text = expected.format(**first.get("ctx", {})).replace("'", "")
    return f"{option}: expected {text}"


def _explain_option(error: pydantic.ValidationError, model: type[Options]) -> tuple[str, str]:
    """Return the top-level option that is wrong, if it is known, and why."""
    location = error.errors(include_input=False)[0]["loc"]
    option = str(location[0]).replace("_", "-") if location else ""
    reason = explain(error, model)
    return option, reason if option in reason else f"{option}: {reason}"


def matching(what: str, pattern: re.Pattern[str], expected: str) -> pydantic.AfterValidator:
    """Return a validator for texts that are empty or match a pattern completely.

    Args:
        what: what the text is, for the error message, such as `user`.
        pattern: the pattern.
        expected: a description of the pattern, for the error message.
    """

    def check(text: str) -> str:
        if text and not pattern.fullmatch(text):
            raise ValueError(f"the {what} {text!r} is not allowed: {expected}")
        return text

    return pydantic.AfterValidator(check)
