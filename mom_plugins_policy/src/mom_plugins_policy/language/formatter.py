"""Layout of policies.

The formatter keeps line breaks, and reduces several blank lines to one. Inside brackets, a line is indented four columns deeper than the
line that opened the innermost bracket. Each further bracket that the same line opened, except `{`, adds four columns. A closing bracket is
indented like the line with its opening bracket. One space separates tokens, except after `(` and before `)`. At least two spaces precede a
comment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mom_plugins_policy.language.reader import TOKEN, read

INDENT: Final = 4

DEEPEST: Final = 60
"""Maximum indentation in columns."""

_SKIPPED: Final = re.compile(r"(#[^\n]*)|[^#]+")


def formatted(name: str, text: str) -> str:
    """Format a policy's text. Raise `PolicyError` if it is invalid."""
    read(name, text)
    return "".join(_pieces(text))


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield each token or comment as a pair: the white space before it, and its text."""
    text = text.removeprefix("\ufeff")
    space, position = "", 0
    while (match := TOKEN.match(text, position)) is not None:
        if match.lastgroup != "skip":
            yield space, match.group()
            space = ""
        for part in _SKIPPED.finditer(text, position, match.end()) if match.lastgroup == "skip" else ():
            if part[1]:
                yield space, part[1].rstrip()
            space = "" if part[1] else part.group()
        position = match.end()


def _pieces(text: str) -> Iterator[str]:
    opened: list[tuple[int, int]] = []  # for each open bracket: indentation of its line, and of lines inside
    around = 0  # brackets open at the start of this line
    here = 0  # indentation of this line
    before = ""  # previous token
    for space, piece in tokens(text):
        closing = piece in (")", "]", "}")
        breaks = space.count("\n")
        outside, _ = opened.pop() if closing else (0, 0)
        if breaks or not before:
            here = outside if closing else opened[-1][1] if opened else 0
            around = len(opened)
            blank = breaks > 1 and not closing
            yield "\n" * (1 + blank if before else 0) + " " * min(here, DEEPEST)
        elif piece.startswith("#"):
            yield " " * max(2, len(space))  # comments of adjacent lines may be aligned
        elif before not in ("(", "[") and piece not in (")", "]") and before + piece != "{}":
            yield " "
        if piece in ("(", "[", "{"):
            inner = here if piece == "{" or len(opened) <= around else opened[-1][1]
            opened.append((here, inner + INDENT))
        before = piece
        yield piece
    if before:
        yield "\n"
