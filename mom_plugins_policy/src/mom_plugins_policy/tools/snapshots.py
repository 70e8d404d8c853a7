"""Snapshots as JSON, so that a policy can be tried on a host that one has not, or had at three in the night.

The form is that of `mom_core.testing.snapshot`: an object with `host`, `guests`, `properties`, `history` and `interval`, each of which may
be left out. Reading is strict: whatever cannot be meant is told, all at once, with the way to it.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from mom_core import HOST_ID, ConfigError, ConfigProblem, Guest, Host, Snapshot, Value, dotted, printable
from mom_core.testing import snapshot
from mom_plugins_policy.sources import text_of

LONGEST: Final = 64 << 20
"""Bytes of a file: ten thousand guests with sixty fields each take a third of this."""

DEEPEST: Final = 20
"""Brackets inside each other: io tune values take four."""

KEYS: Final = ("host", "guests", "properties", "history", "interval")
"""What a snapshot has at its top."""

_MOST_PROBLEMS: Final = 100
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

Json: TypeAlias = "dict[str, Any]"


@dataclass(slots=True)
class Check:
    """Collects what is wrong with values, each with the way to it. `file` is what the messages call their source."""

    file: str
    problems: list[ConfigProblem] = field(default_factory=list)

    def complain(self, way: Sequence[str | int], message: str, hint: str = "", *, at_key: bool = False) -> None:
        """Note a problem with the value that this way leads to, or with its key."""
        if len(self.problems) < _MOST_PROBLEMS:
            where = f"{dotted(way)}: " if way else ""
            self.problems.append(ConfigProblem(self.file, 0, 0, printable(f"{where}{message}", 400), hint))

    def mapping(self, value: object, way: Sequence[str | int], what: str) -> Mapping[str, Any]:
        """The value if it is a mapping, else an empty one and a problem."""
        if isinstance(value, Mapping):
            return value
        self.complain(way, f"must be a mapping of {what}, not {called(value)}")
        return {}

    def keys(self, value: Mapping[str, Any], way: Sequence[str | int], known: Sequence[str], where: str) -> None:
        """Every key that is not known is a problem."""
        for key in value:
            if key not in known:
                self.complain(
                    (*way, key), f"there is no such key {where}", did_you_mean(key, known) or f"there are {', '.join(known)}", at_key=True
                )

    def fields(self, value: object, way: Sequence[str | int]) -> dict[str, Value]:
        """The fields of an entity, without those that cannot be."""
        found: dict[str, Value] = {}
        for name, inner in self.mapping(value, way, "field names to values").items():
            if not _FIELD.fullmatch(name):
                self.complain((*way, name), "is no name of a field", "a field has letters, digits and _, such as mem_free", at_key=True)
            elif self.plain(inner, (*way, name)):
                found[name] = inner
        return found

    def plain(self, value: object, way: Sequence[str | int], depth: int = 0) -> bool:
        """Whether a value can be a field's; if not, that is a problem."""
        if value is None or isinstance(value, bool | int | str):
            return True
        if isinstance(value, float):
            if math.isfinite(value):
                return True
            self.complain(way, f"must be a finite number, not {value}", "write null for what is not known")
            return False
        if depth >= DEEPEST:
            self.complain(way[: DEEPEST // 2], f"is nested deeper than {DEEPEST} levels")
            return False
        if isinstance(value, Mapping):
            parts: list[tuple[str | int, object]] = [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, list):
            parts = list(enumerate(value))
        else:
            self.complain(way, f"must be a number, a text, true, false, null, a list or a mapping, not {called(value)}")
            return False
        wrong = [step for step, inner in parts if not self.plain(inner, (*way, step), depth + 1)]
        return not wrong

    def guests(self, value: object, way: Sequence[str | int]) -> dict[str, dict[str, Value]]:
        """The guests' fields by name."""
        found: dict[str, dict[str, Value]] = {}
        for name, inner in self.mapping(value, way, "guest names to their fields").items():
            if not name or name == HOST_ID:
                self.complain((*way, name), "cannot be a guest's name", "the host has a place of its own: `host`", at_key=True)
            else:
                found[name] = self.fields(inner, (*way, name))
        return found

    def properties(self, value: object, way: Sequence[str | int], guests: Iterable[str]) -> dict[str, dict[str, Value]]:
        """The properties of the host and of guests, by `host` or guest name."""
        known = [HOST_ID, *guests]
        found: dict[str, dict[str, Value]] = {}
        uuids: dict[str, str] = {}
        for name, inner in self.mapping(value, way, "`host` or guest names to properties").items():
            if name not in known:
                self.complain((*way, name), "there is no such guest", did_you_mean(name, known), at_key=True)
                continue
            given = self.mapping(inner, (*way, name), "property names to values")
            found[name] = {key: each for key, each in given.items() if self.plain(each, (*way, name, key))}
            uuid = found[name].get("uuid", name)
            if name == HOST_ID:
                continue
            if not isinstance(uuid, str) or not uuid or uuid == HOST_ID:
                self.complain((*way, name, "uuid"), f"must be a text that identifies the guest, not {called(uuid)}")
            elif uuids.setdefault(uuid, name) != name:
                self.complain((*way, name, "uuid"), f"is that of {uuids[uuid]}, too")
        for name in guests:
            if name in uuids and uuids[name] != name and name not in uuids.values():
                self.complain((*way, uuids[name], "uuid"), f"is the name of another guest, {name}, which has no uuid of its own")
        return found


def called(value: object) -> str:
    """What stands there, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{printable(value, 40)}'" if value else "an empty text"
    if isinstance(value, int):
        return str(value) if value.bit_length() < 128 else "a very large number"
    if isinstance(value, float):
        return str(value)
    return "a list" if isinstance(value, list) else "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint, if there is a name like this one."""
    close = get_close_matches(name, list(known), 1)
    return f"did you mean {close[0]}?" if close else ""


def read_snapshot(path: Path) -> Snapshot:
    """The snapshot in a JSON file; `-` is standard input.

    :raises ConfigError: with all that is wrong with it; the exit code of a command is 2 then
    """
    if str(path) == "-":
        file = "standard input"
        raw = sys.stdin.read(LONGEST + 1) if sys.stdin is not None else ""
        text = raw if len(raw) <= LONGEST else _refuse(file, f"has more than {LONGEST:,} characters")
    else:
        file = printable(str(path), 400)
        problems: list[ConfigProblem] = []
        read = text_of(path, problems, LONGEST, "a snapshot is a JSON file")
        if read is None:
            raise ConfigError(problems)
        text = read
    return made_snapshot(_parsed(text.removeprefix("\ufeff"), file), file)


def made_snapshot(given: object, file: str) -> Snapshot:
    """The snapshot that plain values describe.

    :param file: what messages call the source of the values
    :raises ConfigError: with all that is wrong
    """
    check = Check(file)
    taken = checked_snapshot(given, check)
    if taken is None:
        raise ConfigError(check.problems)
    return taken


def checked_snapshot(given: object, check: Check) -> Snapshot | None:
    """The snapshot that plain values describe; None, and problems in `check`, if anything is wrong."""
    before = len(check.problems)
    top = check.mapping(given, (), "`host`, `guests`, `properties` and `history`")
    check.keys(top, (), KEYS, "in a snapshot")
    host = check.fields(top.get("host", {}), ("host",))
    guests = check.guests(top.get("guests", {}), ("guests",))
    history = top.get("history", [])
    if not isinstance(history, list):
        check.complain(("history",), f"must be a list of older samples, oldest first, not {called(history)}")
        history = []
    samples: list[Json] = []
    for number, sample in enumerate(history):
        way = ("history", number)
        parts = check.mapping(sample, way, "`host` and `guests`")
        check.keys(parts, way, ("host", "guests"), "in a sample")
        samples.append(
            {"host": check.fields(parts.get("host", {}), (*way, "host")), "guests": check.guests(parts.get("guests", {}), (*way, "guests"))}
        )
    everybody = dict.fromkeys([*guests, *(name for sample in samples for name in sample["guests"])])
    properties = check.properties(top.get("properties", {}), ("properties",), everybody)
    interval = top.get("interval", 5.0)
    if isinstance(interval, bool) or not isinstance(interval, int | float) or not 0 < interval < 1e9:
        check.complain(("interval",), f"must be a number of seconds, not {called(interval)}")
    if len(check.problems) > before:
        return None
    properties[HOST_ID] = {"interval": interval, **properties.get(HOST_ID, {})}
    return snapshot(host, guests, properties, samples, float(interval))  # type: ignore[arg-type]  # a Sample is such a dictionary


def _parsed(text: str, file: str) -> object:
    if not text.strip():
        _refuse(file, "is empty", "a snapshot is a JSON object; `mom policy snapshot --example` prints one")
    try:
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ConfigError([ConfigProblem(file, error.lineno, error.colno, f"not JSON: {error.msg[0].lower()}{error.msg[1:]}")]) from None
    except RecursionError:
        _refuse(file, "is nested too deep")
    except ValueError as error:
        _refuse(file, str(error) if isinstance(error, _RefusedError) else "holds a number that is too long")


class _RefusedError(ValueError):
    """JSON of which the meaning is not certain."""


def _no_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is no number in JSON; write null for what is not known")


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RefusedError(f"the key {printable(key)} is there twice")
            seen.add(key)
    return made


def _refuse(file: str, message: str, hint: str = "") -> NoReturn:
    raise ConfigError([ConfigProblem(file, 0, 0, message, hint)])


def as_json(taken: Snapshot) -> Json:
    """A snapshot, with its history, as what `read_snapshot` reads."""
    made: Json = {"host": dict(taken.host.fields), "guests": _fields_of(taken.guests.values())}
    made["properties"] = {HOST_ID: dict(taken.host.properties), **{guest.name: dict(guest.properties) for guest in taken.guests.values()}}
    if taken.history:
        made["history"] = [{"host": dict(older.host.fields), "guests": _fields_of(older.guests.values())} for older in taken.history]
        spans = [later.monotonic - earlier.monotonic for earlier, later in zip(taken.history, [*taken.history[1:], taken], strict=True)]
        if sum(spans) > 0:
            made["interval"] = round(sum(spans) / len(spans), 3)
    return made


def _fields_of(guests: Iterable[Guest]) -> dict[str, dict[str, Value]]:
    return {guest.name: dict(guest.fields) for guest in guests}


def undeclared(taken: Snapshot, known: Mapping[Any, object], scope_of: Mapping[type, Any]) -> list[tuple[str, str, str]]:
    """The fields in a snapshot that no plugin declares: whose (host or guest name), which, and a hint. Each once.

    :param known: declarations by scope and name
    :param scope_of: the scope of `Host` and `Guest`
    """
    found: list[tuple[str, str, str]] = []
    seen: set[tuple[type, str]] = set()
    entities: list[Host | Guest] = [taken.host, *taken.guests.values()]
    for entity in entities:
        scope = scope_of[type(entity)]
        for name in entity.fields:
            if (scope, name) not in known and (type(entity), name) not in seen:
                seen.add((type(entity), name))
                found.append((entity.name, name, did_you_mean(name, [each for of, each in known if of == scope])))
    return found
