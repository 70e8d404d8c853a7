"""One way to lay out a policy, so that people discuss what it does and not how it is indented.

The layout follows the tree and where its author broke lines; never the other way round. Rules, from the outside in:

- A list stands on one line if it fits and its author had no line break between its parts; otherwise each part has a line of its own.
- `(name first` stays together, and what follows is aligned with `first`. The special forms keep what names and conditions they have on
  their first line (`(def name (parameters)`, `(if condition`, `(with items name`, `(let (bindings)`), and indent the rest by four.
- `{` ends a line, `}` begins one, what is between them is indented by four.
- Comments stay where they are: before a form, or at the end of a line; those of adjacent lines are aligned. One blank line stays.

Only white space is changed. A comment or string that is longer than a line stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from mom_plugins_policy.language.limits import DEFAULT_LIMITS, PolicyLimits
from mom_plugins_policy.language.reader import read
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.tokens import Token, comments, tokens
from mom_plugins_policy.language.words.forms import SPECIAL_FORMS, FormWord, Role

WIDTH: Final = 100
"""Columns of a line."""

INDENT: Final = 4

DEEPEST: Final = 60
"""Columns of white space at most: what is nested deeper is not indented any further, so that there is always room for something."""

FAR: Final = 16
"""A value of several lines begins below its variable when it would otherwise stand this many columns to the right of that."""

_CLOSING: Final = {"(": ")", "[": "]", "{": "}"}


def formatted(name: str, text: str, *, width: int = WIDTH, limits: PolicyLimits = DEFAULT_LIMITS) -> str:
    """A policy text, laid out.

    :param name: the policy's name, for positions
    :param width: columns of a line
    :returns: a text with the same forms and comments; formatting it again changes nothing
    :raises PolicyError: the text is no policy
    """
    before = read(name, text, limits)
    after = _Layout(width).lines(_parts(tokens(text)))
    result = "\n".join(after) + "\n" if after else ""
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


# --- parts: the tokens as a tree, with comments ----------------------------------------------------------------------------------


class _Element:
    """An atom, a comment, or a bracket with all that is in it.

    `broken` and `blank`: a line break, a blank line stands before it; `flat`: its width on one line, None if it cannot or should not
    stand on one; `need`: how many columns it takes when it is broken wherever it can be.
    """

    __slots__ = ("blank", "broken", "comment", "flat", "items", "need", "text")

    def __init__(self, text: str, line_breaks: int, *, comment: bool = False) -> None:
        self.text = text
        self.broken = line_breaks > 0
        self.blank = line_breaks > 1
        self.comment = comment
        self.items: list[_Element] = []
        self.flat: int | None = None if comment or "\n" in text else len(text)
        self.need = 0 if comment else len(text.partition("\n")[0])

    @property
    def bracket(self) -> bool:
        return not self.comment and self.text in _CLOSING

    @property
    def block(self) -> bool:
        return self.text == "{"

    @property
    def remark(self) -> bool:
        """A comment at the end of a line."""
        return self.comment and not self.broken

    def close(self) -> None:
        """All items are there: measure."""
        items = self.items
        spaces = max(0, len(items) - 1) + (2 if self.block and items else 0)
        together = all(item.flat is not None for item in items) and not any(item.broken for item in (items if self.block else items[1:]))
        self.flat = 2 + spaces + sum(item.flat or 0 for item in items) if together else None
        if not items:
            self.need = 2
        elif self.block:
            self.need = INDENT + max(item.need for item in items)
        else:
            self.need = 1 + min(self._aligned(), INDENT + max(item.need for item in items))

    def _aligned(self) -> int:
        """The columns of a list whose parts are aligned with the first or second of them."""
        head = self.items[0]
        if head.bracket or head.comment:
            return 1 + max(item.need for item in self.items)
        return 2 + len(head.text) + max((item.need for item in self.items[1:]), default=0)


def _parts(found: Iterable[Token]) -> list[_Element]:
    """The parts at top level. A remark before closing brackets goes behind them, where it leaves the brackets together."""
    top: list[_Element] = []
    opened: list[_Element] = []
    here = top
    line_breaks = 1  # the text begins a line
    moved: _Element | None = None  # a remark that is on its way out of closing brackets
    for token in found:
        if token.what in ("space", "mark"):
            line_breaks += token.text.count("\n")
            continue
        if moved is not None and token.what != "close":
            closed = here[-1]
            if token.what == "comment" and not line_breaks:
                closed.items.append(moved)  # there is a remark behind the brackets, too
                closed.close()
            else:
                here.append(moved)
                line_breaks = max(line_breaks, 1)
            moved = None
        if token.what == "close":
            part = opened.pop()
            if moved is not None and part.block:
                part.items.append(moved)
                moved = None
            elif _can_move_out(part):
                moved = part.items.pop()
            part.close()
            here = opened[-1].items if opened else top
        else:
            comment = token.what == "comment"
            part = _Element(token.text.rstrip() if comment else token.text, line_breaks, comment=comment)
            here.append(part)
            if token.what == "open":
                opened.append(part)
                here = part.items
        line_breaks = 0
    if moved is not None:
        here.append(moved)
    return top


def _can_move_out(part: _Element) -> bool:
    """Whether a list ends with a remark that can go behind its bracket: not if another one could not, and so would meet it there."""
    if part.block or len(part.items) < 2 or not part.items[-1].remark:
        return False
    before = part.items[-2]
    return not (before.bracket and not before.block and before.items and before.items[-1].remark)


# --- layout ----------------------------------------------------------------------------------------------------------------------

_Step: TypeAlias = Callable[[], "Sequence[_Step] | None"]


class _Line:
    """A line of the result. `text` may hold the line breaks of a string."""

    __slots__ = ("remark", "text")

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.remark = ""


class _Layout:
    """Writes parts as lines. Works off a list of steps instead of calling itself, as brackets may be nested deeper than Python's calls."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._lines: list[_Line] = []
        self._column = 0

    def lines(self, top: Sequence[_Element]) -> list[str]:
        """The lines of a whole text."""
        todo: list[_Step] = list(reversed(self._each(top, 0, 0)))
        while todo:
            todo.extend(reversed(todo.pop()() or ()))
        if self._lines and not self._lines[0].text:
            del self._lines[0]  # a blank line before the first form
        return list(_with_remarks(self._lines, self._width))

    def _each(self, parts: Iterable[_Element], column: int, after: int) -> list[_Step]:
        """Steps that put each part on a line of its own; `after` closing brackets follow the last one."""
        steps: list[_Step] = []
        listed = list(parts)
        for number, part in enumerate(listed):
            if part.remark:
                steps.append(self._remark(part))
            else:
                steps.append(self._new_line(column, blank=part.blank))
                steps.append(self._part(part, after if number == len(listed) - 1 else 0))
        return steps

    def _new_line(self, column: int, *, blank: bool = False) -> _Step:
        def step() -> None:
            if blank:
                self._lines.append(_Line())
            self._column = min(column, DEEPEST)
            self._lines.append(_Line(" " * self._column))

        return step

    def _text(self, text: str) -> _Step:
        return lambda: self._write(text)

    def _write(self, text: str) -> None:
        self._lines[-1].text += text
        last_line = text.rpartition("\n")[2]
        self._column = len(last_line) + (0 if "\n" in text else self._column)

    def _remark(self, part: _Element) -> _Step:
        def step() -> None:
            self._lines[-1].remark = part.text

        return step

    def _part(self, part: _Element, after: int, base: int | None = None) -> _Step:
        """A step that writes a part where the line now ends; a block that begins behind something belongs to column `base`."""

        def step() -> Sequence[_Step] | None:
            if not part.bracket or (part.flat is not None and self._column + part.flat + after <= self._width):
                self._write(_flat_text(part))
                return None
            if not part.items:
                self._write(part.text + _CLOSING[part.text])
                return None
            column = self._column if base is None else base
            self._write(part.text)
            return self._block(part, column) if part.block else self._list(part, column, after)

        return step

    def _block(self, part: _Element, column: int) -> list[_Step]:
        return [*self._each(part.items, column + INDENT, 0), self._new_line(column), self._text("}")]

    def _list(self, part: _Element, column: int, after: int) -> list[_Step]:
        items = part.items
        closing = self._close(part, column)
        after = 0 if items[-1].comment else after + 1
        head = items[0]
        if head.comment:
            return [*self._each(items, column + 1, after), *closing]
        if head.bracket:
            first = self._part(head, after if len(items) == 1 else 0)
            return [first, *self._each(items[1:], column + 1, after), *closing]
        word = SPECIAL_FORMS.get(head.text)
        kept = 0 if word is None else word.kept
        if word is not None and kept and len(items) > kept + 1 and not any(item.comment for item in items[: kept + 1]):
            return [*self._special(part, column, word, after), *closing]
        aligned = column + len(head.text) + 2
        rest = items[1:]
        if rest and not rest[0].comment and aligned <= DEEPEST and all(aligned + item.need + after <= self._width for item in rest):
            first = self._part(rest[0], after if len(rest) == 1 else 0)
            return [self._text(f"{head.text} "), first, *self._each(rest[1:], aligned, after), *closing]
        return [self._part(head, 0), *self._each(rest, column + INDENT, after), *closing]

    def _special(self, part: _Element, column: int, word: FormWord, after: int) -> list[_Step]:
        items, kept = part.items, word.kept
        steps = [self._text(items[0].text)]
        for item in items[1 : kept + 1]:
            steps += [self._text(" "), self._part(item, 0)]
        body = items[kept + 1 :]
        only = body[0] if len(body) == 1 else None
        if only is not None and word.layout is Role.VALUE:
            return [*steps, self._value(only, column + INDENT, after)]
        if only is not None and only.block and only.items and word.layout is Role.BODY:
            return [*steps, self._text(" "), self._part(only, after, column)]
        return [*steps, *self._each(body, column + INDENT, after)]

    def _value(self, value: _Element, column: int, after: int) -> _Step:
        """A step that writes the value of a variable: behind the name, unless it looks better below it."""

        def step() -> Sequence[_Step]:
            here = self._column + 1
            fits_here = value.flat is not None and here + value.flat + after <= self._width
            fits_below = value.flat is not None and column + value.flat + after <= self._width
            far = here - column > FAR or here + value.need + after > self._width
            if value.broken or (not fits_here and (fits_below or far)):
                return self._each([value], column, after)
            return [self._text(" "), self._part(value, after)]

        return step

    def _close(self, part: _Element, column: int) -> list[_Step]:
        closing = self._text(_CLOSING[part.text])
        return [self._new_line(column), closing] if part.items[-1].comment else [closing]


def _flat_text(part: _Element) -> str:
    """A part on one line (but for line breaks inside of strings)."""
    out: list[str] = []
    todo: list[_Element | str] = [part]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            out.append(item)
        elif not item.bracket:
            out.append(item.text)
        else:
            padding = " " if item.block and item.items else ""
            out.append(item.text + padding)
            todo.append(padding + _CLOSING[item.text])
            for number, inner in enumerate(reversed(item.items)):
                if number:
                    todo.append(" ")
                todo.append(inner)
    return "".join(out)


def _with_remarks(lines: Sequence[_Line], width: int) -> Iterator[str]:
    """The lines with their remarks, which are aligned where lines that follow each other have some."""
    number = 0
    while number < len(lines):
        if not lines[number].remark:
            yield lines[number].text
            number += 1
            continue
        end = number
        while end < len(lines) and lines[end].remark:
            end += 1
        run = lines[number:end]
        column = max(len(line.text) for line in run)
        aligned = all(
            "\n" not in line.text and (column + 2 + len(line.remark) <= width or len(line.text) + 2 + len(line.remark) > width)
            for line in run
        )
        for line in run:
            yield f"{line.text.ljust(column) if aligned else line.text}  {line.remark}"
        number = end
