"""JSON as recordings have it: strict, so that any tool reads it, and read with limits, as a recording may be forged.

What JSON cannot say is said in it: a number that is infinite or none is `{"$float": "inf"}`. Half of a surrogate pair, which is no
character and which no file or terminal takes, comes back as its number, such as `\\ud800`. All else comes back exactly.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mom_core import MomError, Value

MOST_CELLS: Final = 2 << 20
"""Values that one record may have: 30,000 guests with 60 fields each. Two bytes can say that there is one, which then takes 64."""

ANY_RECORD: Final = 256 << 10
CELLS_A_BYTE: Final = 64
"""Values that any record may have, and more for each byte that it is stored in: guests that are all alike come to 30 a byte."""

DEEPEST: Final = 100
"""Lists and mappings within each other that a value may have: more than any field, and few enough for all that go through values."""

_FLOAT: Final = "$float"
_NO_NUMBER: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

_MAY_BE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


_CONTAINERS: Final = frozenset({list, dict})


class Corrupt(MomError):
    """Bytes that no writer of ours has written."""


def json_bytes(value: object) -> bytes:
    """As short as JSON can be; mappings of any kind are objects."""
    try:
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain)
    except ValueError:  # a number that is none
        text = json.dumps(_finite(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # half a surrogate pair becomes JSON's own escape for it


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a recording cannot hold a {type(value).__name__}")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else {_FLOAT: str(value)}
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, Sequence) else value


def checked_json(content: bytes, stored: int) -> Any:
    """What such bytes say in JSON. Raises `Corrupt` when it is none, is nested too deep, or has more values than there can be.

    :param stored: in how many bytes of a file it stands
    """
    most = min(MOST_CELLS, ANY_RECORD + CELLS_A_BYTE * stored)
    if len(content) > most and content.count(b",") + content.count(b"[") + content.count(b"{") > most:  # each of these is a byte
        raise Corrupt("it has more values than a record of its length can have")
    try:
        value: Value = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"it is no JSON: {error}") from error
    level: list[Any] = [[value]]
    for _ in range(DEEPEST + 1):
        within: list[Any] = []
        for item in level:
            held = item.values() if item.__class__ is dict else item
            if not _CONTAINERS.isdisjoint(map(type, held)):  # most hold numbers alone, which are looked at in C
                within.extend(inner for inner in held if inner.__class__ in _CONTAINERS)
        if not within:
            break
        level = within
    else:
        raise Corrupt(f"it has more than {DEEPEST} lists within each other")
    if b"\\u" in content and _MAY_BE_SURROGATE.search(content):
        value = _characters(value)
    return _numbers(value) if b'"$float"' in content else value


def _characters(value: Value) -> Value:
    """The same without halves of surrogate pairs."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _characters(inner) for name, inner in value.items()}
    return [_characters(inner) for inner in value] if isinstance(value, list) else value


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _numbers(value: Value) -> Value:
    """The same with the numbers that JSON cannot say."""
    if isinstance(value, dict):
        only = value.get(_FLOAT)
        if len(value) == 1 and isinstance(only, str) and only in _NO_NUMBER:
            return _NO_NUMBER[only]
        return {name: _numbers(inner) for name, inner in value.items()}
    return [_numbers(inner) for inner in value] if isinstance(value, list) else value
