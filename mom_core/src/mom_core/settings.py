"""Base classes and types for plugins' settings."""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator, WithJsonSchema

from mom_core.units import Portion, format_duration, format_size, parse_duration, parse_size

Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *(us|ms|s|m|min|h|d|w)$", "examples": ["5s"]}),
]
"""Seconds, written in YAML with a unit: `5s`, `500ms`, `10m`. Defaults in code are plain seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *([KMGTP]i?B|kB|B)$", "examples": ["64MiB"]}),
]
"""Bytes, written in YAML with a unit: `64MiB`, `2GiB`. Defaults in code are plain bytes."""

SizeOrShare = Annotated[
    Portion,
    PlainValidator(Portion.parse),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *([KMGTP]i?B|kB|B|%)$", "examples": ["6GiB", "75%"]}),
]
"""Size or share, for example of a guest's memory: `6GiB`, `75%`."""


@dataclass(frozen=True, slots=True)
class FileMustExist:
    """Mark of a path: `mom config check` reports a missing file."""


ExistingFile = Annotated[Path, FileMustExist()]
"""Path of an existing file."""


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each setting, or `Field(description=…)`."""
    # pydantic's `use_attribute_docstrings` would read all sources.
    texts: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            texts |= _docstrings(kind)
    return {name: field.description or texts.get(name, "") for name, field in model.model_fields.items()}


def _docstrings(kind: type) -> dict[str, str]:
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return {}
    texts: dict[str, str] = {}
    for above, below in pairwise(getattr(tree, "body", ())):
        match above, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = inspect.cleandoc(text)
    return texts


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    for name, text in descriptions(model).items():
        if text:
            schema["properties"][model.model_fields[name].alias or name].setdefault("description", text)


class StrictModel(BaseModel):
    """Base of settings, files and requests: frozen and strict. Unknown keys are errors; strings and NaN are not numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=_describe, defer_build=True)


class PluginSettings(StrictModel):
    """Settings that all plugins share: base of a plugin's inner class `Settings`."""

    deadline: Annotated[Duration, Field(gt=0, le=300)] = 5.0
    """Time limit for each call of this plugin; a cycle continues without a late result."""


class GuestSettings(StrictModel):
    """A plugin's settings for single guests (section `guests`): base of its inner class `GuestSettings`."""
