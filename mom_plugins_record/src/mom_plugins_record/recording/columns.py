"""Columns of values as bytes: one field of all guests together, as the difference from how it stood before.

Values of one field are alike, and mostly as they were: what is left after subtracting is small numbers, whose bytes lie in planes (all
lowest bytes, then all second bytes …) so that the planes of zeros and of noise are apart, which is what zlib is good at.
Everything comes back exactly: a float has the same bits, a bool stays a bool, and what was absent is absent and not None. The exception
is half of a surrogate pair, which is no character, and which no file or terminal takes: it comes back as its number, such as `\\ud800`.
"""

from __future__ import annotations

import json
import re
import sys
from array import array
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, TypeAlias

from mom_core import MomError, Value


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT = Absent.ABSENT
"""In the place of a value: the guest has no such field. None is a value: collected, and unknown."""

Cell: TypeAlias = "Value | Absent"

ALL_ABSENT, CONSTANT, WHOLE, DECIMAL, BITS, JSON = range(6)
"""How a column is written, in its first byte."""

PARTLY = 0x80
"""Added to the first byte when some are None or absent: then a byte for each value says which."""

PRESENT, NONE, MISSING = range(3)

SCALES = (1, 100, 1000)
"""What floats are multiplied by to become whole: rates that are whole, percents as the kernel gives them, seconds to the millisecond."""

EXACT = 1 << 53
"""Below this a float holds every whole number."""

_WIDEST = 8  # bytes of a number

MOST_CELLS = 8 << 20
"""Values that one cycle may have: 100,000 guests with 80 fields each. A few bytes can say that there are any number."""

DEEPEST = 100
"""Lists and mappings within each other that a value may have: more than any field, and few enough for all that go through values."""

_MAY_BE_SURROGATE = re.compile(rb"\xed[\xa0-\xbf]|\\u[dD][89a-fA-F]")
_FIRST_OF_SURROGATE = (b"\xed", b"\\u")
"""Most texts have neither, which is seen in a hundredth of the time."""


class Corrupt(MomError):
    """Bytes that no writer of ours has written."""


def json_bytes(value: object) -> bytes:
    """As short as JSON can be; mappings of any kind are objects."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=_plain).encode("utf-8", "surrogatepass")


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"a recording cannot hold a {type(value).__name__}")


class ColumnWriter:
    """Joins numbers, blobs and columns to bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def joined(self) -> bytes:
        """All of it."""
        return b"".join(self._parts)

    def number(self, value: int) -> None:
        """A number from 0, in as many bytes as it needs."""
        digits = bytearray()
        while value > 0x7F:
            digits.append(value & 0x7F | 0x80)
            value >>= 7
        digits.append(value)
        self._parts.append(bytes(digits))

    def signed(self, value: int) -> None:
        """Any number."""
        self.number(value << 1 if value >= 0 else (-value << 1) - 1)

    def blob(self, content: bytes) -> None:
        """Bytes, with their length before them."""
        self.number(len(content))
        self._parts.append(content)

    def json(self, value: object) -> None:
        """Anything that JSON can hold."""
        self.blob(json_bytes(value))

    def column(self, values: Sequence[Cell], base: Sequence[Cell] | None = None) -> None:
        """The values of one field, as what they differ from `base`, which has as many (None: nothing to differ from)."""
        first = values[0] if values else ABSENT
        kinds = set(map(type, values))
        if len(kinds) == 1 and (not values or values.count(first) == len(values)) and _is_plain(first):
            if first is ABSENT:
                self._parts.append(bytes([ALL_ABSENT]))
            else:
                self._parts.append(bytes([CONSTANT]))
                self.json(first)
            return
        partly = 0
        present = values
        before = base
        if Absent in kinds or type(None) in kinds:
            partly = PARTLY
            plane = bytes([PRESENT if v is not None and v is not ABSENT else NONE if v is None else MISSING for v in values])
            present = [v for v in values if v is not None and v is not ABSENT]
            if base is not None:
                before = [b for v, b in zip(values, base, strict=True) if v is not None and v is not ABSENT]
            kinds -= {Absent, type(None)}
        how, body = _encoded(present, before, kinds)
        self._parts.append(bytes([how | partly]))
        if partly:
            self.blob(plane)
        self.blob(body)


def _is_plain(value: Cell) -> bool:
    # 0.0 equals -0.0, and is another number. What is no number equals nothing, so all of a column never are the same.
    return value is None or value is ABSENT or isinstance(value, int | str) or (isinstance(value, float) and value != 0)


def _encoded(values: Sequence[Cell], base: Sequence[Cell] | None, kinds: set[type]) -> tuple[int, bytes]:
    if kinds == {int}:
        body = _whole(values, base)  # type: ignore[arg-type]  # the kinds say so
        if body is not None:
            return WHOLE, body
    elif kinds == {float}:
        return _floats(values, base)  # type: ignore[arg-type]  # the kinds say so
    out = ColumnWriter()
    out.json(values)
    return JSON, out.joined()


def _whole(values: Sequence[int], base: Sequence[Cell] | None) -> bytes | None:
    """The numbers less their base and less the smallest of those, in planes; None when they are too far apart."""
    if base is not None:
        values = [v - b if b.__class__ is int else v for v, b in zip(values, base, strict=True)]
    low = min(values)
    if abs(low) >> 64:
        return None
    out = ColumnWriter()
    out.signed(low)
    try:
        numbers = array("Q", [v - low for v in values])
    except OverflowError:
        return None
    out.blob(_planes(numbers))
    return out.joined()


def _planes(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    raw = numbers.tobytes()
    planes = [raw[i::8] for i in range(_WIDEST)]
    while planes and not any(planes[-1]):
        planes.pop()
    return b"".join(planes)


def _from_planes(content: bytes, count: int) -> array[int]:
    width, rest = divmod(len(content), count)
    if rest or width > _WIDEST:
        raise Corrupt("a column is not as long as it must be")
    raw = bytearray(count * 8)
    for i in range(width):
        raw[i::8] = content[i * count : (i + 1) * count]
    numbers = array("Q", bytes(raw))
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _floats(values: Sequence[float], base: Sequence[Cell] | None) -> tuple[int, bytes]:
    for scale in SCALES:
        limit = EXACT / scale
        scaled = [round(v * scale) if -limit < v < limit else 0 for v in values]  # larger, infinite and no numbers stand apart
        odd = [i for i, (s, v) in enumerate(zip(scaled, values, strict=True)) if s / scale != v or not (s or str(v) == "0.0")]
        if len(odd) * 4 > len(values):
            continue
        for i in odd:
            scaled[i] = 0
        before = None if base is None else _scaled(base, scale)
        body = _whole(scaled, before)
        if body is not None:
            out = ColumnWriter()
            out.number(scale)
            out.blob(body)
            out.number(len(odd))
            for i in odd:
                out.number(i)
            out._parts.append(array("d", [values[i] for i in odd]).tobytes() if sys.byteorder == "little" else _swapped(values, odd))
            return DECIMAL, out.joined()
    bits = array("Q", array("d", values).tobytes())
    return BITS, _planes(bits)


def _swapped(values: Sequence[float], chosen: Sequence[int]) -> bytes:
    numbers = array("d", [values[i] for i in chosen])
    numbers.byteswap()
    return numbers.tobytes()


def _scaled(base: Sequence[Cell], scale: int) -> list[Cell]:
    """What both writer and reader subtract: 0 for what was no float, or not a finite one."""
    limit = EXACT / scale
    return [round(b * scale) if b.__class__ is float and -limit < b < limit else 0 for b in base]


class Allowance:
    """How many values may still be made of some bytes: a few of them can say that there are any number.

    :param cells: of columns and of JSON together, `MOST_CELLS` at most
    """

    def __init__(self, cells: int = MOST_CELLS) -> None:
        self._left = self._stated = min(cells, MOST_CELLS)

    def more(self, cells: int) -> None:
        """So many more may be made."""
        added = min(cells, MOST_CELLS - self._stated)
        self._left += added
        self._stated += added

    def take(self, cells: int) -> None:
        """So many are made. Raises `Corrupt` when these are too many."""
        self._left -= cells
        if self._left < 0:
            raise Corrupt(f"there are more than {self._stated} values")


def checked_json(content: bytes, allowance: Allowance) -> Value:
    """What such bytes say in JSON. Raises `Corrupt` when it is none, is nested too deep, or has more values than are allowed."""
    allowance.take(content.count(b",") + content.count(b"[") + content.count(b"{"))
    try:
        value: Value = json.loads(content.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"it is no JSON: {error}") from error
    level: list[Any] = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for item in level
            if (kind := item.__class__) is list or kind is dict
            for inner in (item.values() if kind is dict else item)
        ]
        if not level:
            break
    else:
        raise Corrupt(f"it has more than {DEEPEST} lists within each other")
    if any(first in content for first in _FIRST_OF_SURROGATE) and _MAY_BE_SURROGATE.search(content):
        return _characters(value)
    return value


def _characters(value: Value) -> Value:
    """The same without halves of surrogate pairs."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, dict):
        return {_text(name): _characters(inner) for name, inner in value.items()}
    return [_characters(inner) for inner in value] if isinstance(value, list) else value


def _text(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


class ColumnReader:
    """Takes apart what `ColumnWriter` joined. Raises `Corrupt` for anything else, and makes no more values than are allowed."""

    def __init__(self, content: bytes, allowance: Allowance | None = None) -> None:
        self._content = content
        self._at = 0
        self._allowance = Allowance() if allowance is None else allowance

    @property
    def ended(self) -> bool:
        """Whether all of it was taken apart."""
        return self._at >= len(self._content)

    def number(self) -> int:
        """A number from 0."""
        value = shift = 0
        while True:
            if self._at >= len(self._content) or shift > 70:
                raise Corrupt("a number has no end")
            digit = self._content[self._at]
            self._at += 1
            value |= (digit & 0x7F) << shift
            if digit < 0x80:
                return value
            shift += 7

    def signed(self) -> int:
        """Any number."""
        value = self.number()
        return value >> 1 if not value & 1 else -((value + 1) >> 1)

    def blob(self) -> bytes:
        """Bytes."""
        return self._take(self.number())

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._content):
            raise Corrupt("it is cut off")
        content = self._content[self._at : end]
        self._at = end
        return content

    def json(self) -> Value:
        """A value."""
        return checked_json(self.blob(), self._allowance)

    def column(self, count: int, base: Sequence[Cell] | None = None) -> list[Cell]:
        """`count` values, written with the same `base`."""
        self._allowance.take(count)
        first = self._take(1)[0]
        how = first & ~PARTLY
        if how == ALL_ABSENT:
            return [ABSENT] * count
        if how == CONSTANT:
            return [self.json()] * count
        plane = self.blob() if first & PARTLY else b""
        if plane and len(plane) != count:
            raise Corrupt("a column has another length than its table")
        before = base
        number = count
        if plane:
            number = plane.count(PRESENT)
            if base is not None:
                before = [b for mark, b in zip(plane, base, strict=True) if mark == PRESENT]
        present = _decoded(how, ColumnReader(self.blob(), self._allowance), number, before)
        if not plane:
            return present
        values = iter(present)
        return [next(values) if mark == PRESENT else None if mark == NONE else ABSENT for mark in plane]


def _decoded(how: int, source: ColumnReader, count: int, base: Sequence[Cell] | None) -> list[Cell]:
    if how == WHOLE:
        return list(_whole_back(source, count, base))
    if how == DECIMAL:
        scale = source.number()
        if scale not in SCALES:
            raise Corrupt("a column has an unknown scale")
        before = None if base is None else _scaled(base, scale)
        values = [v / scale for v in _whole_back(ColumnReader(source.blob()), count, before)]
        odd = [source.number() for _ in range(min(source.number(), count))]
        numbers = array("d", source._take(8 * len(odd)))
        if sys.byteorder == "big":
            numbers.byteswap()
        for i, v in zip(odd, numbers, strict=True):
            if i >= count:
                raise Corrupt("a column names a value that it does not have")
            values[i] = v
        return list(values)
    if how == BITS:
        return list(array("d", _from_planes(source._content, count).tobytes())) if count else []
    if how == JSON:
        found = source.json()
        if not isinstance(found, list) or len(found) != count:
            raise Corrupt("a column has another length than its table")
        return found
    raise Corrupt(f"a column is written in an unknown way ({how})")


def _whole_back(source: ColumnReader, count: int, base: Sequence[Cell] | None) -> list[int]:
    low = source.signed()
    if not count:
        return []
    numbers = _from_planes(source.blob(), count)
    if base is None:
        return [v + low for v in numbers]
    return [v + low + b if b.__class__ is int else v + low for v, b in zip(numbers, base, strict=True)]
