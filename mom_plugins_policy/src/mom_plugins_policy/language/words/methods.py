"""The methods of entities and disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mom_plugins_policy.language.words.word import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodWord(Word):
    """One method of the host and of guests. Its first argument is a name.

    `runtime.py` has a method `do_` and its name in small letters, and fails at import without it.
    """

    store: str = ""
    """The store in which it has that name: a `note` of this evaluation, the `memory` that outlives it, a `control`; empty: neither."""
    writes: bool = False
    """True if it writes there, and gives nil; otherwise it reads."""


_METHODS = (
    MethodWord(name="Prop", least=1, most=2, meaning="a property, such as the name; the second argument if there is no such property"),
    MethodWord(name="Stat", least=1, most=2, meaning="the newest value of a field; the second argument if the newest sample lacks it"),
    MethodWord(name="StatAvg", least=1, most=1, meaning="the mean of a field over the samples that are kept; 0.0 if there is no value"),
    MethodWord(name="Control", least=2, most=2, meaning="asks for a control to be set", store="control", writes=True),
    MethodWord(name="GetControl", least=1, most=1, meaning="what was asked for in this evaluation", store="control"),
    MethodWord(name="SetVar", least=2, most=2, meaning="a note on the entity for this evaluation", store="note", writes=True),
    MethodWord(name="GetVar", least=1, most=1, meaning="a note of this evaluation, else nil", store="note"),
    MethodWord(name="Remember", least=2, most=2, meaning="a note on the entity that is kept across cycles and restarts; nil forgets it",
               store="memory", writes=True),
    MethodWord(name="Recall", least=1, most=2,
               meaning="what was remembered in this or an earlier evaluation, else the second argument or nil", store="memory"),
)  # fmt: skip

ENTITY_METHODS: Mapping[str, MethodWord] = {word.name: word for word in _METHODS}

DISK_METHODS = {
    "setTotalBytesSec": "total_bytes_sec",
    "setReadBytesSec": "read_bytes_sec",
    "setWriteBytesSec": "write_bytes_sec",
    "setTotalIopsSec": "total_iops_sec",
    "setReadIopsSec": "read_iops_sec",
    "setWriteIopsSec": "write_iops_sec",
}
"""The methods of an io tune object, each with the key of `current` that it sets. One argument: a number, or nil."""
