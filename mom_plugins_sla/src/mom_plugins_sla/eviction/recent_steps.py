"""Steps of the last hour, and spared guests, kept across restarts."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from pydantic import TypeAdapter

from mom_core import PluginContext, StateError
from mom_plugins_sla.eviction.steps import Step

AGAIN_SECONDS: Final = 1800.0
"""How long a guest is spared a failed step, and all steps after the operator resumed it."""

COUNTS_SECONDS: Final = 3600.0
"""How long a moved or lost guest counts for the limits."""


@dataclass(frozen=True, slots=True)
class _Kept:
    # Times are in seconds since the epoch.

    moves: tuple[float, ...]
    gone: tuple[tuple[str, float], ...]
    spared: tuple[tuple[str, Step, float], ...]


_FORM: Final = TypeAdapter(_Kept)


class RecentSteps:
    """Recent steps, and steps to spare. Not thread-safe."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "guests that have left within the last hour do not count for `share`, and a step that has just failed may be tried again"
        self._file = context.state_file("recent.json", "the file of recent steps", _FORM, loss=loss)
        self._moves: Sequence[float] = ()
        self._gone: Mapping[str, float] = {}
        self._spared: Mapping[tuple[str, Step], float] = {}

    def load(self) -> None:
        """Read the file. A future time, after the clock was set back, counts as now."""
        kept = self._file.read()
        if kept is None:
            return
        now, wall = self._context.monotonic(), time.time()
        self._moves = [now - max(0.0, wall - at) for at in kept.moves]
        self._gone = {guest: now - max(0.0, wall - at) for guest, at in kept.gone}
        self._spared = {(guest, step): now - max(0.0, wall - at) for guest, step, at in kept.spared}

    @property
    def moved(self) -> int:
        """Number of moves in the last hour."""
        return sum(self._within(since, COUNTS_SECONDS) for since in self._moves)

    @property
    def gone(self) -> Collection[str]:
        """Ids of stopped guests that disappeared in the last hour."""
        return [guest for guest, since in self._gone.items() if self._within(since, COUNTS_SECONDS)]

    def is_spared(self, guest: str, step: Step) -> bool:
        """Return whether to spare the guest this step."""
        since = self._spared.get((guest, step))
        return since is not None and self._within(since, AGAIN_SECONDS)

    def note_move(self) -> None:
        """Count a guest that moved away."""
        self._moves = [*self._moves, self._context.monotonic()]
        self._write()

    def note_gone(self, guest: str) -> None:
        """Count a stopped guest that disappeared."""
        self._gone = {**self._gone, guest: self._context.monotonic()}
        self._write()

    def spare(self, guest: str, steps: Iterable[Step]) -> None:
        """Do not take these steps with the guest for some time."""
        self._spared = {**self._spared, **dict.fromkeys(((guest, step) for step in steps), self._context.monotonic())}
        self._write()

    def write_again(self) -> None:
        """Retry a failed write."""
        if self._file.write_error:
            self._write()

    def _write(self) -> None:
        self._moves = [since for since in self._moves if self._within(since, COUNTS_SECONDS)]
        self._gone = {guest: self._gone[guest] for guest in self.gone}
        self._spared = {key: since for key, since in self._spared.items() if self._within(since, AGAIN_SECONDS)}
        ahead = time.time() - self._context.monotonic()
        kept = _Kept(
            tuple(since + ahead for since in self._moves),
            tuple((guest, since + ahead) for guest, since in self._gone.items()),
            tuple((guest, step, since + ahead) for (guest, step), since in self._spared.items()),
        )
        with suppress(StateError):
            self._file.write(_FORM.dump_python(kept, mode="json"), durable=False)  # no guest outlives the host

    def _within(self, since: float, seconds: float) -> bool:
        return self._context.monotonic() - since < seconds
