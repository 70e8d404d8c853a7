"""Base classes and types for plugins' settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from mom_core.units import format_duration, format_size, parse_duration, parse_size

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


@dataclass(frozen=True, slots=True)
class FileMustExist:
    """Mark of a path: `mom config check` reports a missing file."""


ExistingFile = Annotated[Path, FileMustExist()]
"""Path of an existing file."""


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the docstring below each setting, or `Field(description=…)`."""
    return {name: field.description or "" for name, field in model.model_fields.items()}


class StrictModel(BaseModel):
    """Base of settings, files and requests: frozen and strict. Unknown keys are errors; strings and NaN are not numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, defer_build=True
    )


class PluginSettings(StrictModel):
    """Settings that all plugins share: base of a plugin's inner class `Settings`."""

    deadline: Annotated[Duration, Field(gt=0, le=300)] = 5.0
    """Time limit for each call of this plugin; a cycle continues without a late result."""


class GuestSettings(StrictModel):
    """A plugin's settings for single guests (section `guests`): base of its inner class `GuestSettings`."""
