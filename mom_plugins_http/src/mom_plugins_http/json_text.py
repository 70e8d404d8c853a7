"""JSON as the API writes it: compact, ASCII, and without the NaN and infinity that JSON has not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final


def encoded(value: object) -> bytes:
    """As JSON. Numbers that JSON cannot write are unknown: null."""
    try:
        return _ENCODER.encode(value).encode("ascii")
    except ValueError:
        return _ENCODER.encode(_finite(value)).encode("ascii")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False, default=_plain)
"""ASCII only, so that names that are no good Unicode get through. Mappings and sequences that are no dict or list are made one."""


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value
