"""Compact JSON for other programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic_core import PydanticSerializationError, to_json


def json_text(value: object) -> bytes:
    """Encode a value as JSON. Use ASCII escapes, which can represent half a surrogate pair. NaN and infinity become null."""
    try:
        made = to_json(value, inf_nan_mode="null", fallback=_plain)
    except PydanticSerializationError:  # a name with half a surrogate pair
        return _ENCODER.encode(_finite(value)).encode("ascii")
    return made if made.isascii() else _NOT_ASCII.sub(_escaped, made.decode("utf-8")).encode("ascii")


_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]+")


def _escaped(match: re.Match[str]) -> str:
    return _ENCODER.encode(match[0])[1:-1]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value
