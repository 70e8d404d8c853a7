"""Record shared by all words of the language."""

from __future__ import annotations

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
