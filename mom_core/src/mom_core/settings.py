"""The base of every plugin's settings, and the types with which they are written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

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


class StrictModel(BaseModel):
    """Settings, or content of a file or a request: frozen, and strict: an unknown key is an error, a text or NaN is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


class PluginSettings(StrictModel):
    """The settings of every plugin in YAML; a plugin's inner class `Settings` derives from this."""

    deadline: Annotated[Duration, Field(gt=0, le=300)] = 5.0
    """How long one call of this plugin may take before the cycle goes on without it."""


class GuestSettings(StrictModel):
    """The settings of a plugin for single guests in the YAML section `guests`; its inner class `GuestSettings` derives from this."""
