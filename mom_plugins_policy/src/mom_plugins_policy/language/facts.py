"""Facts that hold at one point of a walk over a program."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Fact = TypeVar("Fact")


class Facts(dict[Key, Fact]):
    """Facts by key. `begin` and `end` enclose a branch."""

    def __init__(self, *facts: dict[Key, Fact]) -> None:
        super().__init__(*facts)
        self.frames: list[dict[Key, Fact | None]] = []

    def learn(self, key: Key, fact: Fact) -> None:
        """Set a fact."""
        if self.frames:
            self.frames[-1].setdefault(key, self.get(key))
        self[key] = fact

    def begin(self) -> None:
        """Start a branch."""
        self.frames.append({})

    def end(self) -> dict[Key, Fact]:
        """End a branch; remove and return its facts."""
        learnt = {}
        for key, before in self.frames.pop().items():
            learnt[key] = self.pop(key)
            if before is not None:
                self[key] = before
        return learnt
