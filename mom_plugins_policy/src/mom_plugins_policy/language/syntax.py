"""Forms that the reader makes from a text."""

from __future__ import annotations

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


_BLANK = re.compile(r"""(?P<blank>(?:\s|\#[^\n]*)++)|"[^"\\]*+(?:\\.[^"\\]*+)*+"|'[^'\\]*+(?:\\.[^'\\]*+)*+'""")
"""Matches blanks and comments, and strings, which may contain both."""

_SEARCHED = 4096  # characters of a form


def abridged(form: Form, limit: int = 60) -> str:
    """Return a form's text on one line, without comments, and shortened to `limit` characters."""
    text = form.text.text[form.start : min(form.end, form.start + _SEARCHED)]
    shown = _BLANK.sub(lambda match: " " if match["blank"] else match[0], text).replace("\n", "⏎")
    return shown if len(shown) <= limit else shown[:limit] + "…"
