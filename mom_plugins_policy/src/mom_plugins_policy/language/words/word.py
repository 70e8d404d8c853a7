"""The record that all words have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """One word: its name, arguments at least and at most (None: any number), and what it does, for people.

    `extension`: policies of before may have a function of this name, and then it means nothing but that function in all policies that
    are evaluated together.
    """

    name: str
    least: int
    most: int | None
    meaning: str
    extension: bool = False
    named: str = ""
    """What its arguments are, where one is easily left out."""

    def takes(self, count: int) -> bool:
        """Return True if it can be used with this many arguments."""
        return count >= self.least and (self.most is None or count <= self.most)

    @property
    def counted(self) -> str:
        """How many arguments it takes, in words."""
        if self.most is None:
            return f"{self.least} or more arguments"
        if self.most == self.least:
            return "no arguments" if self.least == 0 else "1 argument" if self.least == 1 else f"{self.least} arguments"
        return f"{self.least} to {self.most} arguments"

    @property
    def arguments(self) -> str:
        """How many arguments it takes, and what they are where one is easily left out, in words."""
        return f"{self.counted} ({self.named})" if self.named else self.counted


def covers(part: str, words: Iterable[str], rules: Iterable[str]) -> None:
    """Raise, at the import of a part of the language, where it has no rule for one of the words that need one, or has one for none."""
    wrong = set(words) ^ set(rules)
    if wrong:
        raise TypeError(f"{part}: no record, or no rule, for {', '.join(sorted(wrong))}")
