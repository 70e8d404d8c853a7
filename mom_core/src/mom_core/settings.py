"""The base of every plugin's settings, and the types with which they are written."""

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
"""Seconds, written with a unit: `5s`, `500ms`, `10m`. A default is plain seconds."""

Size = Annotated[
    int,
    BeforeValidator(parse_size),
    PlainSerializer(format_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *([KMGTP]i?B|kB|B)$", "examples": ["64MiB"]}),
]
"""Bytes, written with a unit: `64MiB`, `2GiB`. A default is plain bytes."""

SizeOrShare = Annotated[
    Portion,
    PlainValidator(Portion.parse),
    PlainSerializer(str, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9.]+ *([KMGTP]i?B|kB|B|%)$", "examples": ["6GiB", "75%"]}),
]
"""A size, or a share of something, such as of a guest's memory: `6GiB`, `75%`."""


@dataclass(frozen=True, slots=True)
class FileMustExist:
    """Marks a setting whose file a plugin cannot do without: `mom config check` refuses a configuration that names one that is missing."""


ExistingFile = Annotated[Path, FileMustExist()]
"""The path of a file that has to be there."""


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What each setting is, by its name: the text below it in the source of its class, or its `Field(description=…)`. Empty: not said.

    Read when somebody asks. With pydantic's `use_attribute_docstrings`, each command would read the sources of all plugins' settings.
    """
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        if issubclass(kind, BaseModel) and kind is not BaseModel:
            found |= _docstrings(kind)
    return {name: field.description or found.get(name, "") for name, field in model.model_fields.items()}


def _docstrings(kind: type) -> dict[str, str]:
    """The texts below the attributes in the source of a class; none, where there is no source."""
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
    """Have a model's JSON Schema say what each setting is."""
    for name, text in descriptions(model).items():
        if text:
            schema["properties"][model.model_fields[name].alias or name].setdefault("description", text)


class StrictModel(BaseModel):
    """Settings, or content of a file or a request: frozen, and strict: an unknown key is an error, a text or NaN is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, json_schema_extra=_describe, defer_build=True)


class PluginSettings(StrictModel):
    """The settings of every plugin in YAML; a plugin's inner class `Settings` derives from this."""

    deadline: Annotated[Duration, Field(gt=0, le=300)] = 5.0
    """How long one call of this plugin may take before the cycle goes on without it."""


class GuestSettings(StrictModel):
    """The settings of a plugin for single guests in the YAML section `guests`; its inner class `GuestSettings` derives from this."""
