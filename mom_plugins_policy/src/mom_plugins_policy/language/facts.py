"""Facts that are known at one point of a walk over a program."""

from __future__ import annotations

from typing import TypeVar

Key = TypeVar("Key")
Fact = TypeVar("Fact")


class Facts(dict[Key, Fact]):
    """Facts by what they are about. Those that are learnt in a branch are forgotten at its end: its caller joins those of two branches."""

    def __init__(self, *given: dict[Key, Fact]) -> None:
        super().__init__(*given)
        self.frames: list[dict[Key, Fact | None]] = []

    def learn(self, key: Key, fact: Fact) -> None:
        """Know something, in place of what was known."""
        if self.frames:
            self.frames[-1].setdefault(key, self.get(key))
        self[key] = fact

    def begin(self) -> None:
        """Begin a branch."""
        self.frames.append({})

    def end(self) -> dict[Key, Fact]:
        """Forget what was learnt since the branch began; what that was."""
        learnt = {}
        for key, before in self.frames.pop().items():
            learnt[key] = self.pop(key)
            if before is not None:
                self[key] = before
        return learnt
