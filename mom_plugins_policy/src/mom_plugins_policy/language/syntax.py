"""Forms that the reader makes from a text, and functions that write forms as text."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from mom_core import Source


class FormKind(IntEnum):
    """Kinds of forms."""

    LITERAL = 0  #: integer, float or string in `value`
    NAME = 1  #: identifier, including `nil`; text in `value`
    OPERATOR = 2  #: `+`, `<=` …; text in `value`
    LIST = 3  #: `( )` or `[ ]`; `items` include the head
    BLOCK = 4  #: `{ }`


@dataclass(slots=True, eq=False, repr=False)
class SourceText:
    """Named policy text."""

    name: str
    text: str
    _starts: list[int] | None = field(init=False, default=None)

    def source(self, offset: int) -> Source:
        """Return the line and column of the character at `offset`, 1-based. A byte order mark does not count."""
        if self._starts is None:
            first = 1 if self.text.startswith("\ufeff") else 0
            self._starts = [first, *(match.end() for match in re.finditer("\n", self.text))]
        offset = max(offset, self._starts[0])
        line = bisect_right(self._starts, offset)
        return Source(self.name, line, offset - self._starts[line - 1] + 1)


@dataclass(slots=True, eq=False, repr=False)
class Form:
    """Atom, list or block, with its offsets in `text` and its number in reading order."""

    kind: FormKind
    value: int | float | str | None
    text: SourceText
    start: int
    end: int
    index: int = 0
    items: list[Form] = field(default_factory=list)

    @property
    def source(self) -> Source:
        """Position of the first character."""
        return self.text.source(self.start)

    @property
    def name(self) -> str:
        """Text of a name or operator, otherwise empty."""
        return self.value if self.kind in (FormKind.NAME, FormKind.OPERATOR) and isinstance(self.value, str) else ""

    def __repr__(self) -> str:
        return f"<{self.source} {abridged(self)}>"


def all_in(forms: Sequence[Form]) -> Iterator[Form]:
    """Yield forms and their parts, in reading order."""
    todo = [*reversed(forms)]
    while todo:
        form = todo.pop()
        yield form
        todo.extend(reversed(form.items))


def written_string(value: str) -> str:
    """Return a string in policy syntax if possible, otherwise in Python syntax."""
    for quote in "\"'":
        if re.fullmatch(rf"[^{quote}\\]*(?:\\.[^{quote}\\]*)*", value):
            return f"{quote}{value}{quote}"
    return repr(value)


def written_number(value: float) -> str:
    """Return a number in policy syntax."""
    if isinstance(value, float) and math.isinf(value):
        return "1e999" if value > 0 else "-1e999"
    return repr(value)


def _atom(form: Form) -> str:
    value = form.value
    if isinstance(value, int | float):
        return written_number(value)
    return written_string(value or "") if form.kind is FormKind.LITERAL else str(value)


def written(forms: Sequence[Form], limit: int = 0) -> str:
    """Return forms as readable text.

    :param limit: maximum length before an ellipsis; 0 for no limit
    """
    out: list[str] = []
    length = 0
    todo: list[Form | str] = list(reversed(forms[: limit + 1] if limit else forms))
    glued = True  # no space needed before the next piece
    while todo:
        item = todo.pop()
        space, glued = "" if glued else " ", False
        if isinstance(item, str):
            piece = item
        elif item.kind in (FormKind.LIST, FormKind.BLOCK):
            opening, closing = "()" if item.kind is FormKind.LIST else "{}"
            todo.append(closing)
            todo.extend(reversed(item.items[: limit + 1] if limit else item.items))  # more would exceed the limit
            piece, glued = space + opening, True
        else:
            piece = space + _atom(item)
        out.append(piece)
        length += len(piece)
        if limit and length > limit:
            return "".join(out)[:limit] + "…"
    return "".join(out)


def abridged(form: Form, limit: int = 60) -> str:
    """Return a form on one line, shortened to `limit` characters."""
    return written((form,), limit).replace("\n", "⏎")
