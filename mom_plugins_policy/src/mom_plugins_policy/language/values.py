"""Values of the language, as Python values: nil is None, lists are `list`, entities are the snapshot's own `Host` and `Guest`. The others
are here, and what is said of values and made of them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mom_core import Guest, Host, printable
from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.syntax import written_number, written_string
from mom_plugins_policy.language.words.word import Word

Any_: TypeAlias = Any  # a value of the language: what it may be is decided by the policy, and checked where it matters

_DIGITS = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*", re.ASCII)
_SHOWN_ITEMS = 5


UNBOUND: Final = object()
"""The one value that means: this variable is not bound."""


@dataclass(slots=True, eq=False)
class Function:
    """Something callable that a variable can hold: `abs`, `debug`, or a method of an entity or disk.

    :param word: says how many arguments it takes; None: its call does
    """

    name: str
    call: Callable[[tuple[Any_, ...], int], Any_]
    word: Word | None = None

    def __call__(self, *arguments: Any_, site: int = 0) -> Any_:
        """Call it with values of the language. `site` is the place in the program that calls."""
        if self.word is not None and not self.word.takes(len(arguments)):
            raise Trouble("arity", f"{self.name} takes {self.word.arguments}, not {len(arguments)},")
        return self.call(arguments, site)

    def __repr__(self) -> str:
        return f"<function {self.name}>"


class Guests:
    """Value of `Guests`: all guests of the snapshot, in its order, as the hypervisor lists them.

    Their fields are read by columns or, of a single one, by `Evaluation.field`: guests with their fields would have to be made first.
    """

    __slots__ = ("members",)

    def __init__(self, members: Iterable[Guest]) -> None:
        self.members = tuple(members)

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[Guest]:
        return iter(self.members)

    def __repr__(self) -> str:
        return "<Guests>"


class Record(dict[str, Any_]):
    """Several values under their names, such as the limits of a disk. True like every object, also when it is empty."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def record(value: Any_) -> Record:
    """Limits as a hypervisor tells them; of what are none, nothing is known."""
    return Record(value) if isinstance(value, Mapping) else Record()


class Disk:
    """Io tune object: one disk of a guest, with the limits that the policy may change in `current`."""

    __slots__ = ("attributes", "changed", "current", "guest")

    def __init__(self, guest: Guest, data: Mapping[str, Any_]) -> None:
        self.guest = guest
        limits = {key: record(data.get(key)) for key in ("guaranteed", "maximum", "current")}
        self.current = limits["current"]
        self.attributes: dict[str, Any_] = {"name": data.get("name"), "path": data.get("path"), **limits}
        self.changed = False

    def __repr__(self) -> str:
        return f"<disk {printable(str(self.attributes['name']))}>"


def show(value: Any_) -> str:  # one answer per type
    """Return a value for a message, as a policy would write it, on one line and short."""
    if value is None:
        return "nil"
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 128 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return written_number(value)
    if isinstance(value, str):
        return printable(written_string(value[:60]) + ("…" if len(value) > 60 else ""))
    if isinstance(value, list | tuple):
        shown = " ".join(show(item) if not isinstance(item, list | tuple) else "[…]" for item in value[:_SHOWN_ITEMS])
        return f"[{shown}{' …' if len(value) > _SHOWN_ITEMS else ''}]"
    if isinstance(value, Host):
        return "<Host>"
    if isinstance(value, Guest):
        return f"<{printable(value.name)}>"
    if isinstance(value, Function | Guests | Disk):
        return repr(value)
    if isinstance(value, Mapping):
        return "<record>"
    return f"<{type(value).__name__}>"


def requested(value: Any_, *, takes_text: bool = False) -> Any_:
    """Return a value that is asked for: nil, or a number that a controller can cut to an integer; or any text, of a control that takes
    text.
    """
    kind = value.__class__
    if kind is int or value is None or (takes_text and kind is str):
        return value
    if kind is float:
        if not math.isfinite(value):
            raise Trouble("range", f"{show(value)} cannot be asked for")
        return value
    if kind is bool:
        return int(value)
    if kind is str and _DIGITS.fullmatch(value):
        return int(value)
    raise Trouble("type", f"a number is asked for, not {show(value)},")


def empty(value: Any_) -> bool:
    """Return True if `null` finds nothing in a value."""
    return value is None or (isinstance(value, str | list | tuple | Guests) and not value)
