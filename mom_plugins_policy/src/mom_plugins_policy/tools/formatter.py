"""One way to lay out a policy, so that people discuss what it does and not how it is indented.

- A list stands on one line if it fits and its author had no line break between its parts; otherwise each part has a line of its own.
- `(name first` stays together, and what follows is aligned with `first`. The special forms keep what names and conditions they have on
  their first line (`(def name (parameters)`, `(if condition`, `(with items name`, `(let (bindings)`), and indent the rest by four.
- `{` ends a line, `}` begins one, what is between them is indented by four.
- Comments stay where they are: before a form, or at the end of a line; those of adjacent lines are aligned. One blank line stays.

Only white space is changed. A comment or string that is longer than a line stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.tokens import Token, comments, tokens
from mom_plugins_policy.language.words.forms import SPECIAL_FORMS

WIDTH: Final = 100
"""Columns of a line."""

INDENT: Final = 4

DEEPEST: Final = 60
"""Columns of white space at most: what is nested deeper is not indented any further, so that there is always room for something."""

DEEPEST_NESTING: Final = 150
"""Brackets inside each other: what has more is refused, as no person wrote it."""

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def formatted(name: str, text: str, *, width: int = WIDTH, limits: PolicyLimits = DEFAULT_LIMITS) -> str:
    """A policy text, laid out.

    :param name: the policy's name, for positions
    :param width: columns of a line
    :returns: a text with the same forms and comments; formatting it again changes nothing
    :raises PolicyError: the text is no policy
    """
    before = read(name, text, limits.model_copy(update={"nesting": min(limits.nesting, DEEPEST_NESTING)}))
    lines: list[_Line] = []
    _put_each(_parts(tokens(text)), 0, 0, width, lines)
    result = "".join(f"{line}\n" for line in _with_remarks(lines, width))
    # What is written must be the same program. This has never failed; if it ever does, the file must not be touched.
    if _content(read(name, result, limits)) != _content(before) or comments(result) != comments(text):
        raise AssertionError("formatting would have changed the policy")
    return result


def _content(forms: Iterable[Form]) -> list[tuple[object, ...]]:
    """What makes two texts the same program: all forms in reading order, with how many parts each has."""
    content: list[tuple[object, ...]] = []
    todo = list(forms)
    while todo:
        form = todo.pop()
        content.append((form.kind, type(form.value), form.value, len(form.items)))
        todo.extend(form.items)
    return content


@dataclass(slots=True)
class _Part:
    """An atom, a comment, or a bracket with all in it. `breaks`: the line breaks before it; `flat`: it on one line, if it can be."""

    text: str
    breaks: int
    comment: bool = False
    items: list[_Part] = field(default_factory=list)
    flat: str | None = None

    def close(self) -> None:
        """All items are there: see whether it can stand on one line, and its author had it so."""
        block = self.text == "{"
        texts = [item.flat for item in self.items]
        if not any(item.breaks for item in self.items[not block :]) and None not in texts:
            inner = " ".join(text for text in texts if text is not None)
            self.flat = f"{self.text} {inner} }}" if block and inner else f"{self.text}{inner}{_CLOSING[self.text]}"


def _parts(several: Iterable[Token]) -> list[_Part]:
    """The parts at top level."""
    top: list[_Part] = []
    opened: list[_Part] = []
    breaks = 1  # the text begins a line
    for token in several:
        if token.what in ("space", "mark"):
            breaks += token.text.count("\n")
            continue
        if token.what == "close":
            opened.pop().close()
        else:
            comment = token.what == "comment"
            part = _Part(token.text.rstrip() if comment else token.text, breaks, comment)
            (opened[-1].items if opened else top).append(part)
            if token.what == "open":
                opened.append(part)
            elif not comment and "\n" not in token.text:
                part.flat = token.text
        breaks = 0
    return top


@dataclass(slots=True)
class _Line:
    """A line of the result, with the comment at its end. `text` may hold the line breaks of a string."""

    text: str
    remark: str = ""


def _put_each(parts: Sequence[_Part], column: int, after: int, width: int, lines: list[_Line]) -> None:
    """Each part on a line of its own; `after` closing brackets follow the last one."""
    column = min(column, DEEPEST)
    for part in parts:
        if part.comment and not part.breaks:
            lines[-1].remark = part.text
            continue
        if part.breaks > 1 and lines:
            lines.append(_Line(""))
        lines.append(_Line(" " * column))
        _put(part, column, after if part is parts[-1] else 0, width, lines)


def _put(part: _Part, column: int, after: int, width: int, lines: list[_Line]) -> None:
    """A part where the last line ends; `column` is where it counts as beginning."""
    here = len(lines[-1].text.rpartition("\n")[2])
    if part.flat is not None and (here + len(part.flat) + after <= width or not part.items):
        lines[-1].text += part.flat
        return
    lines[-1].text += part.text
    if not part.items:
        return
    if part.text == "{":
        _put_each(part.items, column + INDENT, 0, width, lines)
        lines.append(_Line(" " * min(column, DEEPEST) + "}"))
        return
    kept, inner = _first_line(part, column, after, width)
    for number, item in enumerate(part.items[:kept]):
        lines[-1].text += " " if number else ""
        _put(item, len(lines[-1].text.rpartition("\n")[2]), after + 1 if number == len(part.items) - 1 else 0, width, lines)
    rest = part.items[kept:]
    if len(rest) == 1 and rest[0].text == "{" and rest[0].items and part.items[0].text in SPECIAL_FORMS:
        lines[-1].text += " "
        _put(rest[0], column, after + 1, width, lines)
    else:
        _put_each(rest, inner, after + 1, width, lines)
    if part.items[-1].comment:
        lines.append(_Line(" " * min(column, DEEPEST)))
    lines[-1].text += _CLOSING[part.text]


def _first_line(part: _Part, column: int, after: int, width: int) -> tuple[int, int]:
    """How many items of a list stay on its first line, and the column of the others."""
    items = part.items
    commented = next((number for number, item in enumerate(items) if item.comment), len(items))
    head = items[0]
    if head.comment or head.text in _CLOSING:
        return min(1, commented), column + 1
    word = SPECIAL_FORMS.get(head.text)
    if word is not None and word.kept:
        return min(1 + word.kept, commented), column + INDENT
    aligned, indented = column + len(head.text) + 2, column + INDENT
    widest = max((len(item.flat) for item in items[1:] if item.flat is not None), default=0) + after + 1
    if commented < 2 or aligned > DEEPEST or (aligned + widest > width and indented + widest <= width):
        return 1, indented
    return 2, aligned


def _with_remarks(lines: Sequence[_Line], width: int) -> Iterator[str]:
    """The lines with their remarks, which are aligned where lines that follow each other have some, and there is room."""
    number = 0
    while number < len(lines):
        end = number
        while end < len(lines) and lines[end].remark and "\n" not in lines[end].text:
            end += 1
        column = max((len(line.text) for line in lines[number:end]), default=0)
        aligned = all(column + 2 + len(line.remark) <= width for line in lines[number:end])
        for line in lines[number : max(end, number + 1)]:
            text = line.text.ljust(column) if aligned else line.text
            yield f"{text}  {line.remark}" if line.remark else line.text
        number = max(end, number + 1)
