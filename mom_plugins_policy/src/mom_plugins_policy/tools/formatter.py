"""One way to indent a policy, so that people discuss what it does and not how it is laid out.

The author's line breaks stay. A line is indented by four more than the line where the bracket around it was opened, and by four for each
further bracket that was opened in that line around it, but for `{`; one that begins with a closing bracket is as far in as that line.
Between two parts of a line is one space, none behind `(` and before `)`; two or more are before a comment that follows something; one
blank line stays. A comment or string stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from mom_plugins_policy.language.reader import TOKEN, read

INDENT: Final = 4

DEEPEST: Final = 60
"""Columns of white space at most: what is nested deeper is not indented any further, so that there is always room for something."""

_SKIPPED: Final = re.compile(r"(#[^\n]*)|[^#]+")


def formatted(name: str, text: str) -> str:
    """Return a policy text, laid out.

    :param name: the policy's name, for positions
    :returns: a text with the same tokens and comments; formatting it again changes nothing
    :raises PolicyError: the text is no policy
    """
    read(name, text)
    result = "".join(_pieces(text))
    # What is written must be the same program. This has never failed; if it ever does, the file must not be touched.
    if [token for _, token in tokens(result)] != [token for _, token in tokens(text)]:
        raise AssertionError("formatting would have changed the policy")
    return result


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Yield the tokens of a policy and its comments, each behind the white space before it."""
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
    """Yield the tokens of a text, each with the white space that belongs before it."""
    opened: list[tuple[int, int]] = []  # for each open bracket, the indentation of its line, and of lines in it
    around = 0  # brackets that were open where this line began
    here = 0  # the indentation of this line
    before = ""  # the token before this one
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
