"""Compact JSON for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic_core import PydanticSerializationError, to_json


def json_text(value: object) -> bytes:
    """Encode a value as JSON on one line. NaN and infinity become null."""
    try:
        return to_json(value, inf_nan_mode="null", fallback=_plain)
    except PydanticSerializationError:  # a name with half a surrogate pair, which only an ASCII escape can represent
        return json.dumps(value, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, Sequence) else str(value)
