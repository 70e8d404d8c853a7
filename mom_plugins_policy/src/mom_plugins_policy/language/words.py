"""Records of words, for the compiler, the checks, the reasons and the documentation; and the methods of entities and disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mom_core import count_of

# Types of values as bit masks, for the checks. INT includes booleans. OTHER: disks, records and `Guests`. UNBOUND: an unbound variable.
NIL, INT, FLOAT, STRING, LIST, ENTITY, FUNCTION, OTHER, UNBOUND = (1 << bit for bit in range(9))

NUMBER = INT | FLOAT
DATA = NIL | NUMBER | STRING | LIST | OTHER
"""Types of fields and properties."""
ANY = DATA | ENTITY | FUNCTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Word of the language. `most` is None if the number of arguments has no upper limit.

    A policy's function with the name of an `extension` replaces the extension in all policies.
    """

    name: str
    least: int
    most: int | None
    meaning: str
    extension: bool = False

    def takes(self, count: int) -> bool:
        """Return whether the word accepts this many arguments."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def counted(self) -> str:
        """Number of arguments as text."""
        if self.most is None:
            return f"{self.least} or more arguments"
        if self.most == self.least:
            return count_of(self.least, "argument") if self.least else "no arguments"
        return f"{self.least} to {self.most} arguments"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodWord(Word):
    """Method of entities. `Evaluation` implements it as `do_` plus the name in lower case."""

    writes: bool = False
    """Whether the method changes something and returns nil."""


_METHODS = (
    MethodWord(name="Prop", least=1, most=2, meaning="a property, such as the name; the second argument if the property is absent"),
    MethodWord(name="Stat", least=1, most=2, meaning="the newest value of a field; the second argument if the newest sample lacks it"),
    MethodWord(name="StatAvg", least=1, most=1, meaning="the mean of a field over the kept samples; 0.0 if no value is known"),
    MethodWord(name="Control", least=2, most=2, meaning="requests a value for a control", writes=True),
    MethodWord(name="GetControl", least=1, most=1, meaning="the value requested in this evaluation, else nil"),
    MethodWord(name="SetVar", least=2, most=2, meaning="sets a note on the entity for this evaluation", writes=True),
    MethodWord(name="GetVar", least=1, most=1, meaning="a note of this evaluation, else nil"),
    MethodWord(name="Remember", least=2, most=2, meaning="keeps a note on the entity across cycles and restarts; nil deletes it",
               writes=True),
    MethodWord(name="Recall", least=1, most=2, meaning="the note of this or an earlier evaluation, else the second argument or nil"),
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
"""Methods of a disk, each with the key of `current` that it sets."""
