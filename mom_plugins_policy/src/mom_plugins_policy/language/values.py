"""Python values that represent values of the language, and their text.

nil is None, lists are `list`, and entities are the snapshot's `Host` and `Guest`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mom_core import Guest, Host, Snapshot, printable
from mom_plugins_policy.language.errors import Trouble
from mom_plugins_policy.language.syntax import Form
from mom_plugins_policy.language.words import Word

Any_: TypeAlias = Any  # value of the language; the policy decides its type

_DIGITS = re.compile(r"\s*[+-]?[0-9]{1,1000}\s*", re.ASCII)
_SHOWN_ITEMS = 5


UNBOUND: Final = object()


@dataclass(slots=True, eq=False)
class Function:
    """Function as a value: `abs`, `debug`, or a method.

    :param call: takes the evaluation, the arguments, and the form of the call
    """

    name: str
    call: Callable[[Any, Sequence[Any_], Form], Any_]
    word: Word

    def __call__(self, run: Any, arguments: Sequence[Any_], form: Form) -> Any_:
        """Call the function. `run` is the evaluation."""
        if not self.word.takes(len(arguments)):
            raise Trouble("arity", f"{self.name} takes {self.word.counted}, not {len(arguments)},")
        return self.call(run, arguments, form)

    def __repr__(self) -> str:
        return f"<function {self.name}>"


class Guests:
    """Value of the variable `Guests`."""

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
    """Named values, such as the limits of a disk. An empty record is true."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def record(value: Any_) -> Record:
    """Return a mapping as a record. For any other value, return an empty record."""
    return Record(value) if isinstance(value, Mapping) else Record()


class Disk:
    """Disk of a guest. The policy may change `current`."""

    __slots__ = ("attributes", "changed", "current", "guest")

    def __init__(self, guest: Guest, data: Mapping[str, Any_]) -> None:
        self.guest = guest
        limits = {key: record(data.get(key)) for key in ("guaranteed", "maximum", "current")}
        self.current = limits["current"]
        self.attributes: dict[str, Any_] = {"name": data.get("name"), "path": data.get("path"), **limits}
        self.changed = False

    def __repr__(self) -> str:
        return f"<disk {printable(str(self.attributes['name']))}>"


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


def show(value: Any_) -> str:
    """Return a value as short text in policy syntax."""
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


def samples_of(entity: Host | Guest, snapshots: Iterable[Snapshot]) -> Iterator[Host | Guest]:
    """Yield an entity's samples; for a guest, only those since its start."""
    for snapshot in snapshots:
        if isinstance(entity, Host):
            yield snapshot.host
        elif (guest := snapshot.guests.get(entity.id)) is not None and guest.incarnation == entity.incarnation:
            yield guest


def requested(value: Any_, *, takes_text: bool = False) -> Any_:
    """Return a requested value: nil, a number, or a string if `takes_text`. Raise `Trouble` for any other value."""
    kind = value.__class__
    if kind is int or value is None or (takes_text and kind is str):
        return value
    if kind is float:
        if not math.isfinite(value):
            raise Trouble("range", f"{show(value)} cannot be requested")
        return value
    if kind is bool:
        return int(value)
    if kind is str and _DIGITS.fullmatch(value):
        return int(value)
    raise Trouble("type", f"a number is required, not {show(value)},")


def empty(value: Any_) -> bool:
    """Return the result of the function `null`: whether a value is nil or empty."""
    return value is None or (isinstance(value, str | list | tuple | Guests) and not value)
