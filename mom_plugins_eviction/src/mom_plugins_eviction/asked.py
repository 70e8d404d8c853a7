"""What policies ask for: a class promises a warning before a guest is stopped or moved, by any policy. Pure: moments are given."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mom_plugins_eviction.ladder import Announced
from mom_plugins_eviction.steps import Step


class Asked:
    """Steps that others want, by guest: each waits for its warning, and only for as long as it is wanted in every cycle."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, Step], Announced] = {}

    @property
    def waiting(self) -> Sequence[Announced]:
        """What is announced, first to last."""
        return tuple(self._waiting.values())

    def ask(self, identity: str, name: str, step: Step, now: float, warning: float) -> tuple[Announced, bool]:
        """A policy wants it now: what is announced, and whether that is new."""
        announced = self._waiting.get((identity, step))
        if announced is not None:
            return announced, False
        announced = Announced(identity, name, step, now, now + warning)
        self._waiting[identity, step] = announced
        return announced, True

    def keep(self, wanted: Iterable[tuple[str, Step]]) -> list[Announced]:
        """Forget what is not wanted any more, and return it."""
        still = set(wanted)
        ended = [announced for key, announced in self._waiting.items() if key not in still]
        self._waiting = {key: announced for key, announced in self._waiting.items() if key in still}
        return ended

    def taken(self, identity: str, step: Step) -> None:
        """It is done now."""
        self._waiting.pop((identity, step), None)

    def put_off(self, identity: str, seconds: float) -> bool:
        """Put what is announced of a guest off, by as much as is allowed; whether there was anything to put off."""
        later = {key: one.put_off(seconds) for key, one in self._waiting.items() if one.identity == identity}
        changed = any(self._waiting[key] != one for key, one in later.items())
        self._waiting.update(later)
        return changed
