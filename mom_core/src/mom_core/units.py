"""Units of fields and controls; parsing and formatting of durations and sizes."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mom_core.errors import UnitError

if TYPE_CHECKING:
    from pydantic_core.core_schema import CoreSchema


class Unit(StrEnum):
    """Unit of a field or control, as written after a number."""

    KIB = "KiB"
    BYTES = "B"
    PAGES = "pages"
    COUNT = "count"
    PERCENT = "%"
    RATIO = "ratio"
    FLAG = "flag"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    KIB_PER_SECOND = "KiB/s"
    PAGES_PER_SECOND = "pages/s"
    PER_SECOND = "1/s"
    BYTES_PER_SECOND = "B/s"
    TEXT = "text"
    LIST = "list"

    @property
    def is_number(self) -> bool:
        """True except for `text` and `list`."""
        return self not in _NO_NUMBERS

    @property
    def is_whole(self) -> bool:
        """True if controls of this unit accept only integers. mom cuts off fractions."""
        return self not in _NOT_WHOLE


_NO_NUMBERS = frozenset({Unit.TEXT, Unit.LIST})
_NOT_WHOLE = _NO_NUMBERS | {Unit.RATIO, Unit.PERCENT, Unit.SECONDS}

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_BYTES = {
    "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "PiB": 1 << 50,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*|%)")


def _quantity(text: object, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(str(text).strip())
    if match is None:
        raise UnitError(f"{text!r:.40} is not a number with a unit", hint=f"write it like {example}")
    number, unit = match.groups()
    if unit not in units and (unit or float(number) != 0):
        wrong = f"has an unknown unit {unit!r}" if unit else "has no unit"
        raise UnitError(f"{text!r:.40} {wrong}", hint=f"write it like {example}; units are {', '.join(units)}")
    return float(number) * units.get(unit, 0)


def parse_duration(text: object) -> float:
    """Convert `5s`, `500ms`, `10m`, `2h` or `7d` to seconds. Raise `UnitError` for an invalid text; only 0 needs no unit."""
    return _quantity(text, _SECONDS, "5s")


def parse_size(text: object) -> int:
    """Convert `64MiB`, `1.5GiB` or `2GB` to bytes. Raise `UnitError` for an invalid text; only 0 needs no unit."""
    return round(_quantity(text, _BYTES, "64MiB"))


_PORTION_EXAMPLE = "6GiB, or 75% for a share"


@dataclass(frozen=True, slots=True)
class Portion:
    """Size in bytes, or share (0 to 1) of a size that is not known yet. As a setting: `6GiB` or `75%`."""

    size: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: object) -> Portion:
        """Parse `6GiB` or `75%`. Raise `UnitError` for an invalid text or more than 100%; only 0 needs no unit."""
        if isinstance(text, cls):
            return text
        if not isinstance(text, str) or not text.strip().endswith("%"):
            return cls(size=round(_quantity(text, _BYTES, _PORTION_EXAMPLE)))
        percent = _quantity(text, {"%": 1.0}, _PORTION_EXAMPLE)
        if percent > 100:
            raise UnitError(f"{text!r:.40} is more than 100%", hint="100% is the maximum")
        return cls(share=percent / 100)

    def kib_of(self, whole_kib: float | None) -> float | None:
        """Return the portion in KiB; None for a share if `whole_kib` is unknown."""
        if self.size is not None:
            return self.size / 1024
        return None if whole_kib is None or self.share is None else self.share * whole_kib

    def __str__(self) -> str:
        return format_size(self.size or 0) if self.share is None else f"{self.share * 100:.10g}%"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        from pydantic_core import core_schema

        written = core_schema.to_string_ser_schema(when_used="json")
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=written)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: object, handler: object) -> dict[str, object]:
        return {"type": "string", "pattern": r"^[0-9.]+ *([KMGTP]i?B|kB|B|%)$", "examples": ["6GiB", "75%"]}


def format_duration(seconds: float) -> str:
    """Format seconds in the largest unit without a fraction: `90s`, `500ms`, `2h`."""
    if not math.isfinite(seconds):
        return str(seconds)
    for unit, factor in (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3)):
        count = seconds / factor
        if count >= 1 and abs(count - round(count)) < 1e-9:
            return f"{round(count)}{unit}"
    return f"{seconds:g}s"


def format_size(size: int) -> str:
    """Format bytes in the largest unit without a fraction: `64MiB`, `1536KiB`."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return f"{size}B"


def format_kib(kib: float) -> str:
    """Format KiB for people: `512 KiB`, `1,023 MiB`, `3.50 GiB`."""
    for unit, factor in (("TiB", 1 << 30), ("GiB", 1 << 20), ("MiB", 1 << 10)):
        if abs(kib) >= factor * (10 if unit == "MiB" else 1):
            count = kib / factor
            return f"{count:,.0f} {unit}" if unit == "MiB" else f"{count:,.2f} {unit}"
    return f"{kib:,.0f} KiB"


def lasting(seconds: float) -> str:
    """Format a time span for people, in at most two units."""
    if seconds < 1:
        return "less than 1 s"
    remaining = round(seconds)
    parts = []
    for unit, factor in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, remaining = divmod(remaining, factor)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
