"""Settings as text: their values as YAML, and their types for people."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import PurePath
from typing import Annotated, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, SecretBytes, SecretStr

from mom_core import Portion, parse_duration, parse_size
from mom_core.config.configuration import written
from mom_kvm import Destination


def default_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return default settings as YAML, keyed by name."""
    return {name: yaml_value(value) for name, value in written(model.model_construct()).items()}


_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})


def yaml_value(value: object) -> str:
    """Format a value as YAML on one line."""
    if isinstance(value, str) and value.lower() not in _WORDS and re.fullmatch(r"[\w/](?:[\w./:@+-]*[\w/])?", value, re.ASCII):
        return value if not re.fullmatch(r"[\d.eExXoO_+-]+|0[xX][\da-fA-F_]+", value) else json.dumps(value)
    return json.dumps(value, ensure_ascii=False)


_KINDS: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "string",
    SecretStr: "secret string",
    SecretBytes: "secret string",
    PurePath: "path",
    BaseModel: "mapping",
    Mapping: "mapping",
    list: "list",
    Destination: "destination",
    Portion: "size or share",
}


def type_name(annotation: object, metadata: Sequence[object] = ()) -> str:
    """Describe a setting's type, such as `duration` or `size or share`."""
    parsers = [mark.func for mark in metadata if isinstance(mark, BeforeValidator)]
    if parse_duration in parsers or parse_size in parsers:
        return "duration" if parse_duration in parsers else "size"
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return type_name(arguments[0], arguments[1:])
    if arguments:
        return _compound_name(get_origin(annotation), arguments)
    return _simple_name(annotation) if isinstance(annotation, type) else str(annotation)


def _compound_name(origin: object, arguments: Sequence[object]) -> str:
    if origin is Literal:
        return " or ".join(str(argument) for argument in arguments)
    kinds = [type_name(argument) for argument in arguments if argument not in (type(None), ...)]
    if origin in (Union, types.UnionType):
        return " or ".join(kinds + ["nothing"] * (type(None) in arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "mapping of " + " to ".join(kinds)
    return "list of " + " and ".join(dict.fromkeys(kinds))


def _simple_name(annotation: type) -> str:
    if issubclass(annotation, Enum):
        return " or ".join(str(member.value) for member in annotation)
    return next((name for kind, name in _KINDS.items() if issubclass(annotation, kind)), annotation.__name__)
