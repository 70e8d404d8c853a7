"""A policy text as tokens that add up to the text: with the comments and white space that the reader skips, and with what is no token."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from mom_plugins_policy.language.reader import TOKEN

BYTE_ORDER_MARK = "\ufeff"
_SKIPPED = re.compile(r"(?P<comment>#[^\n]*)|(?P<space>[^#]+)")


class Token(NamedTuple):
    """One piece of a text.

    `what` is the name of its group in the reader's token expression (`open`, `close`, `name`, `string`, `float`, `hex`, `octal`,
    `integer`, `operator`), or `comment`, `space`, `mark` (a byte order mark), or `illegal` (all that is left, from what is no token on).
    """

    what: str
    text: str
    start: int


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, in linear time. It need not be a policy: what cannot be read is one `illegal` token at the end."""
    position = 0
    if text.startswith(BYTE_ORDER_MARK):
        yield Token("mark", BYTE_ORDER_MARK, 0)
        position = 1
    while position < len(text):
        found = TOKEN.match(text, position)
        if found is None or found.lastgroup is None:
            yield Token("illegal", text[position:], position)
            return
        if found.lastgroup == "skip":
            for part in _SKIPPED.finditer(text, position, found.end()):
                yield Token(part.lastgroup or "space", part.group(), part.start())
        else:
            yield Token(found.lastgroup, found.group(), position)
        position = found.end()


def comments(text: str) -> list[str]:
    """All comments of a text, without white space at their ends."""
    return [token.text.rstrip() for token in tokens(text) if token.what == "comment"]
