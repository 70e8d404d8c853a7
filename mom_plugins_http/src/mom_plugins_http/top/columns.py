"""The columns of the guests' table: what is in them, how it is written, by which key it is sorted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from mom_plugins_http.top.picture import Row

UNKNOWN: Final = "-"

SWAPS: Final = 1.0
"""KiB/s from which a guest counts as swapping: less is noise of one page."""

PRESSED: Final = 10.0
"""% of time: the share at which oomd's authors begin to look."""

LEARNT_SECONDS: Final = 600.0
"""What a guest got along with longer ago says little of now."""

OLD_SECONDS: Final = 60.0
"""Statistics that are older are not believed by the default policies."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    :param letter: the key that sorts by it, with shift
    :param falling: whether the largest come first at the first press
    :param wide: it is left out on a screen of fewer columns
    :param style: how a value is marked
    """

    key: str
    heading: str
    letter: str
    width: int
    text: Callable[[Row], str]
    value: Callable[[Row], Any]
    falling: bool = True
    style: Callable[[Row], str] = lambda row: ""
    about: str = ""
    wide: int = 0


def short(kib: float | None) -> str:
    """A size in at most five characters, such as 512M, 15.9G, 1.25T."""
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


def age(seconds: float | None) -> str:
    """A time in at most four characters, such as 12s, 90m, 3h, 12d."""
    if seconds is None:
        return UNKNOWN
    for unit, length, most in (("s", 1, 100), ("m", 60, 100), ("h", 3600, 72)):
        if seconds / length < most:
            return f"{seconds / length:.0f}{unit}"
    return f"{min(seconds / 86400, 999):.0f}d"


def percent(value: float | None) -> str:
    """A share of time in at most four characters."""
    if value is None:
        return UNKNOWN
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _size(name: str) -> tuple[Callable[[Row], str], Callable[[Row], Any]]:
    return lambda row: short(getattr(row, name)), lambda row: getattr(row, name)


def _shrunk(row: Row) -> str:
    return "cyan" if row.size is not None and row.maximum is not None and row.size < row.maximum else ""


COLUMNS: Final = (
    Column("name", "guest", "N", 0, lambda row: row.name, lambda row: row.name.lower(), falling=False, about="its name"),
    Column("size", "size", "S", 5, *_size("size"), style=_shrunk, about="what it has now"),
    Column("max", "max", "M", 5, *_size("maximum"), about="what it has with an empty balloon"),
    Column("used", "used", "U", 5, *_size("used"), about="what it needs of that: size less usable"),
    Column("usable", "usabl", "B", 5, *_size("usable"), about="what it could give without swapping"),
    Column(
        "swap",
        "swp/s",
        "W",
        5,
        *_size("swap"),
        style=lambda row: "red" if (row.swap or 0) >= SWAPS else "",
        about="what it reads from and writes to its own swap in a second",
    ),
    Column(
        "cold",
        "cold",
        "C",
        5,
        *_size("cold"),
        style=lambda row: "yellow" if (row.cold_age or 0) >= LEARNT_SECONDS else "",
        about="what it holds or has in the host's swap and does not touch, learnt at most ten minutes ago, or longer where yellow",
        wide=90,
    ),
    Column("target", "targt", "T", 5, *_size("target"), about="what mom asked it for last, or would have when it only observes"),
    Column("guarantee", "guar", "G", 5, *_size("guaranteed"), about="what it is guaranteed: mom does not make it smaller"),
    Column(
        "pressure",
        "psi%",
        "P",
        4,
        lambda row: percent(row.pressure),
        lambda row: row.pressure,
        style=lambda row: "red" if (row.pressure or 0) >= PRESSED else "",
        about="time that something in it waited for memory, of the last 10 s",
    ),
    Column(
        "age",
        "age",
        "A",
        4,
        lambda row: age(row.age),
        lambda row: row.age,
        style=lambda row: "yellow" if (row.age or 0) >= OLD_SECONDS else "",
        about="age of what the guest said last",
    ),
    Column("note", "note", "O", 0, lambda row: row.note, lambda row: row.note or None, falling=False, style=lambda row: "yellow"),
)

BY_KEY: Final = {column.key: column for column in COLUMNS}
BY_LETTER: Final = {column.letter: column for column in COLUMNS}


def fitting(screen: int) -> list[tuple[Column, int]]:
    """The columns on a screen of so many, each with its own: names get what long ones need, notes the rest."""
    shown = [column for column in COLUMNS if screen >= column.wide]
    left = screen - 2 - sum(column.width + 1 for column in shown if column.width)
    name = max(10, min(40, left * 6 // 10))
    return [(one, name if one.key == "name" else max(0, left - name) if one.key == "note" else one.width) for one in shown]
