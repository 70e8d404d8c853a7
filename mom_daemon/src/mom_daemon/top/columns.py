"""Columns of a list: their choice, widths and values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from mom_core import Unit, printable

if TYPE_CHECKING:
    from mom_daemon.report_models import GuestColumnModel

UNKNOWN: Final = "-"

_WIDTHS: Final[dict[str, int]] = {Unit.KIB: 5, Unit.KIB_PER_SECOND: 5, Unit.SECONDS: 4, Unit.PERCENT: 4, Unit.COUNT: 4}
_OTHER_WIDTH: Final = 8

_NAME_LEAST: Final = 12

_BARS: Final = "▁▂▃▄▅▆▇█"

_FLAT: Final = 0.01


def short(kib: float | None) -> str:
    """Format a size in five characters, such as 512M, 15.9G, 1.25T."""
    if kib is None:
        return UNKNOWN
    if abs(kib) < 0.5:
        return "0"
    value = float(kib)
    for unit in "KMGTP":
        if abs(value) < 999.5:
            digits = 0 if abs(value) >= 99.95 or unit in "KM" else 1 if abs(value) >= 9.995 else 2
            return f"{value:.{digits}f}{unit}"
        value /= 1024
    return f"{value:.0f}E"


def age(seconds: float) -> str:
    """Format a duration in four characters, such as 12s, 90m, 3h, 12d."""
    for unit, length, most in (("s", 1, 100), ("m", 60, 100), ("h", 3600, 72)):
        if seconds / length < most:
            return f"{seconds / length:.0f}{unit}"
    return f"{min(seconds / 86400, 999):.0f}d"


def percent(value: float) -> str:
    """Format a percentage in four characters, without a percent sign."""
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def text_of(value: Any, unit: str) -> str:
    """Format a value in few characters."""
    if value is None:
        return UNKNOWN
    write = _WRITTEN.get(unit)
    return printable(str(value), 40) if write is None or isinstance(value, str) else write(value)


_WRITTEN: Final[dict[str, Callable[[float], str]]] = {Unit.KIB: short, Unit.KIB_PER_SECOND: short, Unit.SECONDS: age, Unit.PERCENT: percent}


def fitting(
    columns: Sequence[GuestColumnModel], screen: int, longest: int, note_least: int
) -> tuple[int, list[tuple[GuestColumnModel, int]], int]:
    """Return the width of names, the fitting columns with their widths, and the width of notes."""
    shown = [(column, max(len(column["name"]), _WIDTHS.get(column["unit"], _OTHER_WIDTH))) for column in columns]
    while shown and _left(shown, screen) < _NAME_LEAST + note_least and (rank := max(column["rank"] for column, _ in shown)):
        del shown[max(n for n, (column, _) in enumerate(shown) if column["rank"] == rank)]
    left = _left(shown, screen)
    name = max(_NAME_LEAST, min(longest, left * 6 // 10, left - note_least))
    return name, shown, max(0, left - name)


def _left(shown: Sequence[tuple[GuestColumnModel, int]], screen: int) -> int:
    return screen - 2 - sum(width + 1 for _, width in shown)


def sparkline(values: Sequence[float | None], *, others: Sequence[float | None] = ()) -> str:
    """Draw a bar for each value. The scale runs from the least to the largest of `values` and `others`."""
    numbers = [value for value in (*values, *others) if value is not None]
    if not numbers:
        return ""
    least, span = min(numbers), max(numbers) - min(numbers)
    span = span if span > _FLAT * max(map(abs, numbers)) else 0
    return "".join(" " if value is None else _BARS[round((value - least) / span * 7) if span else 0] for value in values)
