"""Record that all words of the language share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """Word of the language: its name, number of arguments (`most` is None for any number) and meaning.

    A policy may define a function with the name of an `extension`. All policies evaluated together then call that function.
    """

    name: str
    least: int
    most: int | None
    meaning: str
    extension: bool = False
    named: str = ""
    """Names of the arguments, where one is easily left out."""

    def takes(self, count: int) -> bool:
        """Return True if the word accepts this many arguments."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def counted(self) -> str:
        """The number of arguments in words."""
        if self.most is None:
            return f"{self.least} or more arguments"
        if self.most == self.least:
            return "no arguments" if self.least == 0 else "1 argument" if self.least == 1 else f"{self.least} arguments"
        return f"{self.least} to {self.most} arguments"

    @property
    def arguments(self) -> str:
        """The number of arguments in words, with the names of arguments that are easily left out."""
        return f"{self.counted} ({self.named})" if self.named else self.counted
