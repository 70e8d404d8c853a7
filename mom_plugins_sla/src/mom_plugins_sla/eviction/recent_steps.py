"""Steps of the last hour, and steps not to repeat yet, kept across restarts."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from pydantic import TypeAdapter

from mom_core import PluginContext, StateError
from mom_plugins_sla.eviction.steps import Step

AGAIN_SECONDS: Final = 1800.0
"""How long mom does not repeat a failed step on a guest, and takes no step on a guest that the operator resumed."""

COUNTS_SECONDS: Final = 3600.0
"""How long a moved guest counts towards the limit on moves."""

_MOVED: Final = "moved"
"""Kind of a note about a move. Other kinds are the steps that mom must not take."""

_FORM: Final = TypeAdapter(tuple[tuple[str, str, float], ...])
"""Notes: kind, id of a guest or move, and seconds since the epoch."""


class RecentSteps:
    """Recent steps, and steps not to repeat yet. Not thread-safe."""

    def __init__(self, context: PluginContext) -> None:
        self._context = context
        loss = "guests that have left within the last hour do not count for `share`, and a step that has just failed may be tried again"
        self._file = context.state_file("recent.json", "the file of recent steps", _FORM, loss=loss)
        self._notes: Mapping[tuple[str, str], float] = {}
        """Monotonic times keyed by kind, and id of a guest or move."""

    def load(self) -> None:
        """Read the file. Future times count as now."""
        now, wall = self._context.monotonic(), time.time()
        self._notes = {(kind, guest): now - max(0.0, wall - at) for kind, guest, at in self._file.read() or ()}

    @property
    def moved(self) -> int:
        """Number of moves in the last hour."""
        return sum(kind == _MOVED and self._counts(kind, move) for kind, move in self._notes)

    def is_spared(self, guest: str, step: Step) -> bool:
        """Return whether mom must not take this step on the guest yet."""
        return self._counts(step, guest)

    def note_move(self, move: str) -> None:
        """Count a guest that moved away."""
        self._note([_MOVED], move)

    def spare(self, guest: str, steps: Iterable[Step]) -> None:
        """Exclude the guest from these steps for some time."""
        self._note(steps, guest)

    def write_again(self) -> None:
        """Retry a failed write."""
        if self._file.write_error:
            self._note((), "")

    def _note(self, kinds: Iterable[str], guest: str) -> None:
        now = self._context.monotonic()
        ahead = time.time() - now
        self._notes = {**self._notes, **dict.fromkeys(((str(kind), guest) for kind in kinds), now)}
        self._notes = {key: since for key, since in self._notes.items() if self._counts(*key)}
        with suppress(StateError):
            content = [(*key, since + ahead) for key, since in self._notes.items()]
            self._file.write(content, durable=False)  # a crash of the host ends all guests

    def _counts(self, kind: str, guest: str) -> bool:
        since = self._notes.get((kind, guest))
        seconds = COUNTS_SECONDS if kind == _MOVED else AGAIN_SECONDS
        return since is not None and self._context.monotonic() - since < seconds
