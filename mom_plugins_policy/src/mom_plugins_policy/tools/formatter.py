"""One way to indent a policy, so that people discuss what it does and not how it is laid out.

The author's line breaks stay. A line is indented by four more than the line where the bracket around it was opened, and by four for each
further bracket that was opened in that line around it, but for `{`; one that begins with a closing bracket is as far in as that line.
Between two parts of a line is one space, none behind `(` and before `)`; two or more are before a comment that follows something; one
blank line stays. A comment or string stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.tokens import comments, tokens

INDENT: Final = 4

DEEPEST: Final = 60
"""Columns of white space at most: what is nested deeper is not indented any further, so that there is always room for something."""


def formatted(name: str, text: str, *, limits: PolicyLimits = DEFAULT_LIMITS) -> str:
    """A policy text, laid out.

    :param name: the policy's name, for positions
    :returns: a text with the same forms and comments; formatting it again changes nothing
    :raises PolicyError: the text is no policy
    """
    before = read(name, text, limits)
    result = "".join(_pieces(text))
    # What is written must be the same program. This has never failed; if it ever does, the file must not be touched.
    if _content(read(name, result, limits)) != _content(before) or comments(result) != comments(text):
        raise AssertionError("formatting would have changed the policy")
    return result


def _content(forms: Iterable[Form]) -> list[tuple[object, ...]]:
    """The same for two texts that are the same program: all forms in reading order, with how many parts each has."""
    content: list[tuple[object, ...]] = []
    todo = list(forms)
    while todo:
        form = todo.pop()
        content.append((form.kind, type(form.value), form.value, len(form.items)))
        todo.extend(form.items)
    return content


def _pieces(text: str) -> Iterator[str]:
    """The tokens of a text, each with the white space before it."""
    opened: list[tuple[int, int]] = []  # for each open bracket, the indentation of its line, and of lines in it
    around = 0  # brackets that were open where this line began
    here = 0  # the indentation of this line
    before = ""  # the token before this one
    breaks = gap = 0
    for what, piece, _ in tokens(text):
        if what in ("space", "mark"):
            breaks, gap = breaks + piece.count("\n"), len(piece)
            continue
        closing = what == "close"
        outside, _ = opened.pop() if closing else (0, 0)
        if breaks or not before:
            here = outside if closing else opened[-1][1] if opened else 0
            around = len(opened)
            blank = breaks > 1 and not closing
            yield "\n" * (1 + blank if before else 0) + " " * min(here, DEEPEST)
        elif what == "comment":
            yield " " * max(2, gap)  # comments of adjacent lines may be aligned
        elif before not in ("(", "[") and piece not in (")", "]") and before + piece != "{}":
            yield " "
        if what == "open":
            inner = here if piece == "{" or len(opened) <= around else opened[-1][1]
            opened.append((here, inner + INDENT))
        before, breaks, gap = piece, 0, 0
        yield piece.rstrip() if what == "comment" else piece
    if before:
        yield "\n"
